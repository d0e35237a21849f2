"""Rows of text on standard output: in colour and wrapped on a terminal, plain elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable

from dws_on_csm.display import console, select
from dws_on_csm.display.style import Row, text
from dws_on_csm.redaction import redact


def printed(rows: Iterable[Row]) -> None:
    """Prints `rows`, each as soon as it comes."""
    write = painter()
    for row in rows:
        write(row)


def painter() -> Callable[[Row], None]:
    """What prints a row on standard output. A reader that has gone away (`| head`) ends the program without a word."""
    paint = _coloured() if select.is_terminal(sys.stdout) else _plain()

    def write(row: Row) -> None:
        try:
            paint(_clean(row))
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what Python flushes at its end goes there
            sys.exit(0)

    return write


def _clean(row: Row) -> Row:
    """The row without secrets: a name and its value may be two spans of it."""
    clean = redact.text(text(row))
    return row if clean == text(row) else [(clean, row[-1][1])]


def _plain() -> Callable[[Row], None]:
    write = console.writer(sys.stdout, gone=True)
    return lambda row: write(text(row) + "\n")


def _coloured() -> Callable[[Row], None]:
    from dws_on_csm.display.live import wrapped

    drawn = console.drawn_on(sys.stdout)

    def paint(row: Row) -> None:
        for line in wrapped(row, drawn):
            drawn.print(line, soft_wrap=True)

    return paint
