"""What a host wrote, made safe to show: none of its characters can drive a terminal or reorder a line."""

from __future__ import annotations

import re

_SEQUENCE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC: titles, links
    r"|\x1b[ -/]*[0-~]"  # the rest
)


def escaped(text: str) -> str:
    """`text` with each character that isn't printable as its escape (`\\x1b`, `\\u202e`, `\\xa0`); tabs stay."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in text)


def shown(text: str) -> str:
    """As `escaped`, of a text of several lines: their ends stay."""
    return text if text.isprintable() else "\n".join(map(escaped, text.split("\n")))


def output(text: str) -> str:
    """A line of output as a terminal would show it in the end: without colours, the last of texts that overwrite."""
    if text.isprintable():
        return text
    shown = _SEQUENCE.sub("", text).rstrip("\r\n").rpartition("\r")[2]
    return escaped(shown.expandtabs(8))
