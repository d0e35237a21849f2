"""Events of a run without secrets: every text from a host, the cluster or a program is redacted before it is shown or written."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from dws_on_csm.redaction import redact

T = TypeVar("T")

NAMES = frozenset({"run", "task", "host", "hosts", "stage", "stages", "outcome", "counts"})
"""Fields of events that hold this tool's own words and names of hosts. Every other text is redacted, also one that is new."""


def redact_event(event: T) -> T:
    """The event with each secret in its texts replaced; a list of lines is searched as one text."""
    assert is_dataclass(event) and not isinstance(event, type)
    kept = {field.name: getattr(event, field.name) for field in fields(event) if field.name not in NAMES}
    return replace(event, **{name: _redacted(name, value) for name, value in kept.items()})


def _redacted(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return redact.text(value)
    if name == "failures":
        return tuple(map(redact_event, value))
    if name == "table":
        return tuple(tuple(map(redact.text, row)) for row in value)
    return tuple(redact.data(value)) if isinstance(value, tuple) else value
