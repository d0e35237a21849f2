"""Which findings a step has that is not as wanted: an entry for each step, and one rule for steps without an entry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from dws_on_csm.commands.doctor import rules_access, rules_cluster, rules_slurmctld
from dws_on_csm.commands.doctor.diagnosis import repair_fix
from dws_on_csm.domain import managed_file, names
from dws_on_csm.model.printable import first_few
from dws_on_csm.model.step import Finding, StepContext, Value
from dws_on_csm.redaction.diff import difference
from dws_on_csm.stages.access import rbac
from dws_on_csm.stages.slurm import plugin, slurmctld
from dws_on_csm.stages.slurm.computes import LEGEND

Rule = Callable[[StepContext, Value, Value], Iterable[Finding]]
"""Host, state and wanted state, which differ -> findings."""


def other(key: str) -> Rule:
    """The rule for a step that has none of its own."""

    def rule(ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
        lines = "; ".join(difference(have, want)[:4])
        yield Finding("not-as-wanted", f"{key} on {ctx.host} is not as wanted: {lines}", repair_fix(ctx, key))

    return rule


def _repository(ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
    folder, effect = plugin.clone(ctx.site), "the plugin's files on the controllers are compared with it"
    if have and have["modified"]:
        text = f"the clone {folder} has local changes ({', '.join(have['modified'])}): {effect}"
        yield Finding("plugin-clone", text, rules_cluster.discard_changes(folder))
    else:
        text = f"{folder} is missing, or is not a clone at its tag: {effect}"
        yield Finding("plugin-clone", text, repair_fix(ctx, "plugin"))


def _file(name: str, prefix: str, effect: str, ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
    path, fix = f"{ctx.site.slurm.folder}/{name}", repair_fix(ctx, "plugin")
    if have is None:
        yield Finding(f"{prefix}-missing", f"{path} is missing on {ctx.host}: {effect}", fix)
        return
    if have["text"] != want["text"]:
        lines = "; ".join(line for line in difference(have["text"], want["text"]) if line[:1] in "+-")
        text = f"{path} on {ctx.host} differs from plugin {ctx.site.versions.plugin} ({LEGEND}): {lines[:200]}"
        yield Finding(f"{prefix}-edited", text, fix)
    if (have["mode"], have["owner"]) != (want["mode"], want["owner"]):
        text = f"{path} on {ctx.host} has mode {have['mode']} and owner {have['owner']}; "
        yield Finding(f"{prefix}-mode", text + f"it should have {want['mode']} and {want['owner']}", fix)


def _slurm_conf(ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
    text = f"slurm.conf on {ctx.host} does not set BurstBufferType={slurmctld.TYPE}: "
    text += "Slurm ignores #DW lines, and jobs run without their storage"
    fix, daemon = repair_fix(ctx, "slurm"), ctx.facts.known(slurmctld.FACT).get(ctx.host)
    added = daemon.get("added", []) if daemon else []
    managed = managed_file.comment(have or "")
    if added and (managed or len(added) > 1):
        times, day = f"{len(added)} times, last on" if len(added) > 1 else "on", added[-1].partition(" ")[0]
        text += f". This tool added that line {times} {day}, and something has removed it since"
        text += f": a comment there says '{managed}'" if managed else ", as configuration management does"
        source = f"to what slurm.conf on {ctx.host} is made from (a template of Ansible, CFS or Puppet)"
        fix = f"add the line `BurstBufferType={slurmctld.TYPE}` {source}; then {fix}"
    yield Finding("burst-buffer-off", text, fix)


def _node_conf(ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
    lines = first_few([line for line in difference(have, want) if line[:2] in ("+ ", "- ")])
    text = f"{ctx.site.slurm.folder}/slurm.conf on {ctx.host} differs from the controllers' ({LEGEND}): {lines}"
    yield Finding("slurm-conf-differs", text, repair_fix(ctx, "computes"))


def _former(ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
    """A former name that a controller still uses; one that no controller uses makes the binding wrong: another finding."""
    if used := rbac.former(ctx, [host.name for host in ctx.site.controllers]) & set(have):
        text = f"ClusterRoleBinding {names.BINDING} still gives rights to the former name {', '.join(sorted(used))}, "
        fix = "run `invoke install`: it gives that controller a new certificate, then removes the former name "
        yield Finding(
            "binding-former", text + "which a controller still uses", fix + "(`invoke certs` shows the controller)"
        )


_NO_STORAGE = (
    "once slurmctld restarts, #DW jobs run without a Workflow and so without their storage, and no message says so"
)

RULES: dict[str, Rule] = {
    "namespace.made": rules_cluster.namespace,
    "workarea.clone": rules_cluster.clone,
    "workarea.kustomize": rules_cluster.kustomize,
    "images.pushed": rules_cluster.pushed,
    "deploy.applied": rules_cluster.applied,
    "deploy.open": rules_cluster.closed,
    "deploy.minimum": lambda ctx, have, want: (),  # deploy.available reports all pods
    "deploy.webhook": rules_cluster.admits,
    "deploy.available": rules_cluster.available,
    "access.role": lambda ctx, have, want: (),  # see ALWAYS
    "access.binding": rules_access.binding,
    "access.kubeconfig": lambda ctx, have, want: rules_access.rights(ctx) if have else (),
    "access.old-subjects": _former,
    "access.slurm-cluster": lambda ctx, have, want: (),  # the next install writes it; no job needs it
    "plugin.repository": _repository,
    "plugin.lua": partial(_file, names.PLUGIN_LUA, "plugin", "Slurm rejects every #DW sbatch, without a reason"),
    "plugin.conf": partial(_file, names.PLUGIN_CONF, "burst-buffer-conf", _NO_STORAGE),
    "slurm.conf": _slurm_conf,
    "slurm.daemon": rules_slurmctld.daemon,
    "computes.conf": _node_conf,
    "verify.job": lambda ctx, have, want: (),  # a missing proof is no fault; a note says it
}
"""Step -> its rule."""

ALWAYS: dict[str, Callable[[StepContext, Value], Iterable[Finding]]] = {
    "access.role": rules_access.role,
    "access.kubeconfig": rules_access.file,
    "access.old-subjects": rules_access.shared,
    "deploy.webhook": rules_cluster.admits_slowly,
    "preflight.installed": rules_cluster.in_cluster,
}
"""Step -> its judge, which needs no wanted state and is called even where that is unknown."""
