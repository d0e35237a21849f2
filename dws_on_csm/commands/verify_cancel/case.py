"""One job that is cancelled while its Workflow is in a state: up to the cancel, and what becomes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from dws_on_csm.commands.verify_cancel.known_outcomes import NOT_BEGUN, STATES, Case, Course
from dws_on_csm.commands.verify_cancel.workflow_hold import Holds
from dws_on_csm.commands.verify_cancel.workflow_watch import Seen, Watch
from dws_on_csm.domain import names
from dws_on_csm.engine.host_script import WAITS, fenced
from dws_on_csm.engine.state import Run
from dws_on_csm.model.cluster_api import CONFLICT, ClusterError
from dws_on_csm.stages import cancel

QUIET = 3.0
"""Seconds for which a cancel that does nothing must have done nothing; what it does comes within 1 to 3."""

EFFECT = 60.0
"""Seconds within which Slurm must be through with a job that was cancelled."""

BUFFER = dict.fromkeys(STATES[:3], "staging-in") | {
    "PreRun": "pre-run",
    "running": "running",
    "PostRun": "post-run",
    "DataOut": "staging-out",
    "Teardown": "teardown",
}
"""What Slurm calls the state of a job's burst buffer meanwhile (scontrol show job: BurstBufferState)."""

NO_RESOURCES = 5
"""The exit code of a run in which a job never got resources: nothing is proven, and nothing failed."""


class Failed(Exception):
    """A case could not be made, or did not end."""

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Bench:
    """Where cases are made: the run, the submitter, what is seen of Workflows, what holds them (None: nothing can)."""

    run: Run
    host: str
    watch: Watch
    holds: Holds | None

    def go_on(self) -> None:
        """Raises Failed when the run is to stop."""
        if self.run.stopping.is_set():
            raise Failed("stopped")

    def script(self, step: str, deadline: float, **given: str) -> Mapping[str, str]:
        """What the script for `step` answers. Raises Failed with its last words."""
        made = cancel.script(self.run.board.context(self.host), step, self.run.id, **given)
        script = fenced(self.run.id, f"set -eu\n{made}")
        answer = self.run.reach.change(self.host, script, deadline=deadline + WAITS)
        self.go_on()
        if answer.code != 0:
            said = (answer.err or answer.out).decode(errors="replace").strip()
            raise Failed(f"{step} ended with exit code {answer.code}: {said[-500:]}")
        return cancel.answers(answer.out)

    def until(self, job: str, reached: Callable[[Sequence[Seen]], bool], seconds: float) -> bool:
        """Whether a job's Workflow gets so far within `seconds`."""
        return self.watch.until(f"bb{job}", reached, seconds, self.run.stopping)

    def release(self, case: Case, job: str) -> None:
        """The Workflow of the job is no longer held."""
        if self.holds and case.held:
            self.holds.change(drop=[f"bb{job}.{case.where}"])


def collection(run: Run) -> str:
    """Where the API has the Workflows that the plugin makes."""
    return f"/apis/{names.GROUP}/{names.WORKFLOW_VERSION}/namespaces/{run.site.access.namespace}/workflows"


def gone(seen: Sequence[Seen]) -> bool:
    """Whether a Workflow was taken away."""
    return bool(seen) and seen[-1].type == "DELETED"


# --- up to the cancel


def submit(bench: Bench, case: Case) -> str:
    """The id of a new job, whose Workflow will come no further than to where it is to be cancelled."""
    how = "--begin=now+1hour" if case.where == "not begun" else "--hold" if _waits(case) else ""
    commands = "sleep 250" if case.where in (*STATES[:4], "running") else "true"
    with _unborn(bench, case):
        job = bench.script("submit", 150.0, how=how, commands=commands)["id"]
        if bench.holds and case.held:
            bench.holds.change(add=[f"bb{job}.{case.where}"])
    return job


def _waits(case: Case) -> bool:
    """Whether Slurm holds the job at first: for good, or until it is known which Workflow is to be held."""
    return case.where == "job held" or (case.held and case.where != "Proposal")


def _unborn(bench: Bench, case: Case) -> AbstractContextManager[None]:
    """In Proposal a Workflow is as soon as it is there."""
    return bench.holds.proposals() if bench.holds and case.where == "Proposal" else nullcontext()


def reach(bench: Bench, case: Case, job: str) -> None:
    """Return when the job and its Workflow are where they are to be cancelled. Raises Failed."""
    if case.where in NOT_BEGUN:
        reached = bench.until(job, _proposed, EFFECT)
    else:
        _begin(bench, case, job)
        reached = bench.until(job, lambda seen: _running(seen) if not case.held else _held(seen, case.where), EFFECT)
    if not reached:
        raise Failed(f"Workflow bb{job} never was in {case.where}")


