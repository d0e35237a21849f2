"""Signs, colours and words of outcomes, durations, and the rows of text that every display shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from dws_on_csm.model.events import OUTCOMES, Outcome
from dws_on_csm.model.exit_codes import CHANGES, CONVERGED, DEGRADED, REFUSED, UNPROVEN

Span = tuple[str, str]
"""A piece of text and its style in rich's words ("bold red"; "" for none)."""

Row = list[Span]
"""A line on a screen."""

SIGNS: Mapping[Outcome, str] = {
    "ok": "✓",
    "changed": "±",
    "would change": "~",
    "unknown": "?",
    "deferred": ">",
    "failed": "✗",
    "refused": "!",
    "skipped": "-",
}

_ASCII = str.maketrans({"✓": "*", "±": "+", "✗": "X", "·": ".", "│": "|", "…": "..."})

STYLES: Mapping[Outcome, str] = {
    "ok": "green",
    "changed": "yellow",
    "would change": "yellow",
    "unknown": "magenta",
    "deferred": "cyan",
    "failed": "bold red",
    "refused": "bold red",
    "skipped": "dim",
}

_RESULTS: Mapping[int, tuple[Outcome, str]] = {
    CONVERGED: ("ok", "done"),
    REFUSED: ("refused", "refused"),
    CHANGES: ("would change", "has changes"),
    UNPROVEN: ("refused", "installed, not verified"),
    DEGRADED: ("refused", "degraded"),
}
"""The outcomes whose sign and colour a run's result has by its exit code, and the result in words; all others failed."""


def result(exit_code: int) -> tuple[Outcome, str]:
    """A run's result by its exit code: the outcome whose sign and colour it has, and its words."""
    return _RESULTS.get(exit_code, ("failed", "failed"))


BAD: tuple[Outcome, ...] = ("failed", "refused")

_DIFF_STYLES = {"+": "green", "-": "red", "@": "cyan"}


def sign(outcome: Outcome) -> Span:
    """The sign of an outcome in its colour; the word always follows it."""
    return SIGNS[outcome], STYLES[outcome]


_ORDER: tuple[Outcome, ...] = ("failed", "refused", "changed", "would change", "unknown", "deferred", "ok", "skipped")


def worst(counts: Mapping[str, int]) -> Outcome:
    """The worst of several outcomes: a failure before a refusal, any change before ok; of none: ok."""
    return next((outcome for outcome in _ORDER if counts.get(outcome)), "ok")


def counted(counts: Mapping[str, int]) -> Row:
    """The number of each outcome, in colour: `2 changed, 14 ok`."""
    parts: Row = [(f"{counts[outcome]} {outcome}", STYLES[outcome]) for outcome in _ORDER if counts.get(outcome)]
    return [span for i, part in enumerate(parts) for span in ([part] if i == 0 else [(", ", ""), part])]


def duration(seconds: float) -> str:
    """`0.4s`, `12.3s`, `2m05s`, `1h02m`."""
    if seconds < 59.95:
        return f"{max(seconds, 0):.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m"


def changed(line: str, indent: str = "") -> Row:
    """A line of a difference in its colour; its first character (+, -, @) says the same without one."""
    return [(indent + line.expandtabs(4), _DIFF_STYLES.get(line[:1], "dim"))]


NEW_LINES = 12
"""More lines that are all new are shown as their number, where a difference is shown short."""


def short(diff: Sequence[str]) -> Sequence[str]:
    """A difference; of a new text, which has nothing to compare it with, only its size."""
    if any(line[:1] not in "+@" for line in diff):
        return diff
    lines: list[str] = []
    for is_text, group in groupby(diff, key=lambda line: line[:1] == "+"):
        part = list(group)
        if is_text and len(part) > NEW_LINES:
            size = sum(len(line.encode(errors="surrogateescape")) - 1 for line in part)
            part = [f"+ … all new: {len(part)} lines, {max(size // 1000, 1)} kB; --diff shows them"]
        lines += part
    return lines


def encodable(lines: str, encoding: str) -> str:
    """`lines` in characters that `encoding` has: ASCII for our signs, escapes for the output of hosts."""
    try:
        lines.encode(encoding)
    except UnicodeEncodeError:
        return lines.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
    return lines


def plural(number: int, noun: str) -> str:
    """`1 host`, `3 hosts`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def text(row: Row) -> str:
    """The row without colour."""
    return "".join(span[0] for span in row).rstrip()


assert set(SIGNS) == set(STYLES) == set(OUTCOMES)
