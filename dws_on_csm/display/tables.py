"""Tables of steps as rows for a screen: those of one stage with the same columns as one, aligned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dws_on_csm.display.style import Row
from dws_on_csm.model.events import Done, Table
from dws_on_csm.model.printable import escaped

GAP = "  "
"""What stands between two columns; a first cell that begins with it belongs to the row above."""


def merged(some: Iterable[Done]) -> list[Table]:
    """The tables of these steps, those with the same columns as one, in the order in which the steps began."""
    found: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for done in sorted(some, key=lambda one: one.began):
        if done.table:
            found.setdefault(done.table[0], []).extend(done.table[1:])
    return [(columns, *rows) for columns, rows in found.items()]


def rows(table: Table, indent: str = "  ") -> list[Row]:
    """The table in aligned rows, the names of its columns first; what belongs to a row above it is dim."""
    shown = [tuple(escaped(cell) for cell in line) for line in table]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return [[(indent, ""), (_aligned(line, widths), _style(number, line))] for number, line in enumerate(shown)]


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    return GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _style(number: int, line: Sequence[str]) -> str:
    return "bold" if number == 0 else "dim" if line[0].startswith(GAP) else ""
