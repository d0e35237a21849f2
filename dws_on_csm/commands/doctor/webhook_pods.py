"""Each pod of DWS's webhook, asked through the API server: it chooses one of them for each new Workflow, and of those
that go to a pod that it cannot reach, sbatch waits and fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from dws_on_csm.domain import names
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

OURS = "DWS's"

_PORT = "webhook-server"
"""The name of the port at which the webhook listens, in DWS's manifests."""


def _read(cluster: Cluster) -> list[Pod]:
    listed = cluster.get(readiness.PODS, labelSelector="control-plane=webhook")
    found: list[Pod] = []
    for item in listed["items"] if listed else []:
        if (port := _port(item)) and objects.is_true(item, "Ready"):
            name = item["metadata"]["name"]
            why = why_unreachable(cluster, names.NAMESPACE, name, port)
            found.append({"name": name, "worker": item["spec"].get("nodeName", ""), "why": why})
    return found


def _port(pod: Mapping[str, Any]) -> int:
    ports = [port for container in pod["spec"]["containers"] for port in container.get("ports") or ()]
    return next((int(port["containerPort"]) for port in ports if port.get("name") == _PORT), 0)


_UNREACHED = (0, 502, 503, 504)
"""0: while a connection that it kept to a pod is dead, the API server itself gives no answer within its time."""


def why_unreachable(cluster: Cluster, namespace: str, name: str, port: int) -> str:
    """Why the API server does not reach a pod; "" where it does, whatever the pod then says of a path that it does not have."""
    try:
        cluster.get(f"/api/v1/namespaces/{namespace}/pods/https:{name}:{port}/proxy/none")
    except ClusterSilent:
        raise
    except ClusterError as error:
        return str(error) if error.status in _UNREACHED else ""
    return ""


def _judge(ctx: StepContext, have: Sequence[Pod]) -> Sequence[Finding]:
    if not unreachable(have) or not installed.there(ctx):
        return ()
    text = f"the API server cannot reach {lost_text(have, OURS)}: so {sbatch_text(have)}. "
    return (Finding("webhook-pod-unreachable", f"{text}The API server says: {unreachable(have)[0]['why']}", fix(have)),)


def unreachable(pods: Sequence[Pod]) -> list[Pod]:
    """Those that the API server does not reach."""
    return [pod for pod in pods if pod["why"]]


def lost_text(pods: Sequence[Pod], whose: str) -> str:
    """How many of these pods are not reached, and which, on which workers."""
    lost = unreachable(pods)
    where = ", ".join(f"{pod['name']} on {pod['worker']}" for pod in lost)
    return f"{len(lost)} of {len(pods)} pods of {whose} webhook ({where}), though they are ready"


def sbatch_text(pods: Sequence[Pod]) -> str:
    """What users notice of pods of DWS's webhook that are not reached."""
    lost = len(unreachable(pods))
    some = f"about {lost} of {len(pods)} sbatch commands with #DW lines wait and fail"
    return "every sbatch with #DW lines waits and fails" if lost == len(pods) else some


def fix(pods: Sequence[Pod]) -> str:
    """What to look at on the workers of the pods that are not reached: first what a hardening of a host turns off."""
    workers = sorted({pod["worker"] for pod in unreachable(pods)})
    there = "there" if len(workers) == 1 else "on each of them"
    look = f"run `sysctl net.ipv4.ip_forward` on {', '.join(workers)}. If it says 0, run `sysctl -w net.ipv4.ip_forward=1` {there} "
    look += "and correct the file that `grep -rs ip_forward /etc/sysctl.conf /etc/sysctl.d` shows. If it says 1, the pod network "
    look += f"between the masters and {', '.join(workers)} is broken: "
    shown = [f"`kubectl get pods -A -o wide --field-selector spec.nodeName={worker}`" for worker in workers]
    look += f"{', '.join(shown)} {'shows' if len(shown) == 1 else 'show'} the network's own pods there, and `ip route get` the way "
    return look + "to a pod's address on each master; a firewall may drop it, too"


CHECK = Check(FACT.step, "master", lambda ctx: FACT.api(_read), _judge)
