"""Workflows whose jobs are over; and storage drivers that keep a Workflow waiting, which need Slurm's clock."""

from __future__ import annotations

from collections.abc import Sequence

from dws_on_csm.commands.doctor import storage
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
    return [*(_orphan(workflow, seen) for workflow in orphans), *storage.drivers(ctx, existing, seen["now"])]


def _orphaned(workflow: Workflow, seen: Jobs) -> bool:
    """Whether its job is over, or unknown here, which is reported too: it may be of another Slurm in the same namespace."""
    unneeded = workflows.fate(workflow, seen) in ("orphan", "foreign") and not workflows.needed(workflow, seen)
    return unneeded and bool(workflow["job"]) and workflow["namespace"] == seen.get("namespace")


def _orphan(workflow: Workflow, seen: Jobs) -> Finding:
    fix = workflows.orphan_fix(workflow)
    if workflows.doubt(workflow, seen):
        fix = "first make sure that no other Slurm that uses this DWS needs it; "
        fix += f"then run `{workflows.deletion(workflow)}` on the master"
    return Finding("orphan", workflows.describe(workflow, seen), fix)


def _jobs(ctx: StepContext) -> Jobs | None:
    """Slurm's jobs from the first controller whose squeue responded; None if none did."""
    return next((answer for answer in ctx.facts.known(_JOBS).values() if answer["answers"]), None)


CHECK = Check(storage.WORKFLOWS.step, "master", lambda ctx: ApiLook(workflows.read), judge_workflows)
JOBS = Check(_JOBS.step, "controller", _look_jobs, lambda ctx, have: ())
