"""Keys, certificates and kubeconfigs: made and read in memory; no file is touched here."""

from __future__ import annotations

import base64
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from dws_on_csm.model.remembered import remembered
from dws_on_csm.model.secret import Secret

ASKED = 256
"""How many questions about certificates are remembered: each step that deals with a controller's access asks the same."""


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
    """A random serial number in the form of openssl's serial files: 32 hexadecimal digits, positive, never 0."""
    return f"{secrets.randbits(127) | 1:032x}"


@dataclass(frozen=True)
class Certificate:
    """The content of a certificate. `subject` and `issuer` as in RFC 4514 ("CN=kubernetes"), `serial` in hexadecimal.

    days_left   whole days until it expires, rounded down: negative once it has expired
    """

    common_name: str
    subject: str
    issuer: str
    since: datetime
    until: datetime
    days_left: int
    serial: str


def read(pem: bytes) -> Certificate:
    """The content of the first certificate in `pem`. Raises ValueError where `pem` is not a certificate."""
    content = _content(pem)
    return replace(content, days_left=(content.until - datetime.now(UTC)).days)


@remembered(ASKED)
def _content(pem: bytes) -> Certificate:
    """As read(), without `days_left`, which changes with time."""
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(pem)
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return Certificate(
        common_name=str(names[0].value) if names else "",
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        since=certificate.not_valid_before_utc,
        until=certificate.not_valid_after_utc,
        days_left=0,
        serial=f"{certificate.serial_number:x}",
    )


def common_name(pem: bytes) -> str:
    """The common name of a certificate; "" where `pem` is not a certificate."""
    try:
        return read(pem).common_name
    except ValueError:
        return ""


_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def bundle(text: bytes) -> tuple[bytes, ...]:
    """The different certificates (PEM) in a file of several, in its order, without what is between them.

    What is not a certificate is left out: Go's crypto/x509 (AppendCertsFromPEM), which reads such files for the API server and for
    kubectl, does so too.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    pems: dict[bytes, None] = {}
    for block in _BLOCK.findall(text):
        with suppress(ValueError):
            pems[x509.load_pem_x509_certificate(block).public_bytes(serialization.Encoding.PEM)] = None
    return tuple(pems)


def signer(pem: bytes, ca: bytes) -> Certificate | None:
    """The certificate in `ca` that signed `pem`, by signature and names; None where none did. Of several, for instance of a CA that
    was renewed with its key, the one that ends last."""
    return max(map(read, _signers(pem, ca)), key=lambda issuer: issuer.until, default=None)


@remembered(ASKED)
def _signers(pem: bytes, ca: bytes) -> tuple[bytes, ...]:
    """The certificates in `ca` (PEM) that signed `pem`."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    certificate = x509.load_pem_x509_certificate(pem)
    issuers = []
    for part in bundle(ca):
        try:
            certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(part))
        except (ValueError, TypeError, InvalidSignature):
            continue
        issuers.append(part)
    return tuple(issuers)


def within_ca(pem: bytes, ca: bytes) -> Certificate:
    """The certificate `pem`, ending with the CA that signed it where that ends earlier: the API server accepts it no longer.

    Raises ValueError where `pem` is not a certificate.
    """
    certificate, issuer = read(pem), signer(pem, ca)
    if issuer is None or issuer.until >= certificate.until:
        return certificate
    return replace(certificate, until=issuer.until, days_left=issuer.days_left)


def of_a_client(pem: bytes) -> bool:
    """Whether a certificate may be a client's: it says so, or does not say what it is for. A server's can be copied by anybody."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    try:
        usage = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    except ValueError:
        return False
    return ExtendedKeyUsageOID.CLIENT_AUTH in usage


def signed_by(pem: bytes, ca: bytes) -> bool:
    """Whether one of the certificates in `ca` signed `pem`."""
    return bool(_signers(pem, ca))


def kubeconfig(
    cluster: str, server: str, ca: bytes, user: str, namespace: str, certificate: bytes, key: Secret
) -> Secret:
    """A kubeconfig with embedded certificate, key and CA; its user and its context both have the name `user`."""

    def embedded(content: bytes) -> str:
        return base64.b64encode(content).decode()

    at = {"certificate-authority-data": embedded(ca), "server": server}
    who = {"client-certificate-data": embedded(certificate), "client-key-data": embedded(key.reveal())}
    return Secret(_kubeconfig(cluster, at, user, namespace, who).encode())


def token_kubeconfig(cluster: str, server: str, ca_file: str, user: str, namespace: str, token_file: str) -> str:
    """A kubeconfig that names the files with the CA and with a token, and holds no secret; user and context are named `user`."""
    at = {"certificate-authority": ca_file, "server": server}
    return _kubeconfig(cluster, at, user, namespace, {"tokenFile": token_file})


def _kubeconfig(cluster: str, at: dict[str, str], user: str, namespace: str, who: dict[str, str]) -> str:
    import yaml

    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": cluster, "cluster": at}],
            "contexts": [{"name": user, "context": {"cluster": cluster, "namespace": namespace, "user": user}}],
            "current-context": user,
            "users": [{"name": user, "user": who}],
        },
        sort_keys=False,
    )
