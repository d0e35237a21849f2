"""The DWDirectiveRule that a killed `invoke verify --cancel --all` left."""

from __future__ import annotations

from collections.abc import Sequence

from dws_on_csm.commands.doctor import at_work
from dws_on_csm.domain import names
from dws_on_csm.model.step import ApiLook, Check, Finding, StepContext, Value
from dws_on_csm.stages import verify_cancel


def _judge(ctx: StepContext, exists: Value) -> Sequence[Finding]:
    if not exists or ctx.facts.one(at_work.FACT):
        return ()
    text = f"a run of `invoke verify --cancel --all` was killed: its DWDirectiveRule {verify_cancel.DRIVER} is left in "
    text += f"{names.NAMESPACE}, and Workflows of its jobs may never continue"
    return (Finding("test-rule-left", text, "run `invoke verify --cancel`, which first removes what such a run left"),)


CHECK = Check("test-rule", "master", lambda ctx: ApiLook(lambda cluster: verify_cancel.rule_exists(cluster)), _judge)
