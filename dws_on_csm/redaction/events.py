"""Events without secrets: what hosts, the cluster and programs said, before it is shown or written anywhere."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from dws_on_csm.redaction import redact

T = TypeVar("T")

SAID = {"step", "text", "why", "title", "diff", "note", "message", "next", "lacking", "report", "site"}
SAID |= {"command", "tail", "meaning", "fix"}
"""Fields of events that are words, or may come to be; the others are names of hosts and stages, and numbers."""


def unsaid(event: T) -> T:
    """The event with each secret in its words replaced; lines in a row are searched as one text."""
    assert is_dataclass(event) and not isinstance(event, type)
    changes: dict[str, Any] = {}
    for one in fields(event):
        value = getattr(event, one.name)
        if one.name in SAID:
            changes[one.name] = redact.text(value) if isinstance(value, str) else tuple(redact.data(value))
        elif one.name == "failures":
            changes[one.name] = tuple(map(unsaid, value))
        elif one.name == "table":
            changes[one.name] = tuple(tuple(map(redact.text, row)) for row in value)
    return replace(event, **changes) if changes else event
