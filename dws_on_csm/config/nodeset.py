"""Node sets of ClusterShell, and suggestions for a misspelt name."""

from __future__ import annotations

import re
from collections.abc import Iterable

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
    bad = [name for name in names if not re.fullmatch(r"[0-9A-Za-z_:][0-9A-Za-z_.:-]*", name)]
    if bad or not names:
        raise ValueError(f"{bad[0]!r} is not a host's name" if bad else "it contains no hosts")
    return names


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
