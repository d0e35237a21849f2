"""Login with the keys of the agent and of files, in ssh's order; an error names each key that was tried."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from paramiko import AuthenticationException, BadAuthenticationType, PKey, SSHException, Transport
from paramiko.agent import AgentSSH
from paramiko.pkey import PublicBlob, UnknownKeyType

from dws_on_csm.model.errors import Unreachable
from dws_on_csm.transport.ssh_config import Destination

Candidate = tuple[str, PKey]
"""A key's name for people, and the key."""


class _Agent(AgentSSH):
    """The agent at a socket. Paramiko's own Agent reads its path from the environment, which all threads share."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        self._socket.connect(path)
        self._connect(self._socket)  # type: ignore[attr-defined]

    def close(self) -> None:
        self._socket.close()


class Login:
    """Tries the keys that ssh would try, in its order; `tried` has the result of each.

    This is the auth_strategy of SSHClient.connect.
    """

    def __init__(self, to: Destination) -> None:
        self._to = to
        self._agent: _Agent | None = None
        self.tried: list[str] = []

    def authenticate(self, transport: Transport) -> None:
        """Logs in. Raises Unreachable when the host accepts no key."""
        try:
            for name, key in self._candidates():
                if self._accepted(transport, name, key):
                    return
            raise self._refused("the host accepted no key")
        finally:
            if self._agent:
                self._agent.close()

    def _accepted(self, transport: Transport, name: str, key: PKey) -> bool:
        try:
            more = transport.auth_publickey(self._to.user, key)
        except BadAuthenticationType as error:
            raise self._refused(f"the host does not accept keys, only {', '.join(error.allowed_types)}") from error
        except AuthenticationException as error:
            self.tried.append(f"{name} (refused)")
            if not transport.is_active():
                raise self._refused("the host disconnected after too many keys (MaxAuthTries)") from error
            return False
        except SSHException as error:
            raise self._refused(f"{name}: {error}") from error
        if more:
            raise self._refused(f"the host accepted {name}, but requires more than a key: {', '.join(more)}")
        return True

    def _refused(self, text: str) -> Unreachable:
        to = self._to
        tried = "; ".join(self.tried) or "none found"
        unsupported = [keyword for keyword in to.unsupported if keyword in _OTHER_WAYS]
        more = f"; this tool does not support {' and '.join(unsupported)} of ssh_config" if unsupported else ""
        fix = f"make `ssh -o BatchMode=yes {to.user}@{to.name}` work with a key: name it with IdentityFile in "
        fix += (
            f"ssh_config, load it into the agent (ssh-add), or add it to the authorized_keys of {to.user} on the host"
        )
        return Unreachable(to.name, f"login as {to.user} failed: {text}. Keys tried: {tried}{more}", fix)

    def _candidates(self) -> Iterator[Candidate]:
        """The agent's keys that ssh_config names, the agent's other keys, then files; each key once."""
        public = [blob for path in self._to.identities if (blob := _public(path))]
        ours = {key.asbytes(): (name, key) for name, key in self._of_agent()}
        named = [blob for blob in public if blob in ours]
        others = [] if self._to.identities_only else [blob for blob in ours if blob not in named]
        yield from (ours[blob] for blob in (*named, *others))
        for path in self._to.identities:
            if path.is_file() and _public(path) not in ours:
                yield from self._of_file(path)

    def _of_agent(self) -> Iterator[Candidate]:
        if not self._to.agent:
            return
        try:
            self._agent = _Agent(self._to.agent)
        except (OSError, SSHException) as error:
            self.tried.append(f"agent {self._to.agent} ({error})")
            return
        for key in self._agent.get_keys():
            yield f"{key.comment or key.get_name()} of the agent", key

    def _of_file(self, path: Path) -> Iterator[Candidate]:
        """The key in `path`: with each of its certificates first, then without."""
        try:
            key = PKey.from_path(path)
        except (OSError, ValueError, TypeError, UnknownKeyType, SSHException) as error:
            self.tried.append(f"{path} ({_reason(error)})")
            return
        if key.get_name() == "ssh-rsa" and key.get_bits() < self._to.rsa_bits:
            self.tried.append(f"{path} (shorter than RequiredRSASize {self._to.rsa_bits})")
            return
        for certificate in self._to.certificates:
            if certificate.is_file() and _certifies(certificate, key):
                key.load_certificate(str(certificate))
                yield str(certificate), key
        if key.public_blob:
            yield f"{path}-cert.pub", key
            key.public_blob = None
        yield str(path), key


_OTHER_WAYS = ("PKCS11Provider", "GSSAPIAuthentication", "HostbasedAuthentication")


def _public(path: Path) -> bytes | None:
    """The public key next to the private key in `path`, or in `path` itself; None without one."""
    for file in (path.with_name(path.name + ".pub"), path):
        with suppress(OSError, ValueError):  # the file is missing or no public key: try the next
            return PublicBlob.from_file(str(file)).key_blob
    return None


def _certifies(certificate: Path, key: PKey) -> bool:
    """Whether the certificate is for this key: it contains the key's numbers, after its own type and a nonce."""
    numbers = key.asbytes()[4 + len(key.get_name()) :]
    with suppress(OSError, ValueError):  # an unreadable certificate is for no key
        return numbers in PublicBlob.from_file(str(certificate)).key_blob
    return False


def _reason(error: Exception) -> str:
    if isinstance(error, TypeError):  # raised by cryptography where a key needs a password
        return "locked by a passphrase; load it with ssh-add"
    return str(error).partition("\n")[0] or type(error).__name__
