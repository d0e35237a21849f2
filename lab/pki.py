"""Certificates of a lab: its own CA (for registry.local and upstream), and those of its Kubernetes."""

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
Usage = Literal["client", "server"]
USAGES = {"client": ExtendedKeyUsageOID.CLIENT_AUTH, "server": ExtendedKeyUsageOID.SERVER_AUTH}
YEAR = datetime.timedelta(days=365)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Key

    @property
    def crt(self) -> bytes:
        """The certificate in PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def pem(self) -> bytes:
        """The key in PEM: a secret."""
        return private_pem(self.key)


def authority(name: str) -> Pair:
    """A new CA of that common name with an RSA key of 2048 bits, valid for ten years as kubeadm's."""
    key = rsa.generate_private_key(65537, 2048)
    subject = _subject(name, "")
    draft = _draft(subject, subject, key, 10).add_extension(x509.BasicConstraints(True, None), critical=True)
    draft = _linked(draft, key, key)
    return Pair(draft.add_extension(_key_usage(True), critical=True).sign(key, hashes.SHA256()), key)


def issue(ca: Pair, name: str, usage: Usage, organization: str = "", names: Sequence[str] = ()) -> Pair:
    """A new certificate with an EC key, signed by `ca`, for a year; `names` are its host names and addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    draft = _draft(_subject(name, organization), ca.certificate.subject, key, 1)
    draft = _linked(draft.add_extension(x509.BasicConstraints(False, None), critical=True), key, ca.key)
    draft = draft.add_extension(_key_usage(False), critical=True)
    draft = draft.add_extension(x509.ExtendedKeyUsage([USAGES[usage]]), critical=False)
    if names:
        draft = draft.add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
    return Pair(draft.sign(ca.key, hashes.SHA256()), key)


def load(crt: bytes, pem: bytes) -> Pair:
    """The pair that was written as `crt` and `pem`."""
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    return Pair(x509.load_pem_x509_certificate(crt), key)


def service_account_keys() -> tuple[bytes, bytes]:
    """The private and the public key with which service accounts' tokens are signed, in PEM."""
    key = rsa.generate_private_key(65537, 2048)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return private_pem(key), key.public_key().public_bytes(serialization.Encoding.PEM, form)


def ssh_key() -> tuple[bytes, str]:
    """A new ed25519 key for SSH: the private part in OpenSSH's form, the public part as one line without a comment."""
    key = ed25519.Ed25519PrivateKey.generate()
    form = serialization.PrivateFormat.OpenSSH
    private = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    public = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    return private, key.public_key().public_bytes(*public).decode()


def private_pem(key: Key) -> bytes:
    """A key in PEM, unencrypted, in the form that openssl and Go read."""
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _draft(subject: x509.Name, issuer: x509.Name, key: Key, years: int) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=5)
    draft = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    draft = draft.serial_number(x509.random_serial_number()).not_valid_before(now)
    return draft.not_valid_after(now + years * YEAR)


def _linked(draft: x509.CertificateBuilder, key: Key, signer: Key) -> x509.CertificateBuilder:
    """Adds the identifiers of both keys, without which a strict check refuses a certificate."""
    draft = draft.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    return draft.add_extension(issuer, critical=False)


def _subject(name: str, organization: str) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)] if organization else []
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _key_usage(signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=True,
        key_cert_sign=signs,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
