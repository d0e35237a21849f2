"""slurm.conf as a text with a grammar: what a key is set to, and the same text with one key set or taken out.

What a line is, slurmconf_lines knows. The rest of the grammar of Slurm's own parser, tried on slurmctld 24.11.5 too:

- `Include FILE` at the very beginning of a line, in any case, puts FILE's lines there: a relative one lies beside
  slurm.conf, whichever file includes it; %c stands for the cluster's name in small letters; * is refused.
- Of a key that is set twice the last counts, and slurmctld logs an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from dws_on_csm.domain.slurm_conf_lines import SPACE, Line, lines_of, written
from dws_on_csm.model.step import Finding, Refused

MARK = "dws-on-csm"
"""What the comment above a line that we appended has in it: it goes when the line goes."""

NONE: Mapping[str, str] = MappingProxyType({})

FILES = 300
"""Files that are read, slurm.conf among them; one that is included twice is read twice. slurm_conf.sh has the same limit."""

LARGEST = 2_000_000
"""Bytes of one file that are read: whoever can write slurm.conf must not be able to hold up whoever reads it."""

LINES = 100_000
"""Lines of one file, and of all of them together."""

_INCLUDE = re.compile(r"include\s+(\S+)", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Setting:
    """What a key is set to, in which file ("": slurm.conf itself), on which of its lines, counted from 1."""

    value: str
    file: str = ""
    first: int = 0
    last: int = 0


def decoded(content: bytes) -> str:
    """The text of slurm.conf or of a file that it includes; bytes that are no UTF-8 stay what they are.

    Raises ValueError where it is more than anybody has in a slurm.conf.
    """
    if len(content) > LARGEST:
        raise ValueError(f"a slurm.conf of more than {LARGEST // 1_000_000} MB is not read")
    if content.count(b"\n") > LINES:
        raise ValueError(f"a slurm.conf of more than {LINES} lines is not read")
    return content.decode(errors="surrogateescape")


def value(text: str, key: str, includes: Mapping[str, str] = NONE) -> Setting | None:
    """What `key` is set to in slurm.conf's `text` or in what it includes, the last where it is set twice; else None.

    `includes` has the texts of included files by path; one that is missing there counts as empty. Refused where
    files that include each other come to more than anybody has.
    """
    return next(reversed(settings(text, key, includes)), None)


def settings(text: str, key: str, includes: Mapping[str, str] = NONE) -> tuple[Setting, ...]:
    """Every place where `key` is set, in the order in which Slurm reads them (SlurmctldHost has several)."""
    read = _read(text, includes)
    return tuple(Setting(line.value(), file, line.first, line.last) for file, line in read if line.sets(key))


def includes(text: str) -> tuple[str, ...]:
    """The files that `text` itself includes, as written there: relative to slurm.conf's folder, %c not replaced."""
    return tuple(found[1] for line in lines_of(text) if (found := _INCLUDE.match(line.text)))


Conf = tuple[str, Mapping[str, str]]
"""slurm.conf's text, and those of what it includes by path."""


def differing(one: Conf, other: Conf) -> tuple[str, ...]:
    """The keys of which two slurm.confs say different things, as they are written there, sorted.

    Comments, blanks, a key's case, and the order of lines of different keys make no difference.
    """
    first, second = _meaning(*one), _meaning(*other)
    names = {small: name for meaning in (first, second) for small, (name, _) in meaning.items()}
    return tuple(sorted(names[key] for key in names if first.get(key, ("", []))[1] != second.get(key, ("", []))[1]))


def _meaning(text: str, includes: Mapping[str, str]) -> dict[str, tuple[str, list[tuple[str, ...]]]]:
    """Key in small letters -> how it is written, and what its lines say, in their order."""
    found: dict[str, tuple[str, list[tuple[str, ...]]]] = {}
    for _, line in _read(text, includes):
        if words := line.words():
            found.setdefault(words[0].lower(), (words[0], []))[1].append(words[1:])
    return found


