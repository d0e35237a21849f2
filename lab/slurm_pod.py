"""slurmctld in a pod of the lab's cluster: its manifests, and its state."""

import datetime
from base64 import b64encode
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from lab import cluster, csm, slurm
from lab.layer import fill
from lab.model import Host, Lab
from lab.slurm_image import IMAGE

POD = {"namespace": "user", "selector": "app=slurmctld", "container": "slurmctld"}
"""The pod as a site file names a controller."""
DEPLOYMENT = Path(__file__).with_name("slurmctld.yaml")


def manifests(lab: Lab) -> str:
    """The YAML that `kubectl apply -f -` takes; "" for a lab whose slurmctld runs on hosts."""
    if lab.options.csm:
        return csm.manifests(lab)
    if not lab.options.slurmctld_pod:
        return ""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "user"}}
    files = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _meta("slurm-conf"), "data": slurm.configuration(lab)}
    data = {"munge.key": b64encode(slurm.munge_key(lab)).decode()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": _meta("munge-key"), "type": "Opaque", "data": data}
    deployment = fill(DEPLOYMENT.read_text(), {"NODE": lab.slurmctlds[0].name, "IMAGE": IMAGE})
    return yaml.safe_dump_all([namespace, files, secret], explicit_start=True) + deployment


def pods(lab: Lab) -> list[dict[str, Any]]:
    """slurmctld's pods as a site file names controllers, the primary first."""
    return csm.pods(lab) if lab.options.csm else [POD]


def complete(lab: Lab, deadline: float = 60) -> None:
    """Creates what could not be applied with the manifests: a resource whose kind was not served yet."""
    if lab.options.csm != "operator":
        return
    path, resource = csm.CLUSTER_PATH.format(csm.flavour(lab).namespace, ""), csm.slurm_cluster(lab)

    def refused() -> str:
        status, answer = cluster.send(lab, "POST", path.rstrip("/"), resource)
        return "" if status in (201, 409) else str(answer.get("message", status))

    cluster.await_none(refused, "the SlurmCluster is not created", deadline)


def wait(
    lab: Lab, booted: Collection[Host] = (), since: datetime.datetime | None = None, deadline: float = 180
) -> None:
    """Returns when all pods are Ready; those of hosts that were `booted` with a container that was started after `since`.

    TimeoutError says why.
    """
    for number, worker in enumerate(lab.slurmctlds):
        started = since if worker in booted else None
        awaited = f"slurmctld's pod on {worker.name} is not Ready"
        cluster.await_none(partial(problem, lab, number, started), awaited, deadline)


def problem(lab: Lab, number: int = 0, since: datetime.datetime | None = None) -> str:
    """What is wrong with a pod (0: the primary's), "" when nothing is; a container from before `since` is none."""
    pod = pods(lab)[number]
    query = urlencode({"labelSelector": pod["selector"]})
    status, answer = cluster.look(lab, f"/api/v1/namespaces/{pod['namespace']}/pods?{query}")
    return judge(answer["items"], pod, since) if status == 200 else str(answer.get("message", status))


def judge(found: list[dict[str, Any]], pod: dict[str, Any] = POD, since: datetime.datetime | None = None) -> str:
    """What is wrong with the pods that the label selects, of which there should be one, Ready; "" when nothing is."""
    living = [one for one in found if "deletionTimestamp" not in one["metadata"]]
    if len(living) != 1:
        return f"{len(living)} pods {pod['selector']} in namespace {pod['namespace']}, not one"
    containers = living[0]["status"].get("containerStatuses", [])
    states = [container for container in containers if container["name"] == POD["container"]]
    if not states or "running" not in states[0]["state"]:
        return f"container slurmctld does not run: {_reason(living[0], states)}"
    started = datetime.datetime.fromisoformat(states[0]["state"]["running"]["startedAt"])
    if since is not None and started < since:
        return "container slurmctld is not reported as running again"
    return "" if states[0]["ready"] else "slurmctld does not answer scontrol ping"


def _reason(pod: dict[str, Any], states: list[dict[str, Any]]) -> str:
    for state in states:
        for kind in ("waiting", "terminated"):
            if kind in state["state"]:
                return str(state["state"][kind].get("reason", kind))
    return str(pod["status"].get("phase", "no status yet"))


def _meta(name: str) -> dict[str, str]:
    return {"name": name, "namespace": POD["namespace"]}
