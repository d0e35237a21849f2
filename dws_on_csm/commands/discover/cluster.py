"""What the Kubernetes API shows of a site: masters, workers, DWS, the registry's Secret, and each Slurm that runs in pods."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dws_on_csm.config.site import Pod
from dws_on_csm.domain import managers, names
from dws_on_csm.kube import pods
from dws_on_csm.model.cluster_api import Cluster, ClusterError
from dws_on_csm.stages.dws import external, installed
from dws_on_csm.stages.facts import ClusterState
from dws_on_csm.stages.pod import discover as pod_state
from dws_on_csm.stages.preflight import cluster as cluster_state

Json = Mapping[str, Any]

LABELS = ("app", "app.kubernetes.io/name")
"""The labels by which CSM's chart and its Slurm operator mark slurmctld's pods."""

NNF = "nnf.cray.hpe.com"
"""The API group of Near-node-flash (api/ of nnf-sos)."""

SLURMCTLD = "slurmctld"
_MARKS = (SLURMCTLD, f"{SLURMCTLD}-backup")
_NAME = re.compile(rf"(?:(?P<cluster>.+)-)?{SLURMCTLD}(?P<backup>-backup)?")
_BINDING = f"{names.RBAC}/clusterrolebindings/{names.BINDING}"
_CONTROL_PLANE = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")


@dataclass(frozen=True)
class Slurmctld:
    """A slurmctld in a pod: how a site file selects it, and what it belongs to.

    workload   KIND NAMESPACE/NAME
    running    each running pod: "NAME on NODE"
    manager    who reverts changes of the workload; "" for nobody
    templates  NAMESPACE/NAME of what slurm.conf is rendered from, and `job` of the Job that does it; "" where nothing does
    files      the ConfigMap that has slurm.conf, NAMESPACE/NAME; "" for none
    """

    name: str
    pod: Pod
    workload: str
    running: tuple[str, ...] = ()
    manager: str = ""
    templates: str = ""
    job: str = ""
    files: str = ""


@dataclass(frozen=True)
class PodSlurm:
    """A Slurm cluster whose slurmctlds run in pods, the primary first. `name`: what --cluster takes."""

    name: str
    controllers: tuple[Slurmctld, ...]


@dataclass(frozen=True)
class View:
    """What the cluster shows.

    state       versions and workers, as the preflight reads them
    masters     the nodes of the control plane
    dws         the installation of DWS where this tool deploys it; proxy: the tag of its kube-rbac-proxy
    external    the DWS of the cluster, wherever it is
    rabbit      whether Near-node-flash is there, whose installers deploy DWS
    registries  the registries in the names of images of workloads, the most frequent first
    secrets     Secrets that may have a registry's user and password, NAMESPACE/NAME; their contents were not read
    bound       names of users in the plugin's binding
    slurms      each Slurm in pods
    """

    state: ClusterState
    masters: tuple[str, ...]
    dws: installed.Installed
    external: external.External
    rabbit: bool
    proxy: str
    registries: tuple[str, ...]
    secrets: tuple[str, ...]
    bound: tuple[str, ...]
    slurms: tuple[PodSlurm, ...]


def read(cluster: Cluster) -> View:
    """The view of the whole cluster. Raises ClusterError."""
    workloads = [
        {**item, "kind": kind}
        for kind, plural in (("Deployment", "deployments"), ("StatefulSet", "statefulsets"))
        for item in (cluster.get(f"/apis/apps/v1/{plural}") or {"items": []})["items"]
    ]
    nodes = [node["metadata"] for node in (cluster.get("/api/v1/nodes") or {"items": []})["items"]]
    labels = {meta["name"]: meta.get("labels") or {} for meta in nodes}
    dws = cluster.get(installed.TRACES[f"Deployment {names.CONTROLLER}"])
    subjects = (cluster.get(_BINDING) or {}).get("subjects") or ()
    return View(
        state=cluster_state.read(cluster),
        masters=tuple(sorted(name for name, has in labels.items() if any(mark in has for mark in _CONTROL_PLANE))),
        dws=installed.read(cluster),
        external=external.read(cluster),
        rabbit=cluster.get(f"/apis/{NNF}") is not None,
        proxy=_proxy_tag(dws),
        registries=_registries(workloads),
        secrets=_secrets(cluster),
        bound=tuple(sorted(subject["name"] for subject in subjects if subject.get("kind") == "User")),
        slurms=slurms(cluster, workloads),
    )


def _proxy_tag(deployment: Json | None) -> str:
    """The tag of kube-rbac-proxy in the Deployment of DWS; "" where it has none."""
    spec = (deployment or {}).get("spec", {}).get("template", {}).get("spec", {})
    images = (names.image_parts(container.get("image", "")) for container in spec.get("containers") or ())
    return next((tag for repository, tag in images if repository.endswith("/kube-rbac-proxy")), "")


def _registries(workloads: Iterable[Json]) -> tuple[str, ...]:
    hosts = Counter[str]()
    for workload in workloads:
        for container in _spec(workload).get("containers") or ():
            host, slash, _ = str(container.get("image", "")).partition("/")
            if slash and ("." in host or ":" in host):
                hosts[host] += 1
    return tuple(host for host, _ in hosts.most_common(5))


def _secrets(cluster: Cluster) -> tuple[str, ...]:
    """Secrets whose names are those of a registry's credential, by their metadata alone."""
    default = "nexus-admin-credential"
    try:
        here = {meta["name"] for meta in cluster.metadata("/api/v1/namespaces/nexus/secrets")}
        if default in here:
            return (f"nexus/{default}",)
        metas = cluster.metadata("/api/v1/secrets")
    except ClusterError:
        return ()  # whoever may not list Secrets is asked for the name
    named = [f"{meta['namespace']}/{meta['name']}" for meta in metas if _CREDENTIAL.search(meta["name"])]
    return tuple(sorted(named))[:5]