def with_setting(text: str, key: str, value: str, after_comment: str) -> str:
    """`text` with `key` set to `value` exactly once, all else byte for byte as it was.

    Where it is set, the value alone is replaced, in the line that counts, and the other lines that set it go. Else a
    line is appended behind the comment `after_comment` (which gets MARK if it lacks it). What an included file says
    of the key is the caller's to judge: see value(). ValueError if `value` is one that slurm.conf can't hold.
    """
    setting = [line for line in lines_of(text) if line.sets(key)]
    if not setting:
        return _appended(text, f"{key}={written(value)}", after_comment)
    *others, counts = setting
    head, tail = text[: counts.start], text[counts.start + len(counts.raw) :]
    return _removed(head, others) + counts.with_value(value) + tail


def without_setting(text: str, key: str) -> str:
    """`text` without the lines that set `key` and our comment above them: undoes what with_setting appended."""
    return _removed(text, [line for line in lines_of(text) if line.sets(key)])


# --- files


def _read(text: str, includes: Mapping[str, str]) -> Iterator[tuple[str, Line]]:
    """The lines of slurm.conf and of what it includes, in Slurm's order, each with its file."""
    cluster = ""
    top: tuple[str, ...] = ("",)
    pending = [(top, line) for line in lines_of(text)][::-1]
    paths: dict[str, str] = {}
    files, size, lines = 1, len(text), len(pending)
    while pending:
        trail, line = pending.pop()
        if found := _INCLUDE.match(line.text):
            name = found[1].replace("%c", cluster)
            path = paths[name] if name in paths else paths.setdefault(name, _path(name, includes))
            if path and path in trail:  # a file that includes itself is one that Slurm never comes to an end with
                continue
            # also one that is not there: so that as many of these can't be looked for
            files, size = files + 1, size + len(includes.get(path, ""))
            if files <= FILES and size <= LARGEST:
                more = [((*trail, path), one) for one in lines_of(includes.get(path, ""))]
                lines += len(more)
                pending += more[::-1]
            if files > FILES or size > LARGEST or lines > LINES:
                raise Refused(_too_much())
        else:
            cluster = line.value().lower() if line.sets("ClusterName") else cluster
            yield trail[-1], line


def _too_much() -> Finding:
    most = f"{FILES} files, {LINES} lines or {LARGEST // 1_000_000} MB"
    return Finding(
        "slurm-conf-too-long",
        f"slurm.conf has more than {most}, with all that it includes, and is not read to its end",
        "correct the Include lines of slurm.conf: a file may stand in more than one place only if it is short",
    )


def _path(name: str, includes: Mapping[str, str]) -> str:
    """The key of `includes` that an Include of `name` means: itself, or the shortest path that ends in it; else ""."""
    ends = [path for path in includes if path == name or path.endswith(f"/{name}")]
    return min(ends, key=len, default="")


# --- edits


def _removed(text: str, lines: Iterable[Line]) -> str:
    """`text` without `lines` and our comments above them; one that ended without a newline still does."""
    gone = {line.start for line in lines}
    kept: list[Line] = []
    for line in lines_of(text):
        if line.start not in gone:
            kept.append(line)
        elif kept and _is_ours(kept[-1]):
            kept.pop()
    rest = "".join(line.raw for line in kept)
    return re.sub(r"\r?\n\Z", "", rest) if gone and not text.endswith("\n") else rest


def _is_ours(line: Line) -> bool:
    return line.raw.lstrip(SPACE).startswith("#") and MARK in line.raw


def _appended(text: str, line: str, comment: str) -> str:
    """`text` with `line` at its end under our comment, or where our comment stands already without its line."""
    end = "\r\n" if re.search(r"\r\n[^\n]*\Z", text) else "\n"
    ours = f"# {comment if MARK in comment else f'{MARK}: {comment}'}"
    if left := next((one for one in lines_of(text) if one.raw.rstrip("\r\n") == ours and one.raw != ours), None):
        after = left.start + len(left.raw)
        return f"{text[:after]}{line}{end}{text[after:]}"
    block = f"{ours}{end}{line}"
    return f"{text}{end}{block}" if text and not text.endswith("\n") else f"{text}{block}{end}"
