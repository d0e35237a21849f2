"""The versions of Kubernetes and cert-manager that DWS and the plugin need, and the workers that take its pods."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from dws_on_csm.domain import compatibility, tested
from dws_on_csm.kube import objects
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.printable import first_few
from dws_on_csm.model.step import Check, Finding, StepContext, Value
from dws_on_csm.stages.dws import external
from dws_on_csm.stages.facts import CLUSTER, Away, ClusterState


def read(cluster: Cluster) -> ClusterState:
    """The versions in the cluster, and its workers. Raises ClusterError."""
    version = cluster.get("/version") or {}
    served = cluster.get("/apis/cert-manager.io") or {"versions": []}
    nodes = (cluster.get("/api/v1/nodes") or {"items": []})["items"]
    return {
        "kubernetes": version.get("gitVersion", ""),
        "cert_manager": [version["version"] for version in served["versions"]],
        "workers": [node["metadata"]["name"] for node in nodes if not _away(node)],
        "away": {
            node["metadata"]["name"]: away for node in nodes if (away := _away(node)) and not _control_plane(node)
        },
    }


def _away(node: Mapping[str, Any]) -> Away | None:
    """Why a node takes no pods: it is not Ready, cordoned, or has a taint; None if it takes them."""
    if not objects.is_true(node, "Ready"):
        ready = objects.condition(node, "Ready")
        since = f" since {ready['lastTransitionTime']}" if ready.get("lastTransitionTime") else ""
        message = f": {ready['message']}" if ready.get("message") else ""
        return {"kind": "not-ready", "text": f"not Ready{since}{message}"[:200]}
    spec = node["spec"]
    if spec.get("unschedulable", False):
        return {"kind": "cordoned", "text": "cordoned"}
    taints = [taint["key"] for taint in spec.get("taints", []) if taint["effect"] in ("NoSchedule", "NoExecute")]
    return {"kind": "tainted", "text": f"taint {', '.join(taints)}"} if taints else None


_CONTROL_PLANE = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")


def _control_plane(node: Mapping[str, Any]) -> bool:
    labels = node["metadata"].get("labels") or {}
    return any(label in labels for label in _CONTROL_PLANE) or any(
        taint["key"] in _CONTROL_PLANE for taint in node["spec"].get("taints", [])
    )


def _versions(ctx: StepContext) -> dict[str, str]:
    return {"dws": external.version(ctx), "plugin": ctx.site.versions.plugin}


def _judge(ctx: StepContext, have: Value) -> Sequence[Finding]:
    versions = {**_versions(ctx), "kubernetes": have["kubernetes"].partition("+")[0]}
    declined = ("dws-too-new",) if ctx.site.plugin.workflow_version == "plugin" else ()
    findings = list(compatibility.findings(versions, declined=declined))
    if ctx.site.external:
        return findings
    if not {"v1", "v1alpha3"} & set(have["cert_manager"]):
        text = "cert-manager is not installed, or serves neither v1 nor v1alpha3; DWS's webhook gets its certificate from it"
        findings.append(
            Finding("cert-manager-missing", text, "install cert-manager first; on CSM it is part of the platform")
        )
    if len(have["workers"]) < 3:
        findings.append(_few_workers(have))
    return findings


def _few_workers(have: ClusterState) -> Finding:
    """Fewer than 3 workers take pods; which ones do not, why, and the command for each."""
    away = have.get("away", {})
    text = f"only {len(have['workers'])} workers are Ready and take pods; the 3 replicas of DWS's webhook must run on 3 hosts"
    if away:
        text += ". These take none: " + first_few([f"{name} ({why['text']})" for name, why in away.items()])
    cordoned, silent, tainted = (
        [name for name, why in away.items() if why["kind"] == kind] for kind in ("cordoned", "not-ready", "tainted")
    )
    fixes = [f"run `{shlex.join(['kubectl', 'uncordon', *cordoned])}` on the master"] if cordoned else []
    fixes += (
        [f"run `systemctl start kubelet` on {', '.join(silent)}, or power on the hosts that do not respond"]
        if silent
        else []
    )
    fixes += [f"see `{shlex.join(['kubectl', 'describe', 'node', *tainted])}` on the master"] if tainted else []
    goal = "3 workers must be Ready, uncordoned, and without a NoSchedule taint"
    return Finding("workers-few", text, f"{'; '.join(fixes)}. {goal}" if fixes else f"add workers: {goal}")


def _note(ctx: StepContext, have: Value) -> str:
    return tested.note({**_versions(ctx), "kubernetes": have["kubernetes"].partition("+")[0].removeprefix("v")})


CHECK = Check(CLUSTER.step, "master", lambda ctx: CLUSTER.api(read), _judge, note=_note)
