"""A slurmctld in a pod: where its /etc/slurm comes from, and which of its volumes outlive the pod.

A file that is copied into a pod dies with it. So the plugin and slurm.conf are keys of the ConfigMap that the pod has as
its /etc/slurm, the kubeconfig is a key of a Secret, and one projected volume shows the pod both in the same folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NotRequired, TypedDict

from dws_on_csm.config.site import Pod, Site
from dws_on_csm.domain import managers, names
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
    """The ConfigMap that has slurm.conf; manager: as that of a workload; generated: what renders it, None for nothing;
    kubeconfig: whether it has the plugin's kubeconfig, which holds no secret then."""

    name: str
    path: str
    manager: str
    immutable: bool
    generated: Generated | None
    kubeconfig: NotRequired[bool]


class Secret(TypedDict):
    """The Secret that has the kubeconfig, and whether the pod's template mounts it already.

    required   whether no pod starts without it then
    """

    name: str
    key: str
    mounted: bool
    required: NotRequired[bool]


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
    account     its ServiceAccount, NAMESPACE/NAME
    sharing     other running pods of the namespace that have the same ServiceAccount, where that is the one of pods that name none
    token       whether the container has the token of that
    kubectl     where the container has our mount of its worker's kubectl, "" for nowhere
    volumes, container_mounts   volumes of the template, and mounts of its container, as the API has them
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
    account: NotRequired[str]
    sharing: NotRequired[list[str]]
    token: NotRequired[bool]
    kubectl: NotRequired[str]
    volumes: NotRequired[list[dict[str, Any]]]
    container_mounts: NotRequired[list[dict[str, Any]]]


KUBECTL_VOLUME = "dws-on-csm-kubectl"
"""The name of our volume with the worker's kubectl."""

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


def generator(config_map: ConfigMap) -> Generated | None:
    """What generates the ConfigMap; None where nothing does, or its Job is unknown: then the ConfigMap itself is edited."""
    known = config_map["generated"]
    return known if known and known["job"] else None


def config_map(ctx: StepContext) -> ConfigMap:
    """The ConfigMap that has slurm.conf. Raises NotYetKnown without one, as `workload` does."""
    if (have := state(ctx).get("config_map")) is None:
        raise NotYetKnown(FACT.stage)
    return have


# --- the look


def look(ctx: StepContext) -> ApiLook:
    """The look of the check `pod`; `read` says what it returns, besides `sharing`."""
    pod = pod_of(ctx)
    assert pod is not None
    return FACT.api(lambda cluster: _with_sharing(cluster, pod, read(cluster, pod)))


def read(cluster: Cluster, pod: Pod) -> PodState:
    """The state of the pod. Raises ClusterError."""
    running = pods.running(cluster, pod)
    if len(running) != 1:
        return {"pod": ""}
    running_pod = running[0]
    workload, owner = _workload(cluster, pod.namespace, running_pod)
    spec = workload["spec"]["template"]["spec"] if workload else running_pod["spec"]
    volume, subpaths, files = _mounted(spec, pod.container)
    mounts = _container_mounts(spec, pod.container)
    return {
        "pod": running_pod["metadata"]["name"],
        "workload": _describe_workload(workload) if workload else None,
        "owner": owner,
        "volume": volume,
        "subpaths": subpaths,
        "config_map": _config_map(cluster, pod, volume or files),
        "secret": _secret(volume, workload),
        "group": str(spec.get("securityContext", {}).get("fsGroup", "")),
        "mounts": mount_lifetimes(running_pod["spec"], spec, pod.container),
        "account": f"{pod.namespace}/{_account(running_pod)}",
        "token": _has_token(running_pod["spec"], pod.container),
        "kubectl": next((mount["mountPath"] for mount in mounts if mount["name"] == KUBECTL_VOLUME), ""),
        "volumes": list(spec.get("volumes") or ()),
        "container_mounts": mounts,
    }


DEFAULT_ACCOUNT = "default"
"""The ServiceAccount of a pod that names none."""


def _account(pod: Json) -> str:
    name: str = pod["spec"].get("serviceAccountName") or DEFAULT_ACCOUNT
    return name


def _with_sharing(cluster: Cluster, pod: Pod, have: PodState) -> PodState:
    if have.get("account") != f"{pod.namespace}/{DEFAULT_ACCOUNT}":
        return have
    found = cluster.get(f"/api/v1/namespaces/{pod.namespace}/pods", fieldSelector="status.phase=Running") or {
        "items": []
    }
    sharing = [item["metadata"]["name"] for item in found["items"] if _account(item) == DEFAULT_ACCOUNT]
    return {**have, "sharing": sorted(name for name in sharing if name != have["pod"])}


