"""Texts from hosts, made safe to show: no character can control the terminal or reorder a line."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SEQUENCE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC: titles, links
    r"|\x1b[ -/]*[0-~]"  # the rest
)


def escaped(text: str) -> str:
    """`text` with each unprintable character as its escape (`\\x1b`, `\\u202e`, `\\xa0`); tabs stay."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in text)


def escaped_lines(text: str) -> str:
    """As `escaped`, for a text of several lines: its newlines stay."""
    return text if text.isprintable() else "\n".join(map(escaped, text.split("\n")))


def plain_line(text: str) -> str:
    """A line of output as a terminal shows it: without colours, and only the last text of those that overwrite each other."""
    if text.isprintable():
        return text
    final = _SEQUENCE.sub("", text).rstrip("\r\n").rpartition("\r")[2]
    return escaped(final.expandtabs(8))


def first_few(texts: Sequence[str], shown: int = 3, separator: str = "; ", noun: str = "") -> str:
    """The first few of `texts`, and how many more there are: "a; b; c and 4 more lines"."""
    more = more_text(len(texts) - shown, noun)
    return separator.join(texts[:shown]) + (f" {more}" if more else "")


def more_text(count: int, noun: str = "") -> str:
    """How many more there are, in words; "" where there are no more."""
    return f"and {count} more{noun and f' {noun}'}" if count > 0 else ""
