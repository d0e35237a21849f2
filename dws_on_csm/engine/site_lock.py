"""One run at a time may change a site: a lock on the master, which expires when its holder stops renewing it.

Its form on the master is described in templates/master/lock.sh.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import re
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dws_on_csm.model import render
from dws_on_csm.model.actions import STATE
from dws_on_csm.model.errors import LockLost, RemoteError, Unreachable
from dws_on_csm.transport.output import tail

STEP = "run.lock"
"""The step that fails on the master where a run loses the lock: no stage has it."""

LEASE_SECONDS = 120
"""Seconds after which a lock that is not renewed expires, by the master's time since boot; it is renewed three times as often."""

PROC = "/proc"
"""Where the master says how long it has been up."""

RETRY_SECONDS = 5.0
"""Seconds until a failed renewal is tried again."""

MARGIN = 10.0
"""So many seconds before the lock expires nothing more is begun, unless it can be renewed."""

LOST = 3
"""Exit code of a renewal that found another run's lock, or none."""

LAPSED = 4
"""Exit code of a renewal that found this run's lock expired."""

DEADLINE = 30.0

RUN = re.compile(r"\d{8}T\d{6}Z-\w+", re.ASCII)
"""The id of a run as the master makes it."""


# --- who holds it

MACHINE = Path("/etc/machine-id")
BOOT = Path("/proc/sys/kernel/random/boot_id")
ENDED = "ZX"
"""States of a process that has ended and is still listed."""


@dataclass(frozen=True)
class Holder:
    """The process that holds the lock.

    owner     user and machine ("joe@admin1")
    process   its id there
    run       the id of its run
    left      seconds until the lock expires unless it is renewed
    identity  what tells the process from all others, also from a later one with its id; () where unknown
    """

    owner: str
    process: int
    run: str
    left: int
    identity: tuple[str, ...] = ()


def owner() -> str:
    """User and machine of this process: "joe@admin1"."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in a container
        user = f"uid{os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def identity() -> tuple[str, ...]:
    """What tells this process from all others: a digest of machine, boot and process namespace, and when it started there.

    () where this machine does not provide that, as macOS does not.
    """
    machine = ""
    with suppress(OSError):  # containers have none; the id of the boot is unique, too
        machine = MACHINE.read_text()
    try:
        parts = (machine, BOOT.read_text(), str(Path("/proc/self/ns/pid").readlink()))
    except OSError:
        return ()
    started = process_started(os.getpid())
    # a digest, as machine-id(5) asks for: the id itself must not be shown on another machine
    digest = hashlib.sha256("\n".join(("dws-on-csm", *parts)).encode()).hexdigest()
    return (digest[:32], started) if started else ()


def gone(holder: Holder) -> bool:
    """Whether the holder is certainly a process of this machine that has ended. False where that is unknown."""
    mine = identity()
    if not mine or len(holder.identity) != len(mine) or holder.identity[0] != mine[0]:
        return False
    try:
        os.kill(holder.process, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):  # another user's process; or a number that no process has
        pass
    started = process_started(holder.process)
    return started is not None and started != holder.identity[1]


def process_started(process: int) -> str | None:
    """When a process started, in the kernel's ticks since boot; "" if it has ended, None where that is unknown."""
    with suppress(OSError, IndexError):  # hidden from us, or ended meanwhile
        state, *rest = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return "" if state in ENDED else rest[18]
    return None


# --- the lock


class Locked(Exception):
    """Another run holds the lock."""

    def __init__(self, holder: Holder) -> None:
        super().__init__(
            f"Run {holder.run} by {holder.owner} is running on this site. "
            f"If that run has died, its lock expires in {holder.left} s."
        )
        self.holder = holder


