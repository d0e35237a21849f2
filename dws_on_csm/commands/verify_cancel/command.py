"""`invoke verify --cancel`: jobs cancelled in each state of their Workflow, several at a time, compared with what is known."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from dws_on_csm.commands.verify_cancel.case import (
    Bench,
    CaseFailed,
    Ending,
    abandon,
    cancel_job,
    collection,
    delete_workflow,
    foreign,
    is_gone,
    reach,
    submit,
)
from dws_on_csm.commands.verify_cancel.known_outcomes import CASES, Case, describe, rows
from dws_on_csm.commands.verify_cancel.own_driver import OwnDriver
from dws_on_csm.commands.verify_cancel.workflow_watch import Watch
from dws_on_csm.engine.host_script import fenced
from dws_on_csm.engine.looks import LookFailed
from dws_on_csm.engine.reach import StepReporter
from dws_on_csm.engine.state import Run
from dws_on_csm.model.errors import RemoteError
from dws_on_csm.model.events import Failure, Outcome
from dws_on_csm.stages import verify_cancel

AT_ONCE = 4
"""Cases at the same time: a connection takes so many scripts, and a held Workflow costs its controller a kubectl a second."""

ROUND = 1.0
"""Seconds after which a Workflow that has not gone is released once more."""

NEVER = threading.Event()
"""What stops this cleaning: nothing, as a stopping run cleans up, too."""

CLEARED = 10.0
"""Seconds that Slurm has to remove the Workflows of leftover jobs before they are deleted."""


def work(run: Run, *, every: bool = False) -> None:
    """Run and report the cases, with `every` also those whose Workflow has to be held; leaves no job, Workflow or rule."""
    host = run.hosts["submitter"][0]
    cluster = run.reach.cluster()
    path = collection(run)
    watch = Watch(cluster, path)
    bench = Bench(run, host, watch, OwnDriver(cluster, path), path)
    try:
        clear_case(bench, left=True)
        if every:
            bench.driver.start()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            cases = [pool.submit(_case, bench, case) for case in CASES if every or not case.held]
            while wait(cases, timeout=0.5).not_done:  # the main thread has to wake up to notice Ctrl-C
                pass
            for case in cases:
                case.result()
    finally:
        clear_case(bench)
        watch.close()
    if not every:
        _left_out(bench)


def _left_out(bench: Bench) -> None:
    states = ", ".join(dict.fromkeys(case.where for case in CASES if case.held))
    note = f"not tested: {states}. `invoke verify --cancel --all` tests these, too, with a storage driver of its own"
    bench.run.done(bench.host, "cancel.left out", "ok", time.time(), note=note)


def clear_case(bench: Bench, *, left: bool = False) -> None:
    """Cancel this run's jobs, release their Workflows until these are gone, and remove our rule. `left`: also other runs' jobs.

    Jobs are searched once by name and then cancelled by number: a later job may have the same name.
    """
    try:
        _clear_jobs(bench, "" if left else bench.run.id)
        bench.driver.release_all()  # squeue does not list a job that has ended and whose Workflow is still in Teardown
    finally:
        bench.driver.stop()


def _clear_jobs(bench: Bench, run: str) -> None:
    script = fenced(bench.run.id, verify_cancel.script(bench.run.board.context(bench.host), "clear", run))
    undone = "the jobs to cancel are unknown, because squeue failed: "
    fix = f"run `squeue` there, and cancel the jobs whose names begin with {verify_cancel.JOB}"
    out = bench.run.reach.run_fenced(bench.host, script, deadline=150.0, undone=undone, fix=fix)
    answers = verify_cancel.answers(out.encode(errors="surrogateescape"))
    deadline_at = time.monotonic() + CLEARED
    cluster = bench.run.reach.cluster()
    users = answers.get("user", "").split()
    for job, user in zip(verify_cancel.job_ids(bench.host, answers), users, strict=True):
        workflow = cluster.get(f"{bench.path}/bb{job}")
        while workflow and not bench.watch.until(
            f"bb{job}", is_gone, min(ROUND, deadline_at - time.monotonic()), NEVER
        ):
            if time.monotonic() >= deadline_at:
                if str(workflow["spec"]["userID"]) != user:
                    raise foreign(bench, job, str(workflow["spec"]["userID"]))
                delete_workflow(bench, job, workflow["metadata"]["uid"])
                break
            bench.driver.release(f"bb{job}")  # the cancel may have brought it into the state in which it is held


def _case(bench: Bench, case: Case) -> None:
    began = time.time()
    try:
        outcome, more = run_case(bench, case)
    except (CaseFailed, LookFailed, RemoteError) as failed:
        code = getattr(failed, "code", None)
        command = f"submit a job, {case.reached}, {case.command}"  # the failure says at which of these it failed
        outcome, more = "failed", {"failures": (Failure(command, code, meaning=str(failed), fix=FIX),)}
    if outcome == "failed" and bench.run.stopping.is_set():
        outcome, more = "skipped", {"note": "stopped"}
    if outcome == "failed":
        bench.run.codes |= {more["failures"][0].code or 1}  # one failure outweighs all jobs that never got resources
    bench.run.done(bench.host, f"cancel.{case.name}", outcome, began, **more)


FIX = "check test_job in the site file, with which jobs are submitted; run `invoke logs` to see what the plugin and DWS logged"


def run_case(bench: Bench, case: Case) -> tuple[Outcome, dict[str, Any]]:
    """Run a case: its outcome, and the other fields of its event. Raises CaseFailed."""
    bench.check_stop()
    at = StepReporter(bench.run.id, bench.host, "cancel", case.name, bench.run.emit)
    at.began("submit a job")
    job = submit(bench, case)
    try:
        at.began(f"job {job}: {case.reached}")
        reach(bench, case, job)
        at.began(f"{case.command} {job}")
        return judge_case(case, job, cancel_job(bench, case, job))
    except CaseFailed:
        abandon(bench, case, job)
        raise


def judge_case(case: Case, job: str, end: Ending) -> tuple[Outcome, dict[str, Any]]:
    """The outcome of a case, and what was seen, for its event."""
    table = rows(case, end.course, end.seconds)
    if end.killed:
        return "ok", {"table": table, "note": KILLED.format(job=job)}
    if end.course == case.known:
        return "ok", {"table": table}
    meaning = f"seen: {describe(end.course)}\nknown: {describe(case.known)}"
    if end.unlogged and case.known.gone and not end.course.gone:
        meaning += f"\n{UNLOGGED}"
    fix = f"run `invoke logs --job {job}` to see what the plugin and DWS logged"
    return "failed", {"table": table, "failures": (Failure(f"{case.command} {job}", meaning=meaning, fix=fix),)}


UNLOGGED = (
    "not known: whether slurmctld killed its own teardown, a known fault of Slurm. Its log would say so, and cannot be read: "
    "SlurmctldLogFile is not set, and there is no journal"
)
KILLED = (
    "job {job}: slurmctld killed its own teardown (its log says so), a known fault of Slurm. "
    "The Workflow was deleted; slurmctld lists the job's burst buffer until it restarts"
)
