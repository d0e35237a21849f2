"""What `ssh -G` says of many hosts: hosts whose answers can't differ but in their names are asked about once.

A process of ssh for each of thousands of hosts costs more than all connections to them. What ssh says of a name can depend on
it by Host and Match, by %-tokens, and by name resolution (CanonicalizeHostname). So answers are shared only where the files that
ssh has read, as it lists them itself, have no Match but `all`, no token but %h in HostName, and no canonicalisation, and only
between names for which the same Host lines apply. Then ssh is asked about the first and the last of them, and what is made of
the first answer has to be the last, word for word. Wherever any of this is not so, ssh is asked about each host.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dws_on_csm.model.errors import Unreachable
from dws_on_csm.transport import ssh_config
from dws_on_csm.transport.ssh_config import Query, Settings
from dws_on_csm.transport.tried_once import TriedOnce

Read = Callable[[Query, float], Settings]
"""Asks about a host, within so many seconds. Raises Unreachable."""

FEWEST = 3
"""Names among which asking about two is worth it."""
MOST = 1_000_000
"""Pairs of a name and a pattern that are compared at most."""

_READ = re.compile(rb"^debug1: Reading configuration data (.+?)\r?$", re.MULTILINE)
_LONGEST = 190  # bytes of a path in that line; ssh cuts longer ones
_PLAIN = re.compile(r"[a-z0-9][a-z0-9.-]*")
_LINE = re.compile(r"[ \t\f\r]*([A-Za-z0-9]+)[ \t]*=?[ \t]*(.*?)[ \t\f\r]*")


class CannotTell(Exception):
    """It is not known that these files say the same of several names."""


@dataclass(frozen=True)
class HostLine:
    """The patterns of a Host line: it applies to a name that one of `yes` matches and none of `no`."""

    yes: re.Pattern[str]
    no: re.Pattern[str]

    def applies(self, name: str) -> bool:
        """Whether what follows the line is meant for this name."""
        return bool(self.yes.fullmatch(name)) and not self.no.fullmatch(name)


class Answers:
    """The answers about the hosts of a run. `queries`: all that will be asked about; others may be asked about, too."""

    def __init__(self, queries: Iterable[Query]) -> None:
        groups: dict[Query, list[str]] = {}
        for query in queries:
            groups.setdefault(_without_name(query), []).append(query.name)
        self._groups = {group: _plain(names) for group, names in groups.items()}
        self._alike = TriedOnce[Query, dict[str, tuple[str, ...]]]()
        self._shared = TriedOnce[tuple[Query, tuple[str, ...]], "_Shared | None"]()

    def read(self, query: Query, deadline: float) -> Settings:
        """The settings of the host, as ssh reads them. Raises Unreachable."""
        group = _without_name(query)
        names = self._groups.get(group, ())
        if len(names) >= FEWEST and query.name in names:
            alike = self._alike.get(group, lambda: _alike(names, query, deadline)).get(query.name, ())
            if len(alike) >= FEWEST:
                shared = self._shared.get((group, alike), lambda: _shared(alike, query, deadline))
                if shared and query.name not in shared.apart:
                    return shared.of(query.name)
        return ssh_config.read(query, deadline)


def _without_name(query: Query) -> Query:
    return replace(query, name="")


def _plain(names: Sequence[str]) -> tuple[str, ...]:
    """The names that ssh takes as they are: in lower case, without a user, a port or anything that a pattern might mean."""
    return tuple(dict.fromkeys(name for name in names if _PLAIN.fullmatch(name)))


def _alike(names: Sequence[str], query: Query, deadline: float) -> dict[str, tuple[str, ...]]:
    """Name -> the names to which the same Host lines apply; nothing where that is not all on which answers can depend."""
    try:
        lines = host_lines(ssh_config.files_read(query, deadline))
        if len(lines) * len(names) > MOST:
            return {}
    except (CannotTell, Unreachable):  # ssh's own error is reported where ssh is asked about the host
        return {}
    groups: dict[tuple[bool, ...], list[str]] = {}
    for name in names:
        groups.setdefault(tuple(line.applies(name) for line in lines), []).append(name)
    return {name: tuple(group) for group in groups.values() for name in group}


def files_named(words: bytes) -> list[Path]:
    """The files that ssh says it has read. Raises CannotTell where it names none, or not completely."""
    paths = _READ.findall(words)
    if not paths or any(len(path) > _LONGEST for path in paths):
        raise CannotTell
    return [Path(path.decode(errors="surrogateescape")) for path in paths]


def host_lines(words: bytes) -> list[HostLine]:
    """The Host lines of the files that ssh says it has read. Raises CannotTell where answers depend on names in other ways."""
    found: list[HostLine] = []
    for file in dict.fromkeys(files_named(words)):
        try:
            text = file.read_text(errors="surrogateescape")
        except OSError as error:
            raise CannotTell from error
        for line in text.split("\n"):
            found += _host_line(line)
    return found


def _host_line(line: str) -> list[HostLine]:
    if not line.strip() or line.lstrip().startswith("#"):
        return []
    parts = _LINE.fullmatch(line)
    if parts is None:
        raise CannotTell
    keyword, value = parts[1].lower(), parts[2]
    if keyword == "host":
        return [_patterns(value)]
    other = keyword == "match" and value.lower() != "all"
    token = "%" in (value.replace("%h", "") if keyword == "hostname" else value)
    if other or token or (keyword == "canonicalizehostname" and value.lower() not in ("no", "false")):
        raise CannotTell
    return []


def _patterns(value: str) -> HostLine:
    words = value.split()
    if not words or not re.fullmatch(r"[!*?\w.:\[\]@%-]+", "".join(words), re.ASCII):
        raise CannotTell  # quotes, a comment: ssh's versions differ in what they make of them
    no = [word[1:] for word in words if word.startswith("!")]
    return HostLine(_one_of(word for word in words if not word.startswith("!")), _one_of(no))


def _one_of(patterns: Iterable[str]) -> re.Pattern[str]:
    """Matches what one of these patterns does: * is any text, ? any character. Without patterns it matches nothing."""
    forms = ("".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in word) for word in patterns)
    return re.compile("|".join(forms) or r"(?!)")


@dataclass(frozen=True)
class _Shared:
    """The answer about the host `name`, of which those about others are made. `apart`: names that are asked about alone."""

    name: str
    settings: Settings
    hostname: str
    apart: frozenset[str]

    def of(self, name: str) -> Settings:
        """The answer about another host."""
        values = {"hostname": [self.hostname.replace("%h", name)]}
        if self.settings.first("host") == self.name:
            values["host"] = [name]
        return self.settings.with_values(values)


def _shared(alike: Sequence[str], query: Query, deadline: float) -> _Shared | None:
    """The answer that these names share, proved by a second one; None where there is none."""
    first, last = alike[0], alike[-1]
    try:
        one, other = (ssh_config.read(replace(query, name=name), deadline) for name in (first, last))
    except Unreachable:
        return None
    hostname = one.first("hostname")
    if hostname != other.first("hostname"):
        hostname = hostname.replace(first, "%h")
    hops = re.split(r"[,@:/\[\]]", one.first("proxyjump"))  # ssh refuses a host that is its own jump host
    shared = _Shared(first, one, hostname, frozenset(hops))
    return shared if shared.of(last) == other and shared.of(first) == one else None
