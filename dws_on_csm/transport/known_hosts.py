"""Whether a host key is the host's own: known_hosts as OpenSSH reads it."""

from __future__ import annotations

import base64
import binascii
import errno
import fcntl
import hashlib
import hmac
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from paramiko import HostKeys as ParamikoHostKeys
from paramiko import MissingHostKeyPolicy, PKey, SSHClient

from dws_on_csm.model.errors import NoLogin, Unreachable
from dws_on_csm.transport.ssh_config import Destination


@dataclass(frozen=True)
class Line:
    """A line of known_hosts: its file and number, its marker ("", "@revoked", "@cert-authority"), type and key."""

    file: Path
    number: int
    marker: str
    kind: str
    blob: bytes

    def __str__(self) -> str:
        return f"{self.file}:{self.number}"


def known(names: Iterable[str], files: Iterable[Path]) -> list[Line]:
    """The lines of `files` that name a host by one of `names`; lines of other hosts are not decoded.

    A file that this user can't read is left out, as by ssh; unreadable() names it.
    """
    return [line for file in files for line in _of_file(file, tuple(names))]


def unreadable(files: Iterable[Path]) -> list[str]:
    """The files that exist and can't be read, each with the reason."""
    reasons = []
    for file in files:
        try:
            if file.is_file():
                file.open("rb").close()
        except OSError as error:
            reasons.append(f"{file}: {error.strerror}")
    return reasons


def _of_file(file: Path, names: tuple[str, ...]) -> Iterator[Line]:
    try:
        if not file.is_file():
            return
        plain, others = _rows(file, file.stat().st_mtime_ns)
    except OSError:
        return  # unreadable() has it, where it matters
    rows = {row for name in names for row in plain.get(name, ())}
    rows |= {row for row in others if any(_matches(row.hosts, name) for name in names)}
    for row in sorted(rows):
        yield Line(file, row.number, row.marker, row.kind, _decoded(row.key))


class _Row(NamedTuple):
    number: int
    hosts: str
    marker: str
    kind: str
    key: str


Rows = tuple[dict[str, list[_Row]], list[_Row]]
"""Rows with plain names, by name, and the other rows: hashes and patterns, which have to be tried."""


@lru_cache(maxsize=16)  # a file of thousands of lines is read once, not for each host
def _rows(file: Path, _changed: int) -> Rows:
    plain: dict[str, list[_Row]] = {}
    others: list[_Row] = []
    for row in _read(file.read_text(errors="replace")):
        if set(row.hosts) & set("|*?!"):
            others.append(row)
        else:
            for name in row.hosts.lower().split(","):
                plain.setdefault(name, []).append(row)
    return plain, others


def _read(text: str) -> Iterator[_Row]:
    for number, line in enumerate(text.splitlines(), 1):
        marker, *fields = line.split() if line.lstrip().startswith("@") else ("", *line.split())
        if len(fields) >= 3 and not fields[0].startswith("#"):
            yield _Row(number, fields[0], marker, fields[1], fields[2])


def _matches(hosts: str, name: str) -> bool:
    if hosts.startswith("|1|"):
        salt, _, digest = hosts[3:].partition("|")
        return hmac.digest(_decoded(salt), name.encode(), "sha1") == _decoded(digest)
    patterns = hosts.lower().split(",")
    if any(_glob(pattern[1:], name) for pattern in patterns if pattern.startswith("!")):
        return False
    return any(_glob(pattern, name) for pattern in patterns if not pattern.startswith("!"))


def _glob(pattern: str, name: str) -> bool:
    """As OpenSSH matches: * and ? are wildcards; square brackets belong to a name with a port."""
    return pattern == name or fnmatchcase(name, pattern.replace("[", "[[]"))


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""  # such a line has no key, and lets no host in


