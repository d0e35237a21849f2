"""What is wrong with a file that YAML's parser refuses, in words of the file itself: which line, and what to write there.

The parser says where it gave up, which is often lines behind the mistake, and in words of its own grammar.
"""

from __future__ import annotations

import re
from collections.abc import Callable

Advice = tuple[int, int, str]
"""Line and column, from 1, and what to write there."""

_GLUED = re.compile(r"( *(?:- +)*)([a-z_]+):((?!//)\S.*)")
_OPENED = re.compile(r"""(?:^|[:\[,{-]) *(["'])""")
_PAIR = re.compile(r" *(?:- +)*[A-Za-z_]+:(?: +(.*))?$")
_SPECIAL = "@`%"
"""Characters with which YAML lets no text begin."""


def advice(text: str, line: int, column: int, context: tuple[int, int]) -> Advice | None:
    """What to write so that YAML's parser accepts `text`; None where the mistake is not one of those that are known.

    line, column   where the parser gave up
    context        where what it was reading there began; (0, 0) where it does not say
    """
    lines = [part.rstrip("\r") for part in text.split("\n")]
    known: tuple[Callable[[list[str], int], Advice | None], ...] = (_tab, _glued, _open_quote)
    for mistake in known:
        if place_and_text := mistake(lines, line):
            return place_and_text
    return _open_bracket(lines, *context) or _first_character(lines, line, column) or _inside(lines, line)


def spaced(value: str) -> str:
    """`host: m` for `host:m` (or `- host: m` for `-host: m`, without its value); "" for a text that lacks no space."""
    if key := re.fullmatch(r"-([a-z_]+)", value):
        return f"- {key[1]}:"
    pair = _GLUED.fullmatch(value)
    return f"{pair[2]}: {_shown(pair[3])}" if pair else ""


def _tab(lines: list[str], line: int) -> Advice | None:
    """A tab in the indent of the line."""
    start = re.match(r" *\t", _at(lines, line))
    return (
        (line, len(start[0]), "a tab indents this line: write spaces instead; YAML allows no tab here")
        if start
        else None
    )


def _glued(lines: list[str], line: int) -> Advice | None:
    """A key without a space after its colon, in the line or above it: it became a part of the text before or after it."""
    for number in range(line, 0, -1):
        if pair := _GLUED.match(_at(lines, number)):
            key, written = pair[2], spaced(pair[0].lstrip(" -"))
            return number, len(pair[1]) + len(key) + 2, f"a space is missing after the colon: write `{written}`"
    return None


def _open_quote(lines: list[str], line: int) -> Advice | None:
    """A quote that its own line does not close: a site file has no text of several lines."""
    for number in range(1, line + 1):
        content = _at(lines, number)
        if content.lstrip().startswith("#"):
            continue
        for quote in _OPENED.finditer(content):
            if quote[1] not in content[quote.end() :] and content[: quote.start(1)].count(quote[1]) % 2 == 0:
                return (
                    number,
                    quote.start(1) + 1,
                    f"the quote ({quote[1]}) that opens here is not closed: close it in this line",
                )
    return None


def _open_bracket(lines: list[str], line: int, column: int) -> Advice | None:
    """A list or keys in brackets that nothing closes."""
    bracket = _at(lines, line)[column - 1 : column] if column else ""
    closing = {"[": "]", "{": "}"}.get(bracket)
    return (
        (line, column, f"the {bracket} that opens here is not closed: write {closing} at its end") if closing else None
    )


def _first_character(lines: list[str], line: int, column: int) -> Advice | None:
    """A text whose first character means something else in YAML."""
    content = _at(lines, line)
    value = content[column - 1 :].split(" #")[0].strip()
    if value[:1] and value[0] in _SPECIAL:
        return line, column, f'a text that begins with {value[0]} needs quotes: write "{_shown(value)}"'
    if node_set := re.search(r"(?:[:-] +)(\[[^\]]*\][^\s,\]}].*)", content):
        return line, node_set.start(1) + 1, f'a text that begins with [ needs quotes: write "{_shown(node_set[1])}"'
    return None


def _inside(lines: list[str], line: int) -> Advice | None:
    """A line whose text has a colon and a space in it, or whose indent no line above it has."""
    content = _at(lines, line)
    pair = _PAIR.match(content)
    if pair and pair[1] and re.search(r": ", pair[1]) and pair[1][0] not in "\"'[{#":
        return line, pair.start(1) + 1, f'a text with a colon and a space in it needs quotes: write "{_shown(pair[1])}"'
    above = [
        number for number in range(1, line) if _at(lines, number).strip() and _at(lines, number).lstrip()[0] != "#"
    ]
    if not pair or not above:
        return None
    mine, theirs = _indent(content), _indent(_at(lines, above[-1]))
    opens = re.search(r":\s*(#.*)?$", _at(lines, above[-1])) is not None
    if (mine > theirs and not opens) or (
        mine < theirs and mine not in {_indent(_at(lines, number)) for number in above}
    ):
        text = f"this line begins in column {mine + 1}, and line {above[-1]} in column {theirs + 1}"
        return line, mine + 1, f"{text}: keys of one section begin in one column"
    return None


def _indent(content: str) -> int:
    """The column, from 0, of a line's key; that of `- key` is the key's."""
    return len(content) - len(content.lstrip(" -"))


def _at(lines: list[str], line: int) -> str:
    """The line of this number, without its end; "" where there is none."""
    return lines[line - 1] if 0 < line <= len(lines) else ""


def _shown(value: str) -> str:
    """A value for a message: short, without a comment, and without a password in a URL."""
    text = re.sub(r"//.*@", "//***@", value.split(" #")[0].strip())
    return text if len(text) <= 60 else text[:57] + "..."
