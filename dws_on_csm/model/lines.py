"""How to read the lines that hosts and programs print. A line ends at a newline and nowhere else.

str.splitlines() also ends a line at form feeds, separators and U+2028: a text by an outsider in the middle of a line could become
a line of its own, and state a fact. So no output of a host is split by it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any


def lines(out: bytes | str, errors: str = "strict") -> list[str]:
    """The lines that a host printed; `errors` as in bytes.decode."""
    text = out if isinstance(out, str) else out.decode(errors=errors)
    return text.removesuffix("\n").split("\n") if text else []


def parse_pairs(out: bytes | str, errors: str = "strict") -> list[tuple[str, str]]:
    """The (key, value) of each "key=value" line, in the printed order; lines without "=" are ignored."""
    parted = (line.partition("=") for line in lines(out, errors))
    return [(key, value) for key, equals, value in parted if equals]


def first_values(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The first value of each key: a script prints its own facts before it prints texts of others."""
    values: dict[str, str] = {}
    for key, value in pairs:
        values.setdefault(key, value)
    return values


def all_values(pairs: Iterable[tuple[str, str]], key: str) -> list[str]:
    """All values of one key, in the printed order."""
    return [value for name, value in pairs if name == key]


def parse_record(line: str) -> dict[str, Any]:
    """The JSON object in a line; {} where the line holds none, for example because its writer was interrupted."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
