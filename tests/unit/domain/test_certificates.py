"""Keys and certificates: how they are read, and what the real openssl signs."""

from __future__ import annotations

import subprocess
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from dws_on_csm.domain import certificates
from dws_on_csm.model import render
from tests.unit.authority import Authority, authority


def signed(
    folder: Path, ca: Authority, csr: bytes, days: int = 500, serial: str = ""
) -> subprocess.CompletedProcess[bytes]:
    """The certificate that the master's script makes from a request."""
    (folder / "ca.crt").write_bytes(ca.certificate)
    (folder / "ca.key").write_bytes(ca.key)
    settings = {
        "pki": str(folder),
        "STATE": str(folder / "state"),
        "serial": serial or certificates.serial(),
        "before": "300",
        "days": str(days),
    }
    script = "set -eu\numask 077\n" + render.script("lib/temporary.sh", "master/ca.sh", "master/sign.sh", **settings)
    return subprocess.run(["sh", "-c", script], input=csr, capture_output=True, check=False, timeout=30)


def test_what_openssl_signs_is_a_client_certificate_for_the_new_key(tmp_path: Path) -> None:
    """It has the requested name, key and days, is for clients only, and began five minutes ago."""
    asked, serial = certificates.request("slurm-dws"), certificates.serial()
    pem = signed(tmp_path, authority(), asked.csr, serial=serial).stdout
    read, whole = certificates.read(pem), x509.load_pem_x509_certificate(pem)
    assert (read.subject, read.issuer, read.serial) == ("CN=slurm-dws", "CN=kubernetes", f"{int(serial, 16):x}")
    assert read.days_left == 499
    assert abs(read.since - datetime.now(UTC) + timedelta(seconds=300)) < timedelta(seconds=20)
    assert certificates.signed_by(pem, authority().certificate)
    usages = whole.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert whole.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    key = serialization.load_pem_private_key(asked.key.reveal(), None)
    assert isinstance(key, rsa.RSAPrivateKey) and key.public_key() == whole.public_key()


def test_signing_leaves_nothing_on_the_master(tmp_path: Path) -> None:
    """Afterwards, the CA's folder has no serial file and no copy."""
    assert signed(tmp_path, authority(), certificates.request("slurm-dws").csr).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ca.crt", "ca.key", "state"]
    assert list((tmp_path / "state/parts").iterdir()) == []


def test_openssls_message_is_reported_when_it_does_not_sign(tmp_path: Path) -> None:
    """An invalid request ends the script with openssl's own message on standard error, and nothing is signed."""
    told = signed(tmp_path, authority(), b"no request\n")
    assert told.returncode != 0 and told.stdout == b"" and b"request" in told.stderr.lower()


@pytest.mark.parametrize("_", range(20))
def test_serials_are_as_openssl_reads_them(_: int) -> None:
    """32 hexadecimal digits, positive as X.509 has it."""
    serial = certificates.serial()
    assert len(serial) == 32 and 0 < int(serial, 16) < 1 << 127


@pytest.mark.parametrize(("days", "left"), [(10.5, 10), (0.5, 0), (-0.5, -1)])
def test_days_left_are_whole_ones(days: float, left: int) -> None:
    """Only whole days count; an expired certificate has a negative number."""
    assert certificates.read(authority().sign("a", days, 20)).days_left == left


def test_the_signer_is_recognized_among_several_authorities() -> None:
    """The file of a renewed CA has two certificates; the one that signed is returned, or None."""
    old, new, other = authority("old", 20), authority("new"), authority("other")
    both = old.certificate + new.certificate
    found = certificates.signer(old.sign("a", 10), both)
    assert found and found.subject == "CN=old" and found.days_left == 19
    assert certificates.signer(other.sign("a", 10), both) is None


def test_an_authority_of_the_same_name_is_not_the_same() -> None:
    """The signature counts, not the name: a cluster that was installed again has a CA of the same name."""
    before = Authority(authority("one").key, authority("kubernetes", 100).certificate)
    assert not certificates.signed_by(before.sign("a", 10), authority("kubernetes", 100).certificate)


@pytest.mark.parametrize("pem", [b"", b"nothing", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_invalid_certificates(pem: bytes) -> None:
    """It is a ValueError, and names nobody."""
    with pytest.raises(ValueError):
        certificates.read(pem)
    assert certificates.common_name(pem) == ""


def test_a_kubeconfig_has_everything_in_it() -> None:
    """Cluster, user and context fit together, and certificate and key are embedded unchanged."""
    asked = certificates.request("me")
    made = yaml.safe_load(
        certificates.kubeconfig("c", "https://api:6443", b"CA", "me", "ns", b"PEM", asked.key).reveal()
    )
    assert made["current-context"] == "me"
    assert made["contexts"] == [{"name": "me", "context": {"cluster": "c", "namespace": "ns", "user": "me"}}]
    assert made["clusters"][0]["cluster"] == {"certificate-authority-data": "Q0E=", "server": "https://api:6443"}
    assert set(made["users"][0]["user"]) == {"client-certificate-data", "client-key-data"}


def test_a_certificate_that_is_asked_about_again_is_not_verified_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answers stay; only the days that are left follow the clock."""
    ca = authority().certificate
    pem = signed(tmp_path, authority(), certificates.request("slurm-dws").csr).stdout
    before = certificates.read(pem), certificates.signer(pem, ca)

    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Later:
            return cls.fromtimestamp(time.time() + 3 * 86400, tz)

    def again(*args: object) -> None:
        raise AssertionError("it is parsed again")

    monkeypatch.setattr(certificates, "datetime", Later)
    monkeypatch.setattr(x509, "load_pem_x509_certificate", again)
    assert certificates.signed_by(pem, ca)
    for old, new in zip(before, (certificates.read(pem), certificates.signer(pem, ca)), strict=True):
        assert old and new and new == replace(old, days_left=old.days_left - 3)
