"""What it means that a step is not as wanted: findings with names. One entry a step; a step without one is told as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from dws_on_csm.commands.doctor import rules_access, rules_cluster
from dws_on_csm.domain import names
from dws_on_csm.model.step import Finding, StepContext, Value
from dws_on_csm.redaction.diff import difference
from dws_on_csm.runner.inspect import redo
from dws_on_csm.stages.access import rbac
from dws_on_csm.stages.slurm import activate, plugin, slurmctld
from dws_on_csm.stages.slurm.computes import LEGEND

Rule = Callable[[StepContext, Value, Value], Iterable[Finding]]
"""Place, what is there and what is wanted, which differ -> what is wrong."""


def _redo(ctx: StepContext, what: str) -> str:
    return redo(ctx.site, ctx.host, what)


def other(key: str) -> Rule:
    """The rule for a step that has none."""

    def rule(ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
        lines = "; ".join(difference(have, want)[:4])
        yield Finding("not-as-wanted", f"{key} on {ctx.host} is not as wanted: {lines}", _redo(ctx, key))

    return rule


def _repository(ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
    folder, why = plugin.clone(ctx.site), "what the plugin's files should be comes from there"
    if have and have["modified"]:
        text = f"{folder} was changed: {', '.join(have['modified'])}; {why}"
        yield Finding("plugin-clone", text, f"git -C {folder} diff, then git -C {folder} checkout .")
    else:
        yield Finding("plugin-clone", f"{folder} is not the clone at its tag; {why}", _redo(ctx, "plugin"))


def _lua(ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
    yield from _file(ctx, plugin.LUA, "plugin", have, want, "every #DW sbatch is refused")


def _conf(ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
    yield from _file(
        ctx, plugin.CONF, "burst-buffer-conf", have, want, "#DW jobs run without a Workflow, nothing says so"
    )


def _file(ctx: StepContext, name: str, short: str, have: Value, want: Value, effect: str) -> Iterator[Finding]:
    path, fix = f"{ctx.site.slurm.folder}/{name}", _redo(ctx, "plugin")
    if have is None:
        yield Finding(f"{short}-missing", f"there is no {path} on {ctx.host}: {effect}", fix)
        return
    if have["text"] != want["text"]:
        lines = "; ".join(line for line in difference(have["text"], want["text"]) if line[:1] in "+-")
        text = f"{path} on {ctx.host} is not that of plugin {ctx.site.versions.plugin} ({LEGEND}): {lines[:200]}"
        yield Finding(f"{short}-edited", text, fix)
    if (have["mode"], have["owner"]) != (want["mode"], want["owner"]):
        text = f"{path} on {ctx.host} has mode {have['mode']} and owner {have['owner']}"
        yield Finding(f"{short}-mode", f"{text}, not {want['mode']} and {want['owner']}", fix)


def _slurm_conf(ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
    text = f"slurm.conf on {ctx.host} has no BurstBufferType={slurmctld.TYPE}: #DW lines are comments there"
    yield Finding("burst-buffer-off", text, _redo(ctx, "slurm"))


def _daemon(ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
    unit, fix = ctx.site.slurm.service, _redo(ctx, "slurm")
    if not have["answers"]:
        text = f"slurmctld on {ctx.host} does not answer `scontrol ping`"
        yield Finding("slurmctld-not-answering", text, f"journalctl -u {unit} there; {fix}")
    if why := _unread(ctx, have["not read"]):
        text = f"slurmctld on {ctx.host} is older than its files: {'; '.join(why)}"
        yield Finding("slurmctld-stale", text, fix)


def _unread(ctx: StepContext, reasons: Iterable[str]) -> list[str]:
    """Without what other findings tell: no burst_buffer.conf; a slurm.conf, as slurmctld has read it, without the plugin."""
    found = slurmctld.found(ctx)
    lacks = f"{ctx.site.slurm.folder}/burst_buffer.conf" not in found["changed"]
    off = slurmctld.without(found)
    off = off if off and not activate.enabled(ctx) else ()
    return [one for one in reasons if one not in off and not (lacks and "burst_buffer.conf" in one)]


def _node_conf(ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
    lines = rules_cluster.some([line for line in difference(have, want) if line[:2] in ("+ ", "- ")])
    text = f"{ctx.site.slurm.folder}/slurm.conf on {ctx.host} differs from the controllers' ({LEGEND}): {lines}"
    yield Finding("slurm-conf-differs", text, _redo(ctx, "computes"))


def _former(ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
    """A name that a controller still has; one that nobody has makes the binding wrong, and that is told."""
    if used := rbac.former(ctx, [host.name for host in ctx.site.controllers]) & set(have):
        text = f"ClusterRoleBinding {names.BINDING} still has {', '.join(sorted(used))}, which a controller still uses"
        fix = "`invoke certs` shows which; `invoke install` gives it a new certificate, and takes the name out then"
        yield Finding("binding-former", text, fix)


RULES: dict[str, Rule] = {
    "workarea.clone": rules_cluster.clone,
    "workarea.kustomize": rules_cluster.kustomize,
    "images.pushed": rules_cluster.images,
    "deploy.applied": rules_cluster.applied,
    "deploy.open": rules_cluster.closed,
    "deploy.serves": lambda ctx, have, want: (),  # told with all pods of the deployments
    "deploy.admits": rules_cluster.admits,
    "deploy.available": rules_cluster.available,
    "access.role": lambda ctx, have, want: (),  # judged whatever is wanted
    "access.binding": rules_access.binding,
    "access.kubeconfig": lambda ctx, have, want: rules_access.rights(ctx, have) if have else (),
    "access.former": _former,
    "plugin.repository": _repository,
    "plugin.lua": _lua,
    "plugin.conf": _conf,
    "slurm.conf": _slurm_conf,
    "slurm.daemon": _daemon,
    "computes.conf": _node_conf,
    "verify.job": lambda ctx, have, want: (),  # no proof is no fault; it is noted
}
"""Step -> its rule."""

ALWAYS: dict[str, Callable[[StepContext, Value], Iterable[Finding]]] = {
    "access.role": rules_access.role,
    "access.kubeconfig": rules_access.file,
    "preflight.installed": rules_cluster.in_cluster,
    "preflight.namespace": rules_cluster.namespace,
}
"""Step -> a judge of what was found there, whatever is wanted, and whether or not that can be said."""
