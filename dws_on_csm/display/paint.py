"""Print rows of text on standard output: coloured and wrapped on a terminal, plain elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable

from dws_on_csm.display import console, select
from dws_on_csm.display.style import Row, text
from dws_on_csm.redaction import redact


def printed(rows: Iterable[Row]) -> None:
    """Print `rows`, each as soon as it is available."""
    write = painter()
    for row in rows:
        write(row)


def painter() -> Callable[[Row], None]:
    """Return the function that prints a row. It exits quietly when the reader is gone (`| head`)."""
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
    """The row with secrets redacted; a name and its secret value may be two spans."""
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
