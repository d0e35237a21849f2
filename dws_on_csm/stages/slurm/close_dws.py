"""Close DWS while the burst buffer is removed from Slurm: a job submitted meanwhile would run without its storage.

Slurm's plugin creates a job's Workflow while sbatch waits, and refuses the job where it can't. So no job with #DW is accepted while
DWS is closed, and the checks after this stage see all jobs that were accepted before. `last` reopens DWS.

Where somebody else deploys DWS, other Slurms use it. So DWS is closed only to this site's jobs, also if a run dies and leaves it
closed. Those are Workflows with the plugin's label in this site's namespace, which no other Slurm can use: names of Workflows are
numbers of jobs.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dws_on_csm.model import render, stage_names
from dws_on_csm.model.actions import STATE, Action, RunScript
from dws_on_csm.model.lines import lines
from dws_on_csm.model.step import ApiLook, Constant, Fact, Look, ShellLook, Stage, Step, StepContext, Value
from dws_on_csm.stages.dws import closing, installed, open_dws, workflows
from dws_on_csm.stages.dws.open_dws import PROGRAM
from dws_on_csm.stages.facts import PREFLIGHT_KUBECONFIG
from dws_on_csm.stages.slurm import transaction

NAME = stage_names.CLOSE
DWS: Fact[str] = Fact(NAME, "dws")
"""Whether DWS is "open" or "closed"."""


_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def _of_site(ctx: StepContext) -> Mapping[str, Any]:
    """What closes DWS to this site's jobs: in the namespaces that the controllers' kubeconfigs and the site file name, or in all
    where a kubeconfig was not seen."""
    seen = ctx.facts.known(PREFLIGHT_KUBECONFIG)
    spaces = {ctx.site.access.namespace}
    spaces |= {file.get("namespace", "default") for file in seen.values() if "mode" in file}
    complete = all(host.name in seen for host in ctx.site.controllers)
    named = sorted(filter(_NAMESPACE.fullmatch, spaces)) if complete else ()
    return closing.of_slurm({"origin": workflows.ORIGIN}, named)


def _look(ctx: StepContext) -> Look:
    if not ctx.site.external:
        return open_dws.STEP.look(ctx)
    want = _of_site(ctx)
    return ApiLook(lambda cluster: "closed" if closing.covers(cluster.get(closing.PATH), want) else "open")


def close_command(closed: Mapping[str, Any] = closing.CONFIGURATION) -> str:
    """The shell command that applies `closed`, with which the API server rejects new Workflows."""
    program = f"{PROGRAM}\nclose(json.loads(sys.stdin.buffer.read().decode()))\n"
    return f"printf %s {shlex.quote(json.dumps(closed))} | python3 -c {shlex.quote(program)}"


def _want(ctx: StepContext) -> Value:
    """Return "closed"; without CRDs of DWS its present state, since the plugin can create no Workflow then."""
    return "closed" if installed.found(ctx)["crds"] else ctx.facts.one(DWS)


def stage(around: Sequence[str]) -> Stage:
    """The stage that closes DWS before the stages `around`, if one of them has something to do."""
    return Stage(NAME, ("preflight",), (_CLOSED,), around=tuple(around))


def _close(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    closed = _of_site(ctx) if ctx.site.external else closing.CONFIGURATION
    return [RunScript("close DWS: its API rejects new Workflows", close_command(closed), 300.0)]


_CLOSED = Step(
    DWS.step,
    "master",
    _look,
    _want,
    _close,
    side_effect=lambda ctx, have, want: (
        "until this run ends, sbatch refuses jobs with #DW"
        f' ("{closing.WORDS if ctx.site.external else closing.REMOVED_WORDS}"); this run then checks'
        " Workflows and jobs once more"
    ),
    hint="Slurm keeps its burst buffer until DWS is closed to new jobs with #DW; run again to retry",
)


def last(every: Sequence[Stage], ends: str, *waits: Step) -> Stage:
    """The stage that reopens DWS after `every` other stage, also where they failed. The stage `ends` had closed it.

    Activations and rollouts of slurmctld continue without the run that began them: this stage waits for them, and for `waits`.
    """
    restarts = (_ACTIVATIONS, _ROLLOUTS) if ends == NAME else ()
    again = replace(open_dws.STEP, repeat_text="reopened at the end, also where this run fails")
    needs = tuple(stage.name for stage in every)
    return Stage(open_dws.STAGE.name, needs, (*restarts, *waits, again), ends=ends)


def _wait_until_finished(name: str, role: str, look: Callable[[StepContext], Look]) -> Step:
    """The step that waits until no activation or rollout runs. Another step undoes interrupted ones."""
    return Step(
        name,
        role,
        look,
        lambda ctx: "none",
        read=lambda ctx, state: state if transaction.is_running(state) else "none",
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
    return ShellLook(
        _ROLLOUT.format(**settings), lambda out: "; ".join(filter(transaction.is_running, lines(out))) or "none"
    )


_ACTIVATIONS = _wait_until_finished("activation", "controller", transaction.look)
_ROLLOUTS = _wait_until_finished("rollouts", "master", _look_rollouts)
