"""slurm.conf as a text with a grammar: the value of a key, and the same text with one key set or removed.

The grammar is that of Slurm's own parser (src/common/parse_config.c); each rule was tried on slurmctld 24.11.5:

- Lines end at a newline alone; a carriage return is white space, as are tab, vertical tab and form feed.
- `#` begins a comment anywhere, within quotes too, unless an odd number of backslashes precedes it.
- A backslash at the end of a line, comment and white space aside, joins the next line, of whatever kind. A backslash within a
  comment does nothing, and a comment line ends the joined line.
- Then a backslash stands for the character after it.
- A line is `KEY = VALUE`: the key in any case, the value in double quotes or without white space. Only lines of nodes,
  partitions and similar have more pairs; only their first pair is read here.
- `Include FILE` at the very beginning of a line, in any case, inserts FILE's lines there: a relative FILE is in slurm.conf's
  folder, whichever file includes it; %c is the cluster's name in lower case; * is refused.
- Of a key that is set twice the last line counts, and slurmctld logs an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from dws_on_csm.model.remembered import remembered
from dws_on_csm.model.step import Finding, Refused

MARK = "dws-on-csm"
"""In the comment above a line that this tool appended; the comment is removed with the line."""

NONE: Mapping[str, str] = MappingProxyType({})

FOLDER = "/etc/slurm"
"""The folder of slurm.conf where a caller names no other."""

FILES = 300
"""Most files that are read, slurm.conf included; a file that is included twice counts twice. slurm_conf.sh has the same limit."""

LARGEST = 2_000_000
"""Most bytes of one file that are read: a user who can write slurm.conf must not be able to block its readers."""

LINES = 100_000
"""Most lines of one file, and of all files together."""

ASKED = 8
"""How many questions about a text are remembered: thousands of nodes have the same file, and each asks the same about it."""

SPACE = " \t\n\v\f\r"
_INCLUDE = re.compile(r"include\s+(\S+)", re.ASCII | re.IGNORECASE)
_PART = re.compile(r"[^\n]*\n|[^\n]+")
_BARE = re.compile(r"(?:[^#\\]+|\\.?)*+", re.DOTALL)
_CHARACTER = re.compile(r"\\(.)|(.)", re.DOTALL)
_PAIR = re.compile(r"\s*([a-z0-9_.]+)\s*[-*+/]?=\s*(\"[^\"]*\"|\S+)(?=\s|$)", re.ASCII | re.IGNORECASE)


BURST_BUFFER = "BurstBufferType"
"""The key that names slurmctld's burst buffer."""


@dataclass(frozen=True)
class Setting:
    """The value of a key, its file ("": slurm.conf itself), and its first and last line there, counted from 1."""

    value: str
    file: str = ""
    first: int = 0
    last: int = 0


def decoded(content: bytes) -> str:
    """The text of slurm.conf or of an included file; bytes that are not UTF-8 are preserved.

    Raises ValueError for a file that is larger than any real slurm.conf.
    """
    if len(content) > LARGEST:
        raise ValueError(f"slurm.conf is larger than {LARGEST // 1_000_000} MB: this tool does not read it")
    if content.count(b"\n") > LINES:
        raise ValueError(f"slurm.conf has more than {LINES} lines: this tool does not read it")
    return content.decode(errors="surrogateescape")


def value(text: str, key: str, includes: Mapping[str, str] = NONE, folder: str = FOLDER) -> Setting | None:
    """The setting of `key` in slurm.conf's `text` and its included files, the last of several; None where none sets it.

    `includes`: path -> text of the included files; a missing file counts as empty. `folder`: slurm.conf's. Raises Refused
    where the files together are larger than any real slurm.conf.
    """
    return next(reversed(settings(text, key, includes, folder)), None)


def settings(text: str, key: str, includes: Mapping[str, str] = NONE, folder: str = FOLDER) -> tuple[Setting, ...]:
    """All settings of `key`, in the order in which Slurm reads them (SlurmctldHost has several)."""
    return _settings(text, key, tuple(includes.items()), folder)


