"""The plugin's entries in slurmctld's log on a controller: first the past ones, then the new ones."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dws_on_csm.commands.logs.entries import MAX_SKEW, Clock, Entry, parse_zone, slurm_log_entries
from dws_on_csm.config.site import Site
from dws_on_csm.model import render

if TYPE_CHECKING:
    from dws_on_csm.transport.link import Channel
    from dws_on_csm.transport.remote_shell import RemoteShell

QUIET = 0.25
"""Seconds without anything new after which an entry counts as complete."""
LIFETIME = 24 * 3600.0
"""Seconds after which the script on a host ends in any case."""
NOTED = 0.5
"""Seconds that a clock may differ without a correction: measuring it is exact to some hundredths."""
PAST = 300.0
"""Most seconds for reading the past entries of a host."""
SILENT = 60.0
"""Further seconds to wait for a silent host."""
IN_CONTAINER = "container"
"""The script's word for a log that is the container's."""
CONTAINER_LOG = (
    "slurmctld writes its log to its container alone, which does not have the lines of the plugin's own hooks. "
    "To have them, set SlurmctldLogFile in its slurm.conf"
)
MAX_LINE = 65536
"""Most bytes of a line to wait for its end."""


@dataclass
class HostLog:
    """slurmctld's log on `host`.

    mark            begins the lines that the script itself prints; nobody who writes into the log knows it
    notes           what to tell people about the log
    cut             why the past entries are incomplete, or ""
    in_container    whether it is the log of its container in a pod, which is not read here
    """

    host: str
    notes: list[str]
    clock: Clock
    readable: bool
    mark: str
    _lines: Iterator[str | None]
    _channel: Channel
    cut: str = ""
    in_container: bool = False

    def past(self) -> Iterator[Entry]:
        """The entries that the log already has."""
        for entry in slurm_log_entries(self._until_mark(), self.host, self.clock):
            if entry:
                yield entry

    def new_entries(self) -> Iterator[Entry]:
        """The entries that are written after the past ones, without an end. EOFError when the connection is lost."""
        for entry in slurm_log_entries(self._lines, self.host, self.clock):
            if entry:
                yield entry
        raise EOFError(f"{self.host}: the connection was lost; its log is no longer followed")

    def close(self) -> None:
        """End the script on the host."""
        self._channel.close()

    def _until_mark(self) -> Iterator[str]:
        last = time.monotonic()
        for line in self._lines:
            if line == self.mark:
                return
            if line is None and time.monotonic() - last > PAST + SILENT:
                self.cut = f"{self.host}: the host sent nothing for {PAST + SILENT:.0f} s; its entries are incomplete"
                self.close()
                return
            if line is not None:
                last = time.monotonic()
            if line == f"{self.mark} cut":
                self.cut = (
                    f"{self.host}: its log is too long, or took more than {PAST:.0f} s to read; its entries are incomplete. "
                    "Ask for a shorter time (--since), or read the log on the host"
                )
            elif line == f"{self.mark} unread":
                self.cut = self.cut or (
                    f"{self.host}: a part of its log could not be read; its entries are incomplete. Read the log on the host"
                )
            elif line == f"{self.mark} undated":
                note = f"{self.host}: lines without a date are left out. Set LogTimeFormat=iso8601_ms in slurm.conf"
                self.notes += [] if note in self.notes else [note]
            elif line is not None:
                yield line
        self.cut = (
            self.cut or f"{self.host}: the connection was lost while its log was read; its entries are incomplete"
        )


def open_log(site: Site, session: RemoteShell, since: float, follow: bool) -> HostLog:
    """The log on the session's host from `since` on (seconds since 1970, this machine's clock). Raises what a session raises."""
    mark = f"--dws-on-csm-logs-{secrets.token_hex(16)}"
    settings = {"folder": site.slurm.folder, "unit": site.slurm.service, "mark": mark}
    settings |= {"since": str(int(since)), "follow": "yes" if follow else "", "past": f"{PAST:.0f}"}
    settings["in_pod"] = "yes" if site.host(session.host).pod else ""
    script = render.script("lib/as.sh", "lib/slurmctld.sh", "controller/logs.sh", **settings)
    before = time.time()
    channel, ready = session.pipe(script, "ready ", deadline=site.deadlines.look, lifetime=LIFETIME)
    after = time.time()
    now, offset, path = ready.split(" ", 2)
    ahead = clock_skew(float(now), before, after)
    notes = []
    if path == IN_CONTAINER:
        notes.append(f"{session.host}: {CONTAINER_LOG}")
    elif path.startswith("nowhere"):
        notes.append(f"{session.host}: there is no log of slurmctld: {path.removeprefix('nowhere: ')}")
    elif not path.startswith("/"):
        notes.append(f"{session.host}: reading {path}")
    if ahead:
        notes.append(describe_skew(session.host, ahead))
    channel.sendall(b"go\n")
    clock = Clock(ahead, parse_zone(offset))
    readable, there = not path.startswith("nowhere"), path == IN_CONTAINER
    return HostLog(session.host, notes, clock, readable, mark, _lines(channel), channel, in_container=there)


def clock_skew(now: float, before: float, after: float) -> float:
    """Seconds that a clock is ahead which showed `now` between two moments of this machine's clock. ValueError: no time.

    0 where it may be right: an answer that took long, as on a busy machine, proves little.
    """
    ahead = 0.0 if before - NOTED <= now <= after + NOTED else now - after
    if not abs(ahead) < MAX_SKEW:
        raise ValueError(f"{now} is no time")
    return ahead


def describe_skew(name: str, ahead: float) -> str:
    """A clock's difference and its correction, in words."""
    which = "ahead of" if ahead > 0 else "behind"
    return f"{name}: its clock is {abs(ahead):.1f} s {which} this machine's; its times are corrected"


def _lines(channel: Channel) -> Iterator[str | None]:
    """The channel's lines as they arrive; None after each QUIET seconds without any."""
    channel.settimeout(QUIET)
    rest = b""
    while True:
        try:
            chunk = channel.recv(1 << 16)
        except TimeoutError:
            yield None
            continue
        if not chunk:
            return
        *complete, rest = (rest + chunk).split(b"\n")
        yield from (line.decode(errors="replace") for line in complete)
        if len(rest) > MAX_LINE:
            yield rest.decode(errors="replace")
            rest = b""
