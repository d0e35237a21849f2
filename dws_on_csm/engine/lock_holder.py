"""Who holds the lock of a site: a process on some machine, told from all others, also from one that has its number later."""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MACHINE = Path("/etc/machine-id")
BOOT = Path("/proc/sys/kernel/random/boot_id")
ENDED = "ZX"
"""States of a process that has ended, of which something is still there."""


@dataclass(frozen=True)
class Holder:
    """Who holds the lock: who and where from ("joe@admin1"), process id there, run, seconds until it ends unless it is renewed.

    identity  what tells the process from all others; () where its machine, or an earlier version, did not say
    """

    owner: str
    process: int
    run: str
    left: int
    identity: tuple[str, ...] = ()


def owner() -> str:
    """Who runs this, and where: "joe@admin1"."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in a container
        user = f"uid{os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def identity() -> tuple[str, ...]:
    """What tells this process from all others: a digest of machine, boot and process namespace, and when it started there.

    () where this machine does not tell that, as macOS does not.
    """
    machine = ""
    with suppress(OSError):  # containers have none; the id of the boot is nobody else's either
        machine = MACHINE.read_text()
    try:
        parts = (machine, BOOT.read_text(), str(Path("/proc/self/ns/pid").readlink()))
    except OSError:
        return ()
    started = _started(os.getpid())
    # a digest, as machine-id(5) asks for: the id itself is nobody's business on another machine
    digest = hashlib.sha256("\n".join(("dws-on-csm", *parts)).encode()).hexdigest()
    return (digest[:32], started) if started else ()


def gone(holder: Holder) -> bool:
    """Whether the holder is certainly a process of this very machine that has ended. Where that can't be known: False."""
    mine = identity()
    if not mine or len(holder.identity) != len(mine) or holder.identity[0] != mine[0]:
        return False
    try:
        os.kill(holder.process, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):  # somebody else's process; or a number that no process has
        pass
    started = _started(holder.process)
    return started is not None and started != holder.identity[1]


def _started(process: int) -> str | None:
    """When a process started, in the kernel's own count since boot; "" if it has ended, None where that isn't told."""
    with suppress(OSError, IndexError):  # hidden from us, or gone meanwhile
        state, *rest = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return "" if state in ENDED else rest[18]
    return None
