"""The logs of DWS's containers, through the Kubernetes API: past entries and new ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dws_on_csm.commands.logs.entries import MAX_SKEW, Clock, Entry, pod_log_entries, slurmctld_pod_entries
from dws_on_csm.config.site import Host
from dws_on_csm.domain import names
from dws_on_csm.kube.api_call import NOT_FOUND
from dws_on_csm.kube.client import Cluster
from dws_on_csm.kube.pods import running
from dws_on_csm.model.cluster_api import ClusterError
from dws_on_csm.model.errors import READ_ERRORS, error_text

PODS = f"/api/v1/namespaces/{names.NAMESPACE}/pods"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
STREAMS = 6
"""Most containers to read at the same time: sshd allows ten sessions on a connection."""
LIFETIME = 24 * 3600.0
COARSE = 2.0
"""Seconds that a node's clock may differ without a correction: the API server notes a node's lease in whole seconds."""
IGNORED = ("kube-rbac-proxy",)
"""Containers that log nothing about Workflows."""


@dataclass(frozen=True)
class PodLog:
    """A container's log; `source`: its name for people; `restarts`: how often it restarted.

    slurm   whether it is slurmctld's, in a pod of the site file, not one of DWS
    """

    pod: str
    container: str
    source: str
    node: str
    restarts: int
    running: bool
    path: str = PODS
    slurm: bool = False

    def lines(self, cluster: Cluster, since: float, follow: bool, previous: bool = False) -> Iterator[str | None]:
        """Its lines with time stamps from `since` on (seconds since 1970, the node's clock). Raises ClusterError."""
        at = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        query = {"container": self.container, "timestamps": "true", "sinceTime": at}
        query |= {"follow": "true"} if follow else {}
        query |= {"previous": "true"} if previous else {}
        return cluster.lines(f"{self.path}/{self.pod}/log", LIFETIME if follow else 60.0, **query)


def containers(cluster: Cluster, controllers: Sequence[Host] = ()) -> list[PodLog]:
    """The started containers: those of controllers in pods, then DWS's, its controller manager first. Raises ClusterError."""
    pods = (cluster.get(PODS) or {"items": []})["items"]
    logs = [log for pod in pods for log in _of_pod(pod)]
    ours = sorted(logs, key=lambda log: (not log.pod.startswith(names.CONTROLLER), log.source))
    return [*(log for host in controllers for log in _of_controller(cluster, host)), *ours]


def _of_controller(cluster: Cluster, host: Host) -> Iterator[PodLog]:
    assert host.pod is not None
    for pod in running(cluster, host.pod):
        for state in pod["status"].get("containerStatuses", ()):
            if state["name"] == host.pod.container:
                path = f"/api/v1/namespaces/{host.pod.namespace}/pods"
                node, alive = pod["spec"].get("nodeName", ""), "running" in state["state"]
                name = pod["metadata"]["name"]
                yield PodLog(name, state["name"], host.name, node, state["restartCount"], alive, path, slurm=True)


def _of_pod(pod: Mapping[str, Any]) -> Iterator[PodLog]:
    name, node = pod["metadata"]["name"], pod["spec"].get("nodeName", "")
    short = name.removeprefix("dws-").removeprefix("controller-").split("-")[0]
    states = [state for state in pod.get("status", {}).get("containerStatuses", ()) if state["name"] not in IGNORED]
    for state in states:
        if "waiting" in state["state"] and not state["restartCount"]:
            continue
        which = f"/{state['name']}" if len(states) > 1 else ""
        alive = "running" in state["state"]
        yield PodLog(name, state["name"], f"{short}{which}@{node}", node, state["restartCount"], alive)


def past(cluster: Cluster, log: PodLog, since: float, clock: Clock) -> Iterator[Entry]:
    """The entries of a container and of the one before its last restart. Raises ClusterError."""
    if log.restarts:
        yield from _entries(log.lines(cluster, since + clock.ahead, follow=False, previous=True), log, since, clock)
    yield from _entries(log.lines(cluster, since + clock.ahead, follow=False), log, since, clock)


def new_entries(cluster: Cluster, log: PodLog, after: float, clock: Clock) -> Iterator[Entry]:
    """The entries that a container writes after `after`, until it ends. Raises ClusterError."""
    return _entries(log.lines(cluster, after + clock.ahead, follow=True), log, after, clock)


def _entries(lines: Iterator[str | None], log: PodLog, after: float, clock: Clock) -> Iterator[Entry]:
    """Entries later than `after`: the API takes whole seconds only. A pod that is gone meanwhile has none."""
    parse = slurmctld_pod_entries if log.slurm else pod_log_entries
    try:
        for entry in parse(lines, log.source, clock):
            if entry and entry.at > after:
                yield entry
    except ClusterError as error:
        if error.status != NOT_FOUND:
            raise


def node_clocks(cluster: Cluster, master: float, nodes: Sequence[str]) -> dict[str, Clock]:
    """The clocks of these nodes; `master`: how far the API server's host is ahead. Raises ClusterError.

    Nothing is run on a node: its kubelet writes the time into its lease, and the API server notes when it did.
    """
    leases = (cluster.get(LEASES) or {"items": []})["items"]
    ahead = {lease["metadata"]["name"]: clock_ahead(lease) for lease in leases}
    return {node: Clock(round(master + ahead.get(node, 0.0), 3)) for node in nodes}


def clock_ahead(lease: Mapping[str, Any]) -> float:
    """Seconds by which the kubelet's clock is ahead of the API server's, by the kubelet's Lease; 0.0 where that is unknown."""
    fields = [
        entry
        for entry in lease["metadata"].get("managedFields", ())
        if entry.get("manager") == "kubelet" and "time" in entry
    ]
    if not fields or "renewTime" not in lease["spec"]:
        return 0.0
    noted = max(datetime.fromisoformat(entry["time"]).timestamp() for entry in fields) + 0.5  # its half second is lost
    ahead = datetime.fromisoformat(lease["spec"]["renewTime"]).timestamp() - noted
    return ahead if COARSE < abs(ahead) < MAX_SKEW else 0.0


def readable_containers(
    cluster: Cluster, note: Callable[[str], None], controllers: Sequence[Host] = ()
) -> list[PodLog]:
    """The containers whose logs are read; notes those that are not, and why. A site without DWS has none."""
    try:
        logs = containers(cluster, controllers)
    except READ_ERRORS as error:
        note(f"DWS's pods cannot be listed: {error_text(error)}")
        return []
    if not [log for log in logs if not log.slurm]:
        note(f"the namespace {names.NAMESPACE} has no pods of DWS")
    if len(logs) > STREAMS:
        pods = ", ".join(log.pod for log in logs[STREAMS:])
        note(f"not read: {pods}. At most {STREAMS} containers can be read at the same time")
    return logs[:STREAMS]
