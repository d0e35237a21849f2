"""slurmctld in a pod of the lab's cluster: its manifests, and its state."""

import datetime
from base64 import b64encode
from pathlib import Path
from typing import Any

import yaml

from lab import cluster, slurm
from lab.layer import fill
from lab.model import POD_HOST, Lab
from lab.slurm_image import IMAGE

POD = {"namespace": "user", "selector": "app=slurmctld", "container": "slurmctld"}
"""The pod as a site file names a controller."""
DEPLOYMENT = Path(__file__).with_name("slurmctld.yaml")
PODS = "/api/v1/namespaces/user/pods?labelSelector=app%3Dslurmctld"


def manifests(lab: Lab) -> str:
    """The YAML that `kubectl apply -f -` takes; "" for a lab whose slurmctld runs on hosts."""
    if not lab.options.slurmctld_pod:
        return ""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "user"}}
    files = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _meta("slurm-conf"), "data": slurm.configuration(lab)}
    data = {"munge.key": b64encode(slurm.munge_key(lab)).decode()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": _meta("munge-key"), "type": "Opaque", "data": data}
    deployment = fill(DEPLOYMENT.read_text(), {"NODE": POD_HOST, "IMAGE": IMAGE})
    return yaml.safe_dump_all([namespace, files, secret], explicit_start=True) + deployment


def wait(lab: Lab, since: datetime.datetime | None, deadline: float = 180) -> None:
    """Returns when the pod is Ready with a container that was started after `since`, if given; TimeoutError says why."""
    cluster.await_none(lambda: problem(lab, since), "slurmctld's pod is not Ready", deadline)


def problem(lab: Lab, since: datetime.datetime | None = None) -> str:
    """What is wrong with the pod, "" when nothing is; a container from before `since` is none."""
    status, answer = cluster.look(lab, PODS)
    return judge(answer["items"], since) if status == 200 else str(answer.get("message", status))


def judge(pods: list[dict[str, Any]], since: datetime.datetime | None = None) -> str:
    """What is wrong with the pods that the label selects, of which there should be one, Ready; "" when nothing is."""
    living = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    if len(living) != 1:
        return f"{len(living)} pods app=slurmctld in namespace user, not one"
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
