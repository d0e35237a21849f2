"""How many connections this process can have open: each is an open file, and their number is limited."""

from __future__ import annotations

import os
import resource
from contextlib import suppress

TRANSIENT = 8
"""Open files that connecting to one host needs for a moment: the pipes of `ssh -G`, the agent, a key."""

OTHERS = 32
"""Open files for everything else in a run."""

OPEN_MAX = 10240
"""The limit that macOS accepts where it reports no limit."""


def raised() -> int:
    """Raise the limit on open files as far as this process may. Returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (hard, OPEN_MAX):
        if limit == resource.RLIM_INFINITY or limit <= soft:
            continue
        with suppress(ValueError, OSError):  # more than this system allows
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            break
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1 << 30


def free(limit: int) -> int:
    """How many more files this process can open."""
    return limit - len(os.listdir("/dev/fd"))  # noqa: PTH208  # names alone; on macOS as on Linux


def at_once(limit: int, wanted: int) -> int:
    """To how many of `wanted` hosts this process can connect at the same time, with the files that this needs for a moment."""
    return max(1, min(wanted, free(limit) // (2 * TRANSIENT)))


def room(limit: int, connecting: int) -> int:
    """How many connections can be open while this process connects to `connecting` hosts at the same time."""
    return max(0, free(limit) - OTHERS - TRANSIENT * connecting)


def enough(connections: int, connecting: int) -> int:
    """A limit that is enough for so many connections."""
    return connections + 2 * OTHERS + TRANSIENT * connecting
