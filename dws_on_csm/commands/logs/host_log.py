"""What slurmctld's log says of the plugin, read on a controller: first what is there, then what comes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dws_on_csm.commands.logs.entries import FAR, Clock, Entry, of_slurm, zone
from dws_on_csm.config.site import Site
from dws_on_csm.model import render

if TYPE_CHECKING:
    from paramiko import Channel

    from dws_on_csm.transport.session import Session

MARK = "--dws-on-csm-logs"
QUIET = 0.25
"""Seconds without anything new after which an entry is taken to be whole."""
LIFETIME = 24 * 3600.0
"""Seconds after which what was forgotten on a host ends by itself."""
NOTED = 0.5
"""Seconds that a clock may differ without being corrected: measuring it takes some hundredths."""
PAST = 300.0
"""Seconds for which what a host's log has already is read."""
SILENT = 60.0
"""Seconds that are awaited beyond that."""
ODD = 65536
"""Bytes of a line that are kept while its end has not come."""


@dataclass
class HostLog:
    """slurmctld's log on `host`. `notes` are what there is to say about it, once it was opened; `cut` says why what is past
    is not all there, "" if it is."""

    host: str
    notes: list[str]
    clock: Clock
    readable: bool
    _lines: Iterator[str | None]
    _channel: Channel
    cut: str = ""

    def past(self) -> Iterator[Entry]:
        """The entries that are there already."""
        for entry in of_slurm(self._until_mark(), self.host, self.clock):
            if entry:
                yield entry

    def coming(self) -> Iterator[Entry]:
        """The entries that come, after those of the past; without an end. Raises EOFError when the host is gone."""
        for entry in of_slurm(self._lines, self.host, self.clock):
            if entry:
                yield entry
        raise EOFError(f"{self.host}: its log can't be followed any more, the connection broke")

    def close(self) -> None:
        """Ends what runs on the host."""
        self._channel.close()

    def _until_mark(self) -> Iterator[str]:
        heard = time.monotonic()
        for line in self._lines:
            if line == MARK:
                return
            if line is None and time.monotonic() - heard > PAST + SILENT:
                self.cut = f"{self.host}: it has said nothing for {PAST + SILENT:.0f} s: its log is not all here"
                self.close()
                return
            if line is not None:
                heard = time.monotonic()
            if line == f"{MARK} cut":
                self.cut = (
                    f"{self.host}: its log was not read to the end, since it is too long or took more than {PAST:.0f} s: "
                    "what is shown of it is not all; "
                    "ask for less (--since), or read it there"
                )
            elif line == f"{MARK} undated":
                note = f"{self.host}: lines without a date are left out: set LogTimeFormat=iso8601_ms in slurm.conf"
                self.notes += [] if note in self.notes else [note]
            elif line is not None:
                yield line
        self.cut = self.cut or f"{self.host}: the connection broke before its log was read: it is not all here"


def opened(site: Site, session: Session, since: float, follow: bool) -> HostLog:
    """The log on the session's host from `since` on (seconds since 1970, this machine's clock). Raises what a session raises."""
    settings = {"folder": site.slurm.folder, "unit": site.slurm.service, "mark": MARK}
    settings |= {"since": str(int(since)), "follow": "yes" if follow else "", "past": f"{PAST:.0f}"}
    script = render.script("lib/as.sh", "lib/slurmctld.sh", "lib/log_file.sh", "controller/logs.sh", **settings)
    before = time.time()
    channel, ready = session.pipe(script, "ready ", deadline=site.deadlines.look, lifetime=LIFETIME)
    after = time.time()
    told, offset, where = ready.split(" ", 2)
    ahead = skew(float(told), before, after)
    notes = [f"{session.host}: the log is {where}"] if not where.startswith("/") else []
    if ahead:
        notes.append(skewed(session.host, ahead))
    channel.sendall(b"go\n")
    clock = Clock(ahead, zone(offset))
    return HostLog(session.host, notes, clock, not where.startswith("nowhere"), _lines(channel), channel)


def skew(told: float, before: float, after: float) -> float:
    """Seconds that a clock which `told` this time is ahead, as it was read between two moments of this machine's clock.

    0 where it may be right: an answer that took long, as on a busy machine, says little. ValueError for what is no time.
    """
    ahead = 0.0 if before - NOTED <= told <= after + NOTED else told - after
    if not abs(ahead) < FAR:
        raise ValueError(f"{told} is no time")
    return ahead


def skewed(name: str, ahead: float) -> str:
    """A clock's difference and what is done about it, in words."""
    which = "ahead of" if ahead > 0 else "behind"
    return f"{name}: its clock is {abs(ahead):.1f} s {which} this machine's; its times are corrected"


def _lines(channel: Channel) -> Iterator[str | None]:
    """The channel's lines as they come; None whenever nothing has come for QUIET seconds."""
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
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
        if len(rest) > ODD:
            yield rest.decode(errors="replace")
            rest = b""
