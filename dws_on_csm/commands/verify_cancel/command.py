"""Jobs cancelled in each state of their Workflow, several at a time: what becomes of it, beside what is known."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from dws_on_csm.commands.verify_cancel.case import (
    Bench,
    End,
    Failed,
    abandon,
    cancelled,
    collection,
    gone,
    reach,
    submit,
    take_away,
)
from dws_on_csm.commands.verify_cancel.known_outcomes import CASES, Case, rows, told
from dws_on_csm.commands.verify_cancel.workflow_hold import Holds
from dws_on_csm.commands.verify_cancel.workflow_watch import Watch
from dws_on_csm.engine.context import StepReporter
from dws_on_csm.engine.host_script import fenced
from dws_on_csm.engine.looks import LookFailed
from dws_on_csm.engine.state import Run
from dws_on_csm.model.errors import RemoteError
from dws_on_csm.model.events import Failure, Outcome
from dws_on_csm.stages import cancel

AT_ONCE = 4
"""Cases side by side: so many scripts a connection takes, and one that is held costs its controller a kubectl a second."""

CLEARED = 10.0
"""Seconds that Slurm has to take down the Workflows of jobs that are left, before they are deleted."""


def work(run: Run) -> None:
    """Make every case that can be made at this site, and tell how each went. Leaves nothing behind."""
    host = run.hosts["submitter"][0]
    able, cluster = cancel.holds(run.board.context(host)), run.reach.cluster()
    watch = Watch(cluster, collection(run))
    bench = Bench(run, host, watch, Holds(cluster) if able else None)
    try:
        _clear(bench, left=True)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            cases = [pool.submit(_case, bench, case) for case in CASES if able or not case.held]
            while wait(cases, timeout=0.5).not_done:  # a main thread that wakes up sees to Ctrl-C
                pass
            for done in cases:
                done.result()
    finally:
        _clear(bench)
        watch.close()
    if not able:
        _left_out(bench)


def _left_out(bench: Bench) -> None:
    states = ", ".join(dict.fromkeys(case.where for case in CASES if case.held))
    note = f"{states}: a Workflow has to be held there for that, which only a lab's DWS does"
    bench.run.done(bench.host, "cancel.left out", "ok", time.time(), note=note)


def _clear(bench: Bench, *, left: bool = False) -> None:
    """Hold nothing, cancel what jobs of this run there are, and see their Workflows gone. `left`: those that runs left, too.

    Jobs are found once, and from then on called by their numbers: of a name others may come.
    """
    if bench.holds:
        bench.holds.clear()
    script = fenced(
        bench.run.id, cancel.script(bench.run.board.context(bench.host), "clear", "" if left else bench.run.id)
    )
    undone = "which jobs are to be cancelled is not known, since squeue failed: "
    fix = f"`squeue` there lists those whose names begin with {cancel.JOB}"
    out = bench.run.reach.told(bench.host, script, deadline=150.0, undone=undone, fix=fix)
    found = cancel.answers(out.encode(errors="surrogateescape"))
    ends = time.monotonic() + CLEARED
    cluster = bench.run.reach.cluster()
    for job in found.get("id", "").split():
        there = cluster.get(f"{collection(bench.run)}/bb{job}")
        if there and not bench.until(job, gone, ends - time.monotonic()):
            take_away(bench, job, there["metadata"]["uid"])


def _case(bench: Bench, case: Case) -> None:
    began = time.time()
    try:
        outcome, more = _made(bench, case)
    except (Failed, LookFailed, RemoteError) as failed:
        code = getattr(failed, "code", None)
        command = f"submit a job, {case.reached}, {case.command}"  # the failure says how far it came
        outcome, more = "failed", {"failures": (Failure(command, code, meaning=str(failed), fix=FIX),)}
    if outcome == "failed" and bench.run.stopping.is_set():
        outcome, more = "skipped", {"note": "stopped"}
    if outcome == "failed":
        bench.run.codes |= {more["failures"][0].code or 1}  # one failure outweighs all jobs that never got resources
    bench.run.done(bench.host, f"cancel.{case.name}", outcome, began, **more)


FIX = "test_job in the site file is how jobs are submitted; `invoke logs` shows what the plugin and DWS said"


def _made(bench: Bench, case: Case) -> tuple[Outcome, dict[str, Any]]:
    """A case from its job's submission to the end: the outcome, and what there is to tell. Raises Failed."""
    bench.go_on()
    at = StepReporter(bench.run.id, bench.host, "cancel", case.name, bench.run.emit)
    at.began("submit a job")
    job = submit(bench, case)
    try:
        at.began(f"job {job}: {case.reached}")
        reach(bench, case, job)
        at.began(f"{case.command} {job}")
        return _judged(case, job, cancelled(bench, case, job))
    except Failed:
        abandon(bench, case, job)
        raise


def _judged(case: Case, job: str, end: End) -> tuple[Outcome, dict[str, Any]]:
    table = rows(case, end.course, end.seconds)
    if end.killed:
        return "ok", {"table": table, "note": KILLED.format(job=job)}
    if end.course == case.known:
        return "ok", {"table": table}
    meaning = f"seen: {told(end.course)}\nknown: {told(case.known)}"
    fix = f"`invoke logs --job {job}` shows what Slurm and DWS said of it"
    return "failed", {"table": table, "failures": (Failure(f"{case.command} {job}", meaning=meaning, fix=fix),)}


KILLED = (
    "job {job}: slurmctld killed its own teardown (slurm_bb_job_teardown killed by signal 9), as it sometimes does. The "
    "Workflow was deleted; slurmctld itself forgets the job's buffer when it is started again"
)
