"""The network between the API server and cert-manager's webhook, where the API server's call fails: whether it reaches the
webhook's pods at their own addresses tells a broken pod network from a kube-proxy that does not run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypedDict

from dws_on_csm.commands.doctor import webhook_pods
from dws_on_csm.commands.doctor.diagnosis import SBATCH_FAILS
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.step import Finding, StepContext
from dws_on_csm.stages.dws import deploy, installed

_THEIRS = "cert-manager's"
_REASONS = (
    "context deadline exceeded|i/o timeout|Client.Timeout|no route to host|connection refused|network is unreachable"
)


def failed(message: str) -> bool:
    """Whether the API server could not talk to a webhook, by its message."""
    return bool(re.search(rf"failed calling webhook .*({_REASONS})", message))


class Webhook(TypedDict):
    """A webhook's Service: its address, and the ready pods behind it."""

    address: str
    pods: list[webhook_pods.Pod]


def read(cluster: Cluster, namespace: str, service: str) -> Webhook:
    """The Service, and whether the API server reaches each of its pods at the pod's own address."""
    at = f"/api/v1/namespaces/{namespace}"
    pods: list[webhook_pods.Pod] = []
    for subset in (cluster.get(f"{at}/endpoints/{service}") or {}).get("subsets") or ():
        port = subset["ports"][0]["port"]
        for address in subset.get("addresses") or ():
            if pod := (address.get("targetRef") or {}).get("name"):
                why = webhook_pods.why_unreachable(cluster, namespace, pod, port)
                pods.append({"name": pod, "worker": address.get("nodeName", ""), "why": why})
    found = cluster.get(f"{at}/services/{service}") or {"spec": {}}
    return {"address": found["spec"].get("clusterIP", ""), "pods": pods}


def judge(ctx: StepContext, webhook: Webhook, message: str) -> Sequence[Finding]:
    """The network as the cause of what the API server said of cert-manager's webhook."""
    ours = ctx.facts.one_or_none(webhook_pods.FACT) or []
    ours = ours if installed.there(ctx) else []
    if webhook["pods"] and len(webhook_pods.unreachable(webhook["pods"])) == len(webhook["pods"]):
        return [_pods_unreachable(webhook["pods"], ours)] if webhook_pods.unreachable(ours) else []
    if not webhook["pods"] or webhook_pods.unreachable([*webhook["pods"], *ours]):
        return []
    admission = ctx.facts.one_or_none(deploy.ADMISSION)
    both = bool(ours) and admission is not None and failed(admission["webhook"])
    if both or f"dial tcp {webhook['address']}:" in message:
        return [_service_unreachable(ctx, webhook["address"], both, message)]
    return []


def _pods_unreachable(theirs: Sequence[webhook_pods.Pod], ours: Sequence[webhook_pods.Pod]) -> Finding:
    text = f"the API server cannot reach {webhook_pods.lost_text(theirs, _THEIRS)}, and "
    text += f"{webhook_pods.lost_text(ours, webhook_pods.OURS)}: so no certificate can be changed, and "
    text += f"{webhook_pods.sbatch_text(ours)}. "
    text += f"The API server says: {webhook_pods.unreachable(ours)[0]['why']}"
    return Finding("pod-network-broken", text, webhook_pods.fix([*theirs, *ours]))


def _service_unreachable(ctx: StepContext, address: str, both: bool, message: str) -> Finding:
    whose, effect = "cert-manager's webhook", "no certificate can be changed"
    if both:
        whose, effect = "cert-manager's and DWS's webhooks", f"no certificate can be changed, and {SBATCH_FAILS}"
    text = f"the API server reaches the pods of {whose} at their own addresses, but not at the address of their Service (that of "
    text += f"cert-manager's is {address}): so {effect}. kube-proxy, or what does its work in this cluster (such as Cilium), makes "
    text += f"these addresses work, and does not run, or does nothing, on the API server's master. The API server says: {message}"
    fix = f"where kube-proxy is a unit, run `systemctl start kube-proxy` on {ctx.host}, and on each other master. Where it is a "
    fix += (
        "DaemonSet, `kubectl -n kube-system get pods -l k8s-app=kube-proxy -o wide` shows its pod on each master, and "
    )
    fix += "`kubectl -n kube-system rollout restart daemonset kube-proxy` restarts them"
    return Finding("kube-proxy-away", text, fix)
