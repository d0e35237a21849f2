"""CRDs of DWS that are being deleted for ever: somebody's undeploy took DWS away while a Workflow was there."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dws_on_csm.domain import dws_objects, names
from dws_on_csm.model.actions import Action, Delete, RunScript
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.step import ApiLook, Check, Constant, Finding, Refused, Removal, Step, StepContext, Value
from dws_on_csm.stages.dws import in_use, installed, persistent_storage, workflows

FACT = "preflight.stuck"
"""Where what `check` finds is kept: what its first look found is what was typed by names or their number."""

LEAK = (
    "; its finalizer would be cleared, and then nothing says any more that it is there: what its storage driver has "
    "allocated stays allocated, and what users have stored on it is out of reach"
)


def check(due: Callable[[StepContext], bool]) -> Check:
    """The check `stuck` of preflight: no data of users is among what would be set free, unless that was typed.

    due   where DWS goes as a whole, and persistent_storage.check asks about all of it
    """

    def judge(ctx: StepContext, have: Value) -> Sequence[Finding]:
        return _objections(ctx, have)

    def look(ctx: StepContext) -> ApiLook | Constant:
        return ApiLook(lambda cluster: _stuck(cluster)["data"]) if there(ctx) and not due(ctx) else Constant([])

    return Check("stuck", "master", look, judge)


def agreed(ctx: StepContext) -> bool:
    """Whether it was typed for all that the preflight found, or it found nothing."""
    return not _objections(ctx, ctx.facts.one(FACT))


def _objections(ctx: StepContext, found: Sequence[Mapping[str, Any]]) -> Sequence[Finding]:
    first: Sequence[Mapping[str, Any]] = next(iter(ctx.facts.first.get(FACT, {}).values()), [])
    told = persistent_storage.refusals(ctx.site.deletes, first, found)
    return [one if one.name == "storage-not-agreed" else replace(one, text=one.text + LEAK) for one in told]


def step(stage: str) -> Step:
    """The step `stuck` of `stage`: no CRD of DWS is being deleted for ever, held back by an object that nobody can finish."""

    def crds(ctx: StepContext) -> Value:
        return ctx.facts.one(f"{stage}.stuck")["crds"]

    def takes(ctx: StepContext, have: Value, want: Value) -> Sequence[Removal]:
        return _lost(ctx, stage, crds(ctx))

    def change(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
        if stop := _objections(ctx, ctx.facts.one(f"{stage}.stuck")["data"]):
            raise Refused(*stop)
        return _free(crds(ctx))

    return Step(
        "stuck",
        "master",
        lambda ctx: ApiLook(_stuck) if there(ctx) else Constant({"crds": {}, "data": []}),
        lambda ctx: {},
        change,
        read=lambda ctx, found: found["crds"],
        settle_seconds=lambda site: 30.0,
        status_text=_held,
        removes=takes,
        hint="an object that has finalizers of somebody else's waits for them: see who serves them",
    )


def there(ctx: StepContext) -> bool:
    """Whether a CRD was being deleted."""
    return any(crd["deleting"] for crd in installed.found(ctx)["crds"].values())


def _stuck(cluster: Cluster) -> Value:
    """CRDs that are being deleted, by plural: {"crds": {"version", "objects": NAMESPACE/NAME -> finalizers and uid}, "data"}.

    data   see dws_objects.data: those of these objects that stand for data of users and would be set free. Of a Workflow that is
           lost, too: nobody ends it any more who would free what was allocated for it
    """
    crds = {plural: crd for plural, crd in installed.crds(cluster).items() if crd["deleting"]}
    kinds = {plural: installed.objects(cluster, plural, crd) for plural, crd in crds.items()}
    freed = {plural: [one for one in some if _ours(_finalizers(one))] for plural, some in kinds.items()}
    return {
        "crds": {
            plural: {
                "version": crds[plural]["storage"],
                "objects": {
                    installed.name(one): {"finalizers": _finalizers(one), "uid": dws_objects.uid(one)} for one in some
                },
            }
            for plural, some in kinds.items()
        },
        "data": dws_objects.data({plural: some for plural, some in freed.items() if plural != "workflows"}),
    }


def _finalizers(one: Mapping[str, Any]) -> list[str]:
    return list(one["metadata"].get("finalizers", []))


def _ours(finalizers: Sequence[str]) -> bool:
    return any(one.startswith(names.GROUP) for one in finalizers)


def _free(crds: Value) -> Sequence[Action]:
    """DWS's finalizers are cleared. Its webhooks go first: one that has no pods refuses every change of a Workflow."""
    held_back = [
        (f"{plural}.{crd['version']}.{names.GROUP}", name, one)
        for plural, crd in crds.items()
        for name, one in crd["objects"].items()
        if _ours(one["finalizers"])
    ]
    webhooks = [Delete(path) for label, path in installed.TRACES.items() if "WebhookConfiguration" in label]
    return [*webhooks, *(_clear(*one) for one in held_back)] if held_back else []


def _clear(resource: str, name: str, one: Mapping[str, Any]) -> RunScript:
    """Of this very object: the API server takes the uid for a condition."""
    space, _, short = name.partition("/")
    left = [finalizer for finalizer in one["finalizers"] if not finalizer.startswith(names.GROUP)]
    patch = json.dumps({"metadata": {"uid": one["uid"], "finalizers": left}})
    words = ["kubectl", "patch", resource, short, "--namespace", space, "--type", "merge", "--patch", patch]
    return RunScript(f"clear DWS's finalizer of {resource.partition('.')[0]} {name}", shlex.join(words))


def _held(have: Value) -> str:
    """What holds CRDs back, in words."""
    told = []
    for plural, crd in have.items():
        objects = [
            f"{name} (finalizers {', '.join(one['finalizers']) or 'none'})" for name, one in crd["objects"].items()
        ]
        told.append(f"CRD {plural} is being deleted" + (f", and held back by {', '.join(objects)}" if objects else ""))
    return "; ".join(told)


def _lost(ctx: StepContext, stage: str, crds: Value) -> Sequence[Removal]:
    """What is asked before they are freed: each by name, a Workflow with its job."""
    every, jobs = in_use.found(ctx, stage)
    words = {workflows.label(one): workflows.told(one, jobs) for one in every}
    told = [
        words.get(name, f"Workflow {name}") if plural == "workflows" else f"{plural} {name}"
        for plural, crd in crds.items()
        for name in crd["objects"]
    ]
    things = frozenset(
        f"{plural} {name} ({one['uid']})" for plural, crd in crds.items() for name, one in crd["objects"].items()
    )
    why = "half deleted by an undeploy, so that nobody can finish it any more: its finalizer is cleared, and it is gone"
    data = ctx.facts.one(f"{stage}.stuck")["data"]
    more = "".join(f"; {dws_objects.told(dict(one))}{LEAK}" for one in data)
    return [Removal(f"{'; '.join(told)}: {why}{more}", things)] if told else []
