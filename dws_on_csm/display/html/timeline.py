"""Where a run's time went: bars on a time axis, in a row for each stage and host."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from dws_on_csm.display.progress import Progress
from dws_on_csm.display.style import SIGNS, duration, plural, worst
from dws_on_csm.model.events import Awaiting, Began, Done, Event, Opened, Outcome, Summary

FEW = 8
"""Rows of a stage above which they are folded."""

INSTANT = 0.05
"""Seconds below which a step is a mark without length."""


@dataclass(frozen=True)
class Bar:
    """A step on a host, in seconds since the run began. `waits`, `what`: when it began to wait, and for what."""

    stage: str
    host: str
    step: str
    outcome: Outcome
    begin: float
    end: float
    waits: float | None = None
    what: str = ""
    label: str = ""


def bars(events: Iterable[Event]) -> list[Bar]:
    """A bar for each step and host that took time, and one for all instant steps of a host in a stage."""
    begin = now = 0.0
    waits: dict[tuple[str, str, str], tuple[float, str]] = {}
    steps: dict[tuple[str, str, str], Bar] = {}
    for event in events:
        now = max(now, _at(event))
        if isinstance(event, Opened):
            begin = now = event.at
        elif isinstance(event, Awaiting):
            since, reasons = waits.get(key := (event.stage, event.step, event.host), (now, ""))
            waits[key] = since, f"{reasons}; {event.why}" if reasons else event.why
        elif isinstance(event, Done) and event.outcome != "skipped":
            key = (event.stage, event.step, event.host)
            steps[key] = _bar(event, begin, waits.get(key))
    return _with_marks(list(steps.values()))


def _at(event: Event) -> float:
    """The time of an event, or 0.0 for an event without one."""
    if isinstance(event, Opened | Began | Awaiting):
        return event.at
    return event.began + event.seconds if isinstance(event, Done) else 0.0


def _bar(done: Done, begin: float, waited: tuple[float, str] | None) -> Bar:
    start, end = done.began - begin, done.began + done.seconds - begin
    since, why = waited or (None, "")
    waits = min(max(since - begin, start), end) if since is not None else None
    return Bar(done.stage, done.host, done.step, done.outcome, start, end, waits, why)


def _with_marks(steps: Sequence[Bar]) -> list[Bar]:
    """The bars, with one mark in place of all instant ones in a row at one moment."""
    long = [bar for bar in steps if not _instant(bar)]
    marks: dict[tuple[str, str, Outcome, float], list[Bar]] = {}
    for bar in steps:
        if _instant(bar):
            marks.setdefault((bar.stage, bar.host, bar.outcome, round(bar.begin, 1)), []).append(bar)
    merged = [
        replace(
            same[0],
            step=", ".join(bar.step for bar in same),
            end=same[-1].end,
            label=f"{len(same)} {same[0].outcome}" if len(same) > 1 else "",
        )
        for same in marks.values()
    ]
    return sorted([*long, *merged], key=lambda bar: bar.begin)


# --- layout


@dataclass(frozen=True)
class Shape:
    """A bar on the page; lengths in percent of the axis. `waiting`: the percentage of the bar that it waited, or None.

    The label is in the bar (`inside`), behind it (`behind`), or left out where there is no room.
    """

    outcome: Outcome
    left: float
    width: float
    title: str
    label: str
    inside: bool
    behind: bool
    waiting: float | None


@dataclass(frozen=True)
class TimelineRow:
    """A row of the timeline; `name` is the stage in its first row, "" in the others."""

    name: str
    host: str
    shapes: Sequence[Shape]


@dataclass(frozen=True)
class Timeline:
    """Ticks (percent of the axis, label), the row of the checks before the first stage, and each stage's rows with the row
    that stands for them while they are folded (None: they are not)."""

    ticks: Sequence[tuple[float, str]]
    checks: TimelineRow | None
    stages: Sequence[tuple[Sequence[TimelineRow], TimelineRow | None]]


def timeline(progress: Progress, events: Sequence[Event]) -> Timeline:
    """The layout of the timeline of a run."""
    steps = bars(events)
    total = max([*(bar.end for bar in steps), *(e.seconds for e in events if isinstance(e, Summary)), 0.1])
    first = min((_at(e) for e in events if isinstance(e, Began | Done)), default=progress.began)
    first = min([first, *(progress.began + bar.begin for bar in steps)]) - progress.began
    checks = Bar("", "all hosts", "connect and check", "skipped", 0.0, first)
    in_stages = [[bar for bar in steps if bar.stage == name] for name in progress.stages]
    return Timeline(
        ticks=[(100 * at / total, duration(at).replace(".0s", "s")) for at in _ticks(total)],
        checks=_row("check", checks.host, [checks], total) if first >= INSTANT else None,
        stages=[_stage(in_stage, total) for in_stage in in_stages if in_stage],
    )


def _ticks(total: float) -> Iterator[float]:
    """Round moments, at most about ten."""
    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)
    step = next((s for s in steps if total / s <= 10), steps[-1])
    return (number * step for number in range(int(total / step * 0.98) + 1))


def _stage(steps: Sequence[Bar], total: float) -> tuple[Sequence[TimelineRow], TimelineRow | None]:
    name = steps[0].stage
    ordered = sorted(steps, key=lambda bar: bar.host)
    hosts = {host: list(own) for host, own in groupby(ordered, key=lambda bar: bar.host)}
    rows = [_row("" if at else name, host, own, total) for at, (host, own) in enumerate(hosts.items())]
    if len(rows) <= FEW:
        return rows, None
    outcome = worst({bar.outcome: 1 for bar in steps})
    whole = Bar(name, "", name, outcome, min(bar.begin for bar in steps), max(bar.end for bar in steps))
    return rows, _row(name, plural(len(rows), "host"), [whole], total)


def _row(name: str, host: str, steps: Sequence[Bar], total: float) -> TimelineRow:
    """A row; a label is behind its bar only where neither a bar of some length nor another label is."""
    taken = [(100 * bar.begin / total, 100 * bar.end / total) for bar in steps if not _instant(bar)]
    shapes = []
    for bar in sorted(steps, key=lambda bar: (_instant(bar), bar.outcome == "ok", bar.begin)):
        left, right = 100 * bar.begin / total, 100 * bar.end / total
        label = (f"{SIGNS[bar.outcome]} " if bar.outcome != "skipped" else "") + (bar.label or bar.step)
        needed = 0.72 * len(label) + 0.8  # percent of the axis, on a page of usual width
        inside = right - left > needed
        behind = not inside and right + needed <= 100 and all(b <= right or a >= right + needed for a, b in taken)
        if behind:
            taken.append((right, right + needed))
        waiting = 100 * (bar.end - bar.waits) / (bar.end - bar.begin or 1) if bar.waits is not None else None
        shapes.append(Shape(bar.outcome, left, right - left, _title(bar), label, inside, behind, waiting))
    return TimelineRow(name, host, shapes)


def _instant(bar: Bar) -> bool:
    return bar.end - bar.begin < INSTANT


def _title(bar: Bar) -> str:
    waited = f", {duration(bar.end - bar.waits)} of it waiting: {bar.what}" if bar.waits is not None else ""
    outcome = "" if bar.outcome == "skipped" else f"{bar.outcome}, "
    return f"{bar.step} on {bar.host}: {outcome}{duration(bar.end - bar.begin)}{waited}"
