"""The time by the cluster's own records. No clock of a host is asked: it may differ from those that wrote what is compared."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypedDict

from dws_on_csm.model.cluster_api import Cluster

LEASES = "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
"""Path of the Leases of a namespace."""


class Renewal(TypedDict):
    """When Leases were renewed last, in words, and how many seconds before some other time that was; "" and 0 where either is
    unknown."""

    last: str
    ago: float


def renewal(last: datetime | None, now: datetime | None) -> Renewal:
    """A renewal at `last`, seen from `now`."""
    if last is None or now is None:
        return {"last": "", "ago": 0.0}
    return {"last": f"{last:%Y-%m-%d %H:%M} UTC", "ago": (now - last).total_seconds()}


def newest(cluster: Cluster) -> datetime | None:
    """About now: the newest sign of life of a kubelet, each of which renews a Lease every ten seconds
    (https://kubernetes.io/docs/concepts/architecture/leases/); None where no kubelet has one."""
    return last_renewal(cluster, "kube-node-lease")


def last_renewal(cluster: Cluster, namespace: str) -> datetime | None:
    """When a Lease of this namespace was renewed last; None where it has none."""
    listed = cluster.get(LEASES.format(namespace=namespace))
    times = [item["spec"].get("renewTime") for item in (listed or {"items": []})["items"]]
    return max((parse(text) for text in times if text), default=None)


def parse(text: str) -> datetime:
    """A time as Kubernetes writes it: 2026-01-31T12:00:00Z, or with a fraction of a second."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def seconds_before(now: datetime, text: str) -> float:
    """How many seconds before `now` a time was."""
    return (now - parse(text)).total_seconds()
