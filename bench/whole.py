"""Part E: a whole install on the lab, and a second one with nothing to do, beside the commands of bench/by_hand.sh."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from bench.clients import ROOT
from bench.measure import Cost, Failed, Spread, run
from bench.table import Row
from lab import lifecycle, registry
from lab.model import Lab, Options

DEADLINE = 600.0
NAME = "bench"
TOOL, BY_HAND = "this tool", "by hand"
INSTALL, AGAIN = "a whole install", "a second install"
FLOOR_RATIO, AGAIN_SECONDS = 0.6, 1.0
"""The goals: of an install, as a part of the wall time of the commands by hand; of a second one, in seconds."""
USER, PARTITION = "joe", "work"  # as the lab's site file has them

Announce = Callable[[str], None]


def whole(rounds: int, announce: Announce) -> list[Row]:
    """A row for each client and work. Each measurement of an install begins with a pristine site; the order changes each round."""
    costs: dict[tuple[str, str], list[Cost]] = {}
    failed: dict[tuple[str, str], str] = {}
    with _lab(announce) as lab:
        commands = _commands(lab)
        for number in range(rounds):
            for client in [*commands] if number % 2 else reversed([*commands]):
                lifecycle.reset(lab, lambda text: None)
                for work in (INSTALL, AGAIN) if client == TOOL else (INSTALL,):
                    try:
                        cost = run(commands[client], cwd=ROOT, env=dict(os.environ), deadline=DEADLINE)
                    except Failed as error:
                        failed[client, work] = str(error)
                        announce(f"{client}, {work} failed: {error}")
                        break
                    costs.setdefault((client, work), []).append(cost)
                    announce(f"  round {number + 1}: {client}, {work}: {cost.wall:.1f} s, CPU {cost.cpu:.1f} s")
    floor = [cost.wall for cost in costs.get((BY_HAND, INSTALL), [])]
    return [_row(key, costs.get(key, []), floor, failed.get(key, "")) for key in _KEYS]


_KEYS = ((TOOL, INSTALL), (BY_HAND, INSTALL), (TOOL, AGAIN))


def _row(key: tuple[str, str], costs: Sequence[Cost], floor: Sequence[float], failed: str) -> Row:
    client, work = key
    if failed or not costs:
        return Row("E", work, 5, client, failed=failed or "not measured")
    ratios = [cost.wall / its for cost, its in zip(costs, floor, strict=False)] if work == INSTALL else []
    return Row(
        *("E", work, 5, client),
        wall=Spread.of([cost.wall for cost in costs]),
        cpu=Spread.of([cost.cpu for cost in costs]),
        memory=max(cost.memory for cost in costs),
        wall_ratio=Spread.of(ratios) if ratios else None,
        wall_goal=FLOOR_RATIO if key == (TOOL, INSTALL) else None,
        wall_seconds_goal=AGAIN_SECONDS if work == AGAIN else None,
        said=costs[-1].out.strip(),
    )


def _commands(lab: Lab) -> dict[str, Sequence[str]]:
    controllers = [host.name for host in lab.role("controller")]
    by_hand = ("sh", str(ROOT / "bench/by_hand.sh"), str(lab.state / "ssh_config"), USER, PARTITION, *controllers)
    return {
        TOOL: (f"{sys.prefix}/bin/invoke", "install", f"--hosts={lab.state / 'hosts.yaml'}"),
        BY_HAND: by_hand,
    }


@contextmanager
def _lab(announce: Announce) -> Iterator[Lab]:
    """A lab of the bench's own while the `with` lasts."""
    lab = registry.create(NAME, Options())
    try:
        lifecycle.up(lab, announce)
        yield lab
    finally:
        lifecycle.down(lab)
