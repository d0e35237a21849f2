"""An installed version of DWS taken out of the cluster: its clone at its tag, `make undeploy`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dws_on_csm.model.actions import Action, RunScript
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.step import (
    ApiLook,
    Check,
    Constant,
    Finding,
    Look,
    NotYetKnown,
    Refused,
    Removal,
    Step,
    StepContext,
    Value,
)
from dws_on_csm.stages.dws import installed, make_undeploy, manifests, persistent_storage, rendered, workarea

Due = Callable[[StepContext], str]
"""The version that is to be taken away, as its clone is called; "" where nothing is. Raises Unknown before it was looked."""

Takes = Callable[[StepContext, Value, Value], str]


# --- the clone of that version


def clone_steps(stage: str, due: Due) -> tuple[Step | Check, ...]:
    """Steps of `stage`: the clone of the version that is `due` to be taken away, its kustomize, what its manifests say."""
    clone, kustomize = (
        _only_if(due, stage, step)
        for step in workarea.STAGE.steps
        if isinstance(step, Step) and step.name in ("clone", "kustomize")
    )
    return _as_it_is(clone, stage), kustomize, _rendered(due, stage)


def _only_if(due: Due, stage: str, step: Step) -> Step:
    """A step of the stage workarea for the version that is due; where none is, nothing is looked at."""

    def at(ctx: StepContext) -> StepContext:
        return installed.as_of(ctx, due(ctx), stage)

    def look(ctx: StepContext) -> Look:
        return step.look(at(ctx)) if due(ctx) else Constant(None)

    def want(ctx: StepContext) -> Value:
        return step.want(at(ctx)) if due(ctx) else None

    def change(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
        assert step.change is not None
        return step.change(at(ctx), have, want)

    return replace(step, look=look, want=want, change=change)


def _as_it_is(clone: Step, stage: str) -> Step:
    """Files in it that somebody changed stay: they may be what was deployed, and no image gets its tag from this clone."""

    def want(ctx: StepContext) -> Value:
        wanted, have = clone.want(ctx), ctx.facts.one(f"{stage}.{clone.name}")
        return {**wanted, "modified": have["modified"]} if wanted else None

    def change(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
        assert clone.change is not None
        actions = clone.change(ctx, have, want)
        gone = have["at"] == "absent"
        return [
            replace(a, title=f"its clone is not there: {a.title}") if gone and isinstance(a, RunScript) else a
            for a in actions
        ]

    return replace(clone, want=want, change=change)


def _rendered(due: Due, stage: str) -> Check:
    def look(ctx: StepContext) -> Look:
        return manifests.look(installed.as_of(ctx, due(ctx), stage)) if due(ctx) else Constant({"objects": []})

    return Check("rendered", "master", look, lambda ctx, have: ())


# --- the version itself


def removed_step(due: Due, workarea_stage: str, takes: Takes, told_after: str = "", *, again: bool = False) -> Step:
    """The step `removed`: nothing of the version that is due is in the cluster, its namespace aside.

    workarea_stage   the stage that has its clone
    told_after       the stage after which `takes` can tell everything
    again            another version follows, so that what is kept is put back there (see stages/kept)
    """

    def at(ctx: StepContext) -> StepContext:
        return installed.as_of(ctx, due(ctx), workarea_stage)

    def look(ctx: StepContext) -> Look:
        if not due(ctx):
            return Constant(None)
        ctx.facts.one(f"{workarea_stage}.rendered")
        objects = _paths(at(ctx))
        return ApiLook(lambda cluster: _remains(cluster, objects))

    def want(ctx: StepContext) -> Value:
        return {"DWS": "none", "CRDs": {}, "objects": []} if due(ctx) else None

    def change(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
        if have["DWS"] not in ("none", installed.said(ctx)):
            text = f"DWS {have['DWS']} is there now, and when this run began it was DWS {installed.said(ctx)}"
            raise Refused(Finding("not-agreed", text, "run it again: it takes the clone of that version, and asks"))
        return make_undeploy.actions(at(ctx), installed.said(ctx), have, again=again)

    return Step(
        "removed",
        "master",
        look,
        want,
        change,
        settle_seconds=lambda site: site.deadlines.command,
        status_text=_left,
        removes=lambda ctx, have, want: [Removal(takes(ctx, have, want), _goes(have))],
        side_effect=lambda ctx, have, want: make_undeploy.ORDER,
        confirm_after=told_after or workarea_stage,
        hint="what holds an object back is in its metadata.finalizers; a new run goes on from here",
    )


def _paths(ctx: StepContext) -> dict[str, str]:
    """Label -> path of what is to go, CRDs aside: as the clone's manifests have it, or else what all versions have."""
    try:
        objects = rendered.wanted(ctx)
    except NotYetKnown:
        return installed.TRACES | _CLOSED
    stays = ("Namespace", "CustomResourceDefinition")
    own = {
        f"{one['kind']} {one['metadata']['name']}": rendered.path(one) for one in objects if one["kind"] not in stays
    }
    return own | installed.TRACES | _CLOSED


def _goes(have: Value) -> frozenset[str]:
    """What somebody agrees to who lets a version go: it, with what is its own, and every other object of its kinds."""
    objects = {f"{plural} {name}" for plural, crd in have["CRDs"].items() for name in crd.get("objects", ())}
    return frozenset({f"DWS {have['DWS']}", *(f"CRD {plural}" for plural in have["CRDs"]), *objects})


_CLOSED = {f"ValidatingWebhookConfiguration {persistent_storage.CLOSED}": persistent_storage.CLOSED_PATH}
"""Of ours: it must be gone as well when DWS is, or nobody opens it again."""


def _remains(cluster: Cluster, objects: Mapping[str, str]) -> Value:
    found = installed.read(cluster)
    return {
        "DWS": found["tag"] or found["unfinished"] or "none",
        "CRDs": {plural: _crd(cluster, plural, crd) for plural, crd in found["crds"].items()},
        "objects": [label for label, path in objects.items() if cluster.get(path)],
    }


def _crd(cluster: Cluster, plural: str, crd: installed.Crd) -> dict[str, Any]:
    named = [installed.name(one) for one in installed.objects(cluster, plural, crd)]
    return {
        "served": ", ".join(sorted(crd["served"])),
        **({"objects": named} if named else {}),
        **({"deleting": True} if crd["deleting"] else {}),
    }


def _left(have: Value) -> str:
    """What is still there, in words; nothing where nothing is."""
    if not have or have == {"DWS": "none", "CRDs": {}, "objects": []}:
        return ""
    crds = [
        f"CRD {plural}" + (f", held back by {', '.join(crd['objects'])}" if crd.get("objects") else "")
        for plural, crd in have["CRDs"].items()
    ]
    return f"still there: {', '.join([*crds, *have['objects']]) or 'the mark of an undeploy that was cut off'}"
