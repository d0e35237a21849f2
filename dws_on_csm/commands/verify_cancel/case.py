"""One case: a job is submitted, brought to a state of its Workflow, and cancelled; and what becomes of both."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dws_on_csm.commands.verify_cancel.known_outcomes import NOT_BEGUN, STATES, Case, Course
from dws_on_csm.commands.verify_cancel.own_driver import OwnDriver
from dws_on_csm.commands.verify_cancel.workflow_watch import Seen, Watch
from dws_on_csm.domain import names
from dws_on_csm.engine.host_script import WAITS, fenced
from dws_on_csm.engine.state import Run
from dws_on_csm.model.cluster_api import CONFLICT, ClusterError
from dws_on_csm.model.errors import Unreachable
from dws_on_csm.model.exit_codes import UNPROVEN
from dws_on_csm.stages import verify_cancel
from dws_on_csm.stages.dws import installed

QUIET = 3.0
"""Seconds after which a cancel without an effect counts as such; an effect shows within 1 to 3 seconds."""

EFFECT = 60.0
"""Seconds within which Slurm must have finished a cancelled job."""

BUFFER = dict.fromkeys(STATES[:3], "staging-in") | {
    "PreRun": "pre-run",
    "running": "running",
    "PostRun": "post-run",
    "DataOut": "staging-out",
    "Teardown": "teardown",
}
"""Slurm's name for the state of the job's burst buffer at that time (scontrol show job: BurstBufferState)."""


class CaseFailed(Exception):
    """A case that could not be made, or did not end; says why."""

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class CancelRun:
    """What all cases use: the run, the submitting host, the watch on Workflows, the driver that holds them, and their path."""

    run: Run
    host: str
    watch: Watch
    driver: OwnDriver
    path: str

    def check_stop(self) -> None:
        """Raise CaseFailed when the run is stopping."""
        if self.run.stopping.is_set():
            raise CaseFailed("stopped")

    def script(self, step: str, deadline: float, **given: str) -> Mapping[str, str]:
        """The answers of the script for `step`. Raises CaseFailed with its error message."""
        body = verify_cancel.script(self.run.board.context(self.host), step, self.run.id, **given)
        script = fenced(self.run.id, f"set -eu\n{body}")
        answer = self.run.reach.change(self.host, script, deadline=deadline + WAITS)
        self.check_stop()
        if answer.code != 0:
            message = (answer.err or answer.out).decode(errors="replace").strip()
            raise CaseFailed(f"the script for {step} failed with exit code {answer.code}: {message[-500:]}")
        return verify_cancel.answers(answer.out)

    def until(self, job: str, reached: Callable[[Sequence[Seen]], bool], seconds: float) -> bool:
        """Whether a job's Workflow gets so far within `seconds`."""
        return self.watch.until(f"bb{job}", reached, seconds, self.run.stopping)

    def release(self, case: Case, job: str) -> None:
        """Release the Workflow of the job."""
        if case.held:
            self.driver.release(f"bb{job}")


def collection(run: Run) -> str:
    """The API path of the Workflows that the plugin creates, in a version that DWS serves. Raises ClusterError."""
    crd = installed.crd(run.reach.cluster(), "workflows")
    above = installed.path("", crd) if crd else f"/apis/{names.GROUP}/{names.WORKFLOW_VERSION}/"
    return f"{above}namespaces/{run.site.access.namespace}/workflows"


def is_gone(seen: Sequence[Seen]) -> bool:
    """Whether a Workflow was deleted."""
    return bool(seen) and seen[-1].type == "DELETED"


# --- up to the cancel


def submit(cancel_run: CancelRun, case: Case) -> str:
    """Submit the case's job, whose Workflow will stop where the job shall be cancelled; its id."""
    how = {"not begun": "--begin=now+1hour", "job held": "--hold"}.get(case.where, "")
    commands = "sleep 250" if case.where in (*STATES[:4], "running") else "true"
    line = OwnDriver.line(case.where) if case.held else "#DW"
    (job,) = verify_cancel.job_ids(
        cancel_run.host, cancel_run.script("submit", 150.0, how=how, commands=commands, directive=line)
    )
    return job


def reach(cancel_run: CancelRun, case: Case, job: str) -> None:
    """Wait until the job and its Workflow are where the job shall be cancelled. Raises CaseFailed."""
    if case.where in NOT_BEGUN:
        reached = cancel_run.until(job, _proposed, EFFECT)
    else:
        _begin(cancel_run, case, job)
        reached = cancel_run.until(
            job, lambda seen: _running(seen) if not case.held else _held(seen, case.where), EFFECT
        )
    if not reached:
        raise CaseFailed(f"Workflow bb{job} did not reach {case.where} within {EFFECT:.0f} s")


def _proposed(seen: Sequence[Seen]) -> bool:
    return bool(seen) and (seen[-1].state, seen[-1].status) == ("Proposal", "Completed")


def _held(seen: Sequence[Seen], state: str) -> bool:
    return bool(seen) and seen[-1].state == state and seen[-1].waits


