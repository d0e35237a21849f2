"""The doctor's own checks, besides those of an install, and all stages that it checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dws_on_csm.commands.doctor import (
    at_work,
    cert_manager,
    cluster_writes,
    controller_links,
    crashes,
    dws_controller,
    left_test_rule,
    nodes,
    orphans,
    plugin_access,
    pod_tokens,
    slurm_confs,
    storage,
    webhook_pods,
)
from dws_on_csm.commands.doctor.diagnosis import repair_fix
from dws_on_csm.config.site import Site
from dws_on_csm.domain import names
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.step import Check, Constant, Fact, Finding, Look, ShellLook, Stage, StepContext, Value
from dws_on_csm.stages.dws import replace as dws_replace
from dws_on_csm.stages.install import procedure
from dws_on_csm.stages.preflight import endpoints
from dws_on_csm.stages.slurm import controller, plugin

# --- whether the plugin's file on the controller loads


def _look_loads(ctx: StepContext) -> Look:
    lua = controller.interpreter(ctx)
    if not lua:
        return Constant({"lua": "", "said": ""})
    file = f"{ctx.site.slurm.folder}/{names.PLUGIN_LUA}"
    given = f"file={file}\n[ -e $file ] || exit 0\n"
    script = given + plugin.loading(ctx, lua, _LOADS)
    return ShellLook(script, lambda out: {"lua": lua, "said": out.decode(errors="replace").strip()})


_LOADS = """
[ -n "$slurm_uid" ] || exit 0
content=$(text_of "$(choose_reader "$slurm_uid" "$file")" "$file") || { echo "the file cannot be read to its end"; exit 0; }
said=$(printf %s "$content" | base64 -d | loads 2>&1) || printf "%s" "${said:-Lua gives no reason}"
"""


def judge_loads(ctx: StepContext, answer: Value) -> Sequence[Finding]:
    """A plugin that Lua does not load."""
    if not answer["said"]:
        return ()
    text = f"{names.PLUGIN_LUA} on {ctx.host} does not load: Slurm rejects every #DW sbatch, and slurmctld cannot restart. "
    return (Finding("plugin-not-loading", f"{text}Lua says: {answer['said']}", repair_fix(ctx, "plugin.lua")),)


# --- whether the API server responds


CLUSTER: Fact[Value] = Fact("doctor", "cluster")


def _read_cluster(cluster: Cluster) -> Value:
    """Something that the API server knows alone, and something that it has to ask etcd for."""
    return [cluster.get("/version"), cluster.get("/api/v1/namespaces/kube-system")]


# --- all of it

PROBES = Stage(
    "doctor",
    (),
    (
        Check(CLUSTER.step, "master", lambda ctx: CLUSTER.api(_read_cluster), lambda ctx, have: ()),
        at_work.CHECK,
        cert_manager.CHECK,
        crashes.CHECK,
        pod_tokens.CHECK,
        dws_controller.CHECK,
        webhook_pods.CHECK,
        cluster_writes.CHECK,
        orphans.CHECK,
        orphans.JOBS,
        plugin_access.CHECK,
        Check("loads", "controller", _look_loads, judge_loads),
        storage.CHECK,
        left_test_rule.CHECK,
        nodes.CHECK,
        slurm_confs.CHECK,
        *controller_links.CHECKS,
    ),
)


OF_OUR_DWS = (cert_manager.CHECK, crashes.CHECK, pod_tokens.CHECK, dws_controller.CHECK, webhook_pods.CHECK)
"""What is not asked where somebody else deploys DWS."""


def stages(site: Site) -> tuple[Stage, ...]:
    """All stages that the doctor checks: its own, then an install's of this site, without the checks for an install alone."""
    first, *others = procedure(site)
    asked = tuple(item for item in first.steps if item.name not in ("jobs", "workflows", endpoints.API.name))
    own = tuple(item for item in PROBES.steps if not (site.external and item in OF_OUR_DWS))
    return (
        replace(PROBES, steps=own),
        replace(first, steps=asked),
        *(stage for stage in others if stage.name != dws_replace.STAGE.name),
    )
