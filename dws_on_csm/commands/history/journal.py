"""`invoke journal`: the runs that a site has seen, as a list or one of them in detail."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from dws_on_csm.config.site import Site
from dws_on_csm.display import console
from dws_on_csm.display.progress import fold
from dws_on_csm.model.errors import DeadlineExceeded, Lost, Unreachable
from dws_on_csm.model.events import current
from dws_on_csm.runner import journal, past_runs
from dws_on_csm.runner.interrupt import read_only
from dws_on_csm.runner.past_runs import Past

BROKEN = (Unreachable, Lost, DeadlineExceeded)


def show(site: Site, name: str, as_json: bool) -> int:
    """Print the runs, the oldest first, or the run `name` alone; the exit code."""
    try:
        with read_only():
            every = past_runs.runs(site)
    except BROKEN as error:
        console.note(f"{site.master.host.name}: {error}")
        return 1
    found = [one for one in every if name in ("", one.id)]
    if name and not found:
        console.note(f"No run {name} is known: `invoke journal` lists them.")
        return 3
    if as_json:
        console.records(map(_record, found))
    else:
        console.say(*_lines(found, name))
    return 0


def _lines(found: list[Past], name: str) -> Iterator[str]:
    if not found:
        yield "No run has changed anything here yet."
    yield from _text(found)
    if not name:
        return
    run = found[0]
    yield f"    {run.message or _result(run)}"
    yield (
        f"    `invoke rollback {run.id}` brings back what was before it"
        if run.kept
        else "    Its before-images are gone"
    )
    yield from _diffs(run)


def _diffs(run: Past) -> Iterator[str]:
    """What it changed, as differences; where the journal is another operator's they are in his report."""
    path = journal.RUNS / run.id / "journal.jsonl"
    for record in journal.read(path) if path.exists() else ():
        if record.get("event") == "done" and (record["diff"] or record["failures"]):
            yield f"\n{record['host']}: {record['stage']}.{record['step']}: {current(record['outcome'])}"
            yield from (f"    {line}" for line in record["diff"])
            yield from (f"    ! {one['meaning'] or one['command']}" for one in record["failures"])


def _text(every: list[Past]) -> Iterator[str]:
    """The runs as lines for people."""
    for run in every:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.at)) if run.at else "?"
        yield f"{run.id}  {when}  {run.by}  {run.task}{_undoing(run)}  {_result(run)}"
        for host, steps in run.changes.items():
            yield f"    {host}: {', '.join(steps)}"
        yield from (f"    could not be read: {one}" for one in run.unread)


def _undoing(run: Past) -> str:
    """What it put back, and where it did not."""
    without = f", without {fold(sorted(run.without))}" if run.without else ""
    return f" of {run.undoes}{without}" if run.undoes else ""


CUT_OFF = "cut off, or still at work"
GONE = "ended; how it ended is not known any more"
RESULTS = {0: "done", 1: "failed", 3: "refused", 5: "not proven"}


def _result(run: Past) -> str:
    """How it ended, in a word."""
    if run.code is None:  # one that is at work is known on the master, and at its operator's
        return GONE if run.ended or run.task == "?" else CUT_OFF
    return RESULTS.get(run.code, f"exit code {run.code}") if run.changes or run.code else "changed nothing"


def _record(run: Past) -> dict[str, Any]:
    """The run as JSON's own types."""
    return {
        "event": "run",
        "run": run.id,
        "at": run.at,
        "by": run.by,
        "task": run.task,
        "result": _result(run),
        "exit": run.code,
        "message": run.message,
        "changed": run.changes,
        "undoes": run.undoes,
        "without": sorted(run.without),
        "can_be_rolled_back": run.kept and bool(run.changes),
        "unread": run.unread,
    }