class HostKeys(MissingHostKeyPolicy):
    """Accepts or refuses a host's key. Paramiko asks it about every key, since Paramiko itself gets no known hosts."""

    def __init__(self, to: Destination) -> None:
        self._to = to
        name, *without_port = to.key_names
        self._named = known([name], to.known_hosts)
        self._without_port = known(without_port, to.known_hosts)
        """What known_hosts has for the name without its port. It helps where its key is the host's; another host may have it."""

    def first(self, kinds: Iterable[str]) -> list[str]:
        """The host key algorithms `kinds`, those of known keys first: so the host shows a known key."""
        named, others = (
            {line.kind for line in lines if not line.marker} for lines in (self._named, self._without_port)
        )
        types = named or others
        return sorted(kinds, key=lambda kind: ("ssh-rsa" if kind.startswith("rsa-sha2") else kind) not in types)

    def missing_host_key(self, client: SSHClient, hostname: str, key: PKey) -> None:
        """Raises Unreachable unless `key` is the host's."""
        del client, hostname
        mine = [line for line in (*self._named, *self._without_port) if line.blob == key.asbytes()]
        if revoked := [line for line in mine if line.marker == "@revoked"]:
            text = f"its host key is revoked ({_list(dict.fromkeys(revoked))}): {_print(key)}"
            self._fail(text, "ask the host's owner for a new host key")
        if key.get_name() == "ssh-rsa" and key.get_bits() < self._to.rsa_bits:
            text = f"its RSA host key has {key.get_bits()} bits; RequiredRSASize of ssh_config is {self._to.rsa_bits}"
            self._fail(text, "give the host a longer host key, or one of another type")
        plain = [line for line in self._named if not line.marker]
        # ssh asks by the name without the port only where it knows no key by the name with it
        if any(line in (plain or self._without_port) and not line.marker for line in mine):
            return
        if plain:
            self._refuse_changed(key, plain)
        if self._to.strict == "ask":
            self._refuse_unknown(key)
        try:
            remember(self._to, key)
        except OSError as error:  # ssh warns and logs in, too
            file = next(iter(self._to.known_hosts), "known_hosts")
            text = f"its new host key could not be added to {file} ({error.strerror}): {_print(key)} is trusted for this run"
            self._to.notes.append(text)

    def _refuse_changed(self, key: PKey, plain: list[Line]) -> None:
        files = dict.fromkeys(line.file for line in plain)
        remove = " and ".join(f"`ssh-keygen -f {file} -R '{self._to.key_names[0]}'`" for file in files)
        text = f"its host key differs from the known one ({_list(plain)}): {_print(key)}. Another machine may be answering for it"
        fix = f"ask the host's owner whether that key is right; if so, run {remove}, and log in once with `{_login(self._to)}`"
        self._unproved(text, fix)

    def _refuse_unknown(self, key: PKey) -> None:
        text = f"its host key is unknown ({self._to.key_names[0]}): {_print(key)}"
        if files := unreadable(self._to.known_hosts):
            text += f"; this user can't read {', '.join(files)}"
        if others := [line for line in self._without_port if not line.marker]:
            text += f"; without its port the name has another key ({_list(others)})"
        authorities = [line for line in (*self._named, *self._without_port) if line.marker == "@cert-authority"]
        if authorities := list(dict.fromkeys(authorities)):
            text += f"; this tool does not check host certificates ({_list(authorities)})"
        if unsupported := [keyword for keyword in self._to.unsupported if keyword in _OTHER_PROOFS]:
            text += f"; only the system's ssh supports {' and '.join(unsupported)} of ssh_config"
        fix = f"compare it with the key that the host's owner names, then log in once with `{_login(self._to)}`"
        self._unproved(text, f"{fix}, which adds it to known_hosts")

    def _fail(self, text: str, fix: str) -> None:
        raise Unreachable(self._to.name, text, fix)

    def _unproved(self, text: str, fix: str) -> None:
        """Raises NoLogin where ssh has other means to know the host's key, else Unreachable."""
        certified = any(line.marker == "@cert-authority" for line in (*self._named, *self._without_port))
        settings = [keyword for keyword in self._to.unsupported if keyword in _OTHER_PROOFS]
        if certified or settings:
            means = settings or ["@cert-authority of known_hosts"]
            raise NoLogin(self._to.name, text, fix, f"only ssh checks host keys by {' and '.join(means)}")
        self._fail(text, fix)


_OTHER_PROOFS = ("VerifyHostKeyDNS", "KnownHostsCommand", "NoHostAuthenticationForLocalhost")


def _login(to: Destination) -> str:
    """The command that asks about the host's key and adds it. With StrictHostKeyChecking yes, ssh alone would refuse it."""
    return f"ssh -o StrictHostKeyChecking=ask {to.name}"


def _print(key: PKey) -> str:
    """A key as `ssh-keygen -l` shows it."""
    digest = base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")
    return f"{key.get_name()} SHA256:{digest}"


def _list(lines: Iterable[Line]) -> str:
    return ", ".join(str(line) for line in lines)


def remember(to: Destination, key: PKey) -> None:
    """Adds a key that StrictHostKeyChecking accepts to the user's first known_hosts: the complete line, or nothing."""
    file = next(iter(to.known_hosts), Path("/dev/null"))
    name = ParamikoHostKeys.hash_host(to.key_names[0]) if to.hash_names else to.key_names[0]
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    line = f"{name} {key.get_name()} {key.get_base64()}\n".encode()
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # one thread at a time
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) not in (b"\n", b""):  # a device has no last byte
            line = b"\n" + line
        if os.write(descriptor, line) < len(line):
            os.ftruncate(descriptor, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)
