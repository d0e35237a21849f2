"""`invoke verify --cancel`: jobs cancelled in each state of their Workflow, several at a time, compared with what is known."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from dws_on_csm.commands.verify_cancel.case import (
    CancelRun,
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
    cancel_run = CancelRun(run, host, watch, OwnDriver(cluster, path), path)
    try:
        clear_run(cancel_run, other_runs=True)
        if every:
            cancel_run.driver.start()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            cases = [pool.submit(_case, cancel_run, case) for case in CASES if every or not case.held]
            while wait(cases, timeout=0.5).not_done:  # the main thread has to wake up to notice Ctrl-C
                pass
            for case in cases:
                case.result()
    finally:
        clear_run(cancel_run)
        watch.close()
    if not every:
        _left_out(cancel_run)


def _left_out(cancel_run: CancelRun) -> None:
    states = ", ".join(dict.fromkeys(case.where for case in CASES if case.held))
    note = f"not tested: {states}. `invoke verify --cancel --all` tests these, too, with a storage driver of its own"
    cancel_run.run.done(cancel_run.host, "cancel.left out", "ok", time.time(), note=note)


def clear_run(cancel_run: CancelRun, *, other_runs: bool = False) -> None:
    """Cancel this run's jobs, release their Workflows until these are gone, and remove our rule. `other_runs`: also of theirs.

    Jobs are searched once by name and then cancelled by number: a later job may have the same name.
    """
    try:
        _clear_jobs(cancel_run, "" if other_runs else cancel_run.run.id)
        cancel_run.driver.release_all()  # squeue does not list a job that has ended and whose Workflow is still in Teardown
    finally:
        cancel_run.driver.stop()


def _clear_jobs(cancel_run: CancelRun, run: str) -> None:
    script = fenced(
        cancel_run.run.id, verify_cancel.script(cancel_run.run.board.context(cancel_run.host), "clear", run)
    )
    undone = "the jobs to cancel are unknown, because squeue failed: "
    fix = f"run `squeue` there, and cancel the jobs whose names begin with {verify_cancel.JOB}"
    out = cancel_run.run.reach.run_fenced(cancel_run.host, script, deadline=150.0, undone=undone, fix=fix)
    answers = verify_cancel.answers(out.encode(errors="surrogateescape"))
    deadline_at = time.monotonic() + CLEARED
    cluster = cancel_run.run.reach.cluster()
    users = answers.get("user", "").split()
    for job, user in zip(verify_cancel.job_ids(cancel_run.host, answers), users, strict=True):
        workflow = cluster.get(f"{cancel_run.path}/bb{job}")
        while workflow and not cancel_run.watch.until(
            f"bb{job}", is_gone, min(ROUND, deadline_at - time.monotonic()), NEVER
        ):
            if time.monotonic() >= deadline_at:
                if str(workflow["spec"]["userID"]) != user:
                    raise foreign(cancel_run, job, str(workflow["spec"]["userID"]))
                delete_workflow(cancel_run, job, workflow["metadata"]["uid"])
                break
            cancel_run.driver.release(f"bb{job}")  # the cancel may have brought it into the state in which it is held


def _case(cancel_run: CancelRun, case: Case) -> None:
    began = time.time()
    try:
        outcome, more = run_case(cancel_run, case)
    except (CaseFailed, LookFailed, RemoteError) as failed:
        code = getattr(failed, "code", None)
        command = f"submit a job, {case.reached}, {case.command}"  # the failure says at which of these it failed
        outcome, more = "failed", {"failures": (Failure(command, code, meaning=str(failed), fix=FIX),)}
    if outcome == "failed" and cancel_run.run.stopping.is_set():
        outcome, more = "skipped", {"note": "stopped"}
    if outcome == "failed":
        cancel_run.run.codes |= {
            more["failures"][0].code or 1
        }  # one failure outweighs all jobs that never got resources
    cancel_run.run.done(cancel_run.host, f"cancel.{case.name}", outcome, began, **more)


FIX = "check test_job in the site file, with which jobs are submitted; run `invoke logs` to see what the plugin and DWS logged"


def run_case(cancel_run: CancelRun, case: Case) -> tuple[Outcome, dict[str, Any]]:
    """Run a case: its outcome, and the other fields of its event. Raises CaseFailed."""
    cancel_run.check_stop()
    at = StepReporter(cancel_run.run.id, cancel_run.host, "cancel", case.name, cancel_run.run.emit)
    at.began("submit a job")
    job = submit(cancel_run, case)
    try:
        at.began(f"job {job}: {case.reached}")
        reach(cancel_run, case, job)
        at.began(f"{case.command} {job}")
        return judge_case(case, job, cancel_job(cancel_run, case, job))
    except CaseFailed:
        abandon(cancel_run, case, job)
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
