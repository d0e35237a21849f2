"""Which certificate of the cluster's CA signs, how long it lasts, and what the kubeconfig trusts: with the real openssl."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from dws_on_csm.commands import certificate_fixes
from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.domain import certificates
from dws_on_csm.model.step import Facts, Finding, ShellLook, StepContext
from dws_on_csm.stages.access import kubeconfig, rbac, signing
from tests.unit.authority import Authority, _made, _name, authority, found, pem, private
from tests.unit.domain.test_certificates import signed

pytestmark = pytest.mark.slow

OLD, NEW = authority("old", 40), authority("kubernetes", 100)
_OLD_KEY = serialization.load_pem_private_key(OLD.key, None)
AGAIN = Authority(OLD.key, _made("old", _OLD_KEY.public_key(), _name("old"), _OLD_KEY, 400, 1))
"""The CA `old`, renewed with its key."""


@cache
def csr() -> bytes:
    """A request to sign; its RSA key takes longer to make than all else in a test."""
    return certificates.request("slurm-dws").csr


def crlf(text: bytes) -> bytes:
    return text.replace(b"\n", b"\r\n")


BUNDLES: dict[str, Callable[[bytes, bytes], bytes]] = {
    "alone": lambda old, new: new,
    "the old one first": lambda old, new: old + new,
    "the new one first": lambda old, new: new + old,
    "twice": lambda old, new: old + new + old + new,
    "CRLF": lambda old, new: crlf(old + new),
    "comments and blank lines": lambda old, new: (
        b"\n# CA f\xfcr \xc3\xbc\n" + old + b"\n\n subject=CN = x\n" + new + b"\nend\n"
    ),
    "no newline at the end": lambda old, new: old.rstrip() + b"\n" + new.rstrip(),
    "no newline between": lambda old, new: old.rstrip() + new,
    "something else before": lambda old, new: NEW.key.replace(b"PRIVATE KEY", b"OTHER") + old + new,
    "a damaged one before": lambda old, new: (
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" + old + new
    ),
    "an expired one": lambda old, new: authority("gone", -0.5).certificate + old + new,
    "an intermediate after its root": lambda old, new: old + OLD.sign("between", 30) + new,
}


def folder_of(folder: Path, ca: bytes, key: bytes) -> StepContext:
    """A master whose master.pki has these."""
    (folder / "ca.crt").write_bytes(ca)
    (folder / "ca.key").write_bytes(key)
    site = load(DEFAULT)
    return StepContext(replace(site, master=replace(site.master, pki=str(folder))), Facts(), "ncn-m001")


def told(ctx: StepContext) -> tuple[tuple[Finding, ...], str]:
    """What the preflight's check says: its findings, and its note."""
    look = signing.CHECK.look(ctx)
    assert isinstance(look, ShellLook) and signing.CHECK.note
    done = subprocess.run(["sh", "-c", f"set -eu\n{look.script}"], capture_output=True, check=True, timeout=30)
    assert done.stderr == b""
    have = look.parse(done.stdout)
    return tuple(signing.CHECK.judge(ctx, have)), signing.CHECK.note(ctx, have)


@pytest.mark.parametrize("shape", BUNDLES)
def test_the_certificate_of_the_key_signs(tmp_path: Path, shape: str) -> None:
    """Whatever else is in ca.crt, and wherever it is; the certificate ends with its CA, and the preflight says so with the date."""
    ca = BUNDLES[shape](OLD.certificate, NEW.certificate)
    made = signed(tmp_path, Authority(NEW.key, ca), csr())
    assert made.returncode == 0, made.stderr
    signer = certificates.signer(made.stdout, NEW.certificate)
    assert signer and certificates.read(made.stdout).until == signer.until
    findings, note = told(folder_of(tmp_path, ca, NEW.key))
    assert findings == ()
    assert note == (
        f"the cluster's CA ends on {signer.until:%Y-%m-%d}, in 99 days: new certificates end then, not after 500 days"
        " (access.days)"
    )


@pytest.mark.parametrize("shape", BUNDLES)
def test_the_kubeconfig_trusts_all_of_them(shape: str) -> None:
    """The kubeconfig has each certificate once, as PEM alone, the admin's own first; order and text between do not matter."""
    ca = BUNDLES[shape](OLD.certificate, NEW.certificate)
    cluster = rbac.CLUSTER_CHECK
    look = cluster.look(StepContext(load(DEFAULT), Facts(), "m"))
    assert isinstance(look, ShellLook)
    have = look.parse(b"kubernetes https://api:6443 " + base64_of(NEW.certificate) + b"\n" + ca)
    assert list(cluster.judge(StepContext(load(DEFAULT), Facts(), "m"), have)) == []
    trusts = certificates.bundle(have["trusts"].encode())
    assert trusts[0] == NEW.certificate
    assert set(trusts) >= ({NEW.certificate} if shape == "alone" else {OLD.certificate, NEW.certificate})
    assert have["trusts"].encode() == b"".join(trusts) and len(set(trusts)) == len(trusts)
    ctx = StepContext(load(DEFAULT), Facts({"access.cluster": {"m": have}}), "c1")
    file = {**found(NEW.sign("slurm-dws", 10)), "certificate-authority-data": base64_of(ca).decode()}
    assert kubeconfig.trust(ctx, file) == kubeconfig.OF_CLUSTER  # type: ignore[arg-type]
    file["certificate-authority-data"] = base64_of(authority("other").certificate).decode()
    assert kubeconfig.trust(ctx, file) == kubeconfig.OF_OTHER  # type: ignore[arg-type]


