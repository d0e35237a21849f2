"""The lines of slurm.conf: where each stands in the text, what Slurm takes it to mean, and the same line with another value.

The grammar is that of Slurm's own parser (src/common/parse_config.c), each rule tried on slurmctld 24.11.5:

- Lines end at a newline alone; a carriage return is white space, as are tab, vertical tab and form feed.
- `#` begins a comment anywhere, within quotes too, unless an odd number of backslashes stands before it.
- A backslash at the end of what is left, white space aside, joins the next line on, whatever that line is: a comment
  behind the backslash does not hinder it, a backslash within a comment does nothing, a comment line ends it.
- Then a backslash stands for the character behind it.
- A line is `KEY = VALUE`: the key in any case, the value in double quotes or without white space. Only lines of nodes,
  partitions and the like have more pairs, of which only the first is seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

SPACE = " \t\n\v\f\r"
_PART = re.compile(r"[^\n]*\n|[^\n]+")
_BARE = re.compile(r"(?:[^#\\]+|\\.?)*+", re.DOTALL)
_CHARACTER = re.compile(r"\\(.)|(.)", re.DOTALL)
_PAIR = re.compile(r"\s*([a-z0-9_.]+)\s*[-*+/]?=\s*(\"[^\"]*\"|\S+)(?=\s|$)", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Line:
    """A line as Slurm takes it: `raw` as it stands at offset `start`, lines `first` to `last`; `text` what it means."""

    raw: str
    start: int
    first: int
    last: int
    text: str

    def sets(self, key: str) -> bool:
        """Whether it sets `key`, in whatever case."""
        pair = _PAIR.match(self.text)
        return pair is not None and pair[1].lower() == key.lower()

    def value(self) -> str:
        """What it sets its key to; "" where it sets none."""
        pair = _PAIR.match(self.text)
        return _unquoted(pair[2]) if pair else ""

    def words(self) -> tuple[str, ...]:
        """Its key, that key's value, and whatever stands behind it, word by word; () for a line that says nothing."""
        if pair := _PAIR.match(self.text):
            return (pair[1], _unquoted(pair[2]), *self.text[pair.end() :].split())
        return tuple(self.text.split())

    def with_value(self, value: str) -> str:
        """raw with another value; all else as it was. ValueError if slurm.conf can't hold that value."""
        pair = _PAIR.match(self.text)
        if pair is None or _unquoted(pair[2]) == value:
            return self.raw
        places = [ctx for _, *ctx in _characters(self.raw)]
        (begin, _), (_, end) = places[pair.start(2)], places[pair.end(2) - 1]
        return self.raw[:begin] + written(value) + self.raw[end:]


def lines_of(text: str) -> Iterator[Line]:
    """The lines of `text` in order: joined again, their `raw` is all of it."""
    offset, number, raw = 0, 1, ""
    for part in _PART.findall(text):
        raw += part
        if not _joins_next(part):
            yield _line(raw, offset, number)
            offset, number, raw = offset + len(raw), number + raw.count("\n"), ""
    if raw:
        yield _line(raw, offset, number)


def written(value: str) -> str:
    """`value` in the form that slurm.conf wants. ValueError if it has none for it."""
    if "\n" in value or '"' in value:
        raise ValueError(f"slurm.conf has no way to write the value {value!r}")
    escaped = re.sub(r"([\\#])", r"\\\1", value)
    return escaped if re.fullmatch(r"\S+", value, re.ASCII) else f'"{escaped}"'


def _line(raw: str, start: int, first: int) -> Line:
    meant = "".join(character for character, *_ in _characters(raw)) if "\\" in raw else _bare(raw)
    return Line(raw, start, first, first + max(raw.count("\n", 0, -1), 0), meant)


def _characters(raw: str) -> Iterator[tuple[str, int, int]]:
    """Each character that a line means, with its place in raw, from and to; an escaped one has two characters there."""
    offset = 0
    for part in _PART.findall(raw):
        kept = _bare(part).rstrip(SPACE)[:-1] if _joins_next(part) else _bare(part)
        for found in _CHARACTER.finditer(kept):
            yield found[1] or found[2], offset + found.start(), offset + found.end()
        offset += len(part)


def _bare(part: str) -> str:
    """A line of the file without its comment."""
    if "\\" not in part:
        return part.partition("#")[0]
    found = _BARE.match(part)
    return found[0] if found else ""


def _joins_next(part: str) -> bool:
    if "\\" not in part:
        return False
    bare = _bare(part).rstrip(SPACE)
    return (len(bare) - len(bare.rstrip("\\"))) % 2 == 1


def _unquoted(form: str) -> str:
    return form[1:-1] if re.fullmatch(r'"[^"]*"', form) else form