def _has_token(spec: Json, container: str) -> bool:
    """Whether a pod's container has a volume where the ServiceAccount's token belongs: admission adds it to the pod itself."""
    mounts = _container_mounts(spec, container)
    return any(mount["mountPath"].rstrip("/") == names.ACCOUNT_FOLDER for mount in mounts)


def _container_mounts(spec: Json, container: str) -> list[dict[str, Any]]:
    """The mounts of a container, as the spec of its pod or template has them."""
    mine: Json = next((entry for entry in spec["containers"] if entry["name"] == container), {})
    return list(mine.get("volumeMounts") or ())


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
    return [
        [mount["mountPath"], _lifetime(volumes.get(mount["name"]) or {}, bool(bound))]
        for mount in _container_mounts(spec, container)
    ]


def _lifetime(volume: Json, bound: bool) -> str:
    passing = next((kind for kind in _EPHEMERAL if kind in volume), "")
    return passing or (SAME_ON_NODE if "hostPath" in volume and not bound else SAME)


_OWNERS = {"ReplicaSet": "replicasets", "Deployment": "deployments", "StatefulSet": "statefulsets"}


def _workload(cluster: Cluster, namespace: str, pod: Json) -> tuple[Json | None, str]:
    """The Deployment or StatefulSet that made the pod, or what else it belongs to, in words."""
    owner = managers.controlling_owner(pod)
    while owner and owner["kind"] in _OWNERS:
        path = _path(namespace, owner["kind"], owner["name"])
        thing = cluster.get(path)
        if thing is not None and owner["kind"] != "ReplicaSet":
            return {**thing, "kind": owner["kind"]}, ""
        owner = managers.controlling_owner(thing) if thing else None
    return None, f"{owner['kind']}/{owner['name']}" if owner else "nothing"


def _path(namespace: str, kind: str, name: str) -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/{_OWNERS[kind]}/{name}"


def _describe_workload(workload: Json) -> Workload:
    spec, meta = workload["spec"], workload["metadata"]
    strategy = spec.get("strategy") or spec.get("updateStrategy") or {}
    return {
        "kind": workload["kind"],
        "name": meta["name"],
        "path": _path(meta["namespace"], workload["kind"], meta["name"]),
        "manager": managers.manager(workload),
        "strategy": strategy.get("type", ""),
    }


def _mounted(spec: Json, container: str) -> tuple[dict[str, Any] | None, list[str], dict[str, Any] | None]:
    """The volume that is the folder, the mounts with a subPath in it, and the volume that the first of those is of."""
    mounts = [
        mount
        for mount in _container_mounts(spec, container)
        if f"{mount['mountPath'].rstrip('/')}/".startswith(f"{FOLDER}/")
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


def volume_sources(volume: Json | None) -> list[dict[str, Any]]:
    """What a volume is made of, as a projected volume has it: [{"configMap": {...}}, {"secret": {...}}]."""
    if volume and "projected" in volume:
        return list(volume["projected"].get("sources") or ())
    if volume and "configMap" in volume:
        return [{"configMap": {key: value for key, value in volume["configMap"].items() if key != "defaultMode"}}]
    return []


def listed_files(volume: Json | None, name: str) -> set[str] | None:
    """The files that a volume lists of ConfigMap `name`, by name in the volume: a key that is added to the ConfigMap does not
    reach the pod. None where it has all keys."""
    mine = [source["configMap"] for source in volume_sources(volume) if source.get("configMap", {}).get("name") == name]
    if not all(source.get("items") for source in mine):
        return None
    return {item["path"] for source in mine for item in source["items"]}


def _config_map(cluster: Cluster, pod: Pod, volume: Json | None) -> ConfigMap | None:
    for source in volume_sources(volume):
        name = source.get("configMap", {}).get("name")
        path = f"/api/v1/namespaces/{pod.namespace}/configmaps/{name}"
        thing = cluster.get(path) if name else None
        if thing and "slurm.conf" in (thing.get("data") or {}):
            return {
                "name": name,
                "path": path,
                "manager": managers.manager(thing),
                "immutable": bool(thing.get("immutable")),
                "generated": generated.find(cluster, pod, name),
                "kubeconfig": FILE in thing["data"],
            }
    return None


def _secret(volume: Json | None, workload: Json | None) -> Secret:
    for source in volume_sources(volume):
        for item in source.get("secret", {}).get("items") or ():
            if item["path"] == FILE:
                required = not source["secret"].get("optional")
                return {"name": source["secret"]["name"], "key": item["key"], "mounted": True, "required": required}
    return {
        "name": f"{workload['metadata']['name'] if workload else 'slurmctld'}{SUFFIX}",
        "key": KEY,
        "mounted": False,
    }
