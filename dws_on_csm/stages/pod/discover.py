"""A slurmctld in a pod: where its /etc/slurm comes from, and which of its volumes outlive the pod.

A file that is copied into a pod dies with it. So the plugin and slurm.conf are keys of the ConfigMap that the pod has as
its /etc/slurm, the kubeconfig is a key of a Secret, and one projected volume shows the pod both in the same folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NotRequired, TypedDict

from dws_on_csm.config.site import Pod, Site
from dws_on_csm.domain import names
from dws_on_csm.kube import pods
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.step import ApiLook, Fact, NotYetKnown, StepContext, Value
from dws_on_csm.stages.pod import generated
from dws_on_csm.stages.pod.generated import Generated

Json = Mapping[str, Any]


class Workload(TypedDict):
    """The Deployment or StatefulSet that made a pod; manager: who reverts changes made to it, "" for nobody."""

    kind: str
    name: str
    path: str
    manager: str
    strategy: str


class ConfigMap(TypedDict):
    """The ConfigMap that has slurm.conf; manager: as that of a workload; generated: what renders it, None for nothing."""

    name: str
    path: str
    manager: str
    immutable: bool
    generated: Generated | None


class Secret(TypedDict):
    """The Secret that has the kubeconfig, and whether the pod's template mounts it already."""

    name: str
    key: str
    mounted: bool


class PodState(TypedDict):
    """A slurmctld's pod, what it is made of, and where its /etc/slurm comes from.

    pod         its name; "" where none runs, or several do: then nothing else is known
    workload    what made it; None where that is neither a Deployment nor a StatefulSet
    owner       KIND/NAME of what the pod belongs to then
    volume      the volume that the pod has as /etc/slurm, as its template has it; None where there is none
    subpaths    mounts with a subPath in /etc/slurm
    config_map  None where none has slurm.conf
    group       securityContext.fsGroup, "" where it isn't set
    mounts      [path in the container, what the next pod finds there: see `mount_lifetimes`] of each mounted volume
    """

    pod: str
    workload: NotRequired[Workload | None]
    owner: NotRequired[str]
    volume: NotRequired[dict[str, Any] | None]
    subpaths: NotRequired[list[str]]
    config_map: NotRequired[ConfigMap | None]
    secret: NotRequired[Secret]
    group: NotRequired[str]
    mounts: NotRequired[list[list[str]]]


FACT: Fact[PodState] = Fact("preflight", "pod")
"""The first look of a run."""
MOUNT: Fact[PodState] = Fact("pod", "mount")
"""The look of the step that may change the mount."""

SETTLE = 150.0
"""Seconds within which a kubelet updates a pod's files even if `files.refresh` does not reach it."""

PLUGIN = (names.PLUGIN_LUA, names.PLUGIN_CONF)
FOLDER, FILE = (str(PurePosixPath(names.KUBECONFIG).parent), PurePosixPath(names.KUBECONFIG).name)
SUFFIX = "-slurm-dws"
"""The name of our Secret is the workload's with this suffix."""
KEY = "kubeconfig"
"""The Secret's key."""


def pod_of(ctx: StepContext) -> Pod | None:
    """The pod of this controller in the site file; None for a host."""
    return next((host.pod for host in ctx.site.controllers if host.name == ctx.host), None)


def without_mode_in_pod(ctx: StepContext, file: dict[str, Value]) -> dict[str, Value]:
    """The facts of a file; in a pod without mode and owner, which its volume decides."""
    return {key: value for key, value in file.items() if not (pod_of(ctx) and key in ("mode", "owner"))}


def settle_seconds(otherwise: float) -> Callable[[Site], float]:
    """The seconds that a changed file may need to take effect: longer in a pod, else `otherwise`."""
    return lambda site: SETTLE if any(host.pod for host in site.controllers) else otherwise


def state(ctx: StepContext) -> PodState:
    """The last look's result on this controller. Raises NotYetKnown before there is one."""
    if ctx.host in (mounted := ctx.facts.known(MOUNT)):
        return mounted[ctx.host]
    return ctx.facts.on(FACT, ctx.host)


