"""The step of a rollback that restores templates from which a Job renders Slurm's files: their former keys, then the Job again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dws_on_csm.model.actions import Action
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.snapshot import ObjectSnapshot
from dws_on_csm.model.step import Fact, Finding, Refused, Step, StepContext, Value
from dws_on_csm.stages.pod import discover, files, templates
from dws_on_csm.stages.pod.generated import Generated, config_map_path
from dws_on_csm.stages.rollback import unchanged

FACT: Fact[Mapping[str, Mapping[str, str]]] = Fact("pods", "templates")
"""Label -> the keys of the templates, with their texts."""


def step(things: Sequence[ObjectSnapshot], run: str) -> Step:
    """The step that restores the keys of these templates. `run`: the first of the runs that are undone."""

    def read(cluster: Cluster) -> Mapping[str, Mapping[str, str]]:
        return {known.label: (cluster.get(known.path) or {}).get("data") or {} for known in things}

    def want(ctx: StepContext) -> Value:
        return {known.label: _keys(known) for known in things}

    def change(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
        return [action for known in things for action in _restore(ctx, known, have[known.label], run)]

    return Step(
        FACT.step,
        "master",
        lambda ctx: FACT.api(read),
        want,
        change,
        hint="the lines above say what the Job reported; the templates then have the content that they had before this step",
    )


def _keys(known: ObjectSnapshot) -> Mapping[str, str]:
    return dict((known.before or {}).get("data") or {})


def _restore(ctx: StepContext, known: ObjectSnapshot, have: Mapping[str, str], run: str) -> Sequence[Action]:
    """Write the former keys and run the Job, once; each pod that has the result is refreshed."""
    pods = _pods(ctx, known)
    if not pods:
        text = f"no slurmctld of this site has its files from {known.label} now"
        raise Refused(Finding("object-changed", text, unchanged.object_changed(known, run).fix))
    before = _keys(known)
    keys = {key: before.get(key) for key in sorted({*before, *have}) if before.get(key) != have.get(key)}
    first, source = pods[0]
    seen = {key: have.get(key) for key in keys}
    change = templates.write(first, source, keys, seen) if keys else None
    refreshed = [files.refresh(pod, where) for pod, _ in pods if (where := discover.pod_of(pod))]
    return [change, *refreshed] if change else refreshed


def _pods(ctx: StepContext, known: ObjectSnapshot) -> list[tuple[StepContext, Generated]]:
    """The controllers whose files come from these templates, each with where they come from."""
    controllers = [StepContext(ctx.site, ctx.facts, host.name) for host in ctx.site.controllers if host.pod]
    sources = [(pod, templates.source(pod)) for pod in controllers]
    return [(pod, source) for pod, source in sources if source and config_map_path(source["templates"]) == known.path]
