"""How many connections this process can have: each is an open file, and of those a process may have so many."""

from __future__ import annotations

import os
import resource
from contextlib import suppress

TRANSIENT = 8
"""Open files that connecting to one host takes for a moment: the pipes of `ssh -G`, the agent, a key."""

OTHERS = 32
"""Open files for all else that comes up during a run."""

OPEN_MAX = 10240
"""What macOS takes where it says that there is no limit."""


def raised() -> int:
    """How many files this process may have open, from now on as many as it may allow itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (hard, OPEN_MAX):
        if limit == resource.RLIM_INFINITY or limit <= soft:
            continue
        with suppress(ValueError, OSError):  # more than this system gives anybody
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            break
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1 << 30


def free(limit: int) -> int:
    """How many more files can be opened."""
    return limit - len(os.listdir("/dev/fd"))  # noqa: PTH208  # names alone; on macOS as on Linux


def at_once(limit: int, wanted: int) -> int:
    """To how many of `wanted` hosts can be connected at the same time, so that what that takes for a moment is there."""
    return max(1, min(wanted, free(limit) // (2 * TRANSIENT)))


def room(limit: int, connecting: int) -> int:
    """How many connections can be open while to so many hosts is being connected."""
    return max(0, free(limit) - OTHERS - TRANSIENT * connecting)


def enough(connections: int, connecting: int) -> int:
    """A limit that is enough for so many connections."""
    return connections + 2 * OTHERS + TRANSIENT * connecting
