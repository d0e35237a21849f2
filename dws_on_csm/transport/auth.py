"""Login with the keys of the agent and of files, in ssh's order; an error names each key that was tried."""

from __future__ import annotations

import io
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from paramiko import ECDSAKey, Ed25519Key, PKey, RSAKey, SSHException, Transport

from dws_on_csm.model.errors import NoLogin, Unreachable
from dws_on_csm.transport import public_keys, ssh_log
from dws_on_csm.transport.agent import Agent, AgentError
from dws_on_csm.transport.askpass_server import TOUCH, Waiting
from dws_on_csm.transport.public_keys import CERTIFICATE, PublicKey
from dws_on_csm.transport.ssh_config import Destination
from dws_on_csm.transport.userauth import Answer, Disconnected, UserAuth

RSA = ("rsa-sha2-512", "rsa-sha2-256", "ssh-rsa")
_OTHER_WAYS = ("PKCS11Provider", "GSSAPIAuthentication", "HostbasedAuthentication")
_ON_TERMINAL = (
    "run the same command on a terminal, where ssh asks for it, or open a master connection first (ControlMaster in "
    "ssh_config)"
)
_WITHOUT_KEY = {
    "gssapi-with-mic": "run `kinit`, and set `GSSAPIAuthentication yes` for this host in ssh_config",
    "password": _ON_TERMINAL,
    "keyboard-interactive": _ON_TERMINAL,
}
"""What a host wants in place of a key, or after it -> what to do."""

_REFUSED = " (refused)"


class NoKey(Exception):
    """A key can't be used; the message says why."""


@dataclass(frozen=True)
class Candidate:
    """A key or certificate that may be offered.

    name   its name for people
    agent  whether it is in the agent
    path   the file of its private key, if that is known
    """

    name: str
    key: PublicKey
    agent: bool = False
    path: Path | None = None


