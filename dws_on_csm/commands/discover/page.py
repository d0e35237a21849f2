"""The text of a site file that `invoke discover` writes: each value with where it came from, and marked questions."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile
from typing import Any

import yaml

from dws_on_csm.config.describe import default, description, parts
from dws_on_csm.model.printable import escaped

WIDTH = 120
"""Characters of a line; a longer comment is written above its key."""

MARK = "QUESTION"
"""In a comment: what the administrator has to decide or find out."""


@dataclass(frozen=True)
class Value:
    """A key of the site file.

    key       "controllers[0].host"; one that ends with an index is the entry of that list
    value     None: only the comment is written, and for a question the key with its default, as a comment
    source    where the value came from, or what else was seen there
    question  what could not be known; "" where nothing is to be asked
    """

    key: str
    value: Any = None
    source: str = ""
    question: str = ""


def text(head: Sequence[str], values: Sequence[Value]) -> str:
    """The site file. `values` in the order of the file: those of a section, and of an entry of a list, follow each other."""
    lines = [f"# {escaped(line)}".rstrip() for line in head]
    for name, section in groupby(values, lambda value: str(parts(value.key)[0])):
        lines += ["", *_comment(description(name), 0), *_section(name, list(section))]
    return "\n".join(lines) + "\n"


def _section(name: str, values: Sequence[Value]) -> Iterator[str]:
    """A section: a comment as a whole where no key of it has a value, as an empty section would be one with a mistake. A key that
    belongs to no section (`dws`) is one line."""
    if len(values) == 1 and values[0].key == name and values[0].value is not None:
        yield from _leaf(values[0], name, 0, dash=False)
        return
    body = list(_body(values))
    if any(value.value is not None for value in values):
        yield from (f"{name}:", *body)
        return
    if any(not line.lstrip().startswith("#") for line in body) or any(value.question for value in values):
        yield f"# {name}:"
    yield from (f"#   {line.lstrip().removeprefix('#').lstrip()}" for line in body)


def _body(values: Sequence[Value]) -> Iterator[str]:
    opened: tuple[str | int, ...] = parts(values[0].key)[:1]
    for value in values:
        *parents, leaf = parts(value.key)
        if value.value is None and (isinstance(leaf, int) or not parents):
            yield from _notes(value, 2)
            continue
        shared = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(parents, opened, strict=False))))
        dash = False
        for depth in range(shared, len(parents)):
            if isinstance(parents[depth], int):
                dash = True
            else:
                yield _line(f"{parents[depth]}:", depth, dash)
                dash = False
        opened = tuple(parents)
        yield from _leaf(value, str(leaf), len(parents), dash)


def _line(content: str, depth: int, dash: bool) -> str:
    """A line in its place; the first one of an entry of a list begins with a dash."""
    return f"{'  ' * (depth - 1)}- {content}" if dash else f"{'  ' * depth}{content}"


def _leaf(value: Value, leaf: str, depth: int, dash: bool) -> Iterator[str]:
    if value.value is None:
        yield from _notes(value, 2 * depth)
        if value.question:
            yield f"{'  ' * depth}# {leaf}: {scalar(default(value.key))}".rstrip()
        return
    line = _line(f"{leaf}: {scalar(value.value)}", depth, dash)
    source = f"  # {escaped(value.source)}" if value.source else ""
    fits = len(line + source) <= WIDTH
    at = 2 * (depth - 1 if dash else depth)
    yield from _question(value, at)
    yield from () if fits else _comment(value.source, at)
    yield line + (source if fits else "")


def _notes(value: Value, at: int) -> Iterator[str]:
    yield from _comment(value.source, at)
    yield from _question(value, at)


def _question(value: Value, at: int) -> Iterator[str]:
    if value.question:
        yield from _comment(f"{MARK}: {value.question}", at)


def _comment(content: str, at: int) -> list[str]:
    """The lines of a comment with this indentation."""
    width = WIDTH - at - 2
    lines = textwrap.wrap(escaped(content), width, break_long_words=False, break_on_hyphens=False) if content else []
    return [f"{' ' * at}# {line}" for line in lines]


def scalar(value: Any) -> str:
    """A value as YAML has it, in one line."""
    written = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=False)
    return written.removesuffix("\n").removesuffix("\n...")
