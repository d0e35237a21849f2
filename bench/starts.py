"""Part F: how long a command takes that does nothing, and what a start of this tool consists of."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from bench.clients import ROOT
from bench.measure import Spread, run
from bench.table import Row

DEADLINE = 60.0
GOAL = 0.1
COMMANDS: Sequence[tuple[str, Sequence[str]]] = (
    ("invoke --list", (f"{sys.prefix}/bin/invoke", "--list")),
    ("python alone", (sys.executable, "-c", "pass")),
)


def starts(rounds: int) -> list[Row]:
    """A row for each command, measured in alternation."""
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name, _ in COMMANDS}
    for number in range(rounds * 3 + 1):
        for name, command in COMMANDS:
            cost = run(command, cwd=ROOT, env=dict(os.environ), deadline=DEADLINE)
            if number:
                costs[name].append((cost.wall, cost.cpu))
    return [
        Row(
            *("F", "a start", 0, name),
            wall=Spread.of([wall for wall, _ in values]),
            cpu=Spread.of([cpu for _, cpu in values]),
            wall_seconds_goal=GOAL if name == "invoke --list" else None,
        )
        for name, values in costs.items()
    ]
