"""Controllers whose slurm.confs differ: after a takeover slurmctld would run with other settings."""

from __future__ import annotations

from collections.abc import Iterator

from dws_on_csm.commands.doctor.diagnosis import copy_command, repair_fix
from dws_on_csm.domain import slurm_conf
from dws_on_csm.model.printable import first_few
from dws_on_csm.model.step import Check, Constant, Finding, StepContext
from dws_on_csm.redaction.diff import difference
from dws_on_csm.stages.facts import CONTROLLER
from dws_on_csm.stages.slurm import activate, controller, slurmctld


def judge_alike(ctx: StepContext) -> Iterator[Finding]:
    """Controllers whose slurm.confs differ."""
    first = ctx.site.first_controller.name
    mine, theirs = controller.state(ctx), ctx.facts.all(CONTROLLER).get(first)
    if ctx.host == first or theirs is None:
        return
    for path in sorted({*mine["files"], *theirs["files"]}):
        here, there = slurm_conf.differing_lines(*(_bare(state["files"].get(path)) for state in (mine, theirs)))
        if here == there:
            continue
        lines = [line for line in difference(here, there) if line[:2] in ("+ ", "- ")]
        loaded = "; ".join(_loaded(ctx, host, path) for host in (first, ctx.host))
        text = f"{path} on {ctx.host} differs from that on {first} (- {ctx.host}, + {first}): {first_few(lines, 5, noun='lines')}. "
        text += f"After a takeover slurmctld would run with other settings; {loaded}"
        yield Finding("slurm-conf-differs", text, _equal(ctx, first, path))


def _loaded(ctx: StepContext, host: str, path: str) -> str:
    """Which text of the file the slurmctld of a controller runs with, in words."""
    daemon = ctx.facts.known(slurmctld.FACT).get(host)
    if daemon is None:
        return f"it is unknown what slurmctld on {host} has loaded"
    if not daemon["main"]:
        return f"slurmctld does not run on {host}"
    has = (
        "runs with an earlier text of its file"
        if path in slurmctld.changed_since_start(ctx.site, daemon)
        else "has loaded its file"
    )
    return f"slurmctld on {host} {has}"


def _equal(ctx: StepContext, first: str, path: str) -> str:
    """The fix for a file that differs: the command that copies it, where ssh may write it, and the restart."""
    restart = f"{repair_fix(ctx, 'slurm')}, which restarts slurmctld where its file is newer"
    copy, back = (copy_command(ctx.site, *ends, path) for ends in ((first, ctx.host), (ctx.host, first)))
    if not copy:
        return f"make both files the same; then {restart}"
    return (
        f"decide which file is right: run `{copy}` to keep {first}'s, or `{back}` to keep {ctx.host}'s; then {restart}"
    )


def _bare(text: str | None) -> str:
    """A file without BurstBufferType, whose absence has a finding of its own; "" for a missing one."""
    return slurm_conf.without_setting(text or "", activate.KEY)


CHECK = Check("alike", "controller", lambda ctx: Constant(None), lambda ctx, have: tuple(judge_alike(ctx)))
