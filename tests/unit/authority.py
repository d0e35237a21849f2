"""A certificate authority for tests: certificates of any name and time, and kubeconfigs as a look finds them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from dws_on_csm.config.site import Site
from dws_on_csm.model.step import Facts, StepContext
from dws_on_csm.stages.facts import Kubeconfig

MAY = ["workflows.dataworkflowservices.github.io   []   []   [create delete get list patch update watch]"]


@dataclass(frozen=True)
class Authority:
    """A CA's key and certificate, both PEM."""

    key: bytes
    certificate: bytes

    def sign(self, name: str, days: float, ago: float = 1, key: Any = None) -> bytes:
        """A certificate for `name` that ends in so many days and began so many ago; of a key that nobody has unless given."""
        signer = serialization.load_pem_private_key(self.key, None)
        issuer = x509.load_pem_x509_certificate(self.certificate).subject
        public = (key or private()).public_key()
        return _made(name, public, issuer, signer, days, ago)


@cache
def authority(name: str = "kubernetes", days: float = 3650) -> Authority:
    """A CA that ends in so many days, the same one whenever it is asked for."""
    key = private()
    return Authority(pem(key), _made(name, key.public_key(), _name(name), key, days, 1))


def private() -> ec.EllipticCurvePrivateKey:
    """A new key."""
    return ec.generate_private_key(ec.SECP256R1())


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    """A key as a file has it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def found(pem: bytes, may: list[str] = MAY, server: str = "https://api:6443") -> Kubeconfig:
    """What a look finds of a kubeconfig with this certificate."""
    return {
        "slurm_user": "slurm",
        "slurm_uid": "64030",
        "slurm_group": "64030",
        "mode": "600",
        "owner": "slurm",
        "owner_uid": "64030",
        "client-certificate-data": base64.b64encode(pem).decode(),
        "server": server,
        "may": may,
    }


def named(site: Site, name: str = "slurm-dws", **more: Any) -> Site:
    """The site with this common name and other keys of `access`."""
    return replace(site, access=replace(site.access, common_name=name, **more))


def at(site: Site, kubeconfigs: Mapping[str, Any], host: str = "c1", **more: dict[str, Any]) -> StepContext:
    """A place where this was found: host -> its kubeconfig."""
    whole = authority().certificate
    ca = base64.b64encode(whole).decode()
    found = {
        name: {"certificate-authority-data": ca, "current-context": "slurm-dws", **own}
        for name, own in kubeconfigs.items()
    }
    cluster = {"name": "kubernetes", "server": "https://api", "trusts": whole.decode(), "ca": whole.decode()}
    facts = {"access.cluster": {"m": cluster}, "access.kubeconfig": found, "preflight.before": found}
    return StepContext(
        site, Facts({**facts, **{key.replace("__", "."): {"m": value} for key, value in more.items()}}), host
    )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _made(name: str, key: Any, issuer: x509.Name, signer: Any, days: float, ago: float) -> bytes:
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=ago))
        .not_valid_after(now + timedelta(days=days))
        .sign(signer, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)