@remembered(ASKED)
def _settings(text: str, key: str, includes: tuple[tuple[str, str], ...], folder: str) -> tuple[Setting, ...]:
    read = _read(text, dict(includes), folder)
    return tuple(Setting(line.value(), file, line.first, line.last) for file, line in read if line.sets(key))


def entries(
    text: str, key: str, includes: Mapping[str, str] = NONE, folder: str = FOLDER
) -> tuple[tuple[str, ...], ...]:
    """The words behind the key of each line that begins with `key`, in Slurm's order: ("work", "Nodes=nid[1-2]", "Default=YES")."""
    return tuple(line.words()[1:] for _, line in _read(text, includes, folder) if line.sets(key))


Conf = tuple[str, Mapping[str, str]]
"""slurm.conf's text, and path -> text of its included files."""


def differing(before: Conf, after: Conf, folder: str = FOLDER) -> tuple[str, ...]:
    """The keys with different values in two slurm.confs of this folder, spelled as there, sorted.

    Comments, white space, a key's case, and the order of lines of different keys do not count.
    """
    first, second = _meaning(*before, folder), _meaning(*after, folder)
    names = {key: name for meaning in (first, second) for key, (name, _) in meaning.items()}
    return tuple(sorted(names[key] for key in names if first.get(key, ("", []))[1] != second.get(key, ("", []))[1]))


def _meaning(text: str, includes: Mapping[str, str], folder: str) -> dict[str, tuple[str, list[tuple[str, ...]]]]:
    """Key in lower case -> its spelling, and the words of its lines, in their order."""
    meaning: dict[str, tuple[str, list[tuple[str, ...]]]] = {}
    for _, line in _read(text, includes, folder):
        if words := line.words():
            meaning.setdefault(words[0].lower(), (words[0], []))[1].append(words[1:])
    return meaning


@remembered(ASKED)
def differing_lines(before: str, after: str) -> tuple[str, str]:
    """The lines of two files that differ in their meaning, as two texts; both are empty where the files mean the same.

    As `differing`, but of one file alone: its Include lines count as lines. Comments and needless white space are not in the texts.
    """
    if before == after:
        return "", ""
    texts = [
        [(words[0].lower(), words, line) for line in lines_of(text) if (words := line.words())]
        for text in (before, after)
    ]
    meanings: list[dict[str, list[tuple[str, ...]]]] = [{}, {}]
    for meaning, lines in zip(meanings, texts, strict=True):
        for key, words, _ in lines:
            meaning.setdefault(key, []).append(words[1:])
    first, second = meanings
    keys = {key for key in (*first, *second) if first.get(key) != second.get(key)}
    shown = ("".join(f"{' '.join(line.text.split())}\n" for key, _, line in lines if key in keys) for lines in texts)
    return next(shown), next(shown)


def burst_buffers(value: str) -> tuple[str, ...]:
    """The plugins that a BurstBufferType makes slurmctld load: names with commas between, each with or without its prefix.

    Case counts. Slurm refuses to start with more than one. Source: bb_g_init in src/interfaces/burst_buffer.c.
    """
    prefix = "burst_buffer/"
    return tuple(prefix + name.removeprefix(prefix) for name in value.split(",") if name and value.lower() != "(null)")


@remembered(ASKED)
def with_setting(text: str, key: str, value: str, after_comment: str) -> str:
    """`text` with `key` set to `value` exactly once; every other byte stays.

    Where the key is set, only the value of the line that counts is replaced, and the other lines that set it are removed.
    Where this very setting was commented out, the line is one again, in its place. Otherwise a line is appended. Both get the
    comment `after_comment` above them (MARK is added where it lacks it). Included files are the caller's task: see value().
    ValueError for a value that slurm.conf cannot express.
    """
    setting = [line for line in lines_of(text) if line.sets(key)]
    if not setting:
        commented = [line for line in lines_of(text) if _commented(line, key, value)]
        if commented:
            return _uncommented(text, commented[-1].start, key, value, after_comment)
        return _appended(text, f"{key}={_written(value)}", after_comment)
    *others, counts = setting
    head, tail = text[: counts.start], text[counts.start + len(counts.raw) :]
    return _removed(head, others) + counts.with_value(value) + tail


