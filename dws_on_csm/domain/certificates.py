"""Keys and certificates: made in memory, read from a kubeconfig; nothing here touches a file."""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dws_on_csm.model.secret import Secret

if TYPE_CHECKING:
    from cryptography import x509


@dataclass(frozen=True)
class Request:
    """A new key (PEM, PKCS 8) and the request to sign it (PEM)."""

    key: Secret
    csr: bytes


def request(common_name: str) -> Request:
    """A new RSA 2048 key and a certificate signing request for `common_name`."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Request(Secret(pem), csr.public_bytes(serialization.Encoding.PEM))


def serial() -> str:
    """A random serial number as openssl reads it from a file: 32 hexadecimal digits, positive, never 0."""
    return f"{secrets.randbits(127) | 1:032x}"


@dataclass(frozen=True)
class Certificate:
    """What a certificate says of itself. `subject` and `issuer` as in RFC 4514 ("CN=kubernetes"), `serial` in hexadecimal.

    days_left   whole days until its end, rounded down: negative when it is over
    """

    common_name: str
    subject: str
    issuer: str
    since: datetime
    until: datetime
    days_left: int
    serial: str


def read(pem: bytes) -> Certificate:
    """What is in a certificate, the first of several. Raises ValueError if it is none."""
    from cryptography import x509

    return _said(x509.load_pem_x509_certificate(pem))


def _said(found: x509.Certificate) -> Certificate:
    from cryptography import x509

    names = found.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return Certificate(
        common_name=str(names[0].value) if names else "",
        subject=found.subject.rfc4514_string(),
        issuer=found.issuer.rfc4514_string(),
        since=found.not_valid_before_utc,
        until=found.not_valid_after_utc,
        days_left=(found.not_valid_after_utc - datetime.now(UTC)).days,
        serial=f"{found.serial_number:x}",
    )


def common_name(pem: bytes) -> str:
    """Whom a certificate is for; "" if it is none."""
    try:
        return read(pem).common_name
    except ValueError:
        return ""


def signer(pem: bytes, ca: bytes) -> Certificate | None:
    """Which of the certificates in `ca` signed `pem`, by signature and names; None if none did."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    certificate = x509.load_pem_x509_certificate(pem)
    for issuer in x509.load_pem_x509_certificates(ca):
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return _said(issuer)
    return None


def signed_by(pem: bytes, ca: bytes) -> bool:
    """Whether one of the certificates in `ca` signed `pem`."""
    return signer(pem, ca) is not None


def kubeconfig(
    cluster: str, server: str, ca: bytes, user: str, namespace: str, certificate: bytes, key: Secret
) -> Secret:
    """A kubeconfig with everything embedded, user and context both named `user`; YAML that is JSON in its values."""
    import yaml

    def embedded(content: bytes) -> str:
        return base64.b64encode(content).decode()

    text = yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": cluster, "cluster": {"certificate-authority-data": embedded(ca), "server": server}}],
            "contexts": [{"name": user, "context": {"cluster": cluster, "namespace": namespace, "user": user}}],
            "current-context": user,
            "users": [
                {
                    "name": user,
                    "user": {
                        "client-certificate-data": embedded(certificate),
                        "client-key-data": embedded(key.reveal()),
                    },
                }
            ],
        },
        sort_keys=False,
    )
    return Secret(text.encode())
