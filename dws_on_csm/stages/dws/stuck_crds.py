"""CRDs of DWS whose deletion never ends: somebody undeployed DWS while Workflows existed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict

from dws_on_csm.domain import dws_objects, names
from dws_on_csm.model.actions import Action, Delete, RunScript
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.step import ApiLook, Check, Constant, Fact, Finding, Refused, Removal, Step, StepContext, Value
from dws_on_csm.stages.dws import in_use, installed, persistent_storage, workflows

FACT: Fact[list[dict[str, Any]]] = Fact("preflight", "stuck")
"""See dws_objects.data. Names or a number that somebody typed refer to what the first look of a run returned."""


class Stuck(TypedDict):
    """CRDs that are being deleted, by plural: {"version", "objects": NAMESPACE/NAME -> finalizers and uid}.

    data   see dws_objects.data: those of these objects that stand for data of users and would be released, also where a lost
           Workflow owns them: nobody ends it any more, so nothing else frees their storage
    """

    crds: dict[str, dict[str, Any]]
    data: list[dict[str, Any]]


LEAK = "; if its finalizer is cleared, no record of it is left: its storage stays allocated, and users lose access to their data"


def check(due: Callable[[StepContext], bool]) -> Check:
    """The check `stuck` of preflight: no data of users is among the objects to release, unless somebody typed its name.

    due   whether all of DWS is removed, so that persistent_storage.check covers all of it
    """

    def judge(ctx: StepContext, have: Value) -> Sequence[Finding]:
        return _objections(ctx, have)

    def look(ctx: StepContext) -> ApiLook | Constant:
        return FACT.api(lambda cluster: _read(cluster)["data"]) if there(ctx) and not due(ctx) else Constant([])

    return Check(FACT.step, "master", look, judge)


def agreed(ctx: StepContext) -> bool:
    """Whether somebody typed the names, or the number, of all data that the preflight found."""
    data = ctx.facts.one(FACT)
    return not _objections(ctx, data)


def _objections(ctx: StepContext, data: Sequence[Mapping[str, Any]]) -> Sequence[Finding]:
    first = next(iter(ctx.facts.at_first(FACT).values()), [])
    findings = persistent_storage.refusals(ctx.site.deletes, first, data)
    return [
        finding if finding.name == "storage-not-agreed" else replace(finding, text=finding.text + LEAK)
        for finding in findings
    ]


def step(stage: str) -> Step:
    """The step `stuck` of `stage`: no CRD of DWS waits for an object whose deletion nobody can complete any more."""
    fact: Fact[Stuck] = Fact(stage, "stuck")

    def change(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
        if objections := _objections(ctx, ctx.facts.one(fact)["data"]):
            raise Refused(*objections)
        return _clear_all(ctx.facts.one(fact)["crds"])

    return Step(
        fact.step,
        "master",
        lambda ctx: fact.api(_read) if there(ctx) else Constant({"crds": {}, "data": []}),
        lambda ctx: {},
        change,
        read=lambda ctx, stuck: stuck["crds"],
        settle_seconds=lambda site: 30.0,
        status_text=_stuck_status,
        removes=lambda ctx, have, want: _removals(ctx, stage, ctx.facts.one(fact)),
        hint="an object may also wait for a finalizer that is not DWS's: see which controller serves that finalizer",
    )


def there(ctx: StepContext) -> bool:
    """Whether a CRD was being deleted."""
    return any(crd["deleting"] for crd in installed.found(ctx)["crds"].values())


def _read(cluster: Cluster) -> Stuck:
    crds = {plural: crd for plural, crd in installed.crds(cluster).items() if crd["deleting"]}
    kinds = {plural: installed.objects(cluster, plural, crd) for plural, crd in crds.items()}
    released = {plural: [item for item in items if _of_dws(_finalizers(item))] for plural, items in kinds.items()}
    return {
        "crds": {
            plural: {
                "version": crds[plural]["storage"],
                "objects": {
                    installed.name(item): {"finalizers": _finalizers(item), "uid": dws_objects.uid(item)}
                    for item in items
                },
            }
            for plural, items in kinds.items()
        },
        "data": dws_objects.data({plural: items for plural, items in released.items() if plural != "workflows"}),
    }


def _finalizers(item: Mapping[str, Any]) -> list[str]:
    return list(item["metadata"].get("finalizers", []))


def _of_dws(finalizers: Sequence[str]) -> bool:
    return any(finalizer.startswith(names.GROUP) for finalizer in finalizers)


def _clear_all(crds: Value) -> Sequence[Action]:
    """Clear DWS's finalizers. Its webhooks are deleted first: a webhook without pods rejects every change of a Workflow."""
    waiting = [
        (f"{plural}.{crd['version']}.{names.GROUP}", name, item)
        for plural, crd in crds.items()
        for name, item in crd["objects"].items()
        if _of_dws(item["finalizers"])
    ]
    webhooks = [Delete(path) for label, path in installed.TRACES.items() if "WebhookConfiguration" in label]
    return [*webhooks, *(_clear(*arguments) for arguments in waiting)] if waiting else []


def _clear(resource: str, name: str, item: Mapping[str, Any]) -> RunScript:
    """Clear DWS's finalizers of this very object: with its uid in the patch the API server changes no other object."""
    space, _, short = name.partition("/")
    others = [finalizer for finalizer in item["finalizers"] if not finalizer.startswith(names.GROUP)]
    patch = json.dumps({"metadata": {"uid": item["uid"], "finalizers": others}})
    words = ["kubectl", "patch", resource, short, "--namespace", space, "--type", "merge", "--patch", patch]
    return RunScript(f"clear DWS's finalizer of {resource.partition('.')[0]} {name}", shlex.join(words))


def _stuck_status(have: Value) -> str:
    """The objects for which the CRDs' deletion waits, in words."""
    sentences = []
    for plural, crd in have.items():
        objects = [
            f"{name} (finalizers {', '.join(item['finalizers']) or 'none'})" for name, item in crd["objects"].items()
        ]
        sentences.append(f"CRD {plural} is being deleted" + (f" and waits for {', '.join(objects)}" if objects else ""))
    return "; ".join(sentences)


def _removals(ctx: StepContext, stage: str, stuck: Stuck) -> Sequence[Removal]:
    """The objects to release, for the confirmation: each by name, a Workflow with its job."""
    every, jobs = in_use.found(ctx, stage)
    words = {workflows.label(workflow): workflows.describe(workflow, jobs) for workflow in every}
    crds = stuck["crds"]
    objects = [
        words.get(name, f"Workflow {name}") if plural == "workflows" else f"{plural} {name}"
        for plural, crd in crds.items()
        for name in crd["objects"]
    ]
    things = frozenset(
        f"{plural} {name} ({item['uid']})" for plural, crd in crds.items() for name, item in crd["objects"].items()
    )
    why = "an undeploy deleted it only in part, and nothing can complete that any more: its finalizer is cleared, which removes it"
    more = "".join(f"; {dws_objects.describe(dict(item))}{LEAK}" for item in stuck["data"])
    return [Removal(f"{'; '.join(objects)}: {why}{more}", things)] if objects else []
