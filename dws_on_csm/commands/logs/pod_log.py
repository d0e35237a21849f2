"""What DWS's pods said, through the Kubernetes API: first what is there, then what comes, from pods that come as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dws_on_csm.commands.logs.entries import FAR, Clock, Entry, of_pod, of_slurmctld
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
"""Containers that are read at once: sshd allows ten sessions on a connection."""
LIFETIME = 24 * 3600.0
COARSE = 2.0
"""Seconds that a node's clock may differ without being corrected: the API server notes a node's lease in whole seconds."""
SILENT = ("kube-rbac-proxy",)
"""Containers that say nothing about Workflows."""


@dataclass(frozen=True)
class PodLog:
    """A container's log; `source` is its name for people, `restarts` how often it was started again.

    slurm   whether it is slurmctld's, in a pod that the site file names, and not one of DWS
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
        """Its lines with time stamps, from `since` on (seconds since 1970, the node's clock). Raises ClusterError."""
        at = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        query = {"container": self.container, "timestamps": "true", "sinceTime": at}
        query |= {"follow": "true"} if follow else {}
        query |= {"previous": "true"} if previous else {}
        return cluster.lines(f"{self.path}/{self.pod}/log", LIFETIME if follow else 60.0, **query)


def found(cluster: Cluster, controllers: Sequence[Host] = ()) -> list[PodLog]:
    """The containers of DWS that have begun, the controller manager's first, behind those of controllers that are pods.

    Raises ClusterError.
    """
    pods = (cluster.get(PODS) or {"items": []})["items"]
    logs = [log for pod in pods for log in _of_pod(pod)]
    ours = sorted(logs, key=lambda log: (not log.pod.startswith(names.CONTROLLER), log.source))
    return [*(log for host in controllers for log in _of_controller(cluster, host)), *ours]


def _of_controller(cluster: Cluster, host: Host) -> Iterator[PodLog]:
    assert host.pod is not None
    for one in running(cluster, host.pod):
        for state in one["status"].get("containerStatuses", ()):
            if state["name"] == host.pod.container:
                path = f"/api/v1/namespaces/{host.pod.namespace}/pods"
                node, alive = one["spec"].get("nodeName", ""), "running" in state["state"]
                name = one["metadata"]["name"]
                yield PodLog(name, state["name"], host.name, node, state["restartCount"], alive, path, slurm=True)


def _of_pod(pod: Mapping[str, Any]) -> Iterator[PodLog]:
    name, node = pod["metadata"]["name"], pod["spec"].get("nodeName", "")
    short = name.removeprefix("dws-").removeprefix("controller-").split("-")[0]
    states = [one for one in pod.get("status", {}).get("containerStatuses", ()) if one["name"] not in SILENT]
    for one in states:
        if "waiting" in one["state"] and not one["restartCount"]:
            continue
        which = f"/{one['name']}" if len(states) > 1 else ""
        running = "running" in one["state"]
        yield PodLog(name, one["name"], f"{short}{which}@{node}", node, one["restartCount"], running)


def past(cluster: Cluster, log: PodLog, since: float, clock: Clock) -> Iterator[Entry]:
    """What a container has said, the one before its last restart included. Raises ClusterError."""
    if log.restarts:
        yield from _entries(log.lines(cluster, since + clock.ahead, follow=False, previous=True), log, since, clock)
    yield from _entries(log.lines(cluster, since + clock.ahead, follow=False), log, since, clock)


def coming(cluster: Cluster, log: PodLog, after: float, clock: Clock) -> Iterator[Entry]:
    """What a container says after `after`, until it ends. Raises ClusterError."""
    return _entries(log.lines(cluster, after + clock.ahead, follow=True), log, after, clock)


def _entries(lines: Iterator[str | None], log: PodLog, after: float, clock: Clock) -> Iterator[Entry]:
    """The API takes whole seconds only: what is too old is left out here. A pod that has gone meanwhile says nothing."""
    parse = of_slurmctld if log.slurm else of_pod
    try:
        for entry in parse(lines, log.source, clock):
            if entry and entry.at > after:
                yield entry
    except ClusterError as error:
        if error.status != NOT_FOUND:
            raise


def clocks(cluster: Cluster, master: float, nodes: Sequence[str]) -> dict[str, Clock]:
    """The clocks of these nodes; `master` is how far that of the API server's host is ahead. Raises ClusterError.

    Nobody logs in there: a kubelet writes its own time into its lease, and the API server when it did so.
    """
    leases = (cluster.get(LEASES) or {"items": []})["items"]
    ahead = {one["metadata"]["name"]: _ahead(one) for one in leases}
    return {node: Clock(round(master + ahead.get(node, 0.0), 3)) for node in nodes}


def _ahead(lease: Mapping[str, Any]) -> float:
    fields = [
        one for one in lease["metadata"].get("managedFields", ()) if one.get("manager") == "kubelet" and "time" in one
    ]
    if not fields or "renewTime" not in lease["spec"]:
        return 0.0
    noted = max(datetime.fromisoformat(one["time"]).timestamp() for one in fields) + 0.5  # its half second is lost
    ahead = datetime.fromisoformat(lease["spec"]["renewTime"]).timestamp() - noted
    return ahead if COARSE < abs(ahead) < FAR else 0.0


Note = Callable[[str], None]


def readable(cluster: Cluster, note: Note, controllers: Sequence[Host] = ()) -> list[PodLog]:
    """The containers whose logs are read; says what can't be. A site without DWS has none."""
    try:
        logs = found(cluster, controllers)
    except READ_ERRORS as error:
        note(f"DWS's pods can't be asked: {error_text(error)}")
        return []
    if not [log for log in logs if not log.slurm]:
        note(f"there are no pods of DWS in {names.NAMESPACE}")
    if len(logs) > STREAMS:
        left = ", ".join(log.pod for log in logs[STREAMS:])
        note(f"{left}: not read, {STREAMS} at once are all that one connection has room for")
    return logs[:STREAMS]
