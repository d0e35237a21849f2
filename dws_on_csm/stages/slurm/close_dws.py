"""Close DWS while the burst buffer is removed from Slurm: a job submitted meanwhile would run without its storage.

Slurm's plugin creates a job's Workflow while sbatch waits, and refuses the job where it can't. So no job with #DW is accepted while
DWS is closed, and the checks after this stage see all jobs that were accepted before. `last` reopens DWS.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace

from dws_on_csm.model import render
from dws_on_csm.model.actions import STATE, RunScript
from dws_on_csm.model.lines import lines
from dws_on_csm.model.step import Constant, Fact, Look, ShellLook, Stage, Step, StepContext, Value
from dws_on_csm.stages.dws import closing, installed, open_dws
from dws_on_csm.stages.dws.open_dws import PROGRAM
from dws_on_csm.stages.slurm import transaction

NAME = "close"
DWS: Fact[str] = Fact(NAME, "dws")
"""Whether DWS is "open" or "closed"."""


def _command() -> str:
    program = f"{PROGRAM}\nclose(json.loads(sys.stdin.buffer.read().decode()))\n"
    return f"printf %s {shlex.quote(json.dumps(closing.CONFIGURATION))} | python3 -c {shlex.quote(program)}"


def _want(ctx: StepContext) -> Value:
    """Return "closed"; without CRDs of DWS its present state, since the plugin can create no Workflow then."""
    return "closed" if installed.found(ctx)["crds"] else ctx.facts.one(DWS)


def stage(around: Sequence[str]) -> Stage:
    """The stage that closes DWS before the stages `around`, if one of them has something to do."""
    return Stage(NAME, ("preflight",), (_CLOSED,), around=tuple(around))


_CLOSED = Step(
    DWS.step,
    "master",
    open_dws.STEP.look,
    _want,
    lambda ctx, have, want: [RunScript("close DWS: its API rejects new Workflows", _command(), 300.0)],
    side_effect=lambda ctx, have, want: (
        'until this run ends, sbatch refuses jobs with #DW ("dws-is-being-removed.submit-again-later"); this run then checks'
        " Workflows and jobs once more"
    ),
    hint="Slurm keeps its burst buffer until DWS is closed to new jobs with #DW; run again to retry",
)


def last(every: Sequence[Stage], ends: str, *waits: Step) -> Stage:
    """The stage that reopens DWS after `every` other stage, also where they failed. The stage `ends` had closed it.

    Activations and rollouts of slurmctld continue without the run that began them: this stage waits for them, and for `waits`.
    """
    at_work = (_ACTIVATIONS, _ROLLOUTS) if ends == NAME else ()
    again = replace(open_dws.STEP, repeat_text="reopened at the end, also where this run fails")
    needs = tuple(stage.name for stage in every)
    return Stage(open_dws.STAGE.name, needs, (*at_work, *waits, again), ends=ends)


def _wait_until_finished(name: str, role: str, look: Callable[[StepContext], Look]) -> Step:
    """The step that waits until no activation or rollout runs. Another step undoes interrupted ones."""
    return Step(
        name,
        role,
        look,
        lambda ctx: "none",
        read=lambda ctx, state: state if transaction.RUNNING in str(state) else "none",
        settle_seconds=lambda site: 2 * (site.deadlines.slurmctld + 100.0),
        status_text=lambda have: "" if have == "none" else f"slurmctld is still restarting: {have}",
        hint=f"wait, then run again; or run `kubectl delete validatingwebhookconfiguration {closing.NAME}`",
    )


_ROLLOUT = """
for host in {hosts}; do
    lock={state}/activation-$host.lock pending={state}/activation-$host.pending
    {look}
done
"""


def _look_rollouts(ctx: StepContext) -> Look:
    """The look for rollouts of slurmctlds in pods that run on the master."""
    hosts = [host.name for host in ctx.site.controllers if host.pod]
    if not hosts:
        return Constant("none")
    settings = {"hosts": shlex.join(hosts), "state": STATE, "look": render.read("controller/activation_look.sh")}
    return ShellLook(_ROLLOUT.format(**settings), lambda out: "; ".join(lines(out)) or "none")


_ACTIVATIONS = _wait_until_finished("activation", "controller", transaction.look)
_ROLLOUTS = _wait_until_finished("rollouts", "master", _look_rollouts)
