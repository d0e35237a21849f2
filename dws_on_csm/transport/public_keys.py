"""Public keys and certificates as SSH sends them: what a key is, and which key a certificate is for."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

_FIELDS: Mapping[str, int] = {
    "ssh-ed25519": 1,
    "ecdsa-sha2-nistp256": 2,
    "ecdsa-sha2-nistp384": 2,
    "ecdsa-sha2-nistp521": 2,
    "ssh-rsa": 2,
    "ssh-dss": 4,
    "sk-ssh-ed25519@openssh.com": 2,
    "sk-ecdsa-sha2-nistp256@openssh.com": 3,
}
"""A kind of key -> how many fields it has after its kind. Source: OpenSSH's PROTOCOL.certkeys and PROTOCOL.u2f."""

CERTIFICATE = "-cert-v01@openssh.com"
_FOR_USERS = 1  # a certificate's type, in PROTOCOL.certkeys; 2 is for hosts
_KIND = b"OPENSSH PRIVATE KEY"
_PRIVATE = (b"-----BEGIN " + _KIND + b"-----", b"-----END " + _KIND + b"-----")
_MAGIC = b"openssh-key-v1\0"


@dataclass(frozen=True)
class PublicKey:
    """A public key or certificate: `blob` is what SSH sends, which begins with its kind (`ssh-ed25519`)."""

    blob: bytes

    @cached_property
    def kind(self) -> str:
        """The kind of key, `...-cert-v01@openssh.com` for a certificate. "" for what is no key."""
        kind, _ = _field(self.blob)
        return kind.decode("ascii", errors="replace")

    @property
    def certificate(self) -> bool:
        """Whether this is a certificate."""
        return self.kind.endswith(CERTIFICATE)

    @property
    def hardware(self) -> bool:
        """Whether the key is in a FIDO device, which makes its signatures."""
        return self.kind.startswith("sk-")

    @cached_property
    def plain(self) -> bytes:
        """The blob of the key itself, also for a certificate: that contains the key's fields, after a nonce."""
        if not self.certificate:
            return self.blob
        kind, fields = self._certified
        return b"".join(map(_packed, (kind.encode(), *fields)))

    @cached_property
    def for_users(self) -> bool:
        """Whether a user can log in with it: a key, or a certificate for users."""
        if not self.certificate:
            return True
        _, fields = self._certified
        _, rest = _split(self.blob, 2 + len(fields))
        return int.from_bytes(rest[8:12], "big") == _FOR_USERS  # after the serial number

    @cached_property
    def rsa_bits(self) -> int | None:
        """The bits of an RSA key, None for other kinds."""
        (kind, _, modulus), _ = _split(self.plain, 3)
        return int.from_bytes(modulus, "big").bit_length() if kind == b"ssh-rsa" else None

    @property
    def _certified(self) -> tuple[str, list[bytes]]:
        """The kind of key that this certificate is for, and the key's fields."""
        kind = self.kind.removesuffix(CERTIFICATE)
        kind = kind if kind in _FIELDS else f"{kind}@openssh.com"
        fields, _ = _split(self.blob, 2 + _FIELDS.get(kind, 0))  # the first are the certificate's kind and its nonce
        return kind, fields[2:]


def of_file(path: Path) -> PublicKey | None:
    """The public key of the private key in `path`: in `path` itself, in `path`.pub, or in the private key's file; else None.

    OpenSSH's own format has the public key in clear, also where a passphrase protects the private key.
    """
    for file in (path, path.with_name(path.name + ".pub")):
        if key := of_public_file(file):
            return key
    with suppress(OSError, ValueError):  # the file is missing or in another format
        data = path.read_bytes().partition(_PRIVATE[0])[2].partition(_PRIVATE[1])[0]
        content = base64.b64decode(data)
        if content.startswith(_MAGIC):
            _, rest = _split(content[len(_MAGIC) :], 3)  # cipher, key derivation, its options
            return _valid(_field(rest[4:])[0])  # after the number of keys
    return None


def of_public_file(path: Path) -> PublicKey | None:
    """The public key or certificate in a file like id.pub, None where there is none."""
    with suppress(OSError, ValueError):  # the file is missing or no text
        for line in path.read_text(errors="replace").splitlines():
            kind, _, rest = line.strip().partition(" ")
            words = rest.split()
            if words and not kind.startswith("#"):
                key = _valid(base64.b64decode(words[0], validate=True))
                return key if key and key.kind == kind else None
    return None


def _valid(blob: bytes) -> PublicKey | None:
    key = PublicKey(blob)
    return key if key.kind else None


def _field(blob: bytes) -> tuple[bytes, bytes]:
    """The first field of `blob`, and the rest; empty where `blob` has no such field."""
    size = int.from_bytes(blob[:4], "big")
    return (blob[4 : 4 + size], blob[4 + size :]) if 4 <= 4 + size <= len(blob) else (b"", b"")


def _split(blob: bytes, count: int) -> tuple[list[bytes], bytes]:
    """The first fields of `blob`, and the rest."""
    fields = []
    for _ in range(count):
        field, blob = _field(blob)
        fields.append(field)
    return fields, blob


def _packed(field: bytes) -> bytes:
    return len(field).to_bytes(4, "big") + field
