"""Where a run's time went: bars on a time axis, a row a stage and host."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from dws_on_csm.display.html.markup import Html, joined, tag
from dws_on_csm.display.progress import Progress
from dws_on_csm.display.style import SIGNS, duration, plural, worst
from dws_on_csm.model.events import Awaiting, Began, Done, Event, Opened, Outcome, Summary

FEW = 8
"""Rows of a stage that are open from the beginning; more are unfolded by who wants them."""

INSTANT = 0.05
"""Seconds below which a step is drawn as a mark."""


@dataclass(frozen=True)
class Bar:
    """Something that took time: seconds since the run's begin; `waits` is when it began to wait for something."""

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
    """A bar for each step and host that took time, and one for all of a host's instant ones in a stage."""
    begin = now = 0.0
    waits: dict[tuple[str, str, str], tuple[float, str]] = {}
    found: dict[tuple[str, str, str], Bar] = {}
    for event in events:
        now = max(now, _at(event))
        if isinstance(event, Opened):
            begin = now = event.at
        elif isinstance(event, Awaiting):
            since, said = waits.get(key := (event.stage, event.step, event.host), (now, ""))
            waits[key] = since, f"{said}; {event.why}" if said else event.why
        elif isinstance(event, Done) and event.outcome != "skipped":
            key = (event.stage, event.step, event.host)
            found[key] = _bar(event, begin, waits.get(key))
    return _instants(list(found.values()))


def _at(event: Event) -> float:
    """When an event was, as far as it says."""
    if isinstance(event, Opened | Began | Awaiting):
        return event.at
    return event.began + event.seconds if isinstance(event, Done) else 0.0


def _bar(done: Done, begin: float, waited: tuple[float, str] | None) -> Bar:
    start, end = done.began - begin, done.began + done.seconds - begin
    since, why = waited or (None, "")
    waits = min(max(since - begin, start), end) if since is not None else None
    return Bar(done.stage, done.host, done.step, done.outcome, start, end, waits, why)


def _instants(found: Sequence[Bar]) -> list[Bar]:
    """Bars of no length in one row and moment become one mark that names them all."""
    long = [bar for bar in found if not _instant(bar)]
    marks: dict[tuple[str, str, Outcome, float], list[Bar]] = {}
    for bar in found:
        if _instant(bar):
            marks.setdefault((bar.stage, bar.host, bar.outcome, round(bar.begin, 1)), []).append(bar)
    merged = [
        Bar(stage, host, ", ".join(b.step for b in some), outcome, some[0].begin, some[-1].end, label=_named(some))
        for (stage, host, outcome, _), some in marks.items()
    ]
    return sorted([*long, *merged], key=lambda bar: bar.begin)


def _named(some: Sequence[Bar]) -> str:
    return some[0].step if len(some) == 1 else f"{len(some)} {some[0].outcome}"


# --- drawing


def drawn(progress: Progress, events: Sequence[Event]) -> Html:
    """The timeline as HTML: an axis, then the stages, each with a row a host."""
    found = bars(events)
    total = max([*(bar.end for bar in found), *(e.seconds for e in events if isinstance(e, Summary)), 0.1])
    first = min((_at(e) for e in events if isinstance(e, Began | Done)), default=progress.began)
    first = min([first, *(progress.began + bar.begin for bar in found)]) - progress.began
    looks = Bar("", "all hosts", "connect and look", "skipped", 0.0, first)
    stages = [name for name in progress.stages if any(bar.stage == name for bar in found)]
    head = [_row("look", looks.host, [looks], total)] if first >= INSTANT else []
    parts = [_stage(name, [bar for bar in found if bar.stage == name], total) for name in stages]
    return tag("div", _axis(total), *head, *parts, class_="timeline")


def _axis(total: float) -> Html:
    ticks = [tag("b", duration(at).replace(".0s", "s"), style=f"left:{100 * at / total:.2f}%") for at in _ticks(total)]
    return tag("div", tag("span"), tag("span"), tag("div", *ticks, class_="axis"), class_="row")


def _ticks(total: float) -> Iterator[float]:
    """Round moments, at most about ten."""
    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)
    step = next((s for s in steps if total / s <= 10), steps[-1])
    return (number * step for number in range(int(total / step * 0.98) + 1))


def _stage(name: str, found: Sequence[Bar], total: float) -> Html:
    ordered = sorted(found, key=lambda bar: bar.host)
    rows = {host: list(some) for host, some in groupby(ordered, key=lambda bar: bar.host)}
    drawn = [_row("" if at else name, host, some, total) for at, (host, some) in enumerate(rows.items())]
    if len(drawn) <= FEW:
        return joined(*drawn)
    outcome = worst({bar.outcome: 1 for bar in found})
    whole = Bar(name, "", name, outcome, min(b.begin for b in found), max(b.end for b in found))
    return tag("details", tag("summary", _row(name, plural(len(drawn), "host"), [whole], total)), *drawn)


def _row(name: str, host: str, found: Sequence[Bar], total: float) -> Html:
    track = tag("div", *_track(found, total), class_="track")
    return tag("div", tag("b", name), tag("span", host, class_="host"), track, class_="row first" if name else "row")


def _track(found: Sequence[Bar], total: float) -> Iterator[Html]:
    """Bars with their labels: in the bar, or behind it where neither a bar of some length nor a label stands."""
    taken = [(_percent(bar.begin, total), _percent(bar.end, total)) for bar in found if not _instant(bar)]
    for bar in sorted(found, key=lambda bar: (_instant(bar), bar.outcome == "ok", bar.begin)):
        begin, end, needed = _percent(bar.begin, total), _percent(bar.end, total), _share(_signed(bar))
        inside = end - begin > needed
        yield _drawn(bar, begin, end - begin, inside)
        free = end + needed <= 100 and all(b <= end or a >= end + needed for a, b in taken)
        if not inside and free:
            yield tag("s", _signed(bar), style=f"left:{end:.2f}%")
            taken.append((end, end + needed))


def _percent(at: float, total: float) -> float:
    return 100 * at / total


def _instant(bar: Bar) -> bool:
    return bar.end - bar.begin < INSTANT


def _drawn(bar: Bar, begin: float, width: float, label: bool) -> Html:
    pieces: list[str] = []
    if bar.waits is not None:
        share = 100 * (bar.end - bar.waits) / (bar.end - bar.begin or 1)
        pieces.append(tag("u", style=f"width:{share:.1f}%"))
    if label:
        pieces.append(tag("span", _signed(bar)))
    style = f"left:{begin:.2f}%;width:{width:.2f}%"
    return tag("i", *pieces, class_=bar.outcome, style=style, title=_title(bar))


def _signed(bar: Bar) -> str:
    sign = "" if bar.outcome == "skipped" else f"{SIGNS[bar.outcome]} "
    return sign + (bar.label or bar.step)


def _share(label: str) -> float:
    """Percent of the axis that a label takes, on a page of usual width."""
    return 0.72 * len(label) + 0.8


def _title(bar: Bar) -> str:
    waited = f", {duration(bar.end - bar.waits)} of it waiting: {bar.what}" if bar.waits is not None else ""
    how = "" if bar.outcome == "skipped" else f"{bar.outcome}, "
    return f"{bar.step} on {bar.host}: {how}{duration(bar.end - bar.begin)}{waited}"
