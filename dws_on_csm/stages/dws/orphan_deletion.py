"""The deletion of orphaned Workflows: right before it, Slurm is asked once more, and a job that it needs keeps its Workflow.

The Workflows are read first, and then Slurm is asked: it had each job before the plugin made its Workflow.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from dws_on_csm.model.actions import Action, CallApi, Delete, RunElsewhere
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.errors import MALFORMED
from dws_on_csm.model.step import Finding, Refused, StepContext
from dws_on_csm.stages import jobs
from dws_on_csm.stages.dws import in_use, installed, workflows
from dws_on_csm.stages.dws.workflows import Workflow
from dws_on_csm.stages.jobs import Jobs


def deletion(ctx: StepContext, confirmed: Sequence[Workflow]) -> Sequence[Action]:
    """The actions that delete these Workflows, by their uids: all of them, or none if one is no longer orphaned."""
    ids = {workflow["id"] for workflow in confirmed}

    def read(cluster: Cluster) -> bytes:
        return json.dumps([workflow for workflow in workflows.read(cluster) if workflow["id"] in ids]).encode()

    return [CallApi("check which orphaned Workflows still exist", read, lambda out: _asked(ctx, json.loads(out)))]


def _asked(ctx: StepContext, there: Sequence[Workflow]) -> Sequence[Action]:
    numbers = [workflow["job"] for workflow in there]
    # a look's snippet runs without -e
    script = f"set +eu\n{jobs.look(ctx, numbers).script}"
    title = f"ask Slurm about job {', '.join(numbers)}"
    then = RunElsewhere(title, "submitter", script, lambda out: _gone(ctx, there, out), ctx.site.deadlines.look)
    return [then] if there else []


def _gone(ctx: StepContext, there: Sequence[Workflow], out: bytes) -> Sequence[Action]:
    seen = _parsed(ctx, out)
    if alive := [workflow for workflow in there if workflows.fate(workflow, seen, in_use.stuck(ctx)) != "orphan"]:
        raise Refused(*(_alive(workflow, seen) for workflow in alive))
    stored = installed.found(ctx)["crds"]["workflows"]["storage"]
    return [Delete(workflows.path(workflow, stored), uid=workflow["id"]) for workflow in there]


def _parsed(ctx: StepContext, out: bytes) -> Jobs:
    try:
        seen: Jobs = jobs.look(ctx).parse(out)
    except MALFORMED:
        seen = {"answers": False, "now": 0.0, "jobs": {}}
    if not seen["answers"]:
        raise Refused(in_use.silent(ctx.site.first_controller.name, ctx.site))
    return seen


def _alive(workflow: Workflow, seen: Jobs) -> Finding:
    text = f"{workflows.describe(workflow, seen)}: it is no longer orphaned, so no Workflow was deleted"
    return Finding("workflow-live", text, "run the same command again: it checks again")
