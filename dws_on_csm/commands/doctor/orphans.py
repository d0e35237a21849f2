"""Workflows whose jobs are over, jobs whose Workflows are gone, storage drivers that keep a Workflow waiting: by Slurm's clock."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from dws_on_csm.commands.doctor import storage
from dws_on_csm.model.printable import first_few
from dws_on_csm.model.step import ApiLook, Check, Fact, Finding, Look, NotYetKnown, StepContext, Value
from dws_on_csm.stages import jobs
from dws_on_csm.stages.dws import workflows
from dws_on_csm.stages.dws.workflows import Workflow
from dws_on_csm.stages.jobs import Jobs

_JOBS: Fact[Jobs] = Fact("doctor", "jobs")


def _look_jobs(ctx: StepContext) -> Look:
    # read the jobs after the Workflows: see workflows.fate
    return jobs.look(ctx, (workflow["job"] for workflow in ctx.facts.one(storage.WORKFLOWS)))


def judge_workflows(ctx: StepContext, existing: Value) -> Sequence[Finding]:
    """Orphans, and storage drivers that are slow or failed. Raises NotYetKnown where Slurm's jobs are unknown."""
    seen = _jobs(ctx)
    if seen is None:
        if existing:
            raise NotYetKnown("doctor")
        return []
    orphans = [workflow for workflow in existing if _orphaned(workflow, seen)]
    found = [*(_orphan(workflow, seen) for workflow in orphans), *storage.drivers(ctx, existing, seen["now"])]
    return [*found, *_gone(ctx, existing, seen)]


def _orphaned(workflow: Workflow, seen: Jobs) -> bool:
    """Whether its job is over, or unknown here, which is reported too: it may be of another Slurm in the same namespace."""
    unneeded = workflows.fate(workflow, seen) in ("orphan", "foreign") and not workflows.needed(workflow, seen)
    return unneeded and bool(workflow["job"]) and workflow["namespace"] == seen.get("namespace")


def _orphan(workflow: Workflow, seen: Jobs) -> Finding:
    fix = workflows.orphan_fix(workflow)
    if workflows.doubt(workflow, seen):
        delete = f"run `{workflows.deletion(workflow)}` on the master"
        then = fix if workflows.foreign_finalizers(workflow) else delete
        fix = f"first make sure that no other Slurm that uses this DWS needs it; then {then}"
    return Finding("orphan", workflows.describe(workflow, seen), fix)


def _gone(ctx: StepContext, existing: Sequence[Workflow], seen: Jobs) -> Iterator[Finding]:
    """Jobs that are not over, and whose Workflow is gone: the plugin makes it when a job is submitted and deletes it at the end."""
    there = {workflow["name"] for workflow in existing if workflow["namespace"] == ctx.site.access.namespace}
    waiting = [
        job
        for job in seen["jobs"].values()
        if job["burst_buffer"] and job["state"] in _BEFORE_THE_END and not jobs.elsewhere(job["id"], seen)
        and seen["now"] - job["submitted"] > workflows.SETTLED and f"bb{job['id']}" not in there
    ]  # fmt: skip
    if not waiting:
        return
    listed = first_few([f"job {job['id']} of {job['user']} ({job['state']})" for job in waiting], noun="jobs")
    text = f"the Workflow is gone that {listed} needs to go on. Unless Slurm has requeued that job, something other than Slurm "
    text += "deletes Workflows: an operator, a cron job, a cleanup"
    fix = f"run `scancel {' '.join(shlex.quote(job['id']) for job in waiting)}` on {ctx.site.controllers[0].name}, and have that "
    fix += "submitted again. Who deletes Workflows is in the API server's audit log (verb delete, resource workflows)"
    yield Finding("workflow-gone", text, fix)


_BEFORE_THE_END = frozenset({"PENDING", "CONFIGURING", "RUNNING", "SUSPENDED"})
"""States in which a job needs its Workflow; in a later one, the plugin may be deleting it."""


def _jobs(ctx: StepContext) -> Jobs | None:
    """Slurm's jobs from the first controller whose squeue responded; None if none did."""
    return next((answer for answer in ctx.facts.known(_JOBS).values() if answer["answers"]), None)


CHECK = Check(storage.WORKFLOWS.step, "master", lambda ctx: ApiLook(workflows.read), judge_workflows)
JOBS = Check(_JOBS.step, "controller", _look_jobs, lambda ctx, have: ())
