"""DWS takes no new objects while the burst buffer is taken from Slurm: a job that came then would run without its storage.

Slurm's plugin makes a job's Workflow while sbatch waits, and refuses the job where it can't. So while DWS is closed no job with #DW
gets in; the checks behind this stage see all that got in before. `last` is the other end of it: DWS is opened.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace

from dws_on_csm.model import render
from dws_on_csm.model.actions import STATE, RunScript
from dws_on_csm.model.lines import lines
from dws_on_csm.model.step import Constant, Look, ShellLook, Stage, Step, StepContext, Value
from dws_on_csm.stages.dws import installed, persistent_storage, reopen
from dws_on_csm.stages.dws.reopen import PROGRAM
from dws_on_csm.stages.slurm import transaction

NAME = "close"


def _command() -> str:
    program = f"{PROGRAM}\nclose(json.load(sys.stdin))\n"
    return f"printf %s {shlex.quote(json.dumps(persistent_storage.CLOSING))} | python3 -c {shlex.quote(program)}"


def _want(ctx: StepContext) -> Value:
    """Where no kind of DWS is there, there is nothing to close: the plugin makes no Workflow then."""
    return "closed" if installed.found(ctx)["crds"] else ctx.facts.one(f"{NAME}.dws")


def stage(around: Sequence[str]) -> Stage:
    """DWS is closed before the stages `around` which it is, where one of them has something to do."""
    return Stage(NAME, ("preflight",), (_CLOSED,), around=tuple(around))


_CLOSED = Step(
    "dws",
    "master",
    reopen.STEP.look,
    _want,
    lambda ctx, have, want: [RunScript("close DWS: its API rejects new Workflows", _command(), 300.0)],
    side_effect=lambda ctx, have, want: (
        'until this run ends, sbatch refuses jobs with #DW ("dws-is-being-removed.submit-again-later"); this run then checks'
        " Workflows and jobs once more"
    ),
    hint="Slurm keeps its burst buffer until DWS is closed to new jobs with #DW; run again to retry",
)


def last(every: Sequence[Stage], ends: str, *waits: Step) -> Stage:
    """The stage behind `every` other one that opens DWS, which the stage `ends` had closed, whatever the others came to.

    Where the burst buffer is taken from Slurm, what is at work on that goes on without the run that began it: it is awaited, and
    so is what `waits` say.
    """
    at_work = (_ACTIVATIONS, _ROLLOUTS) if ends == NAME else ()
    again = replace(reopen.STEP, repeat_text="reopened at the end, also where this run fails")
    needs = tuple(one.name for one in every)
    return Stage(reopen.STAGE.name, needs, (*at_work, *waits, again), ends=ends)


def _wait_until_finished(name: str, role: str, look: Callable[[StepContext], Look]) -> Step:
    """Nothing is at work any more on what a slurmctld reads, and on the slurmctld. What was cut off is another step's."""
    return Step(
        name,
        role,
        look,
        lambda ctx: "none",
        read=lambda ctx, found: found if transaction.RUNNING in str(found) else "none",
        settle_seconds=lambda site: 2 * (site.deadlines.slurmctld + 100.0),
        status_text=lambda have: "" if have == "none" else f"slurmctld is still restarting: {have}",
        hint=f"wait, then run again; or run `kubectl delete validatingwebhookconfiguration {persistent_storage.CLOSED}`",
    )


_ROLLOUT = """
for host in {hosts}; do
    lock={state}/activation-$host.lock pending={state}/activation-$host.pending
    {look}
done
"""


def _look_rollouts(ctx: StepContext) -> Look:
    """The rollouts of slurmctlds in pods that are at work on the master."""
    hosts = [host.name for host in ctx.site.controllers if host.pod]
    if not hosts:
        return Constant("none")
    settings = {"hosts": shlex.join(hosts), "state": STATE, "look": render.read("controller/activation_look.sh")}
    return ShellLook(_ROLLOUT.format(**settings), lambda out: "; ".join(lines(out)) or "none")


_ACTIVATIONS = _wait_until_finished("activation", "controller", transaction.look)
_ROLLOUTS = _wait_until_finished("rollouts", "master", _look_rollouts)
