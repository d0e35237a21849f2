"""One run at a time may change a site: a lock on the master, which ends by itself when its holder is gone.

What it is on the master stands in templates/master/lock.sh.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from dws_on_csm.engine.lock_holder import Holder, gone, identity, owner
from dws_on_csm.model import render
from dws_on_csm.model.actions import STATE
from dws_on_csm.model.errors import LockLost, RemoteError, Unreachable
from dws_on_csm.transport.output import tail

__all__ = ["LEASE_SECONDS", "Holder", "Lock", "Locked", "clock", "hold", "owner"]

LEASE_SECONDS = 120
"""Seconds since the master's boot that the lock holds without being renewed; it is renewed three times as often."""

PROC = "/proc"
"""Where the master tells how long it has been up."""

AGAIN = 5.0
"""Seconds until a renewal that failed is tried again."""

MARGIN = 10.0
"""Seconds before the lock's end from which on nothing more is begun, unless it could be renewed."""

LOST = 3
"""Exit code of a renewal that found somebody else's lock, or none."""

DEADLINE = 30.0

RUN = re.compile(r"\d{8}T\d{6}Z-\w+", re.ASCII)
"""The name of a run as the master makes it."""


class Locked(Exception):
    """Somebody else's run is at work."""

    def __init__(self, holder: Holder) -> None:
        super().__init__(
            f"{holder.owner} is at work here with run {holder.run}. "
            f"If that run has died, its lock expires in {holder.left} s."
        )
        self.holder = holder


def clock() -> float:
    """Seconds that also pass while this machine is asleep: meanwhile the lock's time passes on the master."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Lock:
    """The lock of `run`, as far as this process knows. `tell` is called once, with the reason, when it is found lost.

    `before`: until then, by clock(), somebody else may have held it. `former`: the run that did not give it up, if one did
    not: wherever it is, it may still believe that it holds it.
    """

    def __init__(
        self,
        session: Any,
        run: str,
        asked: float,
        tell: Callable[[str], None],
        before: float = 0.0,
        former: str = "",
    ) -> None:
        self.run = run
        self.before = before
        self.former = former
        self.lost = ""
        self.over = threading.Event()
        self._session = session
        self._tell = tell
        self._until = asked + LEASE_SECONDS - MARGIN
        self._renewing = threading.Lock()

    def check(self) -> None:
        """Raises LockLost where something else may be at work by now."""
        if not self.lost and clock() >= self._until:  # this process, or its machine, stood still for long
            self.renew()
        if self.lost:
            raise LockLost(self._session.host, self.lost)

    def renew(self) -> bool:
        """Whether the lock could be renewed. Where it is lost, that is told."""
        with self._renewing:
            asked = clock()
            why = "" if self.lost else self._renewed()
            if not why and not self.lost:
                self._until = asked + LEASE_SECONDS - MARGIN
                return True
            if clock() >= self._until:
                self.lose(f"it could not be renewed for {LEASE_SECONDS - MARGIN:.0f} s ({why}), and has ended")
            return False

    def _renewed(self) -> str:
        """Why the renewal failed, or ""."""
        try:
            answer = self._session.beside(_script("master/lock_renew.sh", run=self.run), deadline=DEADLINE)
        except Exception as error:  # noqa: BLE001  # whatever it is, it may be over at the next try
            return str(error) or type(error).__name__
        if answer.code == LOST:
            holder = answer.out.decode(errors="replace").split("\n")
            self.lose(f"{holder[0]} took it with run {holder[2]}" if len(holder) > 2 else "it is gone from the master")
        return "" if answer.code == 0 else _said(answer)

    def lose(self, why: str) -> None:
        """It is known from elsewhere, too, that the lock is lost."""
        if not self.lost and not self.over.is_set():
            self.lost = LockLost.text.format(why)
            self._tell(self.lost)

    def keep(self) -> None:
        """Renews until the lock is `over` or lost."""
        wait = LEASE_SECONDS / 3
        while not self.lost and not self.over.wait(wait):
            wait = LEASE_SECONDS / 3 if self.renew() else AGAIN

    def leave(self) -> None:
        """Gives the lock up, if it is still this run's."""
        self.over.set()
        for _ in range(2):  # a signal that was meant for other scripts may have ended the first
            if self._session.beside(_script("master/lock_leave.sh", run=self.run), deadline=DEADLINE).code == 0:
                return


@contextmanager
def hold(session: Any, run: str, tell: Callable[[str], None] = lambda why: None) -> Iterator[Lock]:
    """Hold the site's lock while the `with` lasts. Raises Locked; a run of this machine whose process is gone gives way.
    Raises Unreachable where no lock can be made. `run` may get another name, see templates/master/lock_take.sh.

    Where the lock can't be given up, it expires.
    """
    lock = _taken(session, run, tell)
    threading.Thread(target=lock.keep, daemon=True, name="lock").start()
    try:
        yield lock
    finally:
        with suppress(RemoteError):
            lock.leave()


def _taken(session: Any, run: str, tell: Callable[[str], None]) -> Lock:
    try:
        return _take(session, run, "", tell)
    except Locked as locked:
        if not gone(locked.holder):
            raise
        return _take(session, run, locked.holder.run, tell)
    except RemoteError:
        with suppress(RemoteError):  # it may have been taken all the same, and the answer alone was lost
            Lock(session, run, clock(), tell).leave()
        raise


def _take(session: Any, run: str, over: str, tell: Callable[[str], None]) -> Lock:
    asked = clock()
    settings = {"run": run, "over": over, "who": owner(), "pid": str(os.getpid()), "process": "\n".join(identity())}
    answer = session.run(_script("master/lock_take.sh", **settings), deadline=DEADLINE)
    word, _, rest = answer.out.decode(errors="replace").partition("\n")
    if answer.code != 0:
        fix = f"mend {STATE} there, where runs keep their own files"
        raise Unreachable(session.host, f"the site can't be locked: {_said(answer)}", fix)
    try:
        name, _, value = word.partition(" ")
        if name == "held":
            raise Locked(_holder(rest.split("\n"), int(value)))
        verb, since, named, *former = word.split()
        if verb != "taken" or not RUN.fullmatch(named):
            raise ValueError(word)
        before = clock() - max(int(since) - 1, 0)  # the master counts whole seconds
    except ValueError:
        said = " ".join(tail(answer.out, lines=3))[:200]
        text = f"the site can't be locked: what the script answered could not be read: {said or 'nothing'}"
        fix = f"see what `ssh {session.host} true` prints: a shell's start file must print nothing there"
        raise Unreachable(session.host, text, fix) from None
    return Lock(session, named, asked, tell, before, "".join(former))


def _holder(lines: list[str], left: int) -> Holder:
    who, process, run, _, _, *identified = lines
    number = int(process) if process.isdecimal() else 0
    return Holder(who or "somebody", number, run or "?", left, tuple(filter(None, identified)))


def _said(answer: Any) -> str:
    return " ".join(tail(answer.err, lines=3)) or f"exit code {answer.code}"


def _script(name: str, **settings: str) -> str:
    return render.script("master/lock.sh", name, state=STATE, hold=str(LEASE_SECONDS), proc=PROC, **settings)
