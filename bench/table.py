"""The table of a measurement, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.measure import Spread


@dataclass(frozen=True)
class Row:
    """One client in one part.

    wall, cpu         seconds
    memory            megabytes of its largest process
    *_ratio           that many times the floor's of the same round
    *_goal            at most this ratio; None: no goal
    wall_seconds_goal at most so many seconds
    said              what the program printed about its work
    failed            why there are no values, else ""
    """

    letter: str
    title: str
    count: int
    client: str
    wall: Spread | None = None
    cpu: Spread | None = None
    memory: float = 0.0
    wall_ratio: Spread | None = None
    cpu_ratio: Spread | None = None
    wall_goal: float | None = None
    cpu_goal: float | None = None
    wall_seconds_goal: float | None = None
    said: str = ""
    failed: str = ""


HEAD = f"| part | hosts | client | wall, s | x floor | goal | CPU, s | x floor | goal | MB |\n{'|---' * 10}|\n"


def table(rows: Sequence[Row], versions: Mapping[str, str]) -> str:
    """The rows as a table: medians, in brackets the lowest and the highest value; and the versions."""
    lines = [_line(row) for row in rows]
    named = "; ".join(f"{name}: {version}" for name, version in versions.items() if version)
    return f"{HEAD}{''.join(lines)}\n{named}\n"


def _line(row: Row) -> str:
    begin = f"| {row.letter}: {row.title} | {row.count or ''} | {row.client} |"
    if row.failed:
        return f"{begin} failed |||||||\n"
    memory = f"{row.memory:.0f}" if row.memory else ""
    wall_goal = _goal(row.wall_ratio, row.wall_goal) or _goal(row.wall, row.wall_seconds_goal)
    cells = (_spread(row.wall), _spread(row.wall_ratio), wall_goal, _spread(row.cpu), _spread(row.cpu_ratio))
    return f"{begin} {' | '.join((*cells, _goal(row.cpu_ratio, row.cpu_goal), memory))} |\n"


def _spread(values: Spread | None) -> str:
    return f"{values.median:.2f} ({values.low:.2f}-{values.high:.2f})" if values else ""


def _goal(value: Spread | None, goal: float | None) -> str:
    if value is None or goal is None:
        return ""
    return f"{goal:g}: {'reached' if value.median <= goal else 'missed'}"
