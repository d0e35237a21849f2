"""Names of hosts as ClusterShell folds them, and what was probably meant by a name that nothing has."""

from __future__ import annotations

import re
from collections.abc import Iterable

_TOO_WIDE = 100_000
"""A range this wide is a slip of the keyboard, and would fill the memory before anything is said."""


def expand(text: str) -> tuple[str, ...]:
    """The hosts of a node set (`nid[1-3],login1`), in its order. ValueError that says what is wrong with it."""
    # Imported late: `invoke --list` reads no node set.
    from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException

    if _width(text) > _TOO_WIDE:
        raise ValueError(f"more than {_TOO_WIDE} hosts")
    try:
        # No groups: what `@all` and `*` mean would depend on the machine that the command is typed on.
        names = tuple(NodeSet(text, resolver=RESOLVER_NOGROUP))
    except NodeSetException as error:
        raise ValueError(str(error)) from error
    bad = [name for name in names if not re.fullmatch(r"[0-9A-Za-z_:][0-9A-Za-z_.:-]*", name)]
    if bad or not names:
        raise ValueError(f"{bad[0]!r} is no host's name" if bad else "no host is in it")
    return names


def near(name: str, names: Iterable[str]) -> str:
    """`; did you mean A or B?` for a name that is not among `names`; "" where none is like it."""
    from difflib import get_close_matches

    close = get_close_matches(name, list(names), n=2, cutoff=0.7)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _width(text: str) -> int:
    """At least the hosts that the widest part of a node set has, reckoned before anything is expanded."""
    width = 1
    for ranges in re.findall(r"\[([^\]]*)\]", text):
        width *= max(1, sum(int(last) - int(first) + 1 for first, last in re.findall(r"(\d+)-(\d+)", ranges)))
    return width
