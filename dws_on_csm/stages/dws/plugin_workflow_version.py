"""The API version of Workflows that the plugin is to write, by plugin.workflow_version and the CRD of the wanted DWS, or of the
one that somebody else deploys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dws_on_csm.domain import compatibility, names, workflow_version
from dws_on_csm.domain.workflow_version import Version
from dws_on_csm.model.step import Finding, NotYetKnown, Refused, StepContext
from dws_on_csm.stages.dws import external, manifests


def wanted(ctx: StepContext, writes: str = names.WORKFLOW_VERSION) -> str:
    """The version to write, where the plugin itself writes `writes`. Raises NotYetKnown before DWS is cloned, or was seen,
    unless this version of DWS is known to serve `writes`."""
    if ctx.site.plugin.workflow_version == "plugin" or not writes:
        return writes
    versions = _versions(ctx)
    if versions is not None:
        return workflow_version.choose(versions, writes) or writes
    if ctx.site.external:
        raise NotYetKnown(external.FACT.stage)
    if compatibility.broken({"plugin": ctx.site.versions.plugin, "dws": ctx.site.versions.dws}):
        raise NotYetKnown(manifests.RENDERED.stage)
    return writes


def for_plugin(ctx: StepContext, lua: str) -> str:
    """The text of burst_buffer.lua with the version to write. Raises NotYetKnown; Refused where that version is unfit."""
    version = wanted(ctx, workflow_version.written(lua))
    if version == workflow_version.written(lua):
        return lua
    for finding in _findings(ctx, version):
        raise Refused(finding)
    # the text stays the same however often somebody else replaces DWS
    which = "the DWS of this cluster" if ctx.site.external else f"DWS {ctx.site.versions.dws}"
    reason = f"{which} serves it no more (site file: plugin.workflow_version)"
    return workflow_version.rewritten(lua, version, reason)


def judge(ctx: StepContext) -> Sequence[Finding]:
    """A finding where DWS serves no version that the plugin can use: before anything is changed."""
    version = wanted(ctx)
    return () if version == names.WORKFLOW_VERSION else _findings(ctx, version)


def _findings(ctx: StepContext, version: str) -> Sequence[Finding]:
    lacks = workflow_version.lacking((_versions(ctx) or {})[version])
    if not lacks:
        return ()
    plugin, dws = ctx.site.versions.plugin, external.version(ctx)
    text = f"the plugin {plugin} writes Workflows of {names.WORKFLOW_VERSION}, which DWS {dws or 'here'} does not serve"
    text += f", and it cannot write {version} in its place: {'; '.join(lacks)}"
    fix = "set versions.plugin and sources.plugin to a plugin for this DWS"
    if not ctx.site.external:
        fix = f"set versions.dws to an older version; or {fix}"
    return (Finding("workflow-version-unfit", text, fix),)


def _versions(ctx: StepContext) -> Mapping[str, Version] | None:
    """The versions of the CRD workflows in the wanted DWS's manifests, or in the cluster; None before it is cloned, or was seen."""
    if ctx.site.external:
        seen = ctx.facts.one_or_none(external.FACT)
        return seen["workflows"] if seen and seen["workflows"] else None
    rendered = ctx.facts.one_or_none(manifests.RENDERED)
    return rendered.get("workflows") if rendered and rendered["objects"] else None


def common(ctx: StepContext, removed: Mapping[str, set[str]]) -> str:
    """The version in which objects are saved before a DWS that serves `removed` is replaced by the wanted one: one that both serve,
    or "" where there is none. Then they are saved as they are stored."""
    try:
        coming = manifests.versions(manifests.objects(ctx))
    except NotYetKnown:
        return names.WORKFLOW_VERSION
    both = removed.get("workflows", set()) & coming.get("workflows", set())
    return names.WORKFLOW_VERSION if names.WORKFLOW_VERSION in both else workflow_version.newest(both)
