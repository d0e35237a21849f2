"""Findings about the plugin's kubeconfig, role and binding."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dws_on_csm.commands.doctor import rules_access
from dws_on_csm.domain import names
from dws_on_csm.model.step import Facts, StepContext, Value
from tests.unit.commands.doctor.context import HOST, MASTER, SITE, place, told

GROUP = names.GROUP


def certificate(name: str = "slurm-dws", days: float = 400) -> str:
    """A certificate for `name` that ends in so many days, signed by its own key, in base64."""
    from base64 import b64encode

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(days=900)).not_valid_after(now + timedelta(days=days, minutes=5))
    return b64encode(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)).decode()


ALL_AT_ONCE = ["kubeconfig-open", "certificate-ends-soon", "certificate-foreign", "kubeconfig-namespace"]

GOOD: dict[str, Any] = {"mode": "600", "owner": "slurm", "slurm_user": "slurm", "server": "https://m:6443", "may": []}


@pytest.mark.parametrize(
    ("change", "days", "name", "expected"),
    [
        ({}, 400, "slurm-dws", []),
        ({"mode": "644"}, 400, "slurm-dws", ["kubeconfig-open"]),
        ({}, 59, "slurm-dws", ["certificate-ends-soon"]),
        ({}, 60, "slurm-dws", []),
        ({}, -1, "slurm-dws", ["certificate-expired"]),
        ({}, 400, "somebody", ["certificate-foreign"]),
        ({"namespace": "user"}, 400, "slurm-dws", ["kubeconfig-namespace"]),
        ({"key_fits": "yes"}, 400, "slurm-dws", []),
        ({"key_fits": "no"}, 400, "slurm-dws", ["certificate-key"]),
        ({"mode": "640", "namespace": "user"}, 3, "x", ALL_AT_ONCE),
    ],
)  # fmt: skip
def test_a_kubeconfig_is_judged_thing_by_thing(
    change: dict[str, str], days: float, name: str, expected: list[str]
) -> None:
    """Mode, expiry, name and settings each have a finding of their own, also where the cluster's state is unknown."""
    found = {**GOOD, "client-certificate-data": certificate(name, days), **change}
    assert told(rules_access.file(place(), found)) == expected


def test_a_kubeconfig_that_is_not_there_or_has_no_certificate() -> None:
    """Each has its finding, and nothing is guessed about the rest."""
    assert told(rules_access.file(place(), {"slurm_user": "slurm"})) == ["kubeconfig-missing"]
    assert told(rules_access.file(place(), GOOD)) == ["certificate-missing"]


def test_a_certificate_of_another_ca_is_reported_where_the_ca_is_known() -> None:
    """The cluster's present CA did not sign it."""
    from base64 import b64decode

    found = {**GOOD, "client-certificate-data": certificate()}
    other = {"ca": b64decode(certificate("kubernetes")).decode(), "server": "https://m:6443", "trusts": ""}
    seen = StepContext(SITE, Facts({"access.cluster": {MASTER: other}}), HOST)
    assert told(rules_access.file(seen, found)) == ["certificate-foreign"]
    seen = StepContext(SITE, Facts({"access.cluster": {MASTER: {**other, "trusts": other["ca"]}}}), HOST)
    assert told(rules_access.file(seen, found)) == ["certificate-foreign", "kubeconfig-ca"]


def test_a_kubeconfig_with_one_of_two_certificates_of_the_ca_is_not_said_to_fail() -> None:
    """While a CA is being renewed, its file has two certificates: kubectl still trusts the API server."""
    from base64 import b64decode, b64encode

    old, new, foreign = (b64decode(certificate(name)).decode() for name in ("kubernetes", "kubernetes", "other"))

    def texts(trusts: str) -> list[str]:
        data = b64encode(trusts.encode()).decode()
        found = {**GOOD, "client-certificate-data": certificate(), "certificate-authority-data": data}
        cluster = {"ca": old + new, "server": "https://m:6443", "trusts": old + new}
        findings = rules_access.file(StepContext(SITE, Facts({"access.cluster": {MASTER: cluster}}), HOST), found)
        return [one.text for one in findings if one.name == "kubeconfig-ca"]

    assert texts(old + new) == []
    (few,), (many,), (other,) = texts(old), texts(old + new + foreign), texts(foreign)
    assert "not all certificates of the cluster's CA: once the API server" in few
    assert "another CA besides the cluster's" in many and "kubectl does not trust the API server" in other


def rule(*verbs: str, group: str = GROUP, resource: str = "workflows") -> dict[str, list[str]]:
    return {"apiGroups": [group], "resources": [resource, "computes"], "verbs": list(verbs)}


@pytest.mark.parametrize(
    ("rules", "lacks"),
    [
        ([rule("create", "get", "patch", "delete")], ""),
        ([rule("create", "get"), rule("patch", "delete")], ""),
        ([rule("*")], ""),
        ([rule("create", "get", "delete")], "patch"),
        ([rule("create", "get", "patch", "delete", group="argoproj.io")], "create, get, patch, delete"),
        ([rule("*", resource="storages")], "create, get, patch, delete"),
        ([], "create, get, patch, delete"),
        (None, "create, get, patch, delete"),  # so the API server gives an empty list back
    ],
)
def test_a_role_lets_the_plugin_work_or_says_what_it_lacks(rules: list[Value] | None, lacks: str) -> None:
    """The role in the cluster is judged, also where the manifests are unknown."""
    found = list(rules_access.role(place(MASTER), {"rules": rules}))
    assert [one.name for one in found] == (["role-lacks-rights"] if lacks else [])
    assert all(f"to {lacks} Workflows" in one.text for one in found)


def test_no_role_and_no_binding() -> None:
    """Each of them has a finding."""
    want = {"role": "workload-manager", "subjects": ["User slurm-dws"]}
    assert told(rules_access.role(place(MASTER), None)) == ["role-lacks-rights"]
    assert told(rules_access.binding(place(MASTER), None, want)) == ["binding-wrong"]
    other = {"role": "workload-manager", "subjects": ["User somebody"]}
    (found,) = rules_access.binding(place(MASTER), other, want)
    assert "somebody" in found.text and "slurm-dws" in found.text