@remembered(ASKED)
def without_setting(text: str, key: str) -> str:
    """`text` without the lines that set `key` and this tool's comment above them: undoes the appending of with_setting."""
    return _removed(text, [line for line in lines_of(text) if line.sets(key)])


# --- lines


@dataclass(frozen=True)
class Line:
    """A line as Slurm reads it: `raw` begins at offset `start` and spans the lines `first` to `last`; `text` is its meaning."""

    raw: str
    start: int
    first: int
    last: int
    text: str

    def sets(self, key: str) -> bool:
        """Whether it sets `key`, in any case."""
        pair = _PAIR.match(self.text)
        return pair is not None and pair[1].lower() == key.lower()

    def value(self) -> str:
        """The value of its key; "" for a line without one."""
        pair = _PAIR.match(self.text)
        return _unquoted(pair[2]) if pair else ""

    def words(self) -> tuple[str, ...]:
        """Its key, the key's value, and each word after it; () for an empty line."""
        if pair := _PAIR.match(self.text):
            return (pair[1], _unquoted(pair[2]), *self.text[pair.end() :].split())
        return tuple(self.text.split())

    def with_value(self, value: str) -> str:
        """`raw` with another value; every other byte stays. ValueError for a value that slurm.conf cannot express."""
        pair = _PAIR.match(self.text)
        if pair is None or _unquoted(pair[2]) == value:
            return self.raw
        places = [place for _, *place in _characters(self.raw)]
        (begin, _), (_, end) = places[pair.start(2)], places[pair.end(2) - 1]
        return self.raw[:begin] + _written(value) + self.raw[end:]


def lines_of(text: str) -> Iterator[Line]:
    """The lines of `text` in order; their `raw` joined is the complete text."""
    offset, number, raw = 0, 1, ""
    for part in _PART.findall(text):
        raw += part
        if not _joins_next(part):
            yield _line(raw, offset, number)
            offset, number, raw = offset + len(raw), number + raw.count("\n"), ""
    if raw:
        yield _line(raw, offset, number)


def _line(raw: str, start: int, first: int) -> Line:
    text = "".join(character for character, *_ in _characters(raw)) if "\\" in raw else _bare(raw)
    return Line(raw, start, first, first + max(raw.count("\n", 0, -1), 0), text)


def _characters(raw: str) -> Iterator[tuple[str, int, int]]:
    """Each character of a line's meaning, with begin and end of its place in raw; an escaped one takes two characters there."""
    offset = 0
    for part in _PART.findall(raw):
        content = _bare(part).rstrip(SPACE)[:-1] if _joins_next(part) else _bare(part)
        for match in _CHARACTER.finditer(content):
            yield match[1] or match[2], offset + match.start(), offset + match.end()
        offset += len(part)


def _bare(part: str) -> str:
    """A line of the file without its comment."""
    if "\\" not in part:
        return part.partition("#")[0]
    match = _BARE.match(part)
    return match[0] if match else ""


def _joins_next(part: str) -> bool:
    if "\\" not in part:
        return False
    bare = _bare(part).rstrip(SPACE)
    return (len(bare) - len(bare.rstrip("\\"))) % 2 == 1


def _unquoted(form: str) -> str:
    return form[1:-1] if re.fullmatch(r'"[^"]*"', form) else form


def _written(value: str) -> str:
    """`value` in slurm.conf's syntax. ValueError for a value that it cannot express."""
    if "\n" in value or '"' in value:
        raise ValueError(f"slurm.conf cannot express the value {value!r}")
    escaped = re.sub(r"([\\#])", r"\\\1", value)
    return escaped if re.fullmatch(r"\S+", value, re.ASCII) else f'"{escaped}"'


# --- files


