"""The parts of a measurement: which work, on how many hosts, and the goals. docs/performance.md says what each is for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import fleet, relay
from bench.clients import FLOOR, FLOOR_CURVE, Client, Work
from bench.fleet import Fleet

DELAY = 0.02  # seconds each way, in part C


@dataclass(frozen=True)
class Part:
    """A letter, its work in words, and the goals: at most so many times the floor's wall time and CPU time (None: no goal)."""

    letter: str
    title: str
    work: Work
    floor: Client
    wall: float
    cpu: float | None
    counts: tuple[int, ...]
    delay: float = 0.0
    many: bool = False

    @contextmanager
    def fleet(self, folder: Path, count: int) -> Iterator[Fleet]:
        """The hosts of this part while the `with` lasts."""
        if self.many:
            with fleet.loopback(folder, count) as hosts:
                yield hosts
            return
        with fleet.namespaces(folder, count) as hosts:
            if not self.delay:
                yield hosts
                return
            with relay.delayed(hosts, self.delay) as slow:
                yield slow


SOME = (8, 64, 200)
PARTS = (
    Part("A", "slurm.conf replaced", "edit", FLOOR, 0.8, 0.5, SOME),
    Part("B", "nothing to do", "check", FLOOR, 0.8, None, SOME),
    Part("C", "slurm.conf replaced, 20 ms of delay each way", "edit", FLOOR, 1.0, None, (8,), delay=DELAY),
    Part("D", "nothing to do, many hosts", "check", FLOOR_CURVE, 0.8, 0.5, (1000,), many=True),
)
