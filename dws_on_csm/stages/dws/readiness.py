"""DWS's pods: the minimum that a Workflow needs, and all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict

from dws_on_csm.domain import names
from dws_on_csm.kube import objects
from dws_on_csm.model.actions import Action, Delete
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.printable import first_few
from dws_on_csm.model.step import Fact, Step, StepContext, Value
from dws_on_csm.stages.dws import cluster_time, manifest_comparison, manifests, pod_waits, refusals


class Pods(TypedDict):
    """How many pods of a Deployment are up to date and ready, of those that it asks for."""

    ready: int
    wanted: int


class Readiness(TypedDict):
    """DWS's pods.

    pods         the Deployment's name -> its pods; None where it is missing
    because      why not all are ready
    stuck        pods that would wait long before they try again
    answers      whether any pod of the webhook responds
    unscheduled  how many pods find no worker
    refusal      the rule of the cluster that lets no pod be created, or None
    uncounted    which Deployment counts pods that are gone, in words, or ""
    unplaced     which pods the scheduler has not even looked at, in words, or ""
    blocked      the Deployment whose update waits for a worker while all its old pods serve, or ""
    lacking      images that workers lack and cannot get
    """

    pods: dict[str, Pods | None]
    because: str
    stuck: list[str]
    answers: bool
    unscheduled: int
    refusal: refusals.Refusal | None
    uncounted: str
    unplaced: str
    blocked: str
    lacking: list[pod_waits.Lacking]


FACT: Fact[Readiness] = Fact("deploy", "available")

PODS = f"/api/v1/namespaces/{names.NAMESPACE}/pods"
EVENTS = f"/api/v1/namespaces/{names.NAMESPACE}/events"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{names.NAMESPACE}/deployments"


def _read(cluster: Cluster) -> Readiness:
    deployments = {name: cluster.get(f"{DEPLOYMENTS}/{name}") for name in (names.CONTROLLER, names.WEBHOOK)}
    counts = {name: _pods(deployment) if deployment else None for name, deployment in deployments.items()}
    listed = cluster.get(PODS)
    every = listed["items"] if listed else []
    uncounted = "; ".join(filter(None, (_uncounted(item, every) for item in deployments.values() if item and listed)))
    if uncounted:
        counts = {name: _that_exist(pods, deployments[name], every) for name, pods in counts.items()}
    pods = [] if all(map(complete, counts.values())) else waiting(every, lambda: _warnings(cluster))
    webhook = deployments[names.WEBHOOK] or {}
    lacking = [item for name, item in deployments.items() if item and not complete(counts[name])]
    others = [*_reasons(pods), *filter(None, [uncounted])]
    not_created = [why for item in lacking for why in _not_created(item)]
    reasons = [*others, *not_created] or [why for item in lacking for why in _not_replaced(item)]
    because = "; ".join(dict.fromkeys(reasons))
    unscheduled = sum(pod["unscheduled"] for pod in pods)
    return {
        "pods": counts,
        "because": because,
        "stuck": [pod["pod"] for pod in pods if pod["stuck"]],
        "answers": webhook.get("status", {}).get("availableReplicas", 0) > 0,
        "unscheduled": unscheduled,
        "refusal": refusals.read(cluster, because, names.NAMESPACE, ()) if not_created and not others else None,
        "uncounted": uncounted,
        "unplaced": _unplaced(cluster, every) if pods else "",
        "blocked": next((item["metadata"]["name"] for item in lacking if unscheduled and _former_serve(item)), ""),
        "lacking": _lacking(cluster, pods),
    }


def _lacking(cluster: Cluster, pods: Sequence[Waiting]) -> list[pod_waits.Lacking]:
    """Images that workers cannot get; of those that no registry of DWS has, with the nodes that have them."""
    images = pod_waits.lacking(reason for pod in pods for reason in pod["reasons"])
    if not any(image["sandbox"] for image in images):
        return images
    nodes = (cluster.get("/api/v1/nodes") or {"items": []})["items"]
    return [pod_waits.with_holders(image, nodes) if image["sandbox"] else image for image in images]


_UNPLACED_SECONDS = 30
"""A scheduler that works has given a new pod its condition PodScheduled long before."""


def _unplaced(cluster: Cluster, pods: Sequence[Mapping[str, Any]]) -> str:
    """That pods have waited for long without a word of the scheduler: it gives each pod a worker, or says why it finds none."""
    waiting = [pod for pod in pods if _unseen(pod)]
    if not waiting or (now := cluster_time.newest(cluster)) is None:
        return ""
    late = [
        pod
        for pod in waiting
        if cluster_time.seconds_before(now, pod["metadata"]["creationTimestamp"]) > _UNPLACED_SECONDS
    ]
    return f"it has not looked at {first_few([pod['metadata']['name'] for pod in late])}" if late else ""


def _unseen(pod: Mapping[str, Any]) -> bool:
    """Whether no scheduler has looked at a pod."""
    return (
        "nodeName" not in pod["spec"]
        and not objects.condition(pod, "PodScheduled")
        and "deletionTimestamp" not in pod["metadata"]
    )


def _former_serve(deployment: Mapping[str, Any]) -> bool:
    """Whether an update has begun, and as many pods as are wanted are ready without it."""
    status, wanted = deployment.get("status", {}), deployment["spec"]["replicas"]
    return bool(status.get("replicas", 0) > wanted and status.get("readyReplicas", 0) >= wanted > 1)


def _pods_of(deployment: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The Deployment's pods that are not being deleted."""
    labels = deployment["spec"].get("selector", {}).get("matchLabels") or {"": None}
    return [
        pod
        for pod in pods
        if labels.items() <= (pod["metadata"].get("labels") or {}).items()
        and "deletionTimestamp" not in pod["metadata"]
    ]