def _read(text: str, includes: Mapping[str, str], folder: str) -> Iterator[tuple[str, Line]]:
    """The lines of slurm.conf and its included files, in Slurm's order, each with its file."""
    cluster = ""
    top: tuple[str, ...] = ("",)
    pending = [(top, line) for line in lines_of(text)][::-1]
    files, size, lines = 1, len(text), len(pending)
    while pending:
        trail, line = pending.pop()
        if include := _INCLUDE.match(line.text):
            name = include[1].replace("%c", cluster)
            path = name if name.startswith("/") else f"{folder}/{name}"
            if path in trail:  # Slurm itself never finishes reading a file that includes itself
                continue
            # A missing file counts too: it limits how many lookups one text can cause.
            files, size = files + 1, size + len(includes.get(path, ""))
            if files <= FILES and size <= LARGEST:
                more = [((*trail, path), inner) for inner in lines_of(includes.get(path, ""))]
                lines += len(more)
                pending += more[::-1]
            if files > FILES or size > LARGEST or lines > LINES:
                raise Refused(_too_long())
        else:
            cluster = line.value().lower() if line.sets("ClusterName") else cluster
            yield trail[-1], line


def _too_long() -> Finding:
    most = f"{FILES} files, {LINES} lines or {LARGEST // 1_000_000} MB"
    return Finding(
        "slurm-conf-too-long",
        f"slurm.conf and its included files are more than {most}: this tool does not read them completely",
        "correct the Include lines of slurm.conf: only a short file may be included in several places",
    )


# --- edits


def _removed(text: str, lines: Iterable[Line]) -> str:
    """`text` without `lines` and this tool's comments above them; a text without a final newline stays without it."""
    gone = {line.start for line in lines}
    remaining: list[str] = []
    comment = "\r\n"
    for line in lines_of(text):
        if line.start not in gone:
            remaining.append(line.raw)
        elif remaining and _is_ours(remaining[-1]):
            comment = remaining.pop()
        elif remaining and line.start + len(line.raw) == len(text):
            remaining[-1], comment = _without_joined_comment(remaining[-1])
    rest = "".join(remaining)
    if not gone or text.endswith("\n"):
        return rest
    # what was appended began with a line end of the kind that its comment has
    return rest.removesuffix("\r\n" if comment.endswith("\r\n") and rest.endswith("\r\n") else "\n")


def _without_joined_comment(raw: str) -> tuple[str, str]:
    """A line without this tool's comment, where that ends it, and the comment: the line was the text's last one, and ended in a
    backslash. With more text behind it the comment has to stay: that text would become a part of the line.
    """
    *before, last = _PART.findall(raw)
    return ("".join(before), last) if before and _is_ours(last) else (raw, "\r\n")


def _is_ours(raw: str) -> bool:
    return raw.lstrip(SPACE).startswith("#") and MARK in raw


def _commented(line: Line, key: str, value: str) -> bool:
    """Whether a line is a comment of nothing but `key` with this value, as one that was commented out."""
    raw = line.raw.lstrip(SPACE)
    inner = raw.lstrip("#" + SPACE)
    if not raw.startswith("#") or not raw.endswith("\n") or "#" in inner or "\\" in inner:
        return False
    return any(inside.sets(key) and inside.words()[1:] == (value,) for inside in lines_of(inner))


def _uncommented(text: str, start: int, key: str, value: str, comment: str) -> str:
    """`text` whose commented line at this offset sets the key again; our comment stands above it."""
    lines = list(lines_of(text))
    at = next(number for number, line in enumerate(lines) if line.start == start)
    raw = lines[at].raw
    end = raw[len(raw.rstrip("\r\n")) :]
    ours = (
        "" if at and _is_ours(lines[at - 1].raw) else f"# {comment if MARK in comment else f'{MARK}: {comment}'}{end}"
    )
    return f"{text[:start]}{ours}{key}={_written(value)}{end}{text[start + len(raw) :]}"


def _appended(text: str, line: str, comment: str) -> str:
    """`text` with `line` at its end under our comment, or under a comment of ours that has lost its line."""
    end = "\r\n" if re.search(r"\r\n[^\n]*\Z", text) else "\n"
    ours = f"# {comment if MARK in comment else f'{MARK}: {comment}'}"
    comments = (known for known in lines_of(text) if known.raw.rstrip("\r\n") == ours and known.raw != ours)
    if orphan := next(comments, None):
        after = orphan.start + len(orphan.raw)
        return f"{text[:after]}{line}{end}{text[after:]}"
    block = f"{ours}{end}{line}"
    return f"{text}{end}{block}" if text and not text.endswith("\n") else f"{text}{block}{end}"
