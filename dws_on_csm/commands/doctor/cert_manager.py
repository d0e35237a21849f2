"""cert-manager as DWS needs it: its Deployments, its own webhook, and the certificate that it issued for DWS's webhook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypedDict

from dws_on_csm.commands.doctor.diagnosis import SBATCH_FAILS
from dws_on_csm.domain import names
from dws_on_csm.kube import objects
from dws_on_csm.model.cluster_api import Cluster, ClusterError
from dws_on_csm.model.step import Check, Fact, Finding, StepContext
from dws_on_csm.stages.dws import refusals
from dws_on_csm.stages.dws.refusals import Refusal

SPACE = "cert-manager"
GROUP = "cert-manager.io"
CERTIFICATE, ISSUER, SECRET = "dws-serving-cert", "dws-selfsigned-issuer", "webhook-server-cert"


class State(TypedDict):
    """cert-manager's state; empty where its API is not served.

    deployments   name -> [pods that are available, pods that are asked for]
    refuses       what the API server said of a test Issuer, which cert-manager's webhook has to admit; "" if it admitted it
    refusal       the rule of the cluster that refused it; None where that was cert-manager's webhook
    conditions    "Certificate dws-serving-cert: ..." for each condition Ready of DWS's objects that is not True
    until         when the certificate of DWS's webhook ends; "" where that is unknown
    """

    deployments: dict[str, list[int]]
    refuses: str
    refusal: Refusal | None
    conditions: list[str]
    until: str


FACT: Fact[State] = Fact("doctor", "cert-manager")


def _read(cluster: Cluster) -> State:
    served = cluster.get(f"/apis/{GROUP}")
    if served is None:
        return {"deployments": {}, "refuses": "", "refusal": None, "conditions": [], "until": ""}
    at = f"/apis/{served['preferredVersion']['groupVersion']}/namespaces"
    found = {
        kind: cluster.get(f"{at}/{names.NAMESPACE}/{kind.lower()}s/{name}")
        for kind, name in (("Issuer", ISSUER), ("Certificate", CERTIFICATE))
    }
    deployments = (cluster.get(f"/apis/apps/v1/namespaces/{SPACE}/deployments") or {}).get("items", [])
    refuses = _refusal(cluster, at, served["preferredVersion"]["groupVersion"])
    return {
        "deployments": {item["metadata"]["name"]: _pods(item) for item in deployments},
        "refuses": refuses,
        "refusal": refusals.read(cluster, refuses, "default", (SPACE,)) if refuses else None,
        "conditions": [text for kind, item in found.items() if item and (text := not_ready(kind, item))],
        "until": str(((found["Certificate"] or {}).get("status") or {}).get("notAfter", "")),
    }


def _pods(deployment: Mapping[str, Any]) -> list[int]:
    return [(deployment.get("status") or {}).get("availableReplicas", 0), deployment["spec"].get("replicas", 1)]


def _refusal(cluster: Cluster, at: str, version: str) -> str:
    issuer = {
        "apiVersion": version,
        "kind": "Issuer",
        "metadata": {"name": "dws-on-csm-dry-run"},
        "spec": {"selfSigned": {}},
    }
    try:
        cluster.create(f"{at}/default/issuers", issuer, dryRun="All")
    except ClusterError as error:
        return str(error)
    return ""


def not_ready(kind: str, item: Mapping[str, Any]) -> str:
    """What the condition Ready of an object says; "" if it is True."""
    if objects.is_true(item, "Ready"):
        return ""
    ready = objects.condition(item, "Ready")
    reason = f"{ready.get('reason', '')}: {ready.get('message', '')}" if ready else "cert-manager has not seen it yet"
    return f"{kind} {item['metadata']['name']}: {reason}"[:400]


def _judge(ctx: StepContext, have: State) -> Sequence[Finding]:
    findings = []
    away = {name: pods for name, pods in have["deployments"].items() if pods[0] == 0}
    if away:
        findings.append(_away(away))
    if have["refusal"]:
        effect = "cert-manager can change no certificate"
        findings.append(refusals.finding(have["refusal"], "cert-manager's Issuers", "default", effect))
    elif have["refuses"]:
        text = (
            f"cert-manager's webhook does not admit a test Issuer, so no certificate can be changed: {have['refuses']}"
        )
        restart = f"run `kubectl -n {SPACE} delete pods --all` on the master: its pods start again, and its webhook gets a new "
        fix = f"{restart}certificate; then `kubectl -n {SPACE} wait --for=condition=Available deployment --all --timeout=120s`"
        findings.append(Finding("cert-manager-refuses", text, fix))
    if text := _certificate(have):
        fix = f"run `kubectl -n {names.NAMESPACE} delete secret {SECRET}` on the master: cert-manager issues a new "
        fix += "certificate, and DWS's webhook reads it within minutes; "
        fix += f"`kubectl -n {names.NAMESPACE} describe certificate,issuer` shows how it goes"
        findings.append(Finding("webhook-certificate", text, fix))
    return findings


def _away(away: Mapping[str, Sequence[int]]) -> Finding:
    counts = ", ".join(f"{name} {pods[0]} of {pods[1]}" for name, pods in away.items())
    text = f"cert-manager has no ready pod ({counts}): it renews no certificate, and DWS's webhook needs one"
    stopped = [name for name, pods in away.items() if pods[1] == 0]
    if stopped:
        fix = f"run `kubectl -n {SPACE} scale deployment {' '.join(stopped)} --replicas=1` on the master; "
        fix += f"`kubectl -n {SPACE} wait --for=condition=Available deployment --all --timeout=120s` shows when it is ready"
    else:
        fix = f"run `kubectl -n {SPACE} describe pods` on the master, and remove the cause that it shows"
    return Finding("cert-manager-away", text, fix)


def _certificate(have: State) -> str:
    """What is wrong with the certificate of DWS's webhook; "" if nothing is."""
    subject = f"the certificate of DWS's webhook (Secret {SECRET} in {names.NAMESPACE})"
    if have["until"] and datetime.fromisoformat(have["until"]) < datetime.now(UTC):
        return f"{subject} expired on {have['until']}, so {SBATCH_FAILS}. {'; '.join(have['conditions'])}".rstrip(". ")
    return f"{subject} is not ready. {'; '.join(have['conditions'])}" if have["conditions"] else ""


CHECK = Check(FACT.step, "master", lambda ctx: FACT.api(_read), _judge)
