"""`invoke workflows --delete NAME`: the deletion of one orphaned Workflow, and of no other one. DWS and all else stay."""

from __future__ import annotations

from collections.abc import Sequence

from dws_on_csm.model.actions import Action
from dws_on_csm.model.step import Check, Constant, Fact, Finding, Removal, Stage, Step, StepContext, Value
from dws_on_csm.stages.dws import in_use, installed, orphan_deletion, workflows
from dws_on_csm.stages.dws.workflows import Workflow

_FACT: Fact[list[Workflow]] = Fact("workflows", "deleted")


def stages(name: str) -> tuple[Stage, ...]:
    """The stages that delete the Workflow NAME, NAMESPACE/NAME or that of job NAME. It is refused where it is no orphan."""

    def named(every: Sequence[Workflow]) -> list[Workflow]:
        wanted = f"bb{name}" if name.isdigit() else name
        return [workflow for workflow in every if wanted in (workflow["name"], workflows.label(workflow))]

    def judge(ctx: StepContext, have: Value) -> Sequence[Finding]:
        every, seen = in_use.found(ctx, in_use.FIRST)
        if not seen["answers"]:
            return (in_use.silent(ctx.site.first_controller.name, ctx.site),)
        chosen = named(every)
        if len(chosen) > 1:
            return (_ambiguous(name, chosen),)
        return [finding for workflow in chosen for finding in in_use.no_orphan(ctx, workflow, seen)]

    def read(ctx: StepContext, existing: list[Workflow]) -> Value:
        first = {workflow["id"] for workflow in named(in_use.found(ctx, in_use.FIRST)[0])}
        return [workflow for workflow in existing if workflow["id"] in first]

    def change(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
        return orphan_deletion.deletion(ctx, have)

    def removes(ctx: StepContext, have: Value, want: Value) -> Sequence[Removal]:
        seen = in_use.found(ctx, in_use.FIRST)[1]
        return [
            Removal(
                workflows.describe_removal(workflow, seen),
                frozenset({f"Workflow {workflows.label(workflow)} ({workflow['id']})"}),
            )
            for workflow in have
        ]

    every, asked = in_use.reading(in_use.FIRST)
    orphan = Check("orphan", "master", lambda ctx: Constant(None), judge)
    deleted = Step(
        _FACT.step,
        "master",
        lambda ctx: _FACT.api(workflows.read),
        lambda ctx: [],
        change,
        read=read,
        settle_seconds=lambda site: 30.0,
        removes=removes,
        hint="DWS's controller has to remove a deleted Workflow: check `kubectl -n dws-system logs deploy/dws-controller-manager`",
    )
    return (
        Stage(in_use.FIRST, (), (installed.CHECK, every, asked, orphan)),
        Stage(_FACT.stage, (in_use.FIRST,), (deleted,)),
    )


def _ambiguous(name: str, chosen: Sequence[Workflow]) -> Finding:
    labels = ", ".join(map(workflows.label, chosen))
    first = workflows.label(chosen[0])
    text = f"several Workflows are called {name}: {labels}"
    return Finding("workflow-ambiguous", text, f"give its namespace as well: `invoke workflows --delete {first}`")
