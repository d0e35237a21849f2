"""Ctrl-C and SIGTERM. The first stops the work: nothing more begins, and what runs on the hosts is ended. The second leaves."""

from __future__ import annotations

import os
import signal
import sys
import termios
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from dws_on_csm.display import console
from dws_on_csm.display.progress import Progress, fold, take
from dws_on_csm.engine.state import Run
from dws_on_csm.model.errors import RemoteError
from dws_on_csm.model.events import Event
from dws_on_csm.runner.connections import Sessions
from dws_on_csm.transport.remote_shell import RemoteShell

WITHIN = 0.8
"""Seconds after which this process has ended, whatever it still had to say."""

LastWords = Callable[["tuple[Run, Sessions] | None"], int | None]
"""Says where things stand, with the run and its connections, if it has come so far; the exit code, if it is not FAILED."""

FAILED = 1
STOPPED = "Stopped; nothing was changed."
SHOW_CURSOR = "\x1b[?25h"


class Interrupts:
    """What signals do. Until `watch` says what is at work, nothing was begun, and the first one leaves at once."""

    def __init__(self, last_words: LastWords) -> None:
        self._last_words = last_words
        self._watched: tuple[Run, Sessions] | None = None
        self._came = False
        self._leaving = False
        self._terminal = _attributes()

    def watch(self, made: Run, sessions: Sessions) -> None:
        """From now on the first signal stops `made` and ends what it has begun on the hosts, but not what comes last; the next one
        leaves."""
        self._watched = made, sessions

    def __call__(self, number: int, frame: object) -> None:
        """A signal has come: in the main thread, which may hold any lock. So it only begins what is to be done."""
        before, self._came = self._came, True
        if self._watched is None or before:
            self._leave()
        elif not self._watched[0].over:  # else how it ended is being said, which takes moments
            self._stop(*self._watched)

    def _stop(self, made: Run, sessions: Sessions) -> None:
        made.stopping.set()
        for session in () if made.ending else sessions.open():
            made.stoppers.append(threading.Thread(target=_end, args=(session,), daemon=True))
            made.stoppers[-1].start()
        if made.asking:
            raise KeyboardInterrupt  # or the question would go on waiting for its answer

    def _leave(self) -> None:
        if not self._leaving:
            self._leaving = True
            threading.Thread(target=self._exit, daemon=True).start()

    def _exit(self) -> None:
        watchdog = threading.Timer(WITHIN, os._exit, (FAILED,))
        watchdog.daemon = True
        watchdog.start()
        code: int | None = None
        try:
            code = self._last_words(self._watched)
            _give_back(self._terminal)
        finally:
            os._exit(FAILED if code is None else code)


@contextmanager
def interruptible(last_words: LastWords) -> Iterator[Interrupts]:
    """Ctrl-C, and SIGTERM like it, while the `with` lasts. `last_words` are said where this process ends without waiting."""
    interrupts = Interrupts(last_words)
    before = {number: signal.signal(number, interrupts) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def read_only() -> Iterator[None]:
    """While the `with` lasts hosts are only read: the first Ctrl-C leaves at once."""
    with interruptible(lambda watched: console.note("", STOPPED)):
        yield


def still_running(events: Iterable[Event], sessions: Sessions | None) -> list[str]:
    """What runs on which hosts now, as far as these events and the connections tell: "ncn-m001: images.pushed (push ...)"."""
    progress = Progress()
    for event in events:
        take(progress, event, 0.0)
    works = [(stage.name, work) for stage in progress.stages.values() for work in stage.busy.values()]
    found: dict[str, list[str]] = {}
    for name, work in works:
        found.setdefault(f"{name}.{work.step} ({work.title})", []).append(work.host)
    told = {work.host for _, work in works}
    looking = [one.host for one in sessions.open() if one.busy and one.host not in told] if sessions else []
    if looking:
        found["looks, which change nothing"] = looking
    return [f"{fold(hosts)}: {what}" for what, hosts in found.items()]


def _end(session: RemoteShell) -> None:
    with suppress(RemoteError):  # a host that is gone has nothing left to end
        session.stop()


def _attributes() -> list[Any] | None:
    """How the terminal is, before anything asks for a password on it."""
    try:
        return termios.tcgetattr(0)
    except (OSError, termios.error):  # standard input is no terminal
        return None


def _give_back(attributes: list[Any] | None) -> None:
    if attributes is not None:
        termios.tcsetattr(0, termios.TCSANOW, attributes)
    if sys.stdout.isatty():
        os.write(1, SHOW_CURSOR.encode())
