"""slurm.conf as a text with a grammar: what a key is set to, and the same text with one key set or taken out.

The grammar is that of Slurm's own parser (src/common/parse_config.c), each rule tried on slurmctld 24.11.5:

- Lines end at a newline alone; a carriage return is white space, as are tab, vertical tab and form feed.
- `#` begins a comment anywhere, within quotes too, unless an odd number of backslashes stands before it.
- A backslash at the end of what is left, white space aside, joins the next line on, whatever that line is: a comment
  behind the backslash does not hinder it, a backslash within a comment does nothing, a comment line ends it.
- Then a backslash stands for the character behind it.
- A line is `KEY = VALUE`: the key in any case, the value in double quotes or without white space. Only lines of nodes,
  partitions and the like have more pairs; those keys are none that this module finds.
- `Include FILE` at the very beginning of a line, in any case, puts FILE's lines there: a relative one lies beside
  slurm.conf, whichever file includes it; %c stands for the cluster's name in small letters; * is refused.
- Of a key that is set twice the last counts, and slurmctld logs an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

MARK = "dws-on-csm"
"""What the comment above a line that we appended has in it: it goes when the line goes."""

NONE: Mapping[str, str] = MappingProxyType({})

_SPACE = " \t\n\v\f\r"
_PART = re.compile(r"[^\n]*\n|[^\n]+")
_BARE = re.compile(r"(?:[^#\\]|\\.?)*", re.DOTALL)
_CHARACTER = re.compile(r"\\(.)|(.)", re.DOTALL)
_PAIR = re.compile(r"\s*([a-z0-9_.]+)\s*[-*+/]?=\s*(\"[^\"]*\"|\S+)(?=\s|$)", re.ASCII | re.IGNORECASE)
_INCLUDE = re.compile(r"include\s+(\S+)", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Setting:
    """What a key is set to, in which file ("": slurm.conf itself), on which of its lines, counted from 1."""

    value: str
    file: str = ""
    first: int = 0
    last: int = 0


@dataclass(frozen=True)
class _Line:
    """A line as Slurm takes it: `raw` as it stands at offset `start`, lines `first` to `last`; `text` what it means."""

    raw: str
    start: int
    first: int
    last: int
    text: str

    def sets(self, key: str) -> bool:
        pair = _PAIR.match(self.text)
        return pair is not None and pair[1].lower() == key.lower()

    def value(self) -> str:
        pair = _PAIR.match(self.text)
        return _unquoted(pair[2]) if pair else ""

    def with_value(self, value: str) -> str:
        """raw with another value; all else as it was."""
        pair = _PAIR.match(self.text)
        if pair is None or _unquoted(pair[2]) == value:
            return self.raw
        places = [place for _, *place in _characters(self.raw)]
        (begin, _), (_, end) = places[pair.start(2)], places[pair.end(2) - 1]
        return self.raw[:begin] + _written(value) + self.raw[end:]


def value(text: str, key: str, includes: Mapping[str, str] = NONE) -> Setting | None:
    """What `key` is set to in slurm.conf's `text` or in what it includes, the last where it is set twice; else None.

    `includes` has the texts of included files by path; one that is missing there counts as empty.
    """
    return next(reversed(settings(text, key, includes)), None)


def settings(text: str, key: str, includes: Mapping[str, str] = NONE) -> tuple[Setting, ...]:
    """Every place where `key` is set, in the order in which Slurm reads them (SlurmctldHost has several)."""
    read = _read(text, includes)
    return tuple(Setting(line.value(), file, line.first, line.last) for file, line in read if line.sets(key))


def includes(text: str) -> tuple[str, ...]:
    """The files that `text` itself includes, as written there: relative to slurm.conf's folder, %c not replaced."""
    return tuple(found[1] for line in _lines(text) if (found := _INCLUDE.match(line.text)))


def with_setting(text: str, key: str, value: str, after_comment: str) -> str:
    """`text` with `key` set to `value` exactly once, all else byte for byte as it was.

    Where it is set, the value alone is replaced, in the line that counts, and the other lines that set it go. Else a
    line is appended behind the comment `after_comment` (which gets MARK if it lacks it). What an included file says
    of the key is the caller's to judge: see value(). ValueError if `value` is one that slurm.conf can't hold.
    """
    setting = [line for line in _lines(text) if line.sets(key)]
    if not setting:
        return _appended(text, f"{key}={_written(value)}", after_comment)
    *others, counts = setting
    head, tail = text[: counts.start], text[counts.start + len(counts.raw) :]
    return _removed(head, others) + counts.with_value(value) + tail


