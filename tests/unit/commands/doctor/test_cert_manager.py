"""Findings about cert-manager and the certificate that it issues for DWS's webhook."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from dws_on_csm.commands.doctor import cert_manager
from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.model.step import Facts, StepContext

PLACE = StepContext(load(DEFAULT), Facts({}), "m")
GOOD: dict[str, Any] = {
    "deployments": {"cert-manager": [1, 1]},
    "refuses": "",
    "refusal": None,
    "webhook": None,
    "strangers": [],
    "conditions": [],
    "until": "",
}
RULE = {"message": "no", "resource": "validatingadmissionpolicy p", "remove": "kubectl delete ...", "service": ""}
EXPIRED = {"until": "2020-01-01T00:00:00Z", "conditions": ["Issuer dws-selfsigned-issuer: Gone: it was deleted"]}


@pytest.mark.parametrize(
    ("change", "names", "words"),
    [
        ({}, [], ""),
        ({"until": "2999-01-01T00:00:00Z"}, [], ""),
        ({"deployments": {"a": [0, 0], "b": [1, 1]}}, ["cert-manager-away"], "scale deployment a --replicas=1"),
        ({"deployments": {"a": [0, 1]}}, ["cert-manager-away"], "describe pods"),
        ({"refuses": "x509: certificate has expired"}, ["cert-manager-refuses"], "certificate has expired"),
        ({"refuses": "no", "refusal": RULE}, ["rejected-by-rule"], "validatingadmissionpolicy p"),
        (EXPIRED, ["webhook-certificate"], "expired on 2020-01-01T00:00:00Z"),
        (EXPIRED, ["webhook-certificate"], "it was deleted"),
        ({"conditions": ["Certificate x: a: b"]}, ["webhook-certificate"], "is not ready. Certificate x: a: b"),
    ],
)
def test_each_has_its_finding(change: dict[str, Any], names: list[str], words: str) -> None:
    """With the reason that the cluster gives, and a command for it."""
    findings = cert_manager.CHECK.judge(PLACE, {**GOOD, **change})
    assert [finding.name for finding in findings] == names
    assert words in " ".join(f"{finding.text} {finding.fix}" for finding in findings)


def test_a_condition_that_is_not_true_is_told_with_its_reason() -> None:
    """And an object that cert-manager has not seen yet has none."""
    told = cert_manager.not_ready
    meta = {"metadata": {"name": "x"}}
    assert told("Issuer", {**meta, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}) == ""
    false = {"type": "Ready", "status": "False", "reason": "Expired", "message": "it expired"}
    assert told("Issuer", {**meta, "status": {"conditions": [false]}}) == "Issuer x: Expired: it expired"
    assert told("Issuer", meta) == "Issuer x: cert-manager has not seen it yet"


CA, OTHER = (base64.b64encode(f"-----BEGIN CERTIFICATE-----\n{text}\n".encode()).decode() for text in ("ours", "old"))


class Api:
    """The API of a cluster whose webhook configurations have these caBundles: in base64, as the API gives them."""

    def __init__(self, mutating: str, validating: str) -> None:
        self.bundles = {"mutating": mutating, "validating": validating}

    def get(self, path: str) -> Any:
        """The Secret of the webhook's certificate, or a configuration."""
        if path == "/api/v1/namespaces/dws-system/secrets/webhook-server-cert":
            return {"data": {"ca.crt": CA, "tls.crt": CA, "tls.key": ""}}
        kind = next((kind for kind in self.bundles if f"/{kind}webhookconfigurations/" in path), "")
        if kind:
            return {"webhooks": [{"clientConfig": {"service": {}, "caBundle": self.bundles[kind]}}]}
        return {"preferredVersion": {"groupVersion": "cert-manager.io/v1"}} if path == "/apis/cert-manager.io" else None

    def create(self, *arguments: Any, **query: str) -> Any:
        """A test Issuer is admitted."""
        return {}


def test_configurations_with_another_ca_are_found() -> None:
    """A bundle may have more than one CA; one that is empty has none."""
    both = base64.b64encode(base64.b64decode(OTHER) + base64.b64decode(CA)).decode()
    for mutating, validating, strangers in (
        (CA, both, []),
        (OTHER, CA, ["mutatingwebhookconfiguration dws-mutating-webhook-configuration"]),
        (CA, "", ["validatingwebhookconfiguration dws-validating-webhook-configuration"]),
    ):
        look: Any = cert_manager.CHECK.look(PLACE)
        assert look.read(Api(mutating, validating))["strangers"] == strangers


UNTRUSTED = "rejects a Workflow: tls: failed to verify certificate: x509: certificate signed by unknown authority"


def test_another_ca_is_the_cause_of_a_webhook_that_is_not_trusted() -> None:
    """cainjector corrects it where it runs; where it has no pods, that is the cause, and its scale the fix."""
    ctx = StepContext(PLACE.site, Facts({"deploy.webhook": {"m": {"webhook": UNTRUSTED}}}), "m")
    wrong = {**GOOD, "strangers": ["mutatingwebhookconfiguration x"], "deployments": {cert_manager.INJECTOR: [1, 1]}}
    (found,) = cert_manager.CHECK.judge(ctx, wrong)
    assert found.name == "webhook-ca-differs" and "mutatingwebhookconfiguration x" in found.text
    assert "`kubectl -n cert-manager rollout restart deployment cert-manager-cainjector`" in found.fix
    assert "`kubectl -n cert-manager logs deployment/cert-manager-cainjector --tail=50`" in found.fix
    away, follows = cert_manager.CHECK.judge(ctx, {**wrong, "deployments": {cert_manager.INJECTOR: [0, 0]}})
    assert (away.name, follows.name) == ("cert-manager-away", "webhook-ca-differs")
    assert "the caBundle of mutatingwebhookconfiguration x is not the CA" in away.text
    assert "scale deployment cert-manager-cainjector --replicas=1" in away.fix
    assert cert_manager.CHECK.judge(PLACE, wrong) == [], "the API server admits Workflows"