def workload(ctx: StepContext) -> Workload:
    """The pod's workload. Raises NotYetKnown without one: a finding says so, and what would follow is unknown."""
    if (have := state(ctx).get("workload")) is None:
        raise NotYetKnown(FACT.stage)
    return have


def config_map(ctx: StepContext) -> ConfigMap:
    """The ConfigMap that has slurm.conf. Raises NotYetKnown without one, as `workload` does."""
    if (have := state(ctx).get("config_map")) is None:
        raise NotYetKnown(FACT.stage)
    return have


# --- the look


def look(ctx: StepContext) -> ApiLook:
    """The look of the check `pod`; `read` says what it returns."""
    pod = pod_of(ctx)
    assert pod is not None
    return FACT.api(lambda cluster: read(cluster, pod))


def read(cluster: Cluster, pod: Pod) -> PodState:
    """The state of the pod. Raises ClusterError."""
    running = pods.running(cluster, pod)
    if len(running) != 1:
        return {"pod": ""}
    running_pod = running[0]
    workload, owner = _workload(cluster, pod.namespace, running_pod)
    spec = workload["spec"]["template"]["spec"] if workload else running_pod["spec"]
    volume, subpaths, files = _mounted(spec, pod.container)
    return {
        "pod": running_pod["metadata"]["name"],
        "workload": _describe_workload(workload) if workload else None,
        "owner": owner,
        "volume": volume,
        "subpaths": subpaths,
        "config_map": _config_map(cluster, pod.namespace, volume or files),
        "secret": _secret(volume, workload),
        "group": str(spec.get("securityContext", {}).get("fsGroup", "")),
        "mounts": mount_lifetimes(running_pod["spec"], spec, pod.container),
    }


SAME, SAME_ON_NODE = "the same", "the same on the same node"
"""What the next pod finds in a volume; otherwise the kind of volume that does not outlive its pod."""
_EPHEMERAL = ("emptyDir", "ephemeral", "configMap", "secret", "projected", "downwardAPI")
"""Kinds of volumes in which nothing that a pod wrote outlives it."""


def mount_lifetimes(spec: Json, template: Json, container: str) -> list[list[str]]:
    """The mounts of a pod's container, each with what the next pod of its template finds there.

    spec   of the pod itself: a StatefulSet's template does not name the volumes of its claims
    """
    bound = template.get("nodeName") or "kubernetes.io/hostname" in (template.get("nodeSelector") or {})
    volumes = {volume["name"]: volume for volume in spec.get("volumes") or ()}
    mine: Json = next((entry for entry in spec["containers"] if entry["name"] == container), {})
    return [
        [m["mountPath"], _lifetime(volumes.get(m["name"]) or {}, bool(bound))] for m in mine.get("volumeMounts") or ()
    ]


def _lifetime(volume: Json, bound: bool) -> str:
    passing = next((kind for kind in _EPHEMERAL if kind in volume), "")
    return passing or (SAME_ON_NODE if "hostPath" in volume and not bound else SAME)


_OWNERS = {"ReplicaSet": "replicasets", "Deployment": "deployments", "StatefulSet": "statefulsets"}


def _workload(cluster: Cluster, namespace: str, pod: Json) -> tuple[Json | None, str]:
    """The Deployment or StatefulSet that made the pod, or what else it belongs to, in words."""
    owner = _controller(pod)
    while owner and owner["kind"] in _OWNERS:
        path = _path(namespace, owner["kind"], owner["name"])
        thing = cluster.get(path)
        if thing is not None and owner["kind"] != "ReplicaSet":
            return {**thing, "kind": owner["kind"]}, ""
        owner = _controller(thing) if thing else None
    return None, f"{owner['kind']}/{owner['name']}" if owner else "nothing"


def _path(namespace: str, kind: str, name: str) -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/{_OWNERS[kind]}/{name}"


def _controller(child: Json) -> Json | None:
    return next((owner for owner in child["metadata"].get("ownerReferences", ()) if owner.get("controller")), None)


def _describe_workload(workload: Json) -> Workload:
    spec, meta = workload["spec"], workload["metadata"]
    strategy = spec.get("strategy") or spec.get("updateStrategy") or {}
    return {
        "kind": workload["kind"],
        "name": meta["name"],
        "path": _path(meta["namespace"], workload["kind"], meta["name"]),
        "manager": manager(workload),
        "strategy": strategy.get("type", ""),
    }


