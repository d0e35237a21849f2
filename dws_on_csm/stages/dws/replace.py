"""An install where another version of DWS is in the cluster, older or newer: it is undeployed with its own clone before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dws_on_csm.domain import compatibility, names
from dws_on_csm.model.step import Check, NotYetKnown, Stage, StepContext, Value
from dws_on_csm.stages.dws import in_use, installed, manifests, owned, persistent_storage, remove, stuck_crds


def other(ctx: StepContext) -> str:
    """The version whose clone undeploys what is in the cluster, where that isn't what the site file asks for; else ""."""
    found = installed.found(ctx)
    said = found["tag"] or found["unfinished"]
    return "" if said in ("", ctx.site.versions.dws) else installed.version(ctx)


def due(ctx: StepContext) -> bool:
    """Whether a version is to be taken away before the wanted one comes."""
    return bool(other(ctx))


def checks(stage: str) -> tuple[Check, ...]:
    """The checks of what uses DWS: reasons where another version is there, and read where a CRD is stuck, to be told of."""
    every = in_use.checks(stage, due, read=lambda ctx: due(ctx) or stuck_crds.there(ctx))
    if stage != in_use.FIRST:
        return every
    limit = in_use.limit(_on_the_master)
    return (*(limit if one.name == limit.name else one for one in every), stuck_crds.check(due), owned.check(due))


def _on_the_master(ctx: StepContext) -> str:
    """What has to be done on the master before a controller gets the burst buffer, in words; "" where nothing has."""
    if due(ctx) and installed.there(ctx):
        return f"DWS {installed.version_text(ctx)} would have to go"
    some = any(ctx.site.active(host) for host in ctx.site.controllers)
    return (
        "DWS is not in the cluster, and has to be before Slurm gets its burst buffer"
        if some and not due(ctx) and not installed.there(ctx)
        else ""
    )


# --- what is told before it is done


def _takes(ctx: StepContext, have: Value, want: Value) -> str:
    """Both versions, the CRD versions that come and go, and whether the plugin's Workflows are served by the new one."""
    new = ctx.site.versions.dws
    told = [f"DWS {have['DWS']} is undeployed, and DWS {new} takes its place", *crds_told(ctx, have)]
    kept = persistent_storage.kept(ctx)
    told += [f"objects that are saved before and put back: {', '.join(kept)}"] if kept else []
    told += owned.unasked(ctx)
    return "; ".join([*told, plugin_told(ctx)])


def crds_told(ctx: StepContext, have: Value) -> Sequence[str]:
    """Which versions of which CRDs come and go, in words."""
    try:
        come = manifests.versions(manifests.objects(ctx))
    except NotYetKnown as unknown:
        return (f"which versions of its CRDs come is {unknown}",)
    old = {plural: set(crd["served"].split(", ")) for plural, crd in have["CRDs"].items()}
    gone = {plural: old[plural] - come.get(plural, set()) for plural in old}
    new = {plural: come[plural] - old.get(plural, set()) for plural in come}
    return (f"CRD versions that go: {_listed(gone)}", f"that come: {_listed(new)}")


def _listed(by_plural: Mapping[str, set[str]]) -> str:
    """`workflows v1alpha1, v1alpha2 and storages v1alpha1`; what all have in common is said once."""
    by_versions: dict[tuple[str, ...], list[str]] = {}
    for plural, some in sorted(by_plural.items()):
        if some:
            by_versions.setdefault(tuple(sorted(some)), []).append(plural)
    told = [f"{', '.join(some)} of {', '.join(plurals)}" for some, plurals in by_versions.items()]
    return " and ".join(told) or "none"


def plugin_told(ctx: StepContext) -> str:
    """Which Workflow version the plugin writes, and whether the DWS that comes serves it."""
    writes = f"the plugin {ctx.site.versions.plugin} writes Workflows of {names.WORKFLOW_VERSION}"
    try:
        served = manifests.versions(manifests.objects(ctx)).get("workflows", set())
    except NotYetKnown:
        broken = compatibility.broken({"plugin": ctx.site.versions.plugin, "dws": ctx.site.versions.dws})
        return f"{writes}, which DWS {ctx.site.versions.dws} {'does not serve' if broken else 'serves'}"
    fits = "is among" if names.WORKFLOW_VERSION in served else "is NOT among"
    return f"{writes}, which {fits} those that DWS {ctx.site.versions.dws} serves: {', '.join(sorted(served))}"


_WORKFLOWS, _JOBS = checks("replace")

STAGE = Stage(
    "replace",
    ("images",),
    (
        *remove.clone_steps("replace", other),
        _WORKFLOWS,
        _JOBS,
        owned.check(due),
        persistent_storage.step("replace", other),
        stuck_crds.step("replace"),
        remove.removed_step(other, "replace", _takes, told_after="workarea", again=True),
    ),
)
"""Another version goes when everything is at hand that the wanted one needs."""
