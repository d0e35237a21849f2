"""An ssh-agent whose keys can be of any kind, slow, or broken; keys of FIDO devices work, as if somebody touched them."""

from __future__ import annotations

import hashlib
import socket
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from paramiko import Message

from dws_on_csm.transport import auth, public_keys

APPLICATION = b"ssh:"
REFUSED = bytes([5])


@dataclass
class Key:
    """A key of an agent. `delay`: seconds until it signs; `broken`: it never does (its card was removed)."""

    blob: bytes
    name: str = ""
    private: object = None
    delay: float = 0.0
    broken: bool = False

    @property
    def line(self) -> str:
        """Its line of authorized_keys."""
        return f"{public_keys.PublicKey(self.blob).kind} {_base64(self.blob)}\n"


@dataclass
class FakeAgent:
    """A running agent at `path`. `signed` has the names of the keys that were asked to sign."""

    path: Path
    keys: Sequence[Key]
    signed: list[str] = field(default_factory=list)

    def answer(self, request: bytes) -> bytes:
        """The answer to a request of the protocol."""
        if request[:1] == bytes([11]):
            listed = b"".join(_packed(key.blob) + _packed(key.name.encode()) for key in self.keys)
            return bytes([12]) + len(self.keys).to_bytes(4, "big") + listed
        message = Message(request[1:])
        blob, data, flags = message.get_binary(), message.get_binary(), message.get_int()
        key = next((key for key in self.keys if key.blob == blob), None)
        if request[:1] != bytes([13]) or key is None:
            return REFUSED
        self.signed.append(key.name)
        time.sleep(key.delay)
        return REFUSED if key.broken else bytes([14]) + _packed(_signature(key, data, flags))


@contextmanager
def running(path: Path, keys: Sequence[Key]) -> Iterator[FakeAgent]:
    """The agent while the `with` lasts."""
    agent = FakeAgent(path, keys)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(32)
        thread = threading.Thread(target=_accept, args=(listener, agent), daemon=True)
        thread.start()
        yield agent
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def of_file(path: Path, **more: object) -> Key:
    """The key in a file, as an agent's."""
    private = auth.private_key(path)
    return Key(private.asbytes(), path.name, private, **more)  # type: ignore[arg-type]


def certificate(path: Path, key: Path) -> Key:
    """The certificate in the file `path`, signed for by the private key in `key`."""
    public = public_keys.of_public_file(path)
    assert public
    return Key(public.blob, path.name, auth.private_key(key))


def fido(kind: str = "ed25519") -> Key:
    """A key of a FIDO device: sk-ssh-ed25519 or, for "ecdsa", sk-ecdsa-sha2-nistp256."""
    if kind == "ed25519":
        private = ed25519.Ed25519PrivateKey.generate()
        point = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        fields = (b"sk-ssh-ed25519@openssh.com", point, APPLICATION)
        return Key(b"".join(map(_packed, fields)), "fido", private)
    other = ec.generate_private_key(ec.SECP256R1())
    point = other.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    fields = (b"sk-ecdsa-sha2-nistp256@openssh.com", b"nistp256", point, APPLICATION)  # type: ignore[assignment]
    return Key(b"".join(map(_packed, fields)), "fido", other)


def fido_file(key: Key) -> str:
    """The file of an sk-ssh-ed25519 key: it has the handle by which the device knows the key, and no secret."""
    handle = (b"\1", _packed(b"handle"), _packed(b""))  # its flag: a touch is needed
    private = b"".join((bytes(8), key.blob, *handle, _packed(b"fido")))
    private += bytes(range(1, 1 + -len(private) % 8))
    head = b"".join(map(_packed, (b"none", b"none", b""))) + (1).to_bytes(4, "big")
    lines = textwrap.wrap(_base64(b"openssh-key-v1\0" + head + _packed(key.blob) + _packed(private)), 70)
    begin, end = (f"-----{word} OPENSSH PRIVATE KEY-----" for word in ("BEGIN", "END"))
    return "\n".join((begin, *lines, end)) + "\n"


def _accept(listener: socket.socket, agent: FakeAgent) -> None:
    while True:
        try:
            link, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(link, agent), daemon=True).start()


def _serve(link: socket.socket, agent: FakeAgent) -> None:
    with link, suppress(OSError):  # the client has left
        while size := int.from_bytes(link.recv(4, socket.MSG_WAITALL), "big"):
            answer = agent.answer(link.recv(size, socket.MSG_WAITALL))
            link.sendall(_packed(answer))


def _signature(key: Key, data: bytes, flags: int) -> bytes:
    touched = (1).to_bytes(1, "big") + (7).to_bytes(4, "big")  # somebody was there; the device's counter
    signed = hashlib.sha256(APPLICATION).digest() + touched + hashlib.sha256(data).digest()
    if isinstance(key.private, ed25519.Ed25519PrivateKey):
        return _packed(b"sk-ssh-ed25519@openssh.com") + _packed(key.private.sign(signed)) + touched
    if isinstance(key.private, ec.EllipticCurvePrivateKey):
        r, s = decode_dss_signature(key.private.sign(signed, ec.ECDSA(hashes.SHA256())))
        inner = Message()
        inner.add_mpint(r)
        inner.add_mpint(s)
        return _packed(b"sk-ecdsa-sha2-nistp256@openssh.com") + _packed(inner.asbytes()) + touched
    algorithm = {2: "rsa-sha2-256", 4: "rsa-sha2-512"}.get(flags, "ssh-rsa")
    signature: bytes = key.private.sign_ssh_data(data, algorithm).asbytes()  # type: ignore[attr-defined]
    return signature


def _packed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _base64(data: bytes) -> str:
    import base64

    return base64.b64encode(data).decode()
