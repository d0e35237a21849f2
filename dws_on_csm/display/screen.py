"""The live screen: the stages, what runs in them, and the results so far. Pure; live.py draws it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from dws_on_csm.display.failures import alike
from dws_on_csm.display.progress import Progress, StageProgress, Work, fold
from dws_on_csm.display.style import STYLES, Row, Span, counted, duration, plural, sign, worst
from dws_on_csm.model.printable import escaped, more_text

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
PAUSE = 0.5
"""After this many seconds without events, a stage in which nothing runs counts as complete."""

BUSY_STYLE = "bold cyan"
STOPPING_STYLE = "bold yellow"


def frame(progress: Progress, width: int, height: int, now: float) -> list[Row]:
    """The screen at `now` (seconds since the epoch), in at most `height` rows; the caller cuts them at `width`."""
    stages = list(progress.stages.values())
    short = height < len(stages) + 4
    heads = _folded(progress, stages, now) if short else [(_stage(progress, s, now), s) for s in stages]
    top = [_head(progress, now)] if short else [_head(progress, now), []]
    details = _fitted([_details(s, width, now) if s else [] for _, s in heads], height - len(top) - len(heads))
    rows = [row for (head, _), below in zip(heads, details, strict=True) for row in (head, *below)]
    return [*top, *rows][:height]


def _head(progress: Progress, now: float) -> Row:
    if not progress.run:
        return [_spinner(now), (f" {progress.task}  ", "bold"), ("connecting", "dim")]
    about = f"  {plural(progress.hosts, 'host')}  {progress.run}"
    stopping: Row = [("  stopping; Ctrl-C again leaves at once", STOPPING_STYLE)] if progress.stopping else []
    return [(progress.task, "bold"), (f"  {duration(now - progress.began)}", BUSY_STYLE), (about, "dim"), *stopping]


# --- stages


def begun(stage: StageProgress) -> bool:
    """Whether the stage had any event."""
    return bool(stage.busy or stage.results)


def moving(progress: Progress, stage: StageProgress, now: float) -> bool:
    """Whether `stage` is active, visibly or not: the looks at its beginning make no events."""
    if begun(stage):
        followed = any(begun(other) for other in progress.stages.values() if stage.name in other.needs)
        return bool(stage.busy) or (not followed and now - stage.touched < PAUSE)
    return progress.summary is None and not _awaited(progress, stage, now)


def _awaited(progress: Progress, stage: StageProgress, now: float) -> list[str]:
    """The stages that `stage` waits for."""
    needs = [progress.stages[name] for name in stage.needs if name in progress.stages]
    return [need.name for need in needs if not begun(need) or moving(progress, need, now)]


def _stage(progress: Progress, stage: StageProgress, now: float) -> Row:
    name = f" {escaped(stage.name):<{_width(progress)}}  "
    if moving(progress, stage, now):
        running = [(f"{len(stage.busy)} running", BUSY_STYLE)] if stage.busy else []
        gap: Row = [(", ", "")] if running and stage.counts else []
        state = [*running, *gap, *counted(stage.counts)] or [("checking", "dim")]
        return [_spinner(now), (name, "bold"), *state]
    if not begun(stage):
        after = ", ".join(_awaited(progress, stage, now))
        return [("·", "dim"), (name, "dim"), (f"after {after}" if after else "", "dim")]
    took = f"  {duration(spent(stage))}" if spent(stage) >= 0.05 else ""
    return [sign(worst(stage.counts)), (name, "bold"), *counted(stage.counts), (took, "dim")]


def _width(progress: Progress) -> int:
    return max((len(name) for name in progress.stages), default=0)


def _spinner(now: float) -> Span:
    return SPINNER[int(now * 8) % len(SPINNER)], BUSY_STYLE


def spent(stage: StageProgress) -> float:
    """Seconds from the first to the last change in a stage; steps that were right already do not count."""
    worked = [done for done in stage.done if done.outcome not in ("ok", "skipped", "unknown", "deferred")]
    if not worked:
        return 0.0
    return max(d.began + d.seconds for d in worked) - min(d.began for d in worked)


def _folded(progress: Progress, stages: Sequence[StageProgress], now: float) -> list[tuple[Row, StageProgress | None]]:
    """For a low screen: complete stages in one row, stages to come in another."""
    open_ = [s for s in stages if moving(progress, s, now) or s.bad]
    through = [s for s in stages if begun(s) and s not in open_]
    ahead = [s for s in stages if s not in open_ and s not in through]
    rows: list[tuple[Row, StageProgress | None]] = []
    if through:
        counts = sum((s.counts for s in through), through[0].counts.__class__())
        rows.append(([sign(worst(counts)), (" ", ""), *counted(counts), (f"  {_names(through)}", "dim")], None))
    rows += [(_stage(progress, s, now), s) for s in open_]
    return rows + ([([("·", "dim"), (f" {_names(ahead)}", "dim")], None)] if ahead else [])


def _names(stages: Sequence[StageProgress]) -> str:
    return ", ".join(escaped(stage.name) for stage in stages)


# --- what runs

Detail = tuple[int, Row]
"""A row and its rank: 0 must be shown, 1 what runs, 2 the last line of its output."""


def _details(stage: StageProgress, width: int, now: float) -> list[Detail]:
    works = sorted(stage.busy.values(), key=lambda work: work.began)
    host = min(max((len(work.host) for work in works), default=0), 24)
    step = min(max((len(work.step) for work in works), default=0), 24)
    bad = [(0, _bad(done.outcome, hosts, done.step, _first(done.failures))) for done, hosts in alike(stage.bad)]
    places = (f"    {work.host:<{host}}  {escaped(work.step):<{step}}  " for work in works)
    return [*bad, *(row for work, where in zip(works, places, strict=True) for row in _work(work, where, width, now))]


def _first(failures: Sequence[object]) -> str:
    first = failures[0] if failures else None
    return next((line for line in str(getattr(first, "meaning", "")).splitlines() if line), "")


def _bad(outcome: str, hosts: list[str], step: str, meaning: str) -> Row:
    style = STYLES["failed"]
    return [("    ", ""), (f"{fold(hosts)}  {escaped(step)}  {outcome}", style), (f"  {escaped(meaning)}", "")]


def _work(work: Work, where: str, width: int, now: float) -> list[Detail]:
    """What runs or is awaited; text that does not fit, and the last line of output, stand below."""
    head: Row = [(where, ""), (f"{duration(now - work.began):>6}  ", "cyan")]
    if work.why:
        head.append((f"waiting (up to {max(work.until - now, 0):.0f} s): ", "yellow"))
    first, rest = _split(work.why or work.title, width - sum(len(span[0]) for span in head))
    below = [rest] if rest else []
    if work.line and not work.why:
        below.append(f"│ {work.line}")
    indent = len(where) + 8 if len(where) + 8 + max(map(len, below), default=0) <= width else 6
    return [
        (1, [*head, (first, "")]),
        *((2, [(" " * indent + line, "dim" if line[0] == "│" else "")]) for line in below),
    ]


def _split(words: str, room: int) -> tuple[str, str]:
    """The words that fit in `room` columns, and the rest; a very small room takes none."""
    if len(words) <= room:
        return words, ""
    if room < 20:
        return "", words
    first = textwrap.wrap(words, room)[0]
    return first, words[len(first) :].strip()


def _fitted(parts: list[list[Detail]], room: int) -> list[list[Row]]:
    """The details of each stage, in at most `room` rows in total: output is dropped first, then the largest is shortened."""
    if sum(map(len, parts)) > room:
        parts = [[detail for detail in part if detail[0] < 2] for part in parts]
    sizes = [len(part) for part in parts]
    while sum(sizes) > max(room, 0):
        sizes[sizes.index(max(sizes))] -= 1
    return [_cut([row for _, row in part], size) for part, size in zip(parts, sizes, strict=True)]


def _cut(rows: list[Row], size: int) -> list[Row]:
    if len(rows) <= size or size == 0:
        return rows[:size]
    return [*rows[: size - 1], [(f"    … {more_text(len(rows) - size + 1, 'running')}", "dim")]]
