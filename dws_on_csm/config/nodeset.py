"""Node sets of ClusterShell, and suggestions for a misspelt name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv6Address

_MOST = 100_000
"""Hosts of a node set. More are a typing mistake, and would fill the memory before the message appears."""


def expand(text: str) -> tuple[str, ...]:
    """The hosts of a node set (`nid[1-3],login1`), in ClusterShell's order. ValueError that says what is wrong with it."""
    # Imported late: `invoke --list` needs no node set.
    from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException

    if _width(text) > _MOST:
        raise ValueError(f"more than {_MOST} hosts")
    try:
        # No groups: the meaning of `@all` and `*` would depend on the machine on which the command is typed.
        names = tuple(NodeSet(text, resolver=RESOLVER_NOGROUP))
    except NodeSetException as error:
        raise ValueError(str(error)) from error
    bad = [name for name in names if not is_host(name)]
    if bad or not names:
        raise ValueError(f"{bad[0]!r} is not a host's name" if bad else "it contains no hosts")
    return names


def is_host(text: str) -> bool:
    """Whether the text is a host's name or address. A colon is only in an IPv6 address: a port belongs into ssh_config."""
    if not re.fullmatch(r"[0-9A-Za-z_:][0-9A-Za-z_.:-]*", text):
        return False
    return ":" not in text or _is_ipv6(text)


_FORM = re.compile(r"(ssh://)?(?:([^@/\s]+)@)?(\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]|[^@/\s]+?)(?::(\d+))?/?")
"""A host as other programs take it: scheme, user, name or [address], port."""


def instead(text: str) -> str:
    """What to write instead of hosts with a user, a port, brackets or `ssh://`; "" where the text has none of these."""
    parts = [_FORM.fullmatch(host) for host in re.split(r",(?![^\[]*\])", text)]
    if _is_ipv6(text) or not all(parts):
        return ""
    hosts = [part[3] for part in parts if part]
    names = ",".join(host.strip("[]") if ":" in host else host for host in hosts)
    users, ports = ([part[group] for part in parts if part and part[group]] for group in (2, 4))
    if names == text and not users and not ports:
        return ""
    config = "in the ssh_config that ssh.config names"
    where = f"under `Host {names}` {config}" if is_host(names) else f"for these hosts {config}"
    advice = [f"write {names} here"]
    advice += [f"`user: {users[0].partition(':')[0]}` beside it"] if users else []
    advice += [f"`Port {ports[0]}` {where}"] if ports else []
    return ", ".join(advice[:-1]) + f", and {advice[-1]}" if advice[2:] else " and ".join(advice)


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """`; did you mean A or B?` for an unknown name; "" where none of `names` is similar."""
    from difflib import get_close_matches

    similar = get_close_matches(name, list(names), n=2, cutoff=0.7)
    return f"; did you mean {' or '.join(similar)}?" if similar else ""


def _width(text: str) -> int:
    """An upper bound for the number of hosts, computed without expanding them."""
    width = 1
    for ranges in re.findall(r"\[([^\]]*)\]", text):
        width *= max(1, sum(int(last) - int(first) + 1 for first, last in re.findall(r"(\d+)-(\d+)", ranges)))
    return width
