"""Whether the DWS that somebody else deploys is there and available, and fits the plugin (`dws: external`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dws_on_csm.domain import names
from dws_on_csm.model.step import Check, Finding, StepContext
from dws_on_csm.stages.dws import external, plugin_workflow_version
from dws_on_csm.stages.dws.external import External, Program

ASK = "ask those who deploy it"


def _judge(ctx: StepContext, have: External) -> Sequence[Finding]:
    if not have["workflows"]:
        text = f"the cluster has no DWS (no CRD {names.WORKFLOWS}), although somebody else deploys it (dws: external)"
        fix = f"{ASK}; or remove the key dws from the site file: then `invoke install` deploys DWS"
        return (Finding("dws-missing", text, fix),)
    if have["deleting"]:
        text = f"DWS is being removed: its CRD {names.WORKFLOWS} is being deleted"
        return (Finding("dws-missing", text, f"{ASK} (dws: external) whether it will be there again"),)
    return [*_not_ready(have), *plugin_workflow_version.judge(ctx)]


def _not_ready(have: External) -> Iterator[Finding]:
    space = have["namespace"]
    for what, name, program in (
        ("controller", names.CONTROLLER, have["controller"]),
        ("webhook", names.WEBHOOK, have["webhook"]),
    ):
        if reason := _why_not(program):
            called = program["name"] if program else name
            text = f"DWS's {what} (Deployment {called} in the namespace {space}) {reason}"
            fix = f"run `kubectl -n {space} get deployments,pods` on the master, and {ASK} (dws: external)"
            yield Finding("dws-not-available", text, fix)


def _why_not(program: Program | None) -> str:
    """Why a Deployment does not serve, in words; "" where one pod does."""
    if program is None:
        return "is missing"
    return "" if program["ready"] else f"has no ready pod ({program['pods']})"


def _note(ctx: StepContext, have: External) -> str:
    pods = [f"{program['name']} {program['pods']}" for program in (have["controller"], have["webhook"]) if program]
    return f"{external.version_text(have)}; ready pods: {', '.join(pods)}. This tool does not change it (dws: external)"


CHECK = Check(external.FACT.step, "master", lambda ctx: external.FACT.api(external.read), _judge, note=_note)
