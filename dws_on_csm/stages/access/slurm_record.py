"""The entry of this Slurm cluster in the record of those that use this DWS: an install writes it, an undeploy removes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from dws_on_csm.model.actions import Action, CallApi
from dws_on_csm.model.step import Fact, Step, StepContext, Value
from dws_on_csm.stages.access import rbac
from dws_on_csm.stages.dws import plugin_workflow_version, slurm_clusters
from dws_on_csm.stages.dws.slurm_clusters import Entry

NAME = "slurm-cluster"


def _read(ctx: StepContext, entries: dict[str, Entry]) -> Value:
    return slurm_clusters.own(ctx, entries)


def _want(ctx: StepContext) -> Value:
    """One entry, by the present common name; one of a former name goes. Raises NotYetKnown before the pods or DWS were seen."""
    user = ctx.site.access.common_name
    seen = ctx.facts.one_or_none(RECORDED) or {}
    before = seen.get(slurm_clusters.key(user))
    entry: Entry = {
        "user": user,
        "cluster": slurm_clusters.cluster_name(ctx) or (before["cluster"] if before else ""),
        "namespace": ctx.site.access.namespace,
        "writes": plugin_workflow_version.wanted(ctx),
        "controllers": slurm_clusters.controller_ids(ctx.site),
        "subjects": sorted(rbac.own(ctx)),
    }
    return {slurm_clusters.key(user): entry}


def _change(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    entries: dict[str, Entry | None] = {**dict.fromkeys(have), **want}
    where = f"ConfigMap {slurm_clusters.NAMESPACE}/{slurm_clusters.NAME}"
    title = f"{'record this Slurm cluster in' if want else 'remove this Slurm cluster from'} {where}"
    return [CallApi(title, partial(slurm_clusters.write, entries=entries), objects=(slurm_clusters.PATH,))]


RECORDED: Fact[dict[str, Entry]] = Fact("access", NAME)

STEP = Step(
    RECORDED.step,
    "master",
    lambda ctx: RECORDED.api(slurm_clusters.read_entries),
    _want,
    _change,
    read=_read,
)
"""The record has this Slurm cluster as the site file describes it, so that runs for other Slurm clusters know of it."""

REMOVED = replace(STEP, want=lambda ctx: {})
"""The record does not have this Slurm cluster."""
