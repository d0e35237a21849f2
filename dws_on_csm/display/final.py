"""The final screen of a run: each stage with its results, the failures, a plan's differences, the summary."""

from __future__ import annotations

from collections.abc import Iterator

from dws_on_csm.display import tables
from dws_on_csm.display.failures import alike, block
from dws_on_csm.display.progress import Progress, StageProgress, fold
from dws_on_csm.display.screen import spent
from dws_on_csm.display.style import BAD, Row, changed, counted, duration, plural, result, short, sign, worst
from dws_on_csm.model.events import Done, Outcome
from dws_on_csm.model.printable import escaped, more_text

LISTED = 12
"""How many steps of a stage are listed; the others are counted."""

WIDTH = 12
"""The width of the column of stage names, in characters."""

NAMED = 40
"""The width that names of hosts may take in such a row, in characters."""


def rows(progress: Progress, longest: int = 0, whole: bool = True) -> list[Row]:
    """The final screen; nothing before a run began.

    longest  how many lines a difference may have (0: all)
    whole    new files are shown whole; otherwise, as their number of lines
    """
    if not progress.stages:
        return []
    stages = list(progress.stages.values())
    plan = progress.task == "plan"
    shown = _plan(stages, longest, whole) if plan else (row for stage in stages for row in _stage(stage))
    failures = alike(done for stage in stages for done in stage.bad)
    blocks = [row for done, hosts in failures for row in ([], *block(done, hosts))]
    return [*_head(progress), *shown, *blocks, *_summary(progress, plan)]


def _head(progress: Progress) -> Iterator[Row]:
    yield [(progress.task, "bold"), (f"  {progress.run}  {plural(progress.hosts, 'host')}", "dim")]
    yield []


def _stage(stage: StageProgress) -> Iterator[Row]:
    if not stage.done and not stage.busy:
        yield _untouched(stage, "not started")
        return
    time = [(f"  {duration(spent(stage))}", "dim")] if spent(stage) >= 0.05 else []
    mark = ("…", "yellow") if stage.busy else sign(worst(stage.counts))
    yield [mark, (f" {escaped(stage.name):<{WIDTH}}", "bold"), *counted(stage.counts), *time]
    yield from _listed(stage)
    yield from (row for table in tables.merged(stage.done) for row in tables.rows(table))
    for work in list(stage.busy.values())[:LISTED]:
        yield [(f"    running  {work.host}  {work.step}  {work.title}", "yellow")]


def _untouched(stage: StageProgress, reason: str) -> Row:
    """A stage without results: it may be right or not."""
    return [("· ", "dim"), (f"{escaped(stage.name):<{WIDTH}}", ""), (reason, "dim")]


def _listed(stage: StageProgress) -> Iterator[Row]:
    results = alike(d for d in stage.done if d.outcome not in ("ok", "skipped") or d.note)
    for done, hosts in results[:LISTED]:
        took = f"  {duration(done.seconds)}" if done.seconds >= 0.05 else ""
        note = f"  {escaped(done.note)}" if done.note else ""
        word = (f"    {done.outcome:<8}", sign(done.outcome)[1])
        yield [word, (f"{_hosts(done, hosts)}  {escaped(done.step)}", ""), (took + note, "dim")]
    if len(results) > LISTED:
        yield [(f"    … {more_text(len(results) - LISTED)}", "dim")]


def _hosts(done: Done, hosts: list[str]) -> str:
    """The hosts by name, or their number where the names are too long and the result is good."""
    names = fold(hosts)
    return names if len(names) <= NAMED or done.outcome in BAD else plural(len(hosts), "host")


# --- a plan


def _plan(stages: list[StageProgress], longest: int, whole: bool) -> Iterator[Row]:
    for stage in stages:
        results = _same(stage)
        if not stage.done:
            yield _untouched(stage, "not checked")
            continue
        yield [sign(worst(stage.counts)), (f" {escaped(stage.name):<{WIDTH}}", "bold"), *counted(stage.counts)]
        for done, hosts in results:
            note = f"  {escaped(done.note)}" if done.note else ""
            mark, style = sign(done.outcome)
            where = f"{fold(hosts)}  {escaped(done.step)}"
            yield [(f"    {mark} ", style), (where, "bold"), (note, "magenta")]
            diff = done.diff if whole else short(done.diff)
            cut = diff[:longest] if longest else diff
            yield from (changed(line, "        ") for line in cut)
            if len(cut) < len(diff):
                yield [(f"        … {more_text(len(diff) - len(cut), 'lines')}", "dim")]


def _same(stage: StageProgress) -> list[tuple[Done, list[str]]]:
    """What a plan would change, and what it says of things that are right, with hosts of the same difference together."""
    wanted: tuple[Outcome, ...] = ("would change", "unknown", "deferred")
    groups: dict[object, tuple[Done, list[str]]] = {}
    for done in stage.done:
        if done.outcome in wanted or (done.outcome == "ok" and done.note):
            groups.setdefault((done.step, done.outcome, done.diff, done.note), (done, []))[1].append(done.host)
    return list(groups.values())


def _changes(progress: Progress) -> Row:
    results = [done for stage in progress.stages.values() for done in stage.done]
    changes, unknown = ([d for d in results if d.outcome == outcome] for outcome in ("would change", "unknown"))
    hosts = len({done.host for done in (*changes, *unknown)})
    if not changes and not unknown:
        right = progress.summary is not None and progress.summary.exit == 0  # one that was refused has not seen it all
        return [("Nothing to do; nothing was changed." if right else "Nothing was changed.", "bold")]
    later = f" and {plural(len(unknown), 'step')} that earlier ones decide (unknown)" if unknown else ""
    return [(f"{plural(len(changes), 'change')}{later} on {plural(hosts, 'host')}; nothing was changed.", "bold")]


# --- the summary


def _summary(progress: Progress, plan: bool) -> Iterator[Row]:
    yield []
    end = progress.summary
    if end is None:
        yield [("The run was interrupted. Run it again to continue.", "bold yellow")]
        return
    if plan:
        yield _changes(progress)
    if end.message:
        yield [sign(result(end.exit)[0]), (f" {escaped(end.message)}", "bold")]
    sizes = f"{plural(end.hosts, 'host')}, {plural(end.connections, 'connection')}, {plural(end.commands, 'command')}"
    yield [("  ", ""), *counted(end.counts), (f"  {sizes}, {duration(end.seconds)}", "dim")]
    for lacking in end.lacking:
        yield [("! ", "yellow"), (escaped(lacking), "yellow")]
    if end.next:
        yield [("  continue with  ", "dim"), (escaped(end.next), "bold")]
    if end.report:
        yield [("  report  ", "dim"), (escaped(end.report), "")]
