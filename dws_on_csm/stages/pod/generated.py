"""A ConfigMap that a Job renders from templates, as CSM generates Slurm's files: only a change of the templates lasts.

Two flavours, with the names of CSM's documents: Slurm's chart has its templates in `services` and the result in `user`; the Slurm
operator has those of each of its clusters in `slurm-operator`, with the name of the cluster.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypedDict

from dws_on_csm.config.site import Pod
from dws_on_csm.model.actions import STATE
from dws_on_csm.model.cluster_api import Cluster

OPERATOR = "slurm-operator"
"""The namespace of the Slurm operator."""


class Generated(TypedDict):
    """Where the files of a ConfigMap come from: NAMESPACE/NAME of the ConfigMap with the templates, of the Job ("": none mounts
    these templates), and of the ConfigMap itself. slurm_conf: the template of slurm.conf; None where there is none."""

    templates: str
    job: str
    result: str
    slurm_conf: str | None


def config_map_path(name: str) -> str:
    """The API's path of a ConfigMap NAMESPACE/NAME."""
    return "/api/v1/namespaces/{}/configmaps/{}".format(*name.split("/"))


def job_path(name: str) -> str:
    """The API's path of a Job NAMESPACE/NAME."""
    return "/apis/batch/v1/namespaces/{}/jobs/{}".format(*name.split("/"))


def edit(
    source: Generated,
    keys: Mapping[str, tuple[str | None, str | None]],
    sets: Mapping[str, tuple[str, str | None, str | None]],
    deadline: float,
) -> dict[str, Any]:
    """An edit for templates/pod/pod_edit.py: change keys of the templates, and run the Job where its result differs then.

    keys      key -> its text as seen ("*": any; None: no such key), and as it shall be
    sets      key -> a setting in its file, its value in the result before, and after the edit (None: the file lacks the setting)
    deadline  seconds that a run of the Job may take
    """
    places = {"templates": source["templates"], "job": source["job"], "result": source["result"], "state": STATE}
    return {**places, "keys": dict(keys), "sets": dict(sets), "deadline": deadline}


def reversed_edit(edit: Mapping[str, Any], done: str) -> dict[str, Any]:
    """The edit that undoes `edit`, if the edits of the name `done` changed anything."""
    keys = {key: (value, seen) for key, (seen, value) in edit["keys"].items()}
    sets = {key: (name, after, before) for key, (name, before, after) in edit["sets"].items()}
    return {**edit, "keys": keys, "sets": sets, "after": f"{done}.rendered"}


def find(cluster: Cluster, pod: Pod, name: str) -> Generated | None:
    """What renders the ConfigMap `name` of a pod's namespace; None where there are no templates for it. Raises ClusterError.

    The site file may say it. A Job that is found has to mount these templates: its name alone proves nothing.
    """
    for space, templates in [tuple(pod.templates.split("/"))] if pod.templates else _candidates(name):
        if space == pod.namespace and templates == name:
            continue
        found = cluster.get(f"/api/v1/namespaces/{space}/configmaps/{templates}")
        data = (found or {}).get("data") or {}
        if "slurm.conf" not in data and not pod.templates:
            continue
        job = pod.job or _named(space, _job(cluster, space, templates))
        return {
            "templates": f"{space}/{templates}",
            "job": job if "slurm.conf" in data else "",
            "result": f"{pod.namespace}/{name}",
            "slurm_conf": data.get("slurm.conf"),
        }
    return None


def _named(space: str, name: str) -> str:
    return f"{space}/{name}" if name else ""


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
