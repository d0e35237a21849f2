"""Tables that steps report, merged per stage and aligned as rows of text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dws_on_csm.display.style import Row
from dws_on_csm.model.events import Done, Table
from dws_on_csm.model.printable import escaped

GAP = "  "
"""The gap between two columns; a row whose first cell begins with it belongs to the row above."""


def merged(steps: Iterable[Done]) -> list[Table]:
    """The tables of these steps in the order in which they began; tables with the same columns become one."""
    tables: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for done in sorted(steps, key=lambda done: done.began):
        if done.table:
            tables.setdefault(done.table[0], []).extend(done.table[1:])
    return [(columns, *rows) for columns, rows in tables.items()]


def rows(table: Table, indent: str = "  ") -> list[Row]:
    """The table as aligned rows, the column names first; rows that belong to the row above are dim."""
    shown = [tuple(escaped(cell) for cell in line) for line in table]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return [[(indent, ""), (_aligned(line, widths), _style(number, line))] for number, line in enumerate(shown)]


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    return GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _style(number: int, line: Sequence[str]) -> str:
    return "bold" if number == 0 else "dim" if line[0].startswith(GAP) else ""