_CREDENTIAL = re.compile(r"(nexus|registry|harbor|artifactory).*(admin|cred|push|password)")


# --- Slurm in pods


def slurms(cluster: Cluster, workloads: Sequence[Json]) -> tuple[PodSlurm, ...]:
    """The Slurms whose slurmctld runs in pods of these Deployments and StatefulSets. Raises ClusterError."""
    members: dict[tuple[str, str], list[tuple[bool, Json]]] = {}
    for workload in _of_slurmctld(workloads):
        meta = workload["metadata"]
        named = _NAME.fullmatch(meta["name"])
        cluster_name = (named["cluster"] or "") if named else meta["name"]
        backup = bool(named and named["backup"])
        members.setdefault((meta["namespace"], cluster_name), []).append((backup, workload))
    short = Counter(name or namespace for namespace, name in members)
    found = []
    for (namespace, name), group in members.items():
        ordered = [workload for _, workload in sorted(group, key=lambda item: (item[0], item[1]["metadata"]["name"]))]
        controllers = [entry for workload in ordered for entry in _slurmctlds(cluster, workload, workloads)]
        unique = name or namespace
        unique = unique if short[unique] == 1 else "-".join(filter(None, (namespace, name)))
        found.append(PodSlurm(unique, tuple(controllers)))
    return tuple(sorted(found, key=lambda slurm: slurm.name))


def _spec(workload: Json) -> Json:
    spec: Json = workload["spec"]["template"].get("spec") or {}
    return spec


def _labels(workload: Json) -> Json:
    labels: Json = (workload["spec"]["template"].get("metadata") or {}).get("labels") or {}
    return labels


def _of_slurmctld(workloads: Sequence[Json]) -> list[Json]:
    """Those with a container slurmctld; in a namespace that has none of them, those with its label and one container."""
    surely = [workload for workload in workloads if SLURMCTLD in _containers(workload)]
    spaces = {workload["metadata"]["namespace"] for workload in surely}
    labelled = [
        workload
        for workload in workloads
        if workload["metadata"]["namespace"] not in spaces
        and len(_containers(workload)) == 1
        and any(_labels(workload).get(key) in _MARKS for key in LABELS)
    ]
    return [*surely, *labelled]


def _containers(workload: Json) -> list[str]:
    return [container["name"] for container in _spec(workload).get("containers") or ()]


def _slurmctlds(cluster: Cluster, workload: Json, workloads: Sequence[Json]) -> list[Slurmctld]:
    """The slurmctlds of a workload: one, or one for each pod of a StatefulSet that has several."""
    name, count = workload["metadata"]["name"], workload["spec"].get("replicas", 1)
    if workload["kind"] == "StatefulSet" and count > 1:
        each = [f"{name}-{number}" for number in range(count)]
        return [_slurmctld(cluster, workload, pod, f"statefulset.kubernetes.io/pod-name={pod}") for pod in each]
    return [_slurmctld(cluster, workload, name, selector(workload, workloads))]


def selector(workload: Json, workloads: Sequence[Json]) -> str:
    """The labels that select the pods of this workload and of no other one in its namespace: CSM's own label, where that does."""
    space = workload["metadata"]["namespace"]
    others = [
        _labels(other)
        for other in workloads
        if other["metadata"]["namespace"] == space and other["metadata"]["name"] != workload["metadata"]["name"]
    ]
    mine = _labels(workload)
    for key in LABELS:
        if key in mine and not any(other.get(key) == mine[key] for other in others):
            return f"{key}={mine[key]}"
    wanted = workload["spec"].get("selector", {}).get("matchLabels") or mine
    return ",".join(f"{key}={value}" for key, value in sorted(wanted.items()))


def _slurmctld(cluster: Cluster, workload: Json, name: str, selects: str) -> Slurmctld:
    meta = workload["metadata"]
    containers = _containers(workload)
    container = SLURMCTLD if SLURMCTLD in containers else containers[0]
    pod = Pod(meta["namespace"], selects, container)
    state = pod_state.read(cluster, pod)
    config = state.get("config_map")
    rendered = config["generated"] if config else None
    return Slurmctld(
        name=name,
        pod=pod,
        workload=f"{workload['kind']} {meta['namespace']}/{meta['name']}",
        running=tuple(_where(running) for running in pods.running(cluster, pod)),
        manager=managers.manager(workload),
        templates=rendered["templates"] if rendered else "",
        job=rendered["job"] if rendered else "",
        files=f"{meta['namespace']}/{config['name']}" if config else "",
    )


def _where(pod: Json) -> str:
    node = pod["spec"].get("nodeName")
    return f"{pod['metadata']['name']} on {node}" if node else str(pod["metadata"]["name"])