def without_setting(text: str, key: str) -> str:
    """`text` without the lines that set `key` and our comment above them: undoes what with_setting appended."""
    return _removed(text, [line for line in _lines(text) if line.sets(key)])


# --- lines


def _lines(text: str) -> Iterator[_Line]:
    offset, number, raw = 0, 1, ""
    for part in _PART.findall(text):
        raw += part
        if not _joins_next(part):
            yield _line(raw, offset, number)
            offset, number, raw = offset + len(raw), number + raw.count("\n"), ""
    if raw:
        yield _line(raw, offset, number)


def _line(raw: str, start: int, first: int) -> _Line:
    meant = "".join(character for character, *_ in _characters(raw)) if "\\" in raw else _bare(raw)
    return _Line(raw, start, first, first + len(_PART.findall(raw)) - 1, meant)


def _characters(raw: str) -> Iterator[tuple[str, int, int]]:
    """Each character that a line means, with its place in raw, from and to; an escaped one has two characters there."""
    offset = 0
    for part in _PART.findall(raw):
        kept = _bare(part).rstrip(_SPACE)[:-1] if _joins_next(part) else _bare(part)
        for found in _CHARACTER.finditer(kept):
            yield found[1] or found[2], offset + found.start(), offset + found.end()
        offset += len(part)


def _bare(part: str) -> str:
    """A line of the file without its comment."""
    found = _BARE.match(part)
    return found[0] if found else ""


def _joins_next(part: str) -> bool:
    bare = _bare(part).rstrip(_SPACE)
    return (len(bare) - len(bare.rstrip("\\"))) % 2 == 1


def _unquoted(written: str) -> str:
    return written[1:-1] if re.fullmatch(r'"[^"]*"', written) else written


def _written(value: str) -> str:
    """`value` in the form that slurm.conf wants."""
    if "\n" in value or '"' in value:
        raise ValueError(f"slurm.conf has no way to write the value {value!r}")
    escaped = re.sub(r"([\\#])", r"\\\1", value)
    return escaped if re.fullmatch(r"\S+", value, re.ASCII) else f'"{escaped}"'


# --- files


def _read(text: str, includes: Mapping[str, str]) -> Iterator[tuple[str, _Line]]:
    """The lines of slurm.conf and of what it includes, in Slurm's order, each with its file."""
    cluster = ""
    top: tuple[str, ...] = ("",)
    pending = [(top, line) for line in _lines(text)][::-1]
    while pending:
        trail, line = pending.pop()
        if found := _INCLUDE.match(line.text):
            path = _path(found[1].replace("%c", cluster), includes)
            if path and path not in trail:  # a file that includes itself is one that Slurm never comes to an end with
                pending += [((*trail, path), one) for one in _lines(includes[path])][::-1]
        else:
            cluster = line.value().lower() if line.sets("ClusterName") else cluster
            yield trail[-1], line


def _path(name: str, includes: Mapping[str, str]) -> str:
    """The key of `includes` that an Include of `name` means: itself, or the shortest path that ends in it; else ""."""
    ends = [path for path in includes if path == name or path.endswith(f"/{name}")]
    return min(ends, key=len, default="")


# --- edits


def _removed(text: str, lines: Iterable[_Line]) -> str:
    """`text` without `lines` and our comments above them; one that ended without a newline still does."""
    gone = {line.start for line in lines}
    kept: list[_Line] = []
    for line in _lines(text):
        if line.start not in gone:
            kept.append(line)
        elif kept and _is_ours(kept[-1]):
            kept.pop()
    rest = "".join(line.raw for line in kept)
    return re.sub(r"\r?\n\Z", "", rest) if gone and not text.endswith("\n") else rest


def _is_ours(line: _Line) -> bool:
    return line.raw.lstrip(_SPACE).startswith("#") and MARK in line.raw


def _appended(text: str, line: str, comment: str) -> str:
    """`text` with `line` at its end under our comment, or where our comment stands already without its line."""
    end = "\r\n" if re.search(r"\r\n[^\n]*\Z", text) else "\n"
    ours = f"# {comment if MARK in comment else f'{MARK}: {comment}'}"
    if left := next((one for one in _lines(text) if one.raw.rstrip("\r\n") == ours and one.raw != ours), None):
        after = left.start + len(left.raw)
        return f"{text[:after]}{line}{end}{text[after:]}"
    block = f"{ours}{end}{line}"
    return f"{text}{end}{block}" if text and not text.endswith("\n") else f"{text}{block}{end}"
