"""Findings about cert-manager and the certificate that it issues for DWS's webhook."""

from __future__ import annotations

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
