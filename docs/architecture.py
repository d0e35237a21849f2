"""Draws docs/architecture.svg from the code, the picture of the rooms in ARCHITECTURE.md: `python -m docs.architecture`.

The rows are the layers of the import contract in pyproject.toml, the text in a box is the first line of the room's
`__init__.py`, and the arrows are the imports that there are.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence, Set
from html import escape
from importlib import import_module
from itertools import permutations
from pathlib import Path
from textwrap import wrap

import grimp

PACKAGE = "dws_on_csm"
ROOT = Path(__file__).resolve().parents[1]
PICTURE = Path(__file__).with_name("architecture.svg")

BOX, ROW, GAP, MARGIN = (290, 84), 140, 50, 20
"""Width and height of a box, from row to row, between two boxes, around all."""

Imports = Mapping[str, frozenset[str]]

FRAME = """<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg"
 font-family="system-ui, 'DejaVu Sans', sans-serif" font-size="13">
<defs>
<marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">
<path d="M0,0 L10,5 L0,10 z" fill="#5b6b7b"/>
</marker>
</defs>
<rect width="{width}" height="{height}" fill="#ffffff"/>
{content}
</svg>
"""
ARROW = '<path d="{path}" fill="none" stroke="#5b6b7b" marker-end="url(#head)"/>'
FIELD = '<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="#eef3f8" stroke="#5b6b7b"/>'
NAME = '<text x="{x}" y="{y}" font-size="15" font-weight="bold" fill="#12324f">{text}</text>'
WORDS = '<text x="{x}" y="{y}" fill="#22303c">{text}</text>'


def layers() -> list[list[str]]:
    """The rooms in the rows of the contract "rooms", from the top."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    rows: Sequence[str] = next(contract["layers"] for contract in contracts if contract["id"] == "rooms")
    return [row.split(" | ") for row in rows]


def imports() -> Imports:
    """Room -> the rooms that one of its modules imports from."""
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    pairs = {
        (module.split(".")[1], imported.split(".")[1])
        for module in graph.modules - {PACKAGE}
        for imported in graph.find_modules_directly_imported_by(module) - {PACKAGE}
    }
    return {room: frozenset(to for at, to in pairs if at == room != to) for room, _ in pairs}


def arrows(found: Imports) -> list[tuple[str, str]]:
    """The imports to draw: one that also leads through another room is left out."""

    def reached(room: str) -> frozenset[str]:
        direct = found.get(room, frozenset())
        return direct.union(*(reached(to) for to in direct))

    return [
        (room, to)
        for room, direct in sorted(found.items())
        for to in sorted(direct)
        if not any(to in reached(other) for other in direct - {to})
    ]


def places(rows: Sequence[Sequence[str]], drawn: Sequence[tuple[str, str]]) -> dict[str, tuple[int, int]]:
    """Room -> its column and row: as near as can be to the rooms that point to it."""
    placed: dict[str, tuple[int, int]] = {}
    columns = max(map(len, rows))

    def distance(row: Sequence[str], taken: Sequence[int]) -> float:
        pairs = zip(row, taken, strict=True)
        return sum(
            abs(column - placed[at][0]) for room, column in pairs for at, to in drawn if to == room and at in placed
        )

    for number, row in enumerate(rows):
        best = min(permutations(range(columns), len(row)), key=lambda taken: distance(row, taken))
        chosen = best if any(to in row for _, to in drawn) else range((columns - len(row)) // 2, columns)
        placed |= {room: (column, number) for room, column in zip(row, chosen, strict=False)}
    return placed


def picture() -> str:
    """The rooms and who imports whom, as SVG."""
    rows, drawn = layers(), arrows(imports())
    placed = places(rows, drawn)
    content = [_arrow(placed[at], placed[to], set(placed.values())) for at, to in drawn]
    content += [_box(room, *_corner(*place)) for room, place in placed.items()]
    right, bottom = (max(one) for one in zip(*placed.values(), strict=True))
    x, y = _corner(right, bottom)
    width, height = x + BOX[0] + MARGIN, y + BOX[1] + MARGIN
    return FRAME.format(width=width, height=height, content="\n".join(content))


def _corner(column: int, row: int) -> tuple[int, int]:
    return MARGIN + column * (BOX[0] + GAP), MARGIN + row * ROW


def _arrow(start: tuple[int, int], end: tuple[int, int], taken: Set[tuple[int, int]]) -> str:
    """From the lower edge of a box to the upper edge of another one, past the boxes of the rows between them."""

    def free(column: int) -> bool:
        return not taken & {(column, row) for row in range(start[1] + 1, end[1])}

    (x0, y0), (x1, y1) = _corner(*start), _corner(*end)
    x0, y0, x1 = x0 + BOX[0] // 2, y0 + BOX[1], x1 + BOX[0] // 2
    between = (x0 + x1) // 2 if (start[0] + end[0]) % 2 else x1 + (BOX[0] + GAP) // 2
    lane = x0 if free(start[0]) else x1 if free(end[0]) else between
    above, below = y0 + ROW - BOX[1], y1 - ROW + BOX[1]  # the edges of the rows between
    path = f"M{x0},{y0} {_bent(x0, y0, lane, above)} L{lane},{below} {_bent(lane, below, x1, y1)}"
    return ARROW.format(path=path if end[1] - start[1] > 1 else f"M{x0},{y0} {_bent(x0, y0, x1, y1)}")


def _bent(x0: int, y0: int, x1: int, y1: int) -> str:
    middle = (y0 + y1) // 2
    return f"C{x0},{middle} {x1},{middle} {x1},{y1}"


def _box(room: str, x: int, y: int) -> str:
    told = (import_module(f"{PACKAGE}.{room}").__doc__ or "").partition("\n")[0]
    lines = [NAME.format(x=x + 12, y=y + 22, text=room)]
    lines += [WORDS.format(x=x + 12, y=y + 40 + 17 * row, text=escape(text)) for row, text in enumerate(wrap(told, 38))]
    return "\n".join([FIELD.format(x=x, y=y, width=BOX[0], height=BOX[1]), *lines])


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
