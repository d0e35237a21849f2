"""Writes the tables of versions into docs/versions.md and README.md, from domain/tested.py: `python -m docs.versions`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

from dws_on_csm.domain import compatibility, tested

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- made by `python -m docs.versions`, from dws_on_csm/domain/tested.py -->\n", "<!-- end -->"


def whole() -> Iterator[str]:
    """The lines of docs/versions.md's first table."""
    yield "| part | version | how | details |"
    yield "|---|---|---|---|"
    for each in tested.TABLE:
        yield f"| {tested.PARTS[each.part]} | {each.version} | {tested.HOW_TEXT[each.how]} | {each.what} |"


def short() -> Iterator[str]:
    """The lines of README.md's table: a row for each part."""
    yield "| part | tested on the lab | tried by hand | never tried |"
    yield "|---|---|---|---|"
    for part, rows in groupby(tested.TABLE, key=lambda each: each.part):
        versions: dict[tested.How, list[str]] = {"lab": [], "hand": [], "documents": []}
        for each in rows:
            versions[each.how].append(each.version)
        yield f"| {tested.PARTS[part]} | {' | '.join(', '.join(group) or '-' for group in versions.values())} |"


def together() -> Iterator[str]:
    """The lines of docs/versions.md's second table: which versions work together, with the source of each row."""
    yield "| where | it needs | because | what this tool does | source |"
    yield "|---|---|---|---|---|"
    for each in compatibility.TABLE:
        does = each.remedy or f"refuses (`{each.name}`)"
        where, must = (_span(*side) for side in (each.when, each.must))
        yield f"| {where} | {must} | {each.why} | {does} | {each.source} |"


def _span(part: str, span: str) -> str:
    name = tested.PARTS.get(part, part.capitalize())
    return f"any {name}" if span == ">=0.0.0" else f"{name} {span.replace('<', '&lt;').replace('>', '&gt;')}"


PAGES: dict[Path, tuple[Callable[[], Iterator[str]], ...]] = {
    ROOT / "docs" / "versions.md": (whole, together),
    ROOT / "README.md": (short,),
}
"""A page -> what makes each of its tables, in their order."""


def page(path: Path) -> str:
    """The text of a page with its tables as the data have them."""
    parts = path.read_text(encoding="utf-8").split(BEGIN)
    made = ["".join((BEGIN, "\n".join(table()), "\n", END)) for table in PAGES[path]]
    after = [part.partition(END)[2] for part in parts[1:]]
    return parts[0] + "".join(table + rest for table, rest in zip(made, after, strict=True))


if __name__ == "__main__":
    for each in PAGES:
        each.write_text(page(each), encoding="utf-8")