def _uncounted(deployment: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> str:
    """That a Deployment counts pods which are gone: nobody counts them then, or creates others."""
    counted, there = deployment.get("status", {}).get("availableReplicas", 0), len(_pods_of(deployment, pods))
    if counted <= there:
        return ""
    return f"Deployment {deployment['metadata']['name']} counts {counted} available pods, and has {there}"


def _that_exist(
    counted: Pods | None, deployment: Mapping[str, Any] | None, pods: Sequence[Mapping[str, Any]]
) -> Pods | None:
    """The ready pods by those that exist, where the Deployment's own number is out of date."""
    if not counted or not deployment:
        return counted
    return {"ready": min(counted["ready"], len(_pods_of(deployment, pods))), "wanted": counted["wanted"]}


def _pods(deployment: Mapping[str, Any]) -> Pods:
    return {"ready": ready(deployment), "wanted": int(deployment["spec"]["replicas"])}


def ready_pods(deployment: Mapping[str, Any]) -> str:
    """Its pods that are up to date and ready, of those that it asks for: "1 of 3"."""
    return pods_text(_pods(deployment))


def pods_text(pods: Pods | None) -> str:
    """ "1 of 3", or "missing"."""
    return f"{pods['ready']} of {pods['wanted']}" if pods else "missing"


def ready(deployment: Mapping[str, Any]) -> int:
    """The number of its pods that are up to date and ready."""
    status = deployment.get("status", {})
    updated = status.get("updatedReplicas", 0)
    outdated = status.get("replicas", 0) - updated
    # all outdated pods may be among the available ones
    good = min(status.get("availableReplicas", 0) - outdated, updated)
    current = status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
    return max(good, 0) if current else 0


def _not_created(deployment: Mapping[str, Any]) -> list[str]:
    """Why pods of a Deployment cannot be created at all: a quota, or an admission policy that rejects them."""
    if not objects.is_true(deployment, "ReplicaFailure"):
        return []
    return [f"pods cannot be created: {objects.condition(deployment, 'ReplicaFailure').get('message', '')}"[:400]]


def _not_replaced(deployment: Mapping[str, Any]) -> list[str]:
    """Why a Deployment lacks pods, where no pod waits and none was rejected."""
    name, status = deployment["metadata"].get("name", ""), deployment.get("status", {})
    if deployment["spec"].get("paused"):
        return [f"its rollout is paused: run `kubectl -n {names.NAMESPACE} rollout resume deployment/{name}`"]
    if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        return ["kube-controller-manager has not processed its last change yet: it is busy, or does not run"]
    if status.get("replicas", 0) < deployment["spec"]["replicas"]:
        return ["some pods have not been created yet, or are being deleted"]
    return ["the rollout has not finished"]


def complete(pods: Pods | None) -> bool:
    """Whether all pods of a Deployment are ready."""
    return pods is not None and pods["ready"] == pods["wanted"]


class Waiting(TypedDict):
    """A pod that is not ready; `stuck`: it would wait long before it tries again; `unscheduled`: no worker can take it."""

    pod: str
    reasons: list[pod_waits.Reason]
    stuck: bool
    unscheduled: bool


Warnings = Sequence[Mapping[str, Any]]
"""Events of the type Warning."""


def _warnings(cluster: Cluster) -> Warnings:
    listed = cluster.get(EVENTS, fieldSelector="type=Warning")
    return listed["items"] if listed else ()


def waiting(pods: Sequence[Mapping[str, Any]], warnings: Callable[[], Warnings]) -> list[Waiting]:
    """DWS's pods that are not ready. `warnings` is called where a pod does not say itself what it waits for."""
    lacking = [pod for pod in pods if not objects.is_true(pod, "Ready") and "deletionTimestamp" not in pod["metadata"]]
    events = warnings() if any(map(pod_waits.needs_events, lacking)) else ()
    return [_waiting_state(pod, events) for pod in lacking]


def _waiting_state(pod: Mapping[str, Any], events: Warnings) -> Waiting:
    reasons = pod_waits.reasons(pod, events)
    scheduled = objects.condition(pod, "PodScheduled")
    unscheduled = scheduled.get("status") == "False"
    if unscheduled:
        reasons = [pod_waits.of_pod(f"not scheduled: {scheduled.get('message', '')}")]
    elif _unseen(pod):
        reasons = [pod_waits.of_pod("kube-scheduler has not looked at it yet: it is busy, or does not run")]
    return {
        "pod": pod["metadata"]["name"],
        "reasons": reasons or [pod_waits.of_pod("started, not ready yet")],
        "stuck": pod_waits.is_stuck(pod),
        "unscheduled": unscheduled,
    }


def _reasons(pods: Sequence[Waiting]) -> list[str]:
    """What pods wait for, each once; first those that are on a worker."""
    return pod_waits.told(
        reason for pod in sorted(pods, key=lambda pod: pod["unscheduled"]) for reason in pod["reasons"]
    )


def _pods_status(have: Value) -> str:
    counts = ", ".join(f"{name} {have[name]}" for name in (names.CONTROLLER, names.WEBHOOK))
    return f"{counts}: {have['because']}" if have["because"] else counts


# --- the minimum: the controller, and one pod of the webhook


def _read_minimum(ctx: StepContext, state: Readiness) -> Value:
    controller, webhook = state["pods"][names.CONTROLLER], state["pods"][names.WEBHOOK]
    serving = webhook is not None and webhook["ready"] > 0
    return {
        names.CONTROLLER: pods_text(controller),
        names.WEBHOOK: "one or more" if serving else pods_text(webhook),
        "because": "" if serving and complete(controller) else state["because"],
    }


def _want_minimum(ctx: StepContext) -> Value:
    return {names.CONTROLLER: _wanted(ctx)[names.CONTROLLER], names.WEBHOOK: "one or more", "because": ""}


# --- all of them


def _read_available(ctx: StepContext, state: Readiness) -> Value:
    return {name: pods_text(pods) for name, pods in state["pods"].items()} | {"because": state["because"]}


def _want_available(ctx: StepContext) -> Value:
    return _wanted(ctx) | {"because": ""}


def accepted_available(ctx: StepContext, have: Value, want: Value) -> str:
    """ "workers-few" where the webhook has all pods that the workers can take, and those that it lacks find no worker; else ""."""
    state = ctx.facts.one(FACT)
    webhook, unscheduled = state["pods"][names.WEBHOOK], state["unscheduled"]
    if not webhook or not webhook["ready"] or have[names.CONTROLLER] != want[names.CONTROLLER]:
        return ""
    return "workers-few" if unscheduled and webhook["ready"] + unscheduled == webhook["wanted"] else ""


def wanted_pods(ctx: StepContext) -> dict[str, int]:
    """The Deployment's name -> how many pods DWS's manifests ask for."""
    deployments = [manifest for manifest in manifests.objects(ctx) if manifest["kind"] == "Deployment"]
    return {deployment["metadata"]["name"]: _replicas(ctx, deployment) for deployment in deployments}


def _wanted(ctx: StepContext) -> dict[str, str]:
    return {name: pods_text({"ready": number, "wanted": number}) for name, number in wanted_pods(ctx).items()}


def _replicas(ctx: StepContext, manifest: Mapping[str, Any]) -> int:
    """The number of pods in the manifest, or in a Deployment that is as admission made it of the manifest."""
    applied, name = ctx.facts.one_or_none(manifest_comparison.APPLIED) or {}, manifest["metadata"]["name"]
    state, present = applied.get(manifests.label(manifest)), ctx.facts.one_or_none(FACT)
    pods = present["pods"].get(name) if present else None
    as_admitted = state is not None and state["state"] == manifest_comparison.AS_RENDERED
    return pods["wanted"] if pods and as_admitted else int(manifest["spec"]["replicas"])


def _step(
    fact: Fact[Readiness], want: Callable[[StepContext], Value], read: Callable[[StepContext, Readiness], Value]
) -> Step:
    def restart_stuck(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
        """Pods that back off are deleted, so that their successors try again at once; other pods only need time."""
        return [Delete(f"{PODS}/{pod}") for pod in ctx.facts.one(fact)["stuck"]]

    return Step(
        fact.step,
        "master",
        lambda ctx: fact.api(_read, PODS),
        want,
        restart_stuck,
        read=read,
        settle_seconds=lambda site: site.deadlines.deploy,
        status_text=_pods_status,
        hint="see `kubectl -n dws-system describe replicasets,pods`; deadlines.deploy is the time that the pods have. If a "
        "rule of the cluster rejects the pods, `invoke doctor` shows the command that allows them",
    )


MINIMUM = _step(Fact("deploy", "minimum"), _want_minimum, _read_minimum)
"""The controller and one pod of the webhook: a Workflow needs no more, so the proof does not wait for the others."""

AVAILABLE = replace(
    _step(FACT, _want_available, _read_available), accepted_as=accepted_available, accepted_is_degraded=True
)
"""Both deployments, with all their pods."""
