"""CRDs of DWS that are being deleted for ever: somebody's undeploy took DWS away while a Workflow was there."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from fabfile import names
from fabfile.actions import Action, Delete, Sh
from fabfile.api import Cluster
from fabfile.stages import installed, inuse, workflows
from fabfile.stages.jobs import Jobs
from fabfile.stages.workflows import Workflow
from fabfile.step import Api, Known, Place, Step, Value


def step(stage: str) -> Step:
    """The step `stuck` of `stage`: no CRD of DWS is being deleted for ever, held back by an object that nobody can finish."""

    def takes(place: Place, have: Value, want: Value) -> str:
        return _lost(have, *inuse.found(place, stage))

    return Step(
        "stuck",
        "master",
        lambda place: Api(_stuck) if there(place) else Known({}),
        lambda place: {},
        _free,
        settle=lambda site: 30.0,
        why=_held,
        takes=takes,
        hint="an object that has finalizers of somebody else's waits for them: see who serves them",
    )


def there(place: Place) -> bool:
    """Whether a CRD was being deleted."""
    return any(crd["deleting"] for crd in installed.found(place)["crds"].values())


def _stuck(cluster: Cluster) -> Value:
    """CRDs that are being deleted, by plural: {"version", "objects": NAMESPACE/NAME -> finalizers}."""
    deleting = {plural: crd for plural, crd in installed.crds(cluster).items() if crd["deleting"]}
    return {
        plural: {
            "version": crd["storage"],
            "objects": {installed.name(one): _finalizers(one) for one in installed.objects(cluster, plural, crd)},
        }
        for plural, crd in deleting.items()
    }


def _finalizers(one: Mapping[str, Any]) -> list[str]:
    return list(one["metadata"].get("finalizers", []))


def _free(place: Place, have: Value, want: Value) -> Sequence[Action]:
    """DWS's finalizers are cleared. Its webhooks go first: one that has no pods refuses every change of a Workflow."""
    held = [
        (f"{plural}.{crd['version']}.{names.GROUP}", name, [f for f in finalizers if not f.startswith(names.GROUP)])
        for plural, crd in have.items()
        for name, finalizers in crd["objects"].items()
        if any(f.startswith(names.GROUP) for f in finalizers)
    ]
    webhooks = [Delete(path) for label, path in installed.TRACES.items() if "WebhookConfiguration" in label]
    return [*webhooks, *(_clear(*one) for one in held)] if held else []


def _clear(resource: str, name: str, left: Sequence[str]) -> Sh:
    space, _, short = name.partition("/")
    patch = json.dumps({"metadata": {"finalizers": list(left)}})
    words = ["kubectl", "patch", resource, short, "--namespace", space, "--type", "merge", "--patch", patch]
    return Sh(f"clear DWS's finalizer of {resource.partition('.')[0]} {name}", shlex.join(words))


def _held(have: Value) -> str:
    """What holds CRDs back, in words."""
    told = []
    for plural, crd in have.items():
        objects = [f"{name} (finalizers {', '.join(some) or 'none'})" for name, some in crd["objects"].items()]
        told.append(f"CRD {plural} is being deleted" + (f", and held back by {', '.join(objects)}" if objects else ""))
    return "; ".join(told)


def _lost(have: Value, every: Sequence[Workflow], jobs: Jobs) -> str:
    """What is asked before they are freed: each by name, a Workflow with its job."""
    words = {workflows.label(one): workflows.told(one, jobs) for one in every}
    told = [
        words.get(name, f"Workflow {name}") if plural == "workflows" else f"{plural} {name}"
        for plural, crd in have.items()
        for name in crd["objects"]
    ]
    why = "half deleted by an undeploy, so that nobody can finish it any more: its finalizer is cleared, and it is gone"
    return f"{'; '.join(told)}: {why}" if told else ""
