"""The prerequisites of a repair of one stage: the stages that it needs have to be right on this host already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from dws_on_csm.model.step import (
    Check,
    Constant,
    Fact,
    Finding,
    NotYetKnown,
    Refused,
    Stage,
    Step,
    StepContext,
    Value,
    all_needs,
)


def check(stages: Sequence[Stage], name: str, role: str) -> Check:
    """A check on hosts of `role` that every step of the stages that the stage `name` needs is as wanted there."""
    needed = _needed(stages, name)

    def judge(ctx: StepContext, have: Value) -> Sequence[Finding]:
        # a repair does not change the other hosts of the role
        return [finding for stage in needed for finding in _wrong(ctx, stage)] if ctx.site.active(ctx.host) else ()

    return Check("needs", role, lambda ctx: Constant(None), judge)


_OF_A_DEPLOYMENT = ("workers-few", "cert-manager-missing")
"""Findings about the cluster that concern nothing but DWS's own pods."""


def relevant(item: Step | Check, deploys: bool) -> Step | Check:
    """A check of the preflight as a repair needs it: on the hosts of the run alone, since the others stay as they are; and without
    what only a deployment of DWS needs, unless the repair `deploys`. Else a fix for one host is refused for what is wrong on
    another one."""
    if not isinstance(item, Check):
        return item
    check = item

    def judge(ctx: StepContext, have: Value) -> Sequence[Finding]:
        if check.role != "master" and not ctx.site.active(ctx.host):
            return ()
        return [finding for finding in check.judge(ctx, have) if deploys or finding.name not in _OF_A_DEPLOYMENT]

    return replace(check, judge=judge)


def _needed(stages: Sequence[Stage], name: str) -> list[Stage]:
    """The stages that `name` needs, directly or not, in the procedure's order."""
    needed = all_needs(stages, name)
    return [stage for stage in stages if stage.name in needed]


def _wrong(ctx: StepContext, stage: Stage) -> Iterator[Finding]:
    for step in stage.steps:
        seen = ctx.facts.known(Fact[Value](stage.name, step.name))
        if isinstance(step, Step) and ctx.host in seen and not _right(ctx, step, seen[ctx.host]):
            text = f"{stage.name}.{step.name} on {ctx.host} is not as expected, and this stage needs it"
            yield Finding("needs-not-right", text, f"run `fab -H {ctx.host} repair {stage.name}`, or `invoke install`")


def _right(ctx: StepContext, step: Step, value: Value) -> bool:
    """Whether a step is as wanted, or that is unknown yet."""
    try:
        return bool(step.have(ctx, value) == step.want(ctx))
    except NotYetKnown:
        return True
    except Refused:
        return False
