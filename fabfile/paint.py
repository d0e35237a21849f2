"""Rows of text on standard output: in colour and wrapped on a terminal, plain elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable

from fabfile import report
from fabfile.theme import Row, encodable, text


def printed(rows: Iterable[Row]) -> None:
    """Prints `rows`, each as soon as it comes."""
    write = painter()
    for row in rows:
        write(row)


def painter() -> Callable[[Row], None]:
    """What prints a row on standard output. A reader that has gone away (`| head`) ends the program without a word."""
    paint = _coloured() if report.is_terminal(sys.stdout) else _plain()

    def write(row: Row) -> None:
        try:
            paint(row)
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what Python flushes at its end goes there
            sys.exit(0)

    return write


def _plain() -> Callable[[Row], None]:
    encoding = sys.stdout.encoding or "utf-8"
    return lambda row: print(encodable(text(row), encoding))  # noqa: T201


def _coloured() -> Callable[[Row], None]:
    from rich.console import Console  # late: rich is not needed elsewhere

    from fabfile.live import wrapped

    console = Console(highlight=False, markup=False, emoji=False)

    def paint(row: Row) -> None:
        for line in wrapped(row, console):
            console.print(line, soft_wrap=True)

    return paint
