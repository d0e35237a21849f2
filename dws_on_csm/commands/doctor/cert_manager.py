"""cert-manager as DWS needs it: its Deployments, its own webhook, and the certificate that it issued for DWS's webhook."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypedDict

from dws_on_csm.commands.doctor import webhook_network
from dws_on_csm.commands.doctor.diagnosis import SBATCH_FAILS
from dws_on_csm.domain import names
from dws_on_csm.kube import objects
from dws_on_csm.model.cluster_api import Cluster, ClusterError
from dws_on_csm.model.step import Check, Fact, Finding, StepContext
from dws_on_csm.stages.dws import deploy, installed, refusals
from dws_on_csm.stages.dws.refusals import Refusal

SPACE = "cert-manager"
GROUP = "cert-manager.io"
WEBHOOK, INJECTOR = "cert-manager-webhook", "cert-manager-cainjector"
CERTIFICATE, ISSUER, SECRET = "dws-serving-cert", "dws-selfsigned-issuer", "webhook-server-cert"


class State(TypedDict):
    """cert-manager's state; empty where its API is not served.

    deployments   name -> [pods that are available, pods that are asked for]
    refuses       what the API server said of a test Issuer, which cert-manager's webhook has to admit; "" if it admitted it
    refusal       the rule of the cluster that refused it; None where that was cert-manager's webhook
    webhook       where that failed for reasons of network: the webhook's Service, and its pods
    strangers     the configurations of DWS's webhook whose caBundle lacks the CA of its certificate, as kubectl calls them
    conditions    "Certificate dws-serving-cert: ..." for each condition Ready of DWS's objects that is not True
    until         when the certificate of DWS's webhook ends; "" where that is unknown
    """

    deployments: dict[str, list[int]]
    refuses: str
    refusal: Refusal | None
    webhook: webhook_network.Webhook | None
    strangers: list[str]
    conditions: list[str]
    until: str


FACT: Fact[State] = Fact("doctor", "cert-manager")


def _read(cluster: Cluster) -> State:
    served = cluster.get(f"/apis/{GROUP}")
    if served is None:
        empty: State = {
            "deployments": {},
            "refuses": "",
            "refusal": None,
            "webhook": None,
            "strangers": [],
            "conditions": [],
            "until": "",
        }
        return empty
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
        "webhook": webhook_network.read(cluster, SPACE, WEBHOOK) if webhook_network.failed(refuses) else None,
        "strangers": _strangers(cluster),
        "conditions": [text for kind, item in found.items() if item and (text := not_ready(kind, item))],
        "until": str(((found["Certificate"] or {}).get("status") or {}).get("notAfter", "")),
    }


def _strangers(cluster: Cluster) -> list[str]:
    """Only the CA leaves this function: the Secret has the webhook's key as well."""
    secret = cluster.get(f"/api/v1/namespaces/{names.NAMESPACE}/secrets/{SECRET}") or {}
    ca = base64.b64decode((secret.get("data") or {}).get("ca.crt", "")).strip()
    found = []
    for label, path in installed.TRACES.items() if ca else ():
        kind, _, name = label.partition(" ")
        if kind.endswith("WebhookConfiguration") and (item := cluster.get(path)):
            bundles = [webhook["clientConfig"].get("caBundle", "") for webhook in item.get("webhooks") or ()]
            if any(ca not in base64.b64decode(bundle) for bundle in bundles):
                found.append(f"{kind.lower()} {name}")
    return found


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
    strangers = have["strangers"] if _not_trusted(ctx) else []
    away = {name: pods for name, pods in have["deployments"].items() if pods[0] == 0}
    if away:
        findings.append(_away(away, strangers))
    if strangers:
        findings.append(_other_ca(strangers))
    if have["refusal"]:
        effect = "cert-manager can change no certificate"
        findings.append(refusals.finding(have["refusal"], "cert-manager's Issuers", "default", effect))
    elif have["refuses"]:
        text = (
            f"cert-manager's webhook does not admit a test Issuer, so no certificate can be changed: {have['refuses']}"
        )
        restart = f"run `kubectl -n {SPACE} delete pods --all` on the master: its pods start again, and its webhook gets a new "
        fix = f"{restart}certificate; then `kubectl -n {SPACE} wait --for=condition=Available deployment --all --timeout=120s`"
        if have["webhook"]:
            findings += webhook_network.judge(ctx, have["webhook"], have["refuses"])
        findings.append(Finding("cert-manager-refuses", text, fix))
    if text := _certificate(have):
        fix = f"run `kubectl -n {names.NAMESPACE} delete secret {SECRET}` on the master: cert-manager issues a new "
        fix += "certificate, and DWS's webhook reads it within minutes; "
        fix += f"`kubectl -n {names.NAMESPACE} describe certificate,issuer` shows how it goes"
        findings.append(Finding("webhook-certificate", text, fix))
    return findings


def _not_trusted(ctx: StepContext) -> bool:
    """Whether the API server does not accept the certificate of DWS's webhook."""
    admission = ctx.facts.one_or_none(deploy.ADMISSION)
    return admission is not None and "x509: " in admission["webhook"]


def _other_ca(strangers: Sequence[str]) -> Finding:
    text = f"the caBundle of {' and '.join(strangers)} is not the CA of the certificate of DWS's webhook (Secret {SECRET} in "
    text += f"{names.NAMESPACE}), so {SBATCH_FAILS}: the API server does not trust that certificate. {INJECTOR} of cert-manager "
    text += "writes the caBundle, and has not corrected it"
    fix = f"run `kubectl -n {SPACE} rollout restart deployment {INJECTOR}` on the master: when it starts, it compares every "
    fix += f"caBundle. If that does not help, `kubectl -n {SPACE} logs deployment/{INJECTOR} --tail=50` shows why"
    return Finding("webhook-ca-differs", text, fix)


def _away(away: Mapping[str, Sequence[int]], strangers: Sequence[str]) -> Finding:
    counts = ", ".join(f"{name} {pods[0]} of {pods[1]}" for name, pods in away.items())
    text = f"cert-manager has no ready pod ({counts}): it renews no certificate, and DWS's webhook needs one"
    if list(away) == [INJECTOR]:
        text = (
            f"{INJECTOR} has no ready pod ({counts}): a new CA of DWS's webhook does not become known to the API server"
        )
    if strangers and INJECTOR in away:
        text += f". So {SBATCH_FAILS}: the caBundle of {' and '.join(strangers)} is not the CA of the webhook's certificate "
        text += f"(Secret {SECRET} in {names.NAMESPACE}), and {INJECTOR} would correct it"
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