def manager(resource: Json) -> str:
    """The name of what reverts changes made to an object; "" for nothing."""
    meta = resource["metadata"]
    if owner := _controller(resource) or next(iter(meta.get("ownerReferences") or ()), None):
        return f"{owner['kind']} {owner['name']}"
    return managed_by(meta)


_MARKS = (
    ("labels", "helm.toolkit.fluxcd.io/name", "Flux HelmRelease"),  # before Helm's own, which is there too
    ("annotations", "meta.helm.sh/release-name", "Helm release"),
    ("labels", "kustomize.toolkit.fluxcd.io/name", "Flux Kustomization"),
    ("annotations", "argocd.argoproj.io/tracking-id", "Argo CD application"),
    ("labels", "argocd.argoproj.io/instance", "Argo CD application"),
)
"""Where each manager notes its name on an object, by its own documentation."""


def managed_by(meta: Mapping[str, Any]) -> str:
    """The release or delivery that manages the object with this metadata, by its marks; "" for none."""
    for where, key, manager_kind in _MARKS:
        if name := (meta.get(where) or {}).get(key):
            return f"{manager_kind} {name.partition(':')[0]}"  # Argo CD's mark has the object's own name after it
    if (meta.get("labels") or {}).get("app.kubernetes.io/managed-by") == "Helm":
        return "Helm"
    # Argo CD may know an object by a label that others use too: the writers show it then
    writers = {entry.get("manager", "") for entry in meta.get("managedFields") or ()}
    return "Argo CD" if any(writer.startswith("argocd-") for writer in writers) else ""


def _mounted(spec: Json, container: str) -> tuple[dict[str, Any] | None, list[str], dict[str, Any] | None]:
    """The volume that is the folder, the mounts with a subPath in it, and the volume that the first of those is of."""
    mine: Json = next((entry for entry in spec["containers"] if entry["name"] == container), {})
    mounts = [
        mount for mount in mine.get("volumeMounts", ()) if f"{mount['mountPath'].rstrip('/')}/".startswith(f"{FOLDER}/")
    ]
    subpaths = [mount["mountPath"] for mount in mounts if mount.get("subPath") or mount.get("subPathExpr")]
    whole = [
        mount["name"]
        for mount in mounts
        if mount["mountPath"].rstrip("/") == FOLDER and mount["mountPath"] not in subpaths
    ]
    pieces = [mount["name"] for mount in mounts if mount["mountPath"] in subpaths]
    return _volume(spec, whole), subpaths, _volume(spec, pieces[:1])


def _volume(spec: Json, names: Sequence[str]) -> dict[str, Any] | None:
    return next((volume for volume in spec.get("volumes", ()) if volume["name"] in names), None)


def sources(volume: Json | None) -> list[dict[str, Any]]:
    """What a volume is made of, as a projected volume has it: [{"configMap": {...}}, {"secret": {...}}]."""
    if volume and "projected" in volume:
        return list(volume["projected"].get("sources") or ())
    if volume and "configMap" in volume:
        return [{"configMap": {key: value for key, value in volume["configMap"].items() if key != "defaultMode"}}]
    return []


def _config_map(cluster: Cluster, namespace: str, volume: Json | None) -> ConfigMap | None:
    for source in sources(volume):
        name = source.get("configMap", {}).get("name")
        path = f"/api/v1/namespaces/{namespace}/configmaps/{name}"
        thing = cluster.get(path) if name else None
        if thing and "slurm.conf" in (thing.get("data") or {}):
            return {
                "name": name,
                "path": path,
                "manager": manager(thing),
                "immutable": bool(thing.get("immutable")),
                "generated": generated.find(cluster, namespace, name),
            }
    return None


def _secret(volume: Json | None, workload: Json | None) -> Secret:
    for source in sources(volume):
        for item in source.get("secret", {}).get("items") or ():
            if item["path"] == FILE:
                return {"name": source["secret"]["name"], "key": item["key"], "mounted": True}
    return {
        "name": f"{workload['metadata']['name'] if workload else 'slurmctld'}{SUFFIX}",
        "key": KEY,
        "mounted": False,
    }
