"""The holder's file of a site lock (templates/master/lock.sh), as a run on this machine would have it."""

from __future__ import annotations

from pathlib import Path


def holder(run: str, seconds: int = 300) -> str:
    """The file of a lock that `run` of another administrator has for that many seconds more."""
    return f"ann@admin2\n1\n{run}\n0\n{end(seconds)}\n"


def end(seconds: int = 300) -> str:
    """Its last line: when the lock ends, in seconds since the start of this machine."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    uptime = int(float(Path("/proc/uptime").read_text().split()[0]))
    return f"{boot} {uptime + seconds}"
