"""A ConfigMap that a Job renders from templates, as CSM generates Slurm's files: the next run of the Job undoes a change in it.

Two flavours, with the names of CSM's documents: Slurm's chart has its templates in `services` and the result in `user`; the Slurm
operator has those of each of its clusters in `slurm-operator`, with the name of the cluster.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict

from dws_on_csm.model.cluster_api import Cluster

OPERATOR = "slurm-operator"
"""The namespace of the Slurm operator."""


class Generated(TypedDict):
    """Where the files of a ConfigMap come from: NAMESPACE/NAME of the ConfigMap with the templates, and of the Job."""

    templates: str
    job: str


def find(cluster: Cluster, namespace: str, name: str) -> Generated | None:
    """What renders ConfigMap NAMESPACE/NAME; None where nothing is known to. Raises ClusterError.

    The Job has to mount these templates: its name alone proves nothing.
    """
    for space, templates in _candidates(name):
        if space == namespace and templates == name:
            continue
        found = cluster.get(f"/api/v1/namespaces/{space}/configmaps/{templates}")
        if not found or "slurm.conf" not in (found.get("data") or {}):
            continue
        if job := _job(cluster, space, templates):
            return {"templates": f"{space}/{templates}", "job": f"{space}/{job}"}
    return None


def _candidates(name: str) -> Iterator[tuple[str, str]]:
    """Namespace and name of the templates for a result of this name. The operator's are those of the same Slurm cluster alone."""
    if name.endswith("-slurm-conf"):
        yield OPERATOR, f"{name.removesuffix('-slurm-conf')}-config-templates"
    else:
        yield "services", "slurm-config-templates"


def _job(cluster: Cluster, namespace: str, templates: str) -> str:
    """The name of the newest Job that mounts these templates; "" for none. What imports into them is another one."""
    jobs = (cluster.get(f"/apis/batch/v1/namespaces/{namespace}/jobs") or {"items": []})["items"]
    fitting = [
        job["metadata"]
        for job in jobs
        if "slurm-config" in job["metadata"]["name"] and "import" not in job["metadata"]["name"]
        if templates in _mounted(job["spec"]["template"]["spec"])
    ]
    return str(max(fitting, key=lambda meta: meta.get("creationTimestamp", ""))["name"]) if fitting else ""


def _mounted(spec: dict[str, object]) -> Iterator[str]:
    """The names of the ConfigMaps that a pod mounts."""
    volumes = spec.get("volumes")
    for volume in volumes if isinstance(volumes, list) else ():
        for source in [volume, *(volume.get("projected") or {}).get("sources", ())]:
            if name := (source.get("configMap") or {}).get("name"):
                yield name