def _running(seen: Sequence[Seen]) -> bool:
    """Whether the watch has seen the Workflow in the state that it has while its job runs: later events are the cancel's."""
    return bool(seen) and seen[-1].desired == "PreRun"


def _begin(cancel_run: CancelRun, case: Case, job: str) -> None:
    """Wait until Slurm has called the plugin for this state; an earlier cancel would find nothing to cancel. Raises CaseFailed."""
    allowed, wanted = cancel_run.run.site.test_job.deadline, BUFFER[case.where]
    given = {"wanted": wanted, "allowed": f"{allowed:.0f}"}
    state = cancel_run.script("begin", allowed + 60.0, job=job, **given)
    if state["buffer"] == wanted:
        return
    text = f"job {job} is {state['job']} ({state['reason']}) and its burst buffer {state['buffer']} instead of {wanted}"
    lacks = state["job"] == "PENDING" and state["buffer"] in ("pending", "staged-in")
    raise CaseFailed(f"{text}: it never got resources" if lacks else text, UNPROVEN if lacks else None)


def abandon(cancel_run: CancelRun, case: Case, job: str) -> None:
    """Cancel the job of a failed case, which would otherwise hold resources that the other cases need."""
    if not cancel_run.run.stopping.is_set():  # a stopping run cancels all its jobs together
        cancel_run.release(case, job)
        cancel_run.script("cancel", 120.0, job=job, words="--hurry")


# --- from the cancel on


@dataclass(frozen=True)
class Ending:
    """How a case ended: its course, seconds since the cancel, whether slurmctld killed its own teardown.

    unlogged    whether slurmctld's log cannot be read, so that a killed teardown would not be noticed
    """

    course: Course
    seconds: float
    killed: bool
    unlogged: bool = False


def cancel_job(cancel_run: CancelRun, case: Case, job: str) -> Ending:
    """Cancel the job and watch what becomes of it. A Workflow that stays is deleted, and counts as one that stays."""
    before = cancel_run.watch.events(f"bb{job}")
    began = time.monotonic()
    mark = cancel_run.script("cancel", 120.0, job=job, words="--hurry" if case.hurry else "")
    without_effect, end = _wait_for_end(cancel_run, case, job, before, mark)
    if case.known.gone and "killed" not in end:
        cancel_run.until(job, is_gone, 30.0)  # Slurm has finished the job as soon as it has asked for the deletion
    seen = cancel_run.watch.events(f"bb{job}")
    ended = seen[-1].at if is_gone(seen) else time.monotonic()
    if not is_gone(seen):
        if seen[-1].user != mark["user"]:
            raise foreign(cancel_run, job, seen[-1].user)
        delete_workflow(cancel_run, job, seen[-1].uid)
    states = tuple(
        dict.fromkeys(event.desired for event in _after(seen, before) if event.desired != before[-1].desired)
    )
    course = Course(any(event.hurry for event in seen), states, is_gone(seen), end["job"], without_effect)
    return Ending(course, ended - began, "killed" in end, "unlogged" in end)


def foreign(cancel_run: CancelRun, job: str, user: str) -> Unreachable:
    """That the Workflow with this job's name is of another user, as of another Slurm's job in this namespace. It stays."""
    text = f"Workflow bb{job} is of user {user}, and not of test_job.user: it was not deleted"
    return Unreachable(
        cancel_run.host, text, f"find out which Slurm has created it in {cancel_run.run.site.access.namespace}"
    )


def delete_workflow(cancel_run: CancelRun, job: str, uid: str) -> None:
    """Delete the job's Workflow with this uid; another Workflow that has its name by now stays."""
    try:
        cancel_run.run.reach.cluster().delete(f"{cancel_run.path}/bb{job}", uid=uid)
    except ClusterError as error:
        if error.status != CONFLICT:
            raise


def _wait_for_end(
    cancel_run: CancelRun, case: Case, job: str, before: Sequence[Seen], mark: Mapping[str, str]
) -> tuple[bool, Mapping[str, str]]:
    """Wait until Slurm has finished the job: whether it did so only once its Workflow was released, and its state."""
    if not case.known.without_effect or cancel_run.until(job, lambda seen: any(_after(seen, before)), QUIET):
        end = _job_end(cancel_run, job, mark)
        if not case.held or end["buffer"] == "complete" or "killed" in end:
            return False, end
    cancel_run.release(case, job)
    return True, _job_end(cancel_run, job, mark)


def _job_end(cancel_run: CancelRun, job: str, mark: Mapping[str, str]) -> Mapping[str, str]:
    given = {"size": mark["size"], "since": mark["since"], "allowed": f"{EFFECT:.0f}"}
    return cancel_run.script("end", EFFECT + 60.0, job=job, **given)


def _after(seen: Sequence[Seen], before: Sequence[Seen]) -> Iterator[Seen]:
    """The events since `before` in which Slurm asks for another state of the Workflow, or deletes it."""
    return (event for event in seen[len(before) :] if event.desired != before[-1].desired or event.type == "DELETED")
