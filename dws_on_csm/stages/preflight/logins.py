"""Root's rights on the hosts besides the master: on controllers, and on nodes whose slurm.conf this tool edits."""

from __future__ import annotations

from collections.abc import Sequence

from dws_on_csm.model.step import Check, Constant, Finding, Look, ShellLook, StepContext, Value
from dws_on_csm.stages.pod import discover


def not_root(host: str) -> Finding:
    """The finding on a host where scripts do not run as root."""
    text = f"the login on {host} is not root"
    return Finding("not-root", text, "set user: root for this host, or sudo: true", explains_others=True)


def _look(ctx: StepContext) -> Look:
    only_compared = any(
        host.name == ctx.host and group.slurm_conf != "edit" for group in ctx.site.computes for host in group.hosts
    )
    if discover.pod_of(ctx) or only_compared:
        return Constant("0")
    return ShellLook("id -u", lambda out: out.decode(errors="replace").strip())


def _judge(ctx: StepContext, have: Value) -> Sequence[Finding]:
    return () if have == "0" else (not_root(ctx.host),)


CONTROLLER = Check("login", "controller", _look, _judge)
"""A container's user may be SlurmUser, who then owns all that is changed there."""
COMPUTE = Check("node-login", "compute", _look, _judge)
