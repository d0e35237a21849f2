"""`invoke journal`: the runs on a site, as a list, or one of them in detail."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from dws_on_csm.config.site import Site
from dws_on_csm.display import console
from dws_on_csm.display.progress import fold
from dws_on_csm.model.errors import RemoteError
from dws_on_csm.model.events import current
from dws_on_csm.model.exit_codes import CONVERGED, FAILED, REFUSED
from dws_on_csm.runner import journal, past_runs
from dws_on_csm.runner.commands_to_paste import with_site
from dws_on_csm.runner.interrupt import ending_at_once
from dws_on_csm.runner.past_runs import PastRun


def show(site: Site, name: str, as_json: bool) -> int:
    """Print all runs, the oldest first, or the run `name` alone; the exit code."""
    try:
        with ending_at_once():
            runs = past_runs.runs(site, console.note)
    except RemoteError as error:
        console.note(f"{site.master.host.name}: {error}")
        return FAILED
    runs = [run for run in runs if name in ("", run.id)]
    if name and not runs:
        console.note(with_site(f"There is no run {name}. `invoke journal` lists the runs.", site))
        return REFUSED
    if as_json:
        console.records(map(run_record, runs))
    else:
        console.say(*(with_site(line, site) for line in journal_lines(runs, name)))
    return CONVERGED


def journal_lines(runs: list[PastRun], name: str) -> Iterator[str]:
    """The journal as `invoke journal` prints it; of run NAME alone, where it is given."""
    if not runs:
        yield "No run has changed anything on this site yet."
    yield from runs_text(runs)
    if not name:
        return
    run = runs[0]
    yield f"    {run.message or _result(run)}"
    if run.kept:
        yield f"    `invoke rollback {run.id}` restores the state before this run."
    else:
        yield "    It cannot be rolled back: its before-images were removed."
    yield from _diffs(run)


def _diffs(run: PastRun) -> Iterator[str]:
    """What a run changed, as differences, where this machine made the run: its journal is here."""
    path = journal.RUNS / run.id / "journal.jsonl"
    for record in journal.records(path)[0] if path.exists() else ():
        if record.get("event") == "done" and (record["diff"] or record["failures"]):
            yield f"\n{record['host']}: {record['stage']}.{record['step']}: {current(record['outcome'])}"
            yield from (f"    {line}" for line in record["diff"])
            yield from (f"    ! {failure['meaning'] or failure['command']}" for failure in record["failures"])


def runs_text(runs: list[PastRun]) -> Iterator[str]:
    """The runs as lines for people."""
    for run in runs:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.at)) if run.at else "?"
        yield f"{run.id}  {when}  {run.by}  {run.task}{_undone_run(run)}  {_result(run)}"
        for host, steps in run.changes.items():
            yield f"    {host}: {', '.join(steps)}"
        yield from (f"    cannot be read: {record}" for record in run.unreadable_records)


def _undone_run(run: PastRun) -> str:
    """The run that a rollback undid, and the hosts on which it did not."""
    without = f", without {fold(sorted(run.without))}" if run.without else ""
    return f" of {run.undoes}{without}" if run.undoes else ""


INTERRUPTED = "interrupted, or still running"
UNKNOWN = "ended, with unknown result"
RESULTS = {0: "done", 1: "failed", 3: "refused", 5: "not verified"}


def _result(run: PastRun) -> str:
    """How a run ended, in a word or two."""
    if run.code is None:  # a running one is known on the master, and to its operator
        return UNKNOWN if run.ended or run.task == "?" else INTERRUPTED
    return RESULTS.get(run.code, f"exit code {run.code}") if run.changes or run.code else "changed nothing"


def run_record(run: PastRun) -> dict[str, Any]:
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
        "unread": run.unreadable_records,
    }
