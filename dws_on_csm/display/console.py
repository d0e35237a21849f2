"""The one place that writes to a terminal, or to a file in its place: output of hosts and of the cluster cannot control the
terminal or reorder its lines, and secrets are redacted.

Control characters and bidirectional marks are shown as their escapes; newlines and our own styles stay.
"""

from __future__ import annotations

import errno
import getpass
import json
import os
import select
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from dws_on_csm.model.printable import escaped_lines

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from dws_on_csm.display.style import Row

ERASE = "\r\033[K"


def say(*lines: object) -> None:
    """Write lines to standard output."""
    writer(sys.stdout)("".join(f"{line}\n" for line in lines))


def note(*lines: object) -> None:
    """Write lines to standard error."""
    writer(sys.stderr)("".join(f"{line}\n" for line in lines))


def ask(question: str) -> str:
    """Ask on standard error and return the answer. Raises KeyboardInterrupt and EOFError."""
    writer(sys.stderr)(question)
    # A signal that comes right before a read that blocks would not be handled until something is typed. So with a timeout: only a
    # main thread that wakes up handles signals.
    while sys.stdin.isatty() and not select.select([sys.stdin], [], [], 0.5)[0]:
        pass
    return input()


_prompts: list[Future[str]] = []
"""The answers that questions of `password` wait for."""


def password(question: str) -> str:
    """Ask on the terminal and return the answer, which is not shown. Raises EOFError, and KeyboardInterrupt after `end_prompts`."""
    answer: Future[str] = Future()

    def read() -> None:
        with suppress(InvalidStateError):  # the question has been ended
            try:
                answer.set_result(getpass.getpass(escaped_lines(question)))
            except BaseException as error:  # noqa: BLE001  # `password` raises it
                answer.set_exception(error)

    # In a thread of its own, since nothing can end the reading of a terminal: after `end_prompts` that thread waits on alone.
    _prompts.append(answer)
    threading.Thread(target=read, name="prompt", daemon=True).start()
    try:
        return answer.result()
    finally:
        _prompts.remove(answer)


def end_prompts() -> bool:
    """End the questions of `password` that still wait for an answer. Whether there were any."""
    waiting = tuple(_prompts)
    for answer in waiting:
        with suppress(InvalidStateError):  # it has just been answered
            answer.set_exception(KeyboardInterrupt())
    return bool(waiting)


def waiting(text: str) -> Callable[[], None]:
    """Write a text to standard error, without a newline, and return the function that erases it."""
    writer(sys.stderr)(text)

    def away() -> None:
        sys.stderr.write(ERASE)
        sys.stderr.flush()

    return away


def records(items: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines in ASCII to standard output."""
    write = writer(sys.stdout)
    for item in items:
        write(json.dumps(item, default=str) + "\n")


def writer(stream: TextIO, gone: bool = False) -> Callable[[str], None]:
    """Return a function that writes lines to `stream` at once. When the reader is gone or the disk is full, it drops them, so
    that the run continues.

    `gone`: raise BrokenPipeError when the reader is gone.
    """
    encoding = stream.encoding or "utf-8"

    def write(lines: str) -> None:
        from dws_on_csm.display.style import encodable  # late: not every program of ours has something to say
        from dws_on_csm.redaction import redact

        try:
            stream.write(encodable(escaped_lines(redact.text(lines)), encoding))
            stream.flush()
        except OSError as error:
            if gone and error.errno == errno.EPIPE:
                raise
            _drop(stream)
            if error.errno != errno.EPIPE and stream is not sys.stderr:
                note(f"Standard output cannot be written: {error.strerror}. The rest of it is lost.")

    return write


def _drop(stream: TextIO) -> None:
    """Discard everything written to `stream` from now on, including what Python flushes at its exit."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, stream.fileno())
    os.close(devnull)


def drawn_on(stream: TextIO, **how: Any) -> Console:
    """A rich console on `stream`, for texts made by `styled`."""
    from rich.console import Console  # late: rich is not needed elsewhere

    return Console(file=stream, highlight=False, markup=False, emoji=False, **how)


def styled(row: Row, **how: Any) -> Text:
    """The row as a rich text, safe for the terminal."""
    from rich.text import Text

    return Text.assemble(*((escaped_lines(text), style) for text, style in row), **how)


def guard() -> None:
    """Make Python write uncaught exceptions in this way too, and nothing of Paramiko's threads: their users get the error."""

    def hook(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        note("".join(traceback.format_exception(kind, error, where)).rstrip("\n"))

    def thread_hook(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and not type(args.thread).__module__.startswith("paramiko."):
            hook(args.exc_type, args.exc_value, args.exc_traceback)

    sys.excepthook = hook
    threading.excepthook = thread_hook
