"""Whether DWS's pods are there: enough of them that a Workflow gets through, and all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dws_on_csm.domain import names
from dws_on_csm.model.actions import Action, Delete
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.step import ApiLook, Step, StepContext, Value
from dws_on_csm.stages.dws import manifests

PODS = f"/api/v1/namespaces/{names.NAMESPACE}/pods"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{names.NAMESPACE}/deployments"


def _look(ctx: StepContext) -> ApiLook:
    return ApiLook(_read, PODS)


def _read(cluster: Cluster) -> Value:
    """Deployment -> "1 of 3" pods that are of its present form and ready, or "missing"; why the others aren't, which of them
    would wait long before they try again, and whether a pod of the webhook answers, of whatever form."""
    deployments = {name: cluster.get(f"{DEPLOYMENTS}/{name}") for name in (names.CONTROLLER, names.WEBHOOK)}
    found: dict[str, Any] = {name: _ready(one) if one else "missing" for name, one in deployments.items()}
    pods = [] if all(map(complete, found.values())) else waiting(cluster)
    stuck = [one["pod"] for one in pods if one["stuck"]]
    webhook = deployments[names.WEBHOOK] or {}
    answers = webhook.get("status", {}).get("availableReplicas", 0) > 0
    because = "; ".join(dict.fromkeys(one["why"] for one in pods))
    return found | {"because": because, "stuck": stuck, "answers": answers}


def _ready(one: Mapping[str, Any]) -> str:
    status = one.get("status", {})
    updated = status.get("updatedReplicas", 0)
    former = status.get("replicas", 0) - updated
    # of those that are available, so many may be pods of its former form
    good = min(status.get("availableReplicas", 0) - former, updated)
    current = status.get("observedGeneration", 0) >= one["metadata"]["generation"]
    return f"{max(good, 0) if current else 0} of {one['spec']['replicas']}"


def complete(text: str) -> bool:
    """Whether "N of M" are all."""
    good, _, every = text.partition(" of ")
    return bool(every) and good == every


def waiting(cluster: Cluster) -> list[dict[str, str]]:
    """The pods of DWS that aren't ready, each with why: {"pod", "why", "stuck"} (stuck: it would wait long to try again)."""
    pods = (cluster.get(PODS) or {}).get("items", [])
    return [found for pod in pods if (found := _why(pod))]


def _why(pod: Mapping[str, Any]) -> dict[str, str] | None:
    conditions = {c["type"]: c for c in pod.get("status", {}).get("conditions", [])}
    if conditions.get("Ready", {}).get("status") == "True" or "deletionTimestamp" in pod["metadata"]:
        return None
    states = [
        (s["name"], s["state"]["waiting"])
        for s in pod["status"].get("containerStatuses", [])
        if "waiting" in s["state"]
    ]
    said = [
        f"{name}: {state.get('reason', 'waiting')} {state.get('message', '')}".strip()[:200] for name, state in states
    ]
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        said = [f"not scheduled: {scheduled.get('message', '')}"]
    stuck = any(state.get("reason") in ("ImagePullBackOff", "ErrImagePull", "CrashLoopBackOff") for _, state in states)
    return {
        "pod": pod["metadata"]["name"],
        "why": "; ".join(said) or "started, not ready yet",
        "stuck": "yes" if stuck else "",
    }


def _await(have: Value) -> str:
    counts = ", ".join(f"{name} {have[name]}" for name in (names.CONTROLLER, names.WEBHOOK))
    return f"{counts}: {have['because']}" if have["because"] else counts


def _again(fact: str) -> Callable[[StepContext, Value, Value], Sequence[Action]]:
    """Pods that back off are deleted, so that what was wrong with them is tried anew at once; others only need time."""
    return lambda ctx, have, want: [Delete(f"{PODS}/{pod}") for pod in ctx.facts.one(fact)["stuck"]]


# --- enough of them: the controller, and one that answers for the webhook


def _read_minimum(ctx: StepContext, found: Value) -> Value:
    one = not found[names.WEBHOOK].startswith(("0 ", "missing"))
    serves = one and complete(found[names.CONTROLLER])
    return {
        names.CONTROLLER: found[names.CONTROLLER],
        names.WEBHOOK: "one or more" if one else found[names.WEBHOOK],
        "because": "" if serves else found["because"],
    }


def _want_minimum(ctx: StepContext) -> Value:
    return {names.CONTROLLER: _wanted(ctx)[names.CONTROLLER], names.WEBHOOK: "one or more", "because": ""}


# --- all of them


def _read_available(ctx: StepContext, found: Value) -> Value:
    return {key: value for key, value in found.items() if key not in ("stuck", "answers")}


def _want_available(ctx: StepContext) -> Value:
    return _wanted(ctx) | {"because": ""}


def _wanted(ctx: StepContext) -> dict[str, str]:
    deployments = [one for one in manifests.objects(ctx) if one["kind"] == "Deployment"]
    return {one["metadata"]["name"]: "{0} of {0}".format(one["spec"]["replicas"]) for one in deployments}


def _step(name: str, want: Callable[[StepContext], Value], read: Callable[[StepContext, Value], Value]) -> Step:
    return Step(
        name,
        "master",
        _look,
        want,
        _again(f"deploy.{name}"),
        read=read,
        settle_seconds=lambda site: site.deadlines.deploy,
        status_text=_await,
        hint="see `kubectl -n dws-system describe pods`; deadlines.deploy is how long it may take",
    )


MINIMUM = _step("minimum", _want_minimum, _read_minimum)
"""The controller, and of the webhook's pods one: what a Workflow needs. What proves DWS needn't wait for the others."""

AVAILABLE = _step("available", _want_available, _read_available)
"""Both deployments, with all their pods."""
