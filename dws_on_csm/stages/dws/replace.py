"""The replacement of another version of DWS, older or newer: an install undeploys it first, with its own clone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dws_on_csm.domain import compatibility, names
from dws_on_csm.model.step import Check, Constant, NotYetKnown, Stage, StepContext, Value
from dws_on_csm.stages.dws import (
    dependents,
    in_use,
    installed,
    manifests,
    persistent_storage,
    plugin_workflow_version,
    remove,
    slurm_clusters,
    stuck_crds,
)


def other(ctx: StepContext) -> str:
    """The version whose clone undeploys the installed DWS, where the site file asks for another version; else ""."""
    dws = installed.found(ctx)
    tag = dws["tag"] or dws["unfinished"]
    return "" if tag in ("", ctx.site.versions.dws) else installed.version(ctx)


def due(ctx: StepContext) -> bool:
    """Whether another version has to be removed before the wanted one is deployed."""
    return bool(other(ctx))


def checks(stage: str) -> tuple[Check, ...]:
    """The checks of what uses DWS. They object where another version is installed; where a CRD is stuck, they only read."""
    checks_of_use = in_use.checks(stage, due, read=lambda ctx: due(ctx) or stuck_crds.there(ctx))
    if stage == in_use.FIRST:
        limit = in_use.limit(_on_the_master)
        checks_of_use = (
            *(limit if check.name == limit.name else check for check in checks_of_use),
            stuck_crds.check(due),
            dependents.check(due),
            _OTHERS,
        )
    return tuple(replace(check, window=True) for check in checks_of_use)


_OTHERS = Check(
    "other-slurms",
    "master",
    lambda ctx: Constant(None),
    lambda ctx, have: slurm_clusters.broken(ctx) if due(ctx) else (),
    window=True,
)
"""The wanted DWS serves the Workflows that the plugins of other Slurm clusters write."""


def _on_the_master(ctx: StepContext) -> str:
    """What has to be done on the master before a controller gets the burst buffer, in words; "" for nothing."""
    if installed.there(ctx):
        return f"DWS {installed.version_text(ctx)} has to be removed first" if due(ctx) else ""
    controllers = any(ctx.site.active(host) for host in ctx.site.controllers)
    return "DWS has to be installed in the cluster before Slurm gets its burst buffer" if controllers else ""


# --- the removal in words, for the confirmation


def removal_text(ctx: StepContext, have: Value, want: Value) -> str:
    """Both versions, the CRD versions that are removed and added, and whether the new DWS serves the plugin's Workflows."""
    sentences = [
        f"DWS {have['DWS']} is undeployed, then DWS {ctx.site.versions.dws} is deployed",
        *describe_crds(ctx, have),
    ]
    kept = persistent_storage.kept(ctx)
    sentences += [f"objects that are saved before and put back: {', '.join(kept)}"] if kept else []
    sentences += [*dependents.describe_unasked(ctx), *describe_others(ctx)]
    return "; ".join([*sentences, describe_plugin(ctx)])


def describe_others(ctx: StepContext) -> Sequence[str]:
    """Whose DWS is replaced besides this site's, in words: other names have rights where several Slurms use one DWS."""
    if not (subjects := slurm_clusters.strangers(ctx)):
        return []
    whose = "; ".join(slurm_clusters.describe_subjects(ctx, subjects))
    text = f"it is replaced, too, for {whose}: sbatch refuses their jobs with #DW meanwhile"
    writes = [
        f"{entry['cluster'] or entry['user']} writes Workflows of {entry['writes']}, which DWS {ctx.site.versions.dws} "
        + ("serves" if slurm_clusters.served(ctx, entry["writes"]) else "does NOT serve")
        for entry in slurm_clusters.others(ctx).values()
    ]
    return [text, *writes]


def describe_crds(ctx: StepContext, have: Value) -> Sequence[str]:
    """The versions of CRDs that are removed and added, in words."""
    try:
        coming = manifests.versions(manifests.objects(ctx))
    except NotYetKnown as unknown:
        return (f"the CRD versions that are added are {unknown}",)
    old = {plural: set(crd["served"].split(", ")) for plural, crd in have["CRDs"].items()}
    removed = {plural: old[plural] - coming.get(plural, set()) for plural in old}
    added = {plural: coming[plural] - old.get(plural, set()) for plural in coming}
    return (f"CRD versions that are removed: {_versions_text(removed)}", f"that are added: {_versions_text(added)}")


def _versions_text(by_plural: Mapping[str, set[str]]) -> str:
    """`v1alpha1, v1alpha2 of workflows and v1alpha1 of storages`; CRDs with the same versions are named together."""
    by_versions: dict[tuple[str, ...], list[str]] = {}
    for plural, versions in sorted(by_plural.items()):
        if versions:
            by_versions.setdefault(tuple(sorted(versions)), []).append(plural)
    parts = [f"{', '.join(versions)} of {', '.join(plurals)}" for versions, plurals in by_versions.items()]
    return " and ".join(parts) or "none"


def describe_plugin(ctx: StepContext) -> str:
    """The Workflow version that the plugin writes, whether the new DWS serves it, and what becomes of it otherwise."""
    writes = f"the plugin {ctx.site.versions.plugin} writes Workflows of {names.WORKFLOW_VERSION}"
    changes = ctx.site.plugin.workflow_version == "auto"
    try:
        served = manifests.versions(manifests.objects(ctx)).get("workflows", set())
    except NotYetKnown:
        broken = compatibility.broken({"plugin": ctx.site.versions.plugin, "dws": ctx.site.versions.dws})
        then = f", so {names.PLUGIN_LUA} is changed to write one that it serves" if broken and changes else ""
        return f"{writes}, which DWS {ctx.site.versions.dws} {'does not serve' if broken else 'serves'}{then}"
    fits = "is among" if names.WORKFLOW_VERSION in served else "is NOT among"
    version = plugin_workflow_version.wanted(ctx)
    then = "" if version == names.WORKFLOW_VERSION else f"; {names.PLUGIN_LUA} is changed to write {version}"
    return f"{writes}, which {fits} those that DWS {ctx.site.versions.dws} serves: {', '.join(sorted(served))}{then}"


_WORKFLOWS, _JOBS = checks("replace")

STAGE = Stage(
    "replace",
    ("images",),
    (
        *remove.clone_steps("replace", other),
        _WORKFLOWS,
        _JOBS,
        _OTHERS,
        replace(dependents.check(due), window=True),
        *(
            replace(step, window=lambda ctx, have, want: True)
            for step in (
                persistent_storage.step("replace", other),
                stuck_crds.step("replace"),
                remove.removed_step(other, "replace", removal_text, confirm_after="workarea", again=True),
            )
        ),
    ),
)
"""The installed version is removed once everything that the wanted one needs is at hand."""