class Login:
    """Tries the keys that ssh would try, in its order; `tried` has the result of each.

    This is the auth_strategy of SSHClient.connect. `seconds`: how long all of it may take; a key that needs a touch or a PIN
    gets all of that. The host is asked first whether it takes a key of the agent, so nobody touches a key in vain.
    """

    def __init__(self, to: Destination, seconds: float, waiting: Waiting) -> None:
        self._to = to
        self._deadline_at = time.monotonic() + seconds
        self._seconds = seconds
        self._waiting = waiting
        self._agent: Agent | None = None
        self.tried: list[str] = []

    def authenticate(self, transport: Transport) -> None:
        """Logs in. Raises Unreachable when the host accepts no key."""
        try:
            self._login(UserAuth(transport, self._to.user, self._deadline_at), transport)
        except Disconnected as error:
            raise self._refused(self._farewell(str(error))) from error
        except TimeoutError as error:
            fix = f"check whether `ssh {self._to.name}` works; for more time, raise deadlines.connect in the site file"
            raise self._failed(f"timed out: the host did not answer within {self._seconds:.0f} s", fix) from error
        finally:
            if self._agent:
                self._agent.close()

    def _login(self, host: UserAuth, transport: Transport) -> None:
        answer, accepted = host.begin(), ""
        if answer.success:
            return
        self._check(answer, accepted)
        for candidate in self._candidates():
            try:
                answer = self._offer(host, transport, candidate)
            except (NoKey, AgentError) as error:
                self.tried.append(f"{candidate.name} ({error})")
                if isinstance(error, AgentError) and error.late:
                    raise self._unsigned(candidate) from error
                continue
            except Disconnected:
                self.tried.append(f"{candidate.name}{_REFUSED}")
                raise
            if answer.success:
                return
            self.tried.append(f"{candidate.name} (accepted)" if answer.partial else f"{candidate.name}{_REFUSED}")
            accepted = candidate.name if answer.partial else accepted
            self._check(answer, accepted)
        more = f"the host accepted {accepted}, but requires another key, too"
        raise self._refused(more if accepted else "the host accepted no key")

    def _check(self, answer: Answer, accepted: str) -> None:
        """Raises Unreachable where no key helps any more. `accepted`: the key that the host has taken so far."""
        if "publickey" in answer.methods:
            return
        methods = ", ".join(answer.methods) or "nothing"
        text = f"the host does not accept keys, only {methods}"
        if accepted:
            text = f"the host accepted {accepted}, but requires more than a key: {methods}"
        fixes = dict.fromkeys(_WITHOUT_KEY[method] for method in answer.methods if method in _WITHOUT_KEY)
        raise self._refused(text, "; or ".join(fixes), other_key=False)

    def _offer(self, host: UserAuth, transport: Transport, candidate: Candidate) -> Answer:
        """The host's answer to this key. Raises NoKey and AgentError where it can't sign."""
        key = candidate.key
        algorithm = self._algorithm(key, transport)
        if (bits := key.rsa_bits) is not None and bits < self._to.rsa_bits:
            raise NoKey(f"shorter than RequiredRSASize {self._to.rsa_bits}")
        sign, asks_first = self._signer(candidate)
        if asks_first and not (answer := host.asks(key.blob, algorithm)).taken:
            return answer
        signature = sign(host.challenge(key.blob, algorithm), algorithm.removesuffix(CERTIFICATE))
        return host.signs(key.blob, algorithm, signature)

    def _algorithm(self, key: PublicKey, transport: Transport) -> str:
        """The signature's algorithm: one that ssh_config allows and, if it has said so, the host. Raises NoKey."""
        allowed = self._to.algorithms.get("pubkeyacceptedalgorithms", ())
        suffix = CERTIFICATE if key.certificate else ""
        kinds = tuple(kind + suffix for kind in RSA) if key.rsa_bits is not None else (key.kind,)
        kinds = tuple(kind for kind in kinds if not allowed or kind in allowed)
        if not kinds:
            raise NoKey("PubkeyAcceptedAlgorithms in ssh_config excludes it")
        says = transport.server_extensions.get("server-sig-algs", b"")  # type: ignore[attr-defined]
        names = (says if isinstance(says, str) else says.decode(errors="replace")).split(",")
        if key.rsa_bits is None or names == [""]:
            return kinds[0]
        both = [kind for kind in kinds if kind in names or kind.removesuffix(CERTIFICATE) in names]
        if not both:
            raise NoKey("the host accepts none of the RSA algorithms that ssh_config allows")
        return both[0]

    def _signer(self, candidate: Candidate) -> tuple[Callable[[bytes, str], bytes], bool]:
        """What signs for a key, and whether the host is to be asked first. Raises NoKey."""
        if blob := self._blob_of_agent(candidate):
            agent = self._agent
            assert agent
            return lambda data, algorithm: agent.sign(candidate.name, blob, data, algorithm), True
        path = candidate.path or self._private_file(candidate.key)
        if not path:
            raise NoKey("its private key is neither in the agent nor in an IdentityFile")
        key = private_key(path)
        if key.asbytes() != candidate.key.plain:
            raise NoKey(f"{path} has another private key")
        return lambda data, algorithm: bytes(key.sign_ssh_data(data, algorithm).asbytes()), False

    def _blob_of_agent(self, candidate: Candidate) -> bytes:
        """The agent's key that signs for this one: a certificate's plain key, else itself; b"" where the agent has none."""
        blobs = (candidate.key.plain, candidate.key.blob)
        return next((blob for blob in blobs if any(key.blob == blob for _, key in self._of_agent)), b"")

    def _private_file(self, key: PublicKey) -> Path | None:
        files = (file.path for file in self._files if file.key.plain == key.plain)
        return next((path for path in files if path and path.is_file()), None)

    def _candidates(self) -> Iterator[Candidate]:
        """CertificateFile, the agent's keys that ssh_config names, the agent's others, the files that are left; each once.

        The order is that of pubkey_prepare() in OpenSSH's sshconnect2.c.
        """
        agent = [Candidate(f"{name} of the agent", key, agent=True) for name, key in self._of_agent if key.for_users]
        named = {file.key.blob for file in self._files}
        yield from self._certificates
        yield from (candidate for candidate in agent if candidate.key.blob in named)
        if not self._to.identities_only:
            yield from (candidate for candidate in agent if candidate.key.blob not in named)
        held = {candidate.key.blob for candidate in agent}
        yield from (file for file in self._files if file.key.blob not in held)

    @cached_property
    def _of_agent(self) -> list[tuple[str, PublicKey]]:
        if not self._to.agent:
            return []
        try:
            self._agent = Agent(self._to.agent, self._deadline_at, self._tell)
            return self._agent.keys()
        except AgentError as error:
            if error.late:
                fix = f"check whether `SSH_AUTH_SOCK={shlex.quote(self._to.agent)} ssh-add -l` answers; restart the agent, "
                text = f"timed out: the agent {self._to.agent} did not list its keys within {self._seconds:.0f} s"
                raise self._failed(text, f"{fix}or set `IdentityAgent none` in ssh_config") from error
            self.tried.append(f"agent {self._to.agent} ({error})")
            return []

    def _tell(self, name: str) -> None:
        self._waiting(self._to.name, f"{TOUCH}: {name}", max(self._deadline_at - time.monotonic(), 0.0))

    @cached_property
    def _certificates(self) -> list[Candidate]:
        """The certificates that CertificateFile names."""
        named = []
        for path in self._to.certificates:
            key = public_keys.of_public_file(path)
            if key and key.certificate and key.for_users:
                named.append(Candidate(str(path), key))
            else:
                self.tried.append(f"{path} (not a certificate for users)")
        return named

    @cached_property
    def _files(self) -> list[Candidate]:
        """The keys of IdentityFile, each followed by its certificate next to it, unless CertificateFile names some."""
        files = []
        for path in self._to.identities:
            try:
                key = public_keys.of_file(path) or _loaded(path)
            except NoKey as error:
                self.tried.append(f"{path} ({error})")
                continue
            files += [Candidate(str(path), key, path=path)] if key else []
            beside = path.with_name(path.name + "-cert.pub")
            certificate = None if self._to.certificates else public_keys.of_public_file(beside)
            if certificate and certificate.certificate and certificate.for_users:
                files.append(Candidate(str(beside), certificate, path=path))
        return files

    # what people are told

    def _farewell(self, words: str) -> str:
        reason = f" ({words})" if words else ""
        if self.tried:
            return f"the host disconnected after too many keys (MaxAuthTries){reason}"
        return f"the host disconnected{reason}"

    def _refused(self, text: str, fix: str = "", other_key: bool = True) -> NoLogin:
        to = self._to
        key = f"make `ssh -o BatchMode=yes {to.user}@{to.name}` work with a key: name it with IdentityFile in "
        key += (
            f"ssh_config, load it into the agent (ssh-add), or add it to the authorized_keys of {to.user} on the host"
        )
        if any(tried.endswith(_REFUSED) for tried in self.tried):
            key += f"; {ssh_log.of_sshd(to.user, to.name)}"
        error = self._failed(text, fix or key)
        return NoLogin(to.name, error.text, error.fix, text, other_key)

    def _unsigned(self, candidate: Candidate) -> Unreachable:
        fix = "touch the key, or enter its PIN, while the run waits for it; for more time, raise deadlines.connect in "
        text = f"timed out: {candidate.name} did not sign within {self._seconds:.0f} s (a touch, a PIN?)"
        return self._failed(text, f"{fix}the site file")

    def _failed(self, text: str, fix: str) -> Unreachable:
        to = self._to
        tried = "; ".join(self.tried) or "none found"
        unsupported = [keyword for keyword in to.unsupported if keyword in _OTHER_WAYS]
        more = f"; only the system's ssh supports {' and '.join(unsupported)} of ssh_config" if unsupported else ""
        return Unreachable(to.name, f"login as {to.user} failed: {text}. Keys tried: {tried}{more}", fix)