def clock() -> float:
    """A clock that also runs while this machine sleeps, as the lock's time on the master does."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Renewable(ABC):
    """What a run holds as long as it renews it: the lock of a master, and the Lease of a cluster.

    lost   why it is lost, in a sentence; "" while it is held
    over   set when it need not be renewed any more
    """

    expired = "it could not be renewed for {:.0f} s ({}), and has expired"

    def __init__(self, host: str, tell: Callable[[str], None], asked: float) -> None:
        """Held since `asked`, by clock(). `tell` is called once, with the reason, when it is found lost."""
        self.lost = ""
        self.over = threading.Event()
        self._host = host
        self._tell = tell
        self._until = asked + LEASE_SECONDS - MARGIN
        self._renewing = threading.Lock()

    @abstractmethod
    def _send_renewal(self) -> str:
        """Renew it once; why that failed, or "". Calls lose() where another run has it. May raise anything."""

    def check(self) -> None:
        """Raises LockLost where another run may hold it by now."""
        if not self.lost and clock() >= self._until:  # this process, or its machine, was suspended
            self.renew()
        if self.lost:
            raise LockLost(self._host, self.lost)

    def renew(self) -> bool:
        """Renew it, and return whether that succeeded. Calls `tell` where it is lost."""
        with self._renewing:
            asked = clock()
            why = "" if self.lost else self._try_renewal()
            if not why and not self.lost:
                self._until = asked + LEASE_SECONDS - MARGIN
                return True
            if clock() >= self._until:
                self.lose(self.expired.format(LEASE_SECONDS - MARGIN, why))
            return False

    def _try_renewal(self) -> str:
        """Why one renewal failed, or ""; whatever it raised."""
        try:
            return self._send_renewal()
        except Exception as error:  # noqa: BLE001  # the next try may succeed, whatever the error
            return str(error) or type(error).__name__

    def lose(self, why: str) -> None:
        """Record that it is lost, and tell it once."""
        if not self.lost and not self.over.is_set():
            self.lost = LockLost.text.format(why)
            self._tell(self.lost)

    def keep(self) -> None:
        """Renew it until it is `over` or lost."""
        wait = LEASE_SECONDS / 3
        while not self.lost and not self.over.wait(wait):
            wait = LEASE_SECONDS / 3 if self.renew() else RETRY_SECONDS


class Lock(Renewable):
    """The lock of `run`, as far as this process knows.

    before       until then, by clock(), another run may have held the lock
    former       the run that did not release the lock, or "": it may still believe that it holds the lock
    check_lease  called before a lock that has expired is renewed; raises LockLost where a run through another master, which has
                 another lock, may have the cluster's Lease (cluster_lease.py)
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
        super().__init__(session.host, tell, asked)
        self.run = run
        self.before = before
        self.former = former
        self.check_lease: Callable[[], None] = lambda: None
        self._session = session

    def _send_renewal(self) -> str:
        answer = self._run_renew_script()
        if answer.code == LAPSED:
            try:
                self.check_lease()
            except LockLost as error:
                self.lost = str(error)  # which was told
                return self.lost
            answer = self._run_renew_script(re.sub(r"\D", "", answer.out.decode(errors="replace"))[:12])
        if answer.code == LOST:
            holder = answer.out.decode(errors="replace").split("\n")
            self.lose(f"{holder[0]} took it with run {holder[2]}" if len(holder) > 2 else "it is gone from the master")
        return "" if answer.code == 0 else _words(answer)

    def _run_renew_script(self, seen: str = "") -> Any:
        return self._session.run_aside(script("master/lock_renew.sh", run=self.run, seen=seen), deadline=DEADLINE)

    def release(self) -> None:
        """Release the lock, if it is still this run's."""
        self.over.set()
        for _ in range(2):  # a signal meant for other scripts may have ended the first try
            if self._session.run_aside(script("master/lock_release.sh", run=self.run), deadline=DEADLINE).code == 0:
                return


@contextmanager
def hold(session: Any, run: str, tell: Callable[[str], None] = lambda why: None) -> Iterator[Lock]:
    """Hold the site's lock while the `with` lasts. The run may get another id than `run`, see templates/master/lock_take.sh.

    Raises Locked where another run holds it, unless that was a run of this machine whose process has ended; and Unreachable
    where no lock can be made.

    Where the lock can't be released, it expires.
    """
    lock = _taken(session, run, tell)
    threading.Thread(target=lock.keep, daemon=True, name="lock").start()
    try:
        yield lock
    finally:
        with suppress(RemoteError):
            lock.release()


def _taken(session: Any, run: str, tell: Callable[[str], None]) -> Lock:
    try:
        return _take(session, run, "", tell)
    except Locked as locked:
        if not gone(locked.holder):
            raise
        return _take(session, run, locked.holder.run, tell)
    except RemoteError:
        with suppress(RemoteError):  # the lock may have been taken, and only the answer was lost
            Lock(session, run, clock(), tell).release()
        raise


def _take(session: Any, run: str, over: str, tell: Callable[[str], None]) -> Lock:
    asked = clock()
    settings = {"run": run, "over": over, "who": owner(), "pid": str(os.getpid()), "process": "\n".join(identity())}
    answer = session.run(script("master/lock_take.sh", **settings), deadline=DEADLINE)
    word, _, rest = answer.out.decode(errors="replace").partition("\n")
    if answer.code != 0:
        fix = f"runs keep their files in the folder {STATE} there: `df -h {STATE}; df -i {STATE}` shows whether its disk is full"
        raise Unreachable(session.host, f"the site can't be locked: {_words(answer)}", fix)
    try:
        name, _, value = word.partition(" ")
        if name == "held":
            raise Locked(_holder(rest.split("\n"), int(value)))
        verb, since, named, *former = word.split()
        if verb != "taken" or not RUN.fullmatch(named):
            raise ValueError(word)
        before = clock() - max(int(since) - 1, 0)  # the master counts whole seconds
    except ValueError:
        output = " ".join(tail(answer.out, lines=3))[:200]
        text = f"the site can't be locked: the answer of the script could not be read: {output or 'nothing'}"
        fix = f"check what `ssh {session.host} true` prints: the shell's start files must print nothing"
        raise Unreachable(session.host, text, fix) from None
    return Lock(session, named, asked, tell, before, "".join(former))


def _holder(lines: list[str], left: int) -> Holder:
    who, process, run, _, _, *identified = lines
    number = int(process) if process.isdecimal() else 0
    return Holder(who or "unknown", number, run or "?", left, tuple(filter(None, identified)))


def _words(answer: Any) -> str:
    return " ".join(tail(answer.err, lines=3)) or f"exit code {answer.code}"


def script(name: str, **settings: str) -> str:
    """One of the lock's scripts with its settings, ready to run on the master."""
    return render.script("master/lock.sh", name, state=STATE, hold=str(LEASE_SECONDS), proc=PROC, **settings)
