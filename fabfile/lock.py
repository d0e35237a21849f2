"""One run at a time may change a site: a lock on the master, which ends by itself when its holder is gone."""

from __future__ import annotations

import getpass
import os
import shlex
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from fabfile import render
from fabfile.actions import STATE
from fabfile.faults import Unreachable
from fabfile.output import tail

HOLD = 120
"""Seconds, by the master's clock, that the lock holds without being renewed; it is renewed three times as often."""


@dataclass(frozen=True)
class Holder:
    """Who holds the lock: who and where from ("joe@admin1"), process id there, run, seconds until it would end."""

    owner: str
    process: int
    run: str
    left: int


class Locked(Exception):
    """Somebody else's run is at work."""

    def __init__(self, holder: Holder) -> None:
        super().__init__(
            f"{holder.owner} is at work here with run {holder.run}; were it cut off, its lock would end in {holder.left} s"
        )
        self.holder = holder


# Made whole aside and renamed into place: it is there with its content, or it isn't there.
_TAKE = """
mkdir -p {state}; chmod 700 {state}
cd {state}
now=$(date +%s)
new=lock.$$
vanishing "$new"
mkdir "$new"
printf '%s\\n' {owner} {process} {run} $((now + {hold})) >"$new/holder"
until=$(sed -n 4p lock/holder 2>/dev/null) || until=
if [ -d lock ] && {{ [ "${{until:-0}}" -le "$now" ] || [ "$(sed -n 3p lock/holder)" = {over} ]; }}; then rm -rf lock; fi
for try in 1 2 3; do # one that is left just now is neither in the way nor can it be read
    if mv -T "$new" lock 2>/dev/null; then echo taken; exit; fi
    if held=$(cat lock/holder 2>/dev/null); then printf '%s\\n' "$now" "$held"; exit; fi
done
mv -T "$new" lock
echo taken
"""

_RENEW = """
cd {state}
[ "$(sed -n 3p lock/holder 2>/dev/null)" = {run} ] || exit 1
{{ head -n 3 lock/holder; echo $(($(date +%s) + {hold})); }} >lock/new && mv lock/new lock/holder
"""

_LEAVE = """
cd {state}
[ "$(sed -n 3p lock/holder 2>/dev/null)" != {run} ] || rm -rf lock
"""


@contextmanager
def hold(session: Any, run: str, lost: tuple[type[Exception], ...]) -> Iterator[None]:
    """Hold the site's lock while the `with` lasts. Raises Locked; a run of this machine whose process is gone gives way.
    Raises Unreachable where no lock can be made.

    `lost`: what a broken connection raises; then the lock ends by itself.
    """
    try:
        _take(session, run, over="")
    except Locked as locked:
        if not _gone(locked.holder):
            raise
        _take(session, run, over=locked.holder.run)
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(session, run, ended, lost), daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        with suppress(*lost):
            session.run(_LEAVE.format(state=STATE, run=shlex.quote(run)), deadline=30.0)


def owner() -> str:
    """Who runs this, and where: "joe@admin1"."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _take(session: Any, run: str, over: str) -> None:
    words = {"owner": owner(), "process": str(os.getpid()), "run": run, "over": over or "nobody"}
    quoted = {key: shlex.quote(value) for key, value in words.items()}
    script = "set -eu\n" + render.read("vanishing.sh") + _TAKE.format(state=STATE, hold=HOLD, **quoted)
    answer = session.run(script, deadline=30.0)
    lines = answer.out.decode().splitlines()
    if answer.code != 0:
        why = " ".join(tail(answer.err, lines=3)) or f"exit code {answer.code}"
        raise Unreachable(
            session.host, f"the site can't be locked: {why}", f"mend {STATE} there, where runs keep their own files"
        )
    if lines != ["taken"]:
        now, who, process, other, until = lines
        raise Locked(Holder(who, int(process), other, int(until) - int(now)))


def _gone(holder: Holder) -> bool:
    """Whether the holder was a process of ours on this very machine that has ended."""
    if holder.owner != owner():
        return False
    try:
        os.kill(holder.process, 0)
    except ProcessLookupError:
        return True
    return False


def _renew(session: Any, run: str, ended: threading.Event, lost: tuple[type[Exception], ...]) -> None:
    with suppress(*lost):
        while not ended.wait(HOLD / 3):
            session.run(_RENEW.format(state=STATE, run=shlex.quote(run), hold=HOLD), deadline=30.0)
