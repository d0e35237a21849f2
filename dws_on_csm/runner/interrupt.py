"""Ctrl-C, SIGTERM, and the end of the terminal (SIGHUP). The first stops the run: nothing more begins, and scripts on the hosts are
ended. The second one ends this process at once."""

from __future__ import annotations

import os
import signal
import stat
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from dws_on_csm.display import console
from dws_on_csm.display.progress import Progress, fold, take
from dws_on_csm.engine.state import Run
from dws_on_csm.model.errors import RemoteError
from dws_on_csm.model.events import Event, Stopping
from dws_on_csm.model.exit_codes import FAILED
from dws_on_csm.runner.connections import Sessions
from dws_on_csm.transport.remote_shell import RemoteShell

WITHIN = 0.8
"""Seconds within which this process ends, even if it could not show everything."""

LastWords = Callable[["tuple[Run, Sessions] | None"], int | None]
"""Shows where the run stands, by the run and its connections, if there are any. Returns the exit code, if it is not FAILED."""

STOPPED = "Stopped; nothing was changed."
SHOW_CURSOR = "\x1b[?25h"


class Interrupts:
    """The signal handler. Until `watch` is called nothing was begun, and the first signal ends this process at once."""

    def __init__(self, last_words: LastWords) -> None:
        self._last_words = last_words
        self._watched: tuple[Run, Sessions] | None = None
        self._came = False
        self._exiting = False
        self._terminal = _attributes()
        self._prompts: threading.Thread | None = None

    def watch(self, run: Run, sessions: Sessions) -> None:
        """From now on the first signal stops `run` and ends its scripts on the hosts, except those of stages that come last; the
        next one ends this process at once."""
        self._watched = run, sessions

    def __call__(self, number: int, frame: object) -> None:
        """Handle a signal: in the main thread, which may hold any lock. So this only starts threads."""
        if number == signal.SIGHUP:
            _forget_terminal()
        before, self._came = self._came, True
        if self._watched is None or before:
            self._exit_at_once()
        elif not self._watched[0].over:  # else how it ended is being shown, which is quick
            self._stop(*self._watched)

    def _stop(self, run: Run, sessions: Sessions) -> None:
        run.stopping.set()
        ending = [partial(_end, session) for session in (() if run.ending else sessions.open())]
        for act in (partial(run.emit, Stopping(time.time())), *ending):
            run.stoppers.append(threading.Thread(target=act, daemon=True))
            run.stoppers[-1].start()
        self._prompts = threading.Thread(target=_end_prompts, args=(self._terminal,), daemon=True)
        self._prompts.start()
        if run.asking:
            raise KeyboardInterrupt  # or the prompt would keep waiting for an answer

    def end(self) -> None:
        """Wait until the terminal shows again what is typed, where a signal has ended a question for a password: this process may
        end before the thread does that."""
        if self._prompts:
            self._prompts.join(WITHIN)
            _restore(self._terminal)

    def _exit_at_once(self) -> None:
        if not self._exiting:
            self._exiting = True
            threading.Thread(target=self._exit_with_last_words, daemon=True).start()

    def _exit_with_last_words(self) -> None:
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
    """Handle Ctrl-C, SIGTERM and SIGHUP while the `with` lasts; `last_words` is called where this process ends at once.

    A SIGHUP that is ignored (nohup) stays so: then the run continues without its terminal.
    """
    interrupts = Interrupts(last_words)
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, interrupts) for number in numbers}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        interrupts.end()


@contextmanager
def ending_at_once() -> Iterator[None]:
    """While the `with` lasts, hosts are only read: the first Ctrl-C ends this process at once."""
    with interruptible(lambda watched: console.note("", STOPPED)):
        yield


def still_running(events: Iterable[Event], sessions: Sessions | None) -> list[str]:
    """What is running on which hosts now, by these events and the connections: "ncn-m001: images.pushed (push ...)"."""
    progress = Progress()
    for event in events:
        take(progress, event, 0.0)
    works = [(stage.name, work) for stage in progress.stages.values() for work in stage.busy.values()]
    hosts_by_work: dict[str, list[str]] = {}
    for name, work in works:
        hosts_by_work.setdefault(f"{name}.{work.step} ({work.title})", []).append(work.host)
    listed = {work.host for _, work in works}
    reading = (
        [session.host for session in sessions.open() if session.busy and session.host not in listed] if sessions else []
    )
    if reading:
        hosts_by_work["checks, which change nothing"] = reading
    return [f"{fold(hosts)}: {work}" for work, hosts in hosts_by_work.items()]


def _end(session: RemoteShell) -> None:
    with suppress(RemoteError):  # a host that is unreachable has nothing left to end
        session.stop()


def _end_prompts(attributes: list[Any] | None) -> None:
    """End questions for passwords, which have turned the terminal's echo off."""
    if console.end_prompts():
        _restore(attributes)


def _attributes() -> list[Any] | None:
    """The terminal's attributes, before a prompt for a password changes them."""
    try:
        return termios.tcgetattr(0)
    except (OSError, termios.error):  # standard input is no terminal
        return None


def _forget_terminal() -> None:
    """Read from and write to /dev/null from now on in place of the terminal, which is gone: reading and writing there fail."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        if _hung_up(number):
            os.dup2(null, number)
    os.close(null)


def _hung_up(number: int) -> bool:
    """Whether this stream is a terminal that is gone: it is a device, and no longer says that it is a terminal (as /dev/null)."""
    try:
        return stat.S_ISCHR(os.fstat(number).st_mode) and not os.isatty(number)
    except OSError:
        return False


def _restore(attributes: list[Any] | None) -> None:
    """Give the terminal, if there still is one, these attributes."""
    if attributes is not None and os.isatty(0):
        termios.tcsetattr(0, termios.TCSANOW, attributes)


def _give_back(attributes: list[Any] | None) -> None:
    _restore(attributes)
    if sys.stdout.isatty():
        os.write(1, SHOW_CURSOR.encode())
