"""Each pod of DWS's webhook, asked through the API server: it chooses one of them for each new Workflow, and of those
that go to a pod that it cannot reach, sbatch waits and fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from dws_on_csm.kube import objects
from dws_on_csm.model.cluster_api import Cluster, ClusterError, ClusterSilent
from dws_on_csm.model.step import Check, Fact, Finding, StepContext
from dws_on_csm.stages.dws import installed, readiness


class Pod(TypedDict):
    """A pod of the webhook that is ready: its name, its worker, and the API server's words where it did not reach it, or ""."""

    name: str
    worker: str
    why: str


FACT: Fact[list[Pod]] = Fact("doctor", "webhook-pods")

_PORT = "webhook-server"
"""The name of the port at which the webhook listens, in DWS's manifests."""


def _read(cluster: Cluster) -> list[Pod]:
    listed = cluster.get(readiness.PODS, labelSelector="control-plane=webhook")
    found: list[Pod] = []
    for item in listed["items"] if listed else []:
        if (port := _port(item)) and objects.is_true(item, "Ready"):
            name = item["metadata"]["name"]
            found.append(
                {"name": name, "worker": item["spec"].get("nodeName", ""), "why": _refusal(cluster, name, port)}
            )
    return found


def _port(pod: Mapping[str, Any]) -> int:
    ports = [port for container in pod["spec"]["containers"] for port in container.get("ports") or ()]
    return next((int(port["containerPort"]) for port in ports if port.get("name") == _PORT), 0)


def _refusal(cluster: Cluster, name: str, port: int) -> str:
    """Why the API server does not reach a pod; "" where it does, whatever the pod then says of a path that it does not have."""
    try:
        cluster.get(f"{readiness.PODS}/https:{name}:{port}/proxy/none")
    except ClusterSilent:
        raise
    except ClusterError as error:
        return str(error) if error.status in (502, 503, 504) else ""
    return ""


def _judge(ctx: StepContext, have: Sequence[Pod]) -> Sequence[Finding]:
    lost = [pod for pod in have if pod["why"]]
    if not lost or not installed.there(ctx):
        return ()
    where = ", ".join(f"{pod['name']} on {pod['worker']}" for pod in lost)
    text = f"the API server cannot reach {len(lost)} of {len(have)} pods of DWS's webhook ({where}), though they are ready: "
    text += f"so about {len(lost)} of {len(have)} sbatch commands with #DW lines wait and fail. The API server says: "
    text += lost[0]["why"]
    worker = lost[0]["worker"]
    fix = f"restore the pod network between the masters and {worker}: `kubectl get pods -A -o wide --field-selector "
    fix += f"spec.nodeName={worker}` shows the network's own pods there, and `ip route get` the way to the pod's address on each "
    return (Finding("webhook-pod-unreachable", text, f"{fix}master; a firewall may drop it, too"),)


CHECK = Check(FACT.step, "master", lambda ctx: FACT.api(_read), _judge)
