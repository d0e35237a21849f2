"""The difference between a found and a wanted state, as lines for people, without secrets."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from dws_on_csm.model.printable import escaped
from dws_on_csm.model.secret import Secret
from dws_on_csm.model.step import Value
from dws_on_csm.redaction import redact, slurm_conf_secrets

CONTEXT = 3
"""Unchanged lines that are shown around a changed line."""

MOST = 2_000
"""Lines of a text that are compared one by one, which takes time by the square of their number. Equal lines at the beginning
and at the end do not count."""

LONGEST = 500_000
"""Characters of these lines."""


class _Absent:
    """A missing key; a key may have the value None."""


_ABSENT: Final = _Absent()


def difference(have: Value, want: Value) -> tuple[str, ...]:
    """The lines that lead from `have` to `want`; each begins with "+ ", "- ", "@ " or two spaces. Equal: none.

    A text of several lines is a unified diff under `@ KEY`, a scalar is `- key: old` and `+ key: new`, keys of nested
    dicts are dotted, of a list of scalars only the removed and added ones are shown. A missing value (None) has "+" alone. For a
    text that differs in very many lines it says how many.
    """
    if have == want:
        return ()
    lines = tuple(_lines("", _ABSENT if have is None else have, want))
    # the unchanged lines around a difference may hold a password, too
    lines = tuple(redact.text("\n".join(lines)).split("\n")) if lines else ()
    return lines or (f"- {type(have).__name__}: {_shown(have)}", f"+ {type(want).__name__}: {_shown(want)}")


def _lines(key: str, have: Value, want: Value) -> Iterator[str]:
    if have == want:
        return
    if _is_text(have) or _is_text(want):
        yield from _text(key, have, want)
    elif _both(dict, have, want):
        yield from _dicts(key, {} if _missing(have) else have, {} if _missing(want) else want)
    elif _both(list, have, want):
        yield from _lists(key, [] if _missing(have) else have, [] if _missing(want) else want)
    else:
        yield from _scalars(key, have, want)


def _missing(value: Value) -> bool:
    return value is None or value is _ABSENT


def _both(kind: type, have: Value, want: Value) -> bool:
    """Whether they are compared item by item: both of `kind`, or one with items where the other is missing."""
    if isinstance(have, kind) and isinstance(want, kind):
        return True
    return any(isinstance(a, kind) and bool(a) and _missing(b) for a, b in ((have, want), (want, have)))


def _is_text(value: Value) -> bool:
    return isinstance(value, str) and "\n" in value


def _dicts(key: str, have: dict[str, Value], want: dict[str, Value]) -> Iterator[str]:
    for name in [*have, *(n for n in want if n not in have)]:
        dotted = f"{key}.{name}" if key else str(name)
        yield from _lines(dotted, have.get(name, _ABSENT), want.get(name, _ABSENT))


def _lists(key: str, have: list[Value], want: list[Value]) -> Iterator[str]:
    if not all(_is_scalar(item) for item in (*have, *want)):
        named = _by_name(have, want)
        olds, news = named or ({str(i): v for i, v in enumerate(have)}, {str(i): v for i, v in enumerate(want)})
        for name in [*olds, *(n for n in news if n not in olds)]:
            yield from _lines(f"{key}[{name}]", olds.get(name, _ABSENT), news.get(name, _ABSENT))
    elif Counter(have) == Counter(want):
        yield from _scalars(key, have, want)
    else:
        yield from (_line("-", key, _shown(item)) for item in (Counter(have) - Counter(want)).elements())
        yield from (_line("+", key, _shown(item)) for item in (Counter(want) - Counter(have)).elements())


def _by_name(have: list[Value], want: list[Value]) -> tuple[dict[str, Value], dict[str, Value]] | None:
    """Lists of dicts that all have a name, as Kubernetes has them, by that name; None for other lists."""
    if not all(isinstance(item, dict) and isinstance(item.get("name"), str) for item in (*have, *want)):
        return None
    olds, news = ({item["name"]: item for item in items} for items in (have, want))
    return (olds, news) if len(olds) == len(have) and len(news) == len(want) else None


def _is_scalar(value: Value) -> bool:
    return (
        value is None
        or isinstance(value, bool | int | float | Secret)
        or (isinstance(value, str) and "\n" not in value)
    )


def _scalars(key: str, have: Value, want: Value) -> Iterator[str]:
    if isinstance(have, Secret) and isinstance(want, Secret):
        yield _line("+", key, "(secret, changed)")
        return
    old, new = _shown(have), _shown(want)
    if old == new:
        old, new = f"{old} ({type(have).__name__})", f"{new} ({type(want).__name__})"
    if not _missing(have) or (have is None and want is _ABSENT):
        yield _line("-", key, old)
    if not _missing(want) or (want is None and have is _ABSENT):
        yield _line("+", key, new)


def _line(sign: str, key: str, text: str) -> str:
    return f"{sign} {escaped(key)}: {text}" if key else f"{sign} {text}"


def _shown(value: Value) -> str:
    if isinstance(value, Secret):
        return "(secret)"
    if isinstance(value, str):
        plain = value == value.strip() != "" and "\n" not in value
        return escaped(value) if plain else json.dumps(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_shown(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{escaped(str(k))}: {_shown(v)}" for k, v in value.items()) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    return "(none)" if value is None else escaped(str(value))


def _text(key: str, have: Value, want: Value) -> Iterator[str]:
    """Texts of several lines; a value of another type is shown as a removed or added scalar."""
    for sign, other in (("-", have), ("+", want)):
        if not isinstance(other, str) and not _missing(other):
            yield _line(sign, key, _shown(other))
    if have != want and _split(have) == _split(want):
        yield _header(key, 0)
        yield "  (only secrets differ; they are not shown)"
    yield from _unified(key, _split(have), _split(want))


def _split(value: Value) -> list[str]:
    """The lines of a text. Only "\\n" ends one (CR is content); a last line without it says so.

    Without values that a previous line names as secret: that line may be outside of the shown lines.
    """
    if not isinstance(value, str) or not value:
        return []
    text: str = slurm_conf_secrets.redacted(value)
    *whole, rest = text.split("\n")
    return whole + ([f"{rest} (no newline at the end)"] if rest else [])


def _unified(key: str, have: Sequence[str], want: Sequence[str]) -> Iterator[str]:
    head = _same(have, want)
    tail = _same(have[head:][::-1], want[head:][::-1])
    parts = have[head : len(have) - tail], want[head : len(want) - tail]
    if any(len(part) > MOST or sum(map(len, part)) > LONGEST for part in parts):
        yield _header(key, head)
        for sign, part in zip("-+", parts, strict=True):
            if part:
                yield f"{sign} ({len(part)} line{'s'[: len(part) - 1]}, not shown)"
        return
    begin, end = max(head - CONTEXT, 0), max(tail - CONTEXT, 0)
    have, want = have[begin : len(have) - end], want[begin : len(want) - end]
    # its heuristics leave out lines that occur very often: without them, MOST such lines would take minutes
    for group in difflib.SequenceMatcher(None, have, want).get_grouped_opcodes(CONTEXT):
        yield _header(key, begin + group[0][1])
        for tag, a, b, c, d in group:
            if tag == "equal":
                yield from (f"  {escaped(line)}" for line in have[a:b])
            else:
                yield from (f"- {escaped(line)}" for line in have[a:b])
                yield from (f"+ {escaped(line)}" for line in want[c:d])


def _same(first: Sequence[str], second: Sequence[str]) -> int:
    """The number of equal lines at the beginning."""
    shorter = min(len(first), len(second))
    return next((at for at in range(shorter) if first[at] != second[at]), shorter)


def _header(key: str, start: int) -> str:
    """`@ KEY`, with the line number of the hunk unless it is the first line."""
    where = f"line {start + 1}" if start else ""
    return f"@ {', '.join(part for part in (escaped(key), where) if part)}".rstrip()
