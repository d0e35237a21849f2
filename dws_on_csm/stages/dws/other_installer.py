"""DWS that another installer deployed: a run that would change it is refused, as that installer would revert the change.

What `make deploy` applied, as this tool and the documented commands do it, is this tool's to change, whoever typed it
(docs/install.md, "A site that was installed by hand").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dws_on_csm.domain import names
from dws_on_csm.model.printable import first_few
from dws_on_csm.model.step import Check, Constant, Finding, NotYetKnown, StepContext, Value
from dws_on_csm.stages.dws import installed
from dws_on_csm.stages.dws.manifest_comparison import APPLIED, AS_RENDERED

FIX = "set dws: external in the site file: then this tool leaves DWS as it is, and sets up Slurm and its access (docs/external.md)"


def check(due: Callable[[StepContext], object] = lambda ctx: True) -> Check:
    """The check `installer` of preflight: nobody else delivers the DWS of this cluster, where it is `due` to be changed."""

    def judge(ctx: StepContext, have: Value) -> Sequence[Finding]:
        installed.found(ctx)  # raises NotYetKnown where it was not seen
        return findings(ctx) if due(ctx) else ()

    return Check("installer", "master", lambda ctx: Constant(None), judge)


def findings(ctx: StepContext) -> Sequence[Finding]:
    """A finding where something delivers the DWS that is there, and would revert what this tool does; or where it was not made by
    `make deploy`, and is not as the site file asks for. None where DWS was not looked at."""
    dws, deployment = ctx.facts.one_or_none(installed.FACT), f"the Deployment {names.CONTROLLER} of DWS"
    if dws is None:
        return ()
    if by := dws["manager"]:
        text = f"{deployment} is delivered by {by}, which reverts what this tool changes in it"
        return (Finding("dws-managed", text, FIX),)
    if (makers := installed.made_by(dws)) and (differs := _difference(ctx)):
        text = f"{deployment} was made by {makers}, not by `make deploy`, and {differs}: another installer manages it"
        return (Finding("dws-managed", text, FIX),)
    return ()


def _difference(ctx: StepContext) -> str:
    """How the DWS that is there differs from the one that the site file asks for, as far as that is known; "" where it does not."""
    tag, wanted = installed.found(ctx)["tag"], ctx.site.versions.dws
    if tag != wanted:
        return f"it is {tag}, not {wanted}"
    try:
        states = ctx.facts.one(APPLIED)
    except NotYetKnown:
        return ""  # the stage deploy asks again before it changes anything
    different = [name for name, state in states.items() if state["state"] != AS_RENDERED]
    return f"it differs from its manifests in {first_few(different)}" if different else ""