def _proposed(seen: Sequence[Seen]) -> bool:
    return bool(seen) and (seen[-1].state, seen[-1].status) == ("Proposal", "Completed")


def _held(seen: Sequence[Seen], state: str) -> bool:
    return bool(seen) and seen[-1].state == state and seen[-1].waits


def _running(seen: Sequence[Seen]) -> bool:
    """Whether it has been told that the Workflow is where it is while its job runs: what is told later is of the cancel."""
    return bool(seen) and seen[-1].desired == "PreRun"


def _begin(bench: Bench, case: Case, job: str) -> None:
    """Return when Slurm has called the plugin for what is to be cancelled; before that a cancel finds nothing to do."""
    allowed, wanted = bench.run.site.test_job.deadline, BUFFER[case.where]
    given = {"release": "yes" if _waits(case) else "", "wanted": wanted, "allowed": f"{allowed:.0f}"}
    found = bench.script("begin", allowed + 60.0, job=job, **given)
    if found["buffer"] == wanted:
        return
    text = f"job {job} is {found['job']} ({found['reason']}), its burst buffer {found['buffer']}, and not yet {wanted}"
    lacks = found["job"] == "PENDING" and found["buffer"] in ("pending", "staged-in")
    raise Failed(f"{text}: it never got resources" if lacks else text, NO_RESOURCES if lacks else None)


def abandon(bench: Bench, case: Case, job: str) -> None:
    """End the job of a case that could not be made: the other cases need the resources that it would hold until the end."""
    if not bench.run.stopping.is_set():  # then all jobs are cancelled at once
        bench.release(case, job)
        bench.script("cancel", 120.0, job=job, words="--hurry")


# --- from the cancel on


@dataclass(frozen=True)
class End:
    """How a case ended: its course, seconds from the cancel, whether slurmctld killed its own teardown."""

    course: Course
    seconds: float
    killed: bool


def cancelled(bench: Bench, case: Case, job: str) -> End:
    """Cancel the job and see what becomes of it. A Workflow that stays is deleted, and counts as one that stays."""
    before = bench.watch.events(f"bb{job}")
    began = time.monotonic()
    mark = bench.script("cancel", 120.0, job=job, words="--hurry" if case.hurry else "")
    itself, found = _through(bench, case, job, before, mark)
    if case.known.gone and "killed" not in found:
        bench.until(job, gone, 30.0)  # Slurm is through as soon as it has asked for that
    seen = bench.watch.events(f"bb{job}")
    ended = seen[-1].at if gone(seen) else time.monotonic()
    if not gone(seen):
        take_away(bench, job, seen[-1].uid)
    states = tuple(dict.fromkeys(one.desired for one in _after(seen, before) if one.desired != before[-1].desired))
    course = Course(any(one.hurry for one in seen), states, gone(seen), found["job"], itself)
    return End(course, ended - began, "killed" in found)


def take_away(bench: Bench, job: str, uid: str) -> None:
    """Delete the Workflow that was seen for the job: that very one. Another one that has its name by now stays."""
    try:
        bench.run.reach.cluster().delete(f"{collection(bench.run)}/bb{job}", uid=uid)
    except ClusterError as error:
        if error.status != CONFLICT:
            raise


def _through(
    bench: Bench, case: Case, job: str, before: Sequence[Seen], mark: Mapping[str, str]
) -> tuple[bool, Mapping[str, str]]:
    """Wait until Slurm is through with the job: whether only its Workflow's release led there, and what Slurm says of it."""
    if not case.known.itself or bench.until(job, lambda seen: any(_after(seen, before)), QUIET):
        found = _end(bench, job, mark)
        if not case.held or found["buffer"] == "complete" or "killed" in found:
            return False, found
    bench.release(case, job)
    return True, _end(bench, job, mark)


def _end(bench: Bench, job: str, mark: Mapping[str, str]) -> Mapping[str, str]:
    given = {"size": mark["size"], "since": mark["since"], "allowed": f"{EFFECT:.0f}"}
    return bench.script("end", EFFECT + 60.0, job=job, **given)


def _after(seen: Sequence[Seen], before: Sequence[Seen]) -> Iterator[Seen]:
    """The events since `before` in which the Workflow is asked for another state, or is gone."""
    return (one for one in seen[len(before) :] if one.desired != before[-1].desired or one.type == "DELETED")