_CLASSES: Mapping[type, type[PKey]] = {
    rsa.RSAPrivateKey: RSAKey,
    ed25519.Ed25519PrivateKey: Ed25519Key,
    ec.EllipticCurvePrivateKey: ECDSAKey,
}


def private_key(path: Path) -> PKey:
    """The private key in a file of any format that OpenSSH reads: its own, PEM, PKCS#8. Raises NoKey."""
    known = public_keys.of_file(path)
    if known and known.hardware:
        raise NoKey("a key of a FIDO device; load it into the agent with ssh-add")
    try:
        data = path.read_bytes()
        load = serialization.load_ssh_private_key if b"OPENSSH PRIVATE KEY" in data else _load_pem
        loaded = load(data, None)
        kind = next(kind for base, kind in _CLASSES.items() if isinstance(loaded, base))
        # Paramiko reads only some formats: it gets the key in the one that it knows for all kinds, in memory alone
        how = (serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
        return kind.from_private_key(io.StringIO(loaded.private_bytes(*how).decode()))
    except FileNotFoundError:
        raise NoKey("its private key is neither in the agent nor in this file") from None
    except TypeError:  # raised by cryptography where a key needs a password
        raise NoKey("locked by a passphrase; load it with ssh-add") from None
    except (OSError, ValueError, StopIteration, UnsupportedAlgorithm, SSHException) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).partition("\n")[0]
        raise NoKey(reason or "of a kind that this tool does not know; load it with ssh-add") from None


def _load_pem(data: bytes, password: bytes | None) -> PrivateKeyTypes:
    return serialization.load_pem_private_key(data, password)


def _loaded(path: Path) -> PublicKey | None:
    """The public key of a private key in a file without it; None where there is no file. Raises NoKey."""
    with suppress(OSError):  # it is reported when it is read
        if not path.exists():
            return None
    return PublicKey(private_key(path).asbytes())
