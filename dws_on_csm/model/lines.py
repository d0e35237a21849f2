"""The lines that hosts print, as they printed them: one ends at a newline and nowhere else.

str.splitlines() also ends one at form feeds, separators and U+2028: a text of somebody else's in the middle of a line could be a
line of its own there, and state a fact. So nothing that a host says goes through it.
"""

from __future__ import annotations

from collections.abc import Iterable


def lines(out: bytes | str, errors: str = "strict") -> list[str]:
    """The lines of what a host printed; `errors` as bytes.decode has it."""
    text = out if isinstance(out, str) else out.decode(errors=errors)
    return text.removesuffix("\n").split("\n") if text else []


def pairs(out: bytes | str, errors: str = "strict") -> list[tuple[str, str]]:
    """The "name=value" lines of what a host printed, in their order; other lines are none."""
    parted = (line.partition("=") for line in lines(out, errors))
    return [(name, value) for name, mark, value in parted if mark]


def first(told: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Each name with what was printed of it first: what a script knows by itself it prints before what others say."""
    found: dict[str, str] = {}
    for name, value in told:
        found.setdefault(name, value)
    return found


def every(told: Iterable[tuple[str, str]], name: str) -> list[str]:
    """All that was printed of this name."""
    return [value for one, value in told if one == name]
