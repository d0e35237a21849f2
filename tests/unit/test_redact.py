"""Secrets are taken out in every form in which they stand, and what only looks like one stays."""

import base64
import json

import pytest

from fabfile import redact

DASHES, KIND = "-" * 5, "PRIVATE" + " KEY"  # no file of the project has what looks like a key
KEY = f"{DASHES}BEGIN RSA {KIND}{DASHES}\nMIIEpAIBAAKCAQEA\nqqqq\n{DASHES}END RSA {KIND}{DASHES}\n"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIC/zCCAeegAwIBAgIB\n-----END CERTIFICATE-----\n"
SECRET = "s3cr3t-Wort/42=="


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "said",
    [
        f"password: {SECRET}",
        f'"password": "{SECRET}"',
        f"client-key-data: {SECRET}",
        f"    token: {SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"authorization='Basic {SECRET}'",
        f"AccountingStoragePass={SECRET}",
        f"JobCompPass = {SECRET}",
        f"NEXUS_PASSWORD={SECRET}",
        f"export ADMIN_TOKEN='{SECRET}'",
        "https://admin:s3cr3t-Wort@registry.local/v2/",
        f"--password={SECRET} --verbose",
        f"--creds {SECRET}",
        json.dumps({"auths": {"registry.local": {"auth": SECRET}}}),
        json.dumps({"said": json.dumps({"password": SECRET})}),
        KEY.replace("qqqq", SECRET),
        json.dumps(KEY.replace("qqqq", SECRET)),
        f"{DASHES}BEGIN {KIND}{DASHES}\n{SECRET}",
    ],
)
def test_a_secret_is_taken_out(said: str) -> None:
    """Whatever it stands in: YAML, JSON, JSON in JSON, settings, a command line, a URL, a key that was cut off."""
    assert "s3cr3t" in said
    shown = redact.text(said)
    assert "s3cr3t" not in shown
    assert redact.GONE in shown


@pytest.mark.parametrize("said", [coded(KEY), f'"client-data": "{coded(KEY)}"', coded(KEY)[:101]])
def test_a_key_in_base64_is_taken_out(said: str) -> None:
    """A private key that somebody embedded, even a part of one."""
    assert coded(KEY)[24:60] not in redact.text(said)


def test_a_token_of_a_service_account_is_taken_out() -> None:
    """A JSON web token has a form of its own, wherever it is."""
    token = ".".join(coded(part).rstrip("=") for part in ('{"alg":"RS256"}', '{"sub":"me"}', "signature"))
    assert token[4:] not in redact.text(f"kubectl said: {token}, and ended")


@pytest.mark.parametrize(
    "said",
    [
        "AuthType=auth/munge",
        "SlurmctldLogFile=/var/log/slurm/slurmctld.log",
        '"secretName": "webhook-server-cert"',
        '{"name":"cert","secret":{"defaultMode":420}}',
        "registry.secret: nexus/nexus-admin-credential",
        "the password was changed in Nexus",
        "tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token",
        "https://registry.local:443/v2/dws/manifests/0.0.20",
        "passed: 12",
        "2026-11-23T20:48:06Z\tINFO\tcontrollers.Workflow\tLooking at the Workflow",
        coded(CERTIFICATE),
        CERTIFICATE,
    ],
)
def test_what_is_no_secret_stays(said: str) -> None:
    """Names of Secrets, paths, certificates and sentences are what helps."""
    assert redact.text(said) == said or said.startswith("registry.secret")


def test_objects_lose_secrets_by_key_and_by_variable() -> None:
    """A container's environment names its variables beside their values; a Secret's name is none."""
    pod = {
        "spec": {
            "containers": [
                {"env": [{"name": "DB_PASSWORD", "value": SECRET}, {"name": "LEVEL", "value": "debug"}]},
            ],
            "volumes": [{"name": "cert", "secret": {"secretName": "webhook-server-cert"}}],
        },
        "data": {"password": SECRET, "said": f"token: {SECRET}"},
    }
    seen = redact.data(pod)
    assert "s3cr3t" not in json.dumps(seen)
    assert seen["spec"]["containers"][0]["env"][1] == {"name": "LEVEL", "value": "debug"}
    assert seen["spec"]["volumes"] == pod["spec"]["volumes"]  # type: ignore[index]


def test_taking_out_twice_is_taking_out_once() -> None:
    """What was redacted as an object is redacted as text again, and stays readable."""
    once = redact.text(f"password: {SECRET}\nnext: line\ncurl --token={SECRET} --creds {SECRET} here")
    assert redact.text(once) == once
