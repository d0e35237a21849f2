"""Whether a host is the one that it says it is: known_hosts as OpenSSH reads it."""

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

from dws_on_csm.model.errors import Unreachable
from dws_on_csm.transport.destination import Destination


@dataclass(frozen=True)
class Line:
    """A line of known_hosts: where it stands, its marker ("", "@revoked", "@cert-authority"), type and key."""

    file: Path
    number: int
    marker: str
    kind: str
    blob: bytes

    def __str__(self) -> str:
        return f"{self.file}:{self.number}"


def known(names: Iterable[str], files: Iterable[Path]) -> list[Line]:
    """The lines of `files` that are about a host of one of these `names`; lines about others are not decoded."""
    return [line for file in files for line in _of_file(file, tuple(names))]


def _of_file(file: Path, names: tuple[str, ...]) -> Iterator[Line]:
    if not file.is_file():
        return
    plain, others = _rows(file, file.stat().st_mtime_ns)
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
"""Rows that name hosts outright, by name, and the others: hashed ones and patterns, which have to be tried."""


@lru_cache(maxsize=16)  # a file of thousands of lines is read once, not once a host
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
    """OpenSSH knows * and ? here; square brackets belong to a name with a port."""
    return pattern == name or fnmatchcase(name, pattern.replace("[", "[[]"))


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""  # such a line names no key: nothing is accepted because of it


class HostKeys(MissingHostKeyPolicy):
    """Judges the key that a host shows. Paramiko asks it for every key, since it is given no known hosts itself."""

    def __init__(self, to: Destination) -> None:
        self._to = to
        self._known = known(to.key_names, to.known_hosts)

    def first(self, kinds: Iterable[str]) -> list[str]:
        """The host key algorithms `kinds`, those first of which a key is known: so the host shows that one."""
        types = {line.kind for line in self._known if not line.marker}
        return sorted(kinds, key=lambda kind: ("ssh-rsa" if kind.startswith("rsa-sha2") else kind) not in types)

    def missing_host_key(self, client: SSHClient, hostname: str, key: PKey) -> None:
        """Raises Unreachable when `key` is not the host's."""
        del client, hostname
        mine = [line for line in self._known if line.blob == key.asbytes()]
        plain = [line for line in self._known if not line.marker]
        if revoked := [line for line in mine if line.marker == "@revoked"]:
            self._fail(
                f"shows a host key that is revoked ({_list(revoked)}): {_print(key)}", "ask its owner for a new key"
            )
        if key.get_name() == "ssh-rsa" and key.get_bits() < self._to.rsa_bits:
            text = f"shows an RSA host key of {key.get_bits()} bits; RequiredRSASize is {self._to.rsa_bits}"
            self._fail(text, "give the host a longer key, or another kind")
        if not any(line in mine for line in plain):
            self._unknown(key, plain)

    def _unknown(self, key: PKey, plain: list[Line]) -> None:
        if plain:
            self._changed(key, plain)
        if self._to.strict == "ask":
            self._strange(key)
        try:
            _remember(self._to, key)
        except OSError as error:
            text = f"its host key could not be added to {self._to.known_hosts[0]}: {error.strerror}"
            self._fail(text, "make it possible to write there, or add the key to it")

    def _changed(self, key: PKey, plain: list[Line]) -> None:
        files = dict.fromkeys(line.file for line in plain)
        remove = " and ".join(f"`ssh-keygen -f {file} -R '{self._to.key_names[0]}'`" for file in files)
        text = f"shows another host key than is known ({_list(plain)}): {_print(key)}. Somebody may be in between"
        self._fail(text, f"ask the host's owner whether that key is right; if so {remove}, and log in once with ssh")

    def _strange(self, key: PKey) -> None:
        text = f"its host key is not known ({self._to.key_names[0]}): {_print(key)}"
        if authorities := [line for line in self._known if line.marker == "@cert-authority"]:
            text += f"; certificates of hosts ({_list(authorities)}) can't be checked here"
        if unheard := [one for one in self._to.unheard if one in _OTHER_PROOFS]:
            text += f"; {' and '.join(unheard)} of ssh_config can't be honoured here"
        fix = f"compare it with what the host's owner says, then log in once: `ssh {self._to.name}`"
        self._fail(text, fix + ", which adds it to known_hosts")

    def _fail(self, text: str, fix: str) -> None:
        raise Unreachable(self._to.name, text, fix)


_OTHER_PROOFS = ("VerifyHostKeyDNS", "KnownHostsCommand", "NoHostAuthenticationForLocalhost")


def _print(key: PKey) -> str:
    """A key as `ssh-keygen -l` shows it."""
    digest = base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")
    return f"{key.get_name()} SHA256:{digest}"


def _list(lines: Iterable[Line]) -> str:
    return ", ".join(str(line) for line in lines)


def _remember(to: Destination, key: PKey) -> None:
    """Adds a key that StrictHostKeyChecking lets in unseen to the person's first known_hosts; the whole line, or nothing."""
    file = next(iter(to.known_hosts), Path("/dev/null"))
    name = ParamikoHostKeys.hash_host(to.key_names[0]) if to.hash_names else to.key_names[0]
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    line = f"{name} {key.get_name()} {key.get_base64()}\n".encode()
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # threads don't mix
        size = os.fstat(descriptor).st_size
        if os.write(descriptor, line) < len(line):
            os.ftruncate(descriptor, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)
