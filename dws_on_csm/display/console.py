"""The one place that writes for people: what a host or the cluster said can drive no terminal and reorder no line there,
and no secret is in it.

Control characters and those that turn a line around are shown as their escapes; newlines and our own styles stay.
"""

from __future__ import annotations

import errno
import getpass
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from dws_on_csm.display.style import Row, encodable
from dws_on_csm.model.printable import shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

ERASE = "\r\033[K"


def say(*lines: object) -> None:
    """Lines on standard output."""
    writer(sys.stdout)("".join(f"{line}\n" for line in lines))


def note(*lines: object) -> None:
    """Lines on standard error."""
    writer(sys.stderr)("".join(f"{line}\n" for line in lines))


def ask(question: str) -> str:
    """What somebody types behind a question on standard error; KeyboardInterrupt and EOFError are the caller's."""
    writer(sys.stderr)(question)
    return input()


def password(question: str) -> str:
    """What somebody types unseen."""
    return getpass.getpass(shown(question))


def waiting(text: str) -> Callable[[], None]:
    """A text on standard error, without a line's end; what takes it away again."""
    writer(sys.stderr)(text)

    def away() -> None:
        sys.stderr.write(ERASE)
        sys.stderr.flush()

    return away


def records(some: Iterable[Mapping[str, Any]]) -> None:
    """JSON lines on standard output, in ASCII."""
    write = writer(sys.stdout)
    for one in some:
        write(json.dumps(one, default=str) + "\n")


def writer(stream: TextIO, gone: bool = False) -> Callable[[str], None]:
    """Writes lines at once. When the reader is gone, or the disk is full, what would be written is dropped: a run goes on.

    `gone`: that the reader is gone is raised, as BrokenPipeError.
    """
    encoding = stream.encoding or "utf-8"

    def write(lines: str) -> None:
        from dws_on_csm.redaction import redact  # late: not every program of ours has something to say

        try:
            stream.write(encodable(shown(redact.text(lines)), encoding))
            stream.flush()
        except OSError as error:
            if gone and error.errno == errno.EPIPE:
                raise
            _drop(stream)
            if error.errno != errno.EPIPE and stream is not sys.stderr:
                note(f"Standard output cannot be written: {error.strerror}. The rest of it is lost.")

    return write


def _drop(stream: TextIO) -> None:
    """From now on nothing that is written to it arrives; what Python flushes at its end goes there, too."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, stream.fileno())
    os.close(devnull)


def drawn_on(stream: TextIO, **how: Any) -> Console:
    """What draws on a terminal. What is printed there is made by `styled`."""
    from rich.console import Console  # late: rich is not needed elsewhere

    return Console(file=stream, highlight=False, markup=False, emoji=False, **how)


def styled(row: Row, **how: Any) -> Text:
    """A row in its styles."""
    from rich.text import Text

    return Text.assemble(*((shown(text), style) for text, style in row), **how)


def guard() -> None:
    """Has Python write what nobody caught in the same way."""

    def hook(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        note("".join(traceback.format_exception(kind, error, where)).rstrip("\n"))

    sys.excepthook = hook