def base64_of(content: bytes) -> bytes:
    return base64.b64encode(content)


def test_of_several_of_the_key_the_one_that_ends_last_signs(tmp_path: Path) -> None:
    """Of a CA that was renewed with its key, the certificate that ends last signs, whether the old one has expired or not."""
    for ca in (OLD.certificate + AGAIN.certificate, AGAIN.certificate + OLD.certificate):
        made = signed(tmp_path, Authority(OLD.key, ca), csr())
        assert certificates.within_ca(made.stdout, ca).days_left == 399


KEYS: dict[str, Callable[[], Any]] = {
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "EC": lambda: ec.generate_private_key(ec.SECP384R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}
FORMS = [(name, "PKCS8") for name in KEYS] + [(name, "TraditionalOpenSSL") for name in ("RSA", "EC")]


@pytest.mark.parametrize(("kind", "form"), FORMS)
def test_every_kind_of_key_signs(tmp_path: Path, kind: str, form: str) -> None:
    """RSA, EC and Ed25519 keys sign, in both forms of files."""
    key = KEYS[kind]()
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else "default"
    ca = self_signed(key, algorithm)
    file = key.private_bytes(
        serialization.Encoding.PEM, getattr(serialization.PrivateFormat, form), serialization.NoEncryption()
    )
    made = signed(tmp_path, Authority(file, OLD.certificate + ca), csr())
    assert made.returncode == 0, made.stderr
    assert certificates.signed_by(made.stdout, ca)


def self_signed(key: Any, algorithm: str | None) -> bytes:
    from datetime import UTC, datetime, timedelta

    from cryptography.hazmat.primitives import hashes

    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(_name("kubernetes"), _name("kubernetes"), key.public_key(), 7)
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=100))
    made = builder.sign(key, hashes.SHA256() if algorithm else None)
    return made.public_bytes(serialization.Encoding.PEM)


def encrypted(form: Any) -> bytes:
    key = serialization.load_pem_private_key(NEW.key, None)
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"horse"))


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (encrypted(serialization.PrivateFormat.PKCS8), "is encrypted"),
        (encrypted(serialization.PrivateFormat.TraditionalOpenSSL), "is encrypted"),
        (b"", "is not a key that openssl can read"),
        (NEW.certificate, "is not a key that openssl can read"),
        (pem(private()), "belongs to the key"),
    ],
)
def test_a_key_that_signs_nothing_is_a_finding(tmp_path: Path, key: bytes, why: str) -> None:
    """An encrypted key asks no question, and a key of another CA signs nothing: the preflight says which it is."""
    ((finding,), note) = told(folder_of(tmp_path, OLD.certificate + NEW.certificate, key))
    assert (finding.name, why in finding.text, "access.via: csr" in finding.fix, note) == (
        "nobody-signs",
        True,
        True,
        "",
    )
    made = signed(tmp_path, Authority(key, OLD.certificate), csr())
    assert made.returncode != 0 and made.stdout == b"" and why.encode() in made.stderr


@pytest.mark.parametrize("missing", ["ca.key", "ca.crt"])
def test_a_missing_file_is_a_finding(tmp_path: Path, missing: str) -> None:
    """The finding names the missing file."""
    ctx = folder_of(tmp_path, NEW.certificate, NEW.key)
    (tmp_path / missing).unlink()
    ((finding,), _) = told(ctx)
    assert finding.name == "nobody-signs" and f"{tmp_path}/{missing} cannot be read" in finding.text


@pytest.mark.parametrize(("days", "text"), [(20, ", in 19 days"), (-0.5, "ended on "), (0.5, ", in 0 days")])
def test_a_ca_that_ends_too_soon_is_a_finding(tmp_path: Path, days: float, text: str) -> None:
    """A CA is refused if every run would renew its certificates, or if it has ended."""
    ca = authority("kubernetes", days)
    ((finding,), _) = told(folder_of(tmp_path, ca.certificate, ca.key))
    assert (finding.name, text in finding.text) == ("ca-ends-soon", True)
    made = signed(tmp_path, ca, csr())
    assert (made.returncode == 0) is (days > 0)
    assert days > 0 or b"expired on" in made.stderr


def test_a_certificate_counts_until_its_ca_ends() -> None:
    """An install renews it in time, and the fix is a new CA unless ca.crt has one already."""
    pem_of = OLD.sign("slurm-dws", 500)
    cluster = {"ca": OLD.certificate.decode(), "trusts": "", "name": "", "server": "https://api:6443"}
    ctx = StepContext(load(DEFAULT), Facts({"access.cluster": {"m": cluster}}), "c1")
    assert kubeconfig.read(ctx, found(pem_of))["valid"]["days left"] == 39
    assert certificate_fixes.new_certificate(OLD.sign("a", 40), OLD.certificate) == signing.RENEW_CA
    assert certificate_fixes.new_certificate(OLD.sign("a", 400), OLD.certificate) == signing.RENEW_CA
    both = OLD.certificate + NEW.certificate
    assert certificate_fixes.new_certificate(OLD.sign("a", 400), both) == certificate_fixes.NEW_CERTIFICATE
    assert certificate_fixes.new_certificate(OLD.sign("a", 10), OLD.certificate) == certificate_fixes.NEW_CERTIFICATE
