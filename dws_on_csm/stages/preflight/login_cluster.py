"""Whether the login host of the test job submits jobs to the controllers' cluster: in another one, its numbers are other jobs'."""

from __future__ import annotations

from collections.abc import Sequence

from dws_on_csm.model.lines import first_values, parse_pairs
from dws_on_csm.model.step import Check, Constant, Finding, Look, StepContext, Value
from dws_on_csm.stages import verify
from dws_on_csm.stages.slurm import start

_CLUSTER = 'find_slurm; fact cluster "$(running_setting 30 ClusterName)"\n'


def _look(ctx: StepContext) -> Look:
    if not verify.is_login(ctx):  # a controller belongs to its own
        return Constant("")
    return verify.shell_look(ctx, verify.AS_USER + _CLUSTER, _parse)


def _parse(out: bytes) -> str:
    """ClusterName as Slurm takes it, in lower case; "" where slurmctld does not respond there."""
    return first_values(parse_pairs(out, "replace")).get("cluster", "").lower()


def _judge(ctx: StepContext, cluster: Value) -> Sequence[Finding]:
    wanted = {state["cluster"] for state in ctx.facts.known(start.START).values()} - {""}
    if not cluster or not wanted or cluster in wanted:
        return ()
    right = ", ".join(sorted(wanted))
    text = f"{ctx.host} submits jobs to the Slurm cluster {cluster}, but the controllers belong to {right}"
    fix = f"set test_job.host in the site file to a login host of {right}, or leave it out"
    return (Finding("test-host-cluster", text, fix),)


CHECK = Check("login-cluster", "login", _look, _judge)
