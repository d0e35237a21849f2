"""Events of a run without secrets: every text from a host, the cluster or a program is redacted before it is shown or written."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from dws_on_csm.redaction import redact

T = TypeVar("T")

TEXT_FIELDS = {"step", "text", "why", "title", "diff", "note", "message", "next", "lacking", "report", "site"}
TEXT_FIELDS |= {"command", "tail", "meaning", "fix"}
"""Fields of events that hold text; the others hold numbers, and names of hosts and stages."""


def redact_event(event: T) -> T:
    """The event with each secret in its texts replaced; a list of lines is searched as one text."""
    assert is_dataclass(event) and not isinstance(event, type)
    changes: dict[str, Any] = {}
    for field in fields(event):
        value = getattr(event, field.name)
        if field.name in TEXT_FIELDS:
            changes[field.name] = redact.text(value) if isinstance(value, str) else tuple(redact.data(value))
        elif field.name == "failures":
            changes[field.name] = tuple(map(redact_event, value))
        elif field.name == "table":
            changes[field.name] = tuple(tuple(map(redact.text, row)) for row in value)
    return replace(event, **changes) if changes else event
