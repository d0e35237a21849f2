"""Events are shown and written only without secrets."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any, get_args

import pytest

from dws_on_csm.model.event_json import to_json
from dws_on_csm.model.events import Event, Failure
from dws_on_csm.redaction.events import NAMES, redact_event

PLANTED = "password=s3cr3t-planted"
FILLED: dict[str, Any] = {
    "str": PLANTED,
    "tuple[str, ...]": ("one", PLANTED),
    "Table": (("column",), (PLANTED,)),
    "tuple[Failure, ...]": (Failure(PLANTED, 1, (PLANTED,), PLANTED, PLANTED),),
    "float": 1.0,
    "int": 1,
}
"""A value for each type that a field of an event has."""


@pytest.mark.parametrize("kind", get_args(Event), ids=lambda kind: kind.__name__)
def test_every_text_of_an_event_is_redacted(kind: type[Event]) -> None:
    """Whatever its field is called, also one that is added later, unless it holds a name of ours."""
    values: dict[str, Any] = {
        field.name: "x" if field.name in NAMES else FILLED[str(field.type)] for field in fields(kind)
    }
    values |= {name: {} for name in ("hosts", "stages", "counts") if name in values}
    event = kind(**values)
    planted = [field.name for field in fields(kind) if "s3cr3t" in json.dumps(to_json(event)[field.name])]
    assert {field.name for field in fields(kind) if field.type == "str"} - NAMES <= set(planted)
    assert "s3cr3t" not in json.dumps(to_json(redact_event(event)))
