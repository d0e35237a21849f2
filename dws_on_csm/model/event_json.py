"""Events as JSON: completely, and back, for the journal; and as the lines of `--json`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from dws_on_csm.model.events import (
    OUTCOMES,
    Awaiting,
    Began,
    Done,
    Event,
    Failure,
    Line,
    Opened,
    Renamed,
    Stopping,
    Summary,
    current,
)

_KINDS: Mapping[str, type[Event]] = {
    kind.__name__.lower(): kind for kind in (Opened, Renamed, Stopping, Began, Line, Awaiting, Done, Summary)
}


def to_json(event: Event) -> dict[str, Any]:
    """The event as JSON types, its kind under "event"; `from_json` reverses this."""
    return {"event": type(event).__name__.lower(), **_plain(event)}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def from_json(record: Mapping[str, Any]) -> Event:
    """The event that `to_json` wrote, in this version or in an earlier one. ValueError for any other record."""
    kind = _KINDS.get(record.get("event", ""))
    values = {_FORMER_KEYS.get(key, key): _back(key, value) for key, value in record.items() if key != "event"}
    try:
        if kind is not None:
            return kind(**values)
    except TypeError as e:
        raise ValueError(f"not an event of this version: {e}") from e
    raise ValueError(f"not an event: {record.get('event')!r}; known are {', '.join(_KINDS)}")


_FORMER_KEYS = {"execs": "commands"}


def _back(key: str, value: Any) -> Any:
    if key == "outcome":
        return current(value)
    if key == "counts":
        return {current(outcome): count for outcome, count in value.items()}
    if key == "failures":
        return tuple(Failure(**{k: _back(k, v) for k, v in failure.items()}) for failure in value)
    if key in ("hosts", "stages") and isinstance(value, dict):
        return {name: tuple(items) for name, items in value.items()}
    if key == "table":
        return tuple(tuple(row) for row in value)
    return tuple(value) if isinstance(value, list) else value


def consumer(write: Callable[[str], object]) -> Callable[[Event], None]:
    """A consumer that writes a line for each finished step, and one for the end of the run; the other events are for people."""

    def consume(event: Event) -> None:
        if isinstance(event, Done):
            write(json.dumps(step_record(event)) + "\n")
        elif isinstance(event, Summary):
            write(json.dumps(_summary(event)) + "\n")

    return consume


def step_record(done: Done) -> dict[str, Any]:
    """The record of a step on a host; diff, note, failures and table (one object for each row) only where they are not empty."""
    always = {"host": done.host, "stage": done.stage, "step": done.step, "outcome": done.outcome}
    table = [dict(zip(done.table[0], row, strict=True)) for row in done.table[1:]]
    optional = {"diff": done.diff, "note": done.note, "failures": _plain(done.failures), "table": table}
    seconds = {"seconds": round(done.seconds, 3)}
    return {"event": "step", **always, **seconds, **{key: value for key, value in optional.items() if value}}


def _summary(end: Summary) -> dict[str, Any]:
    """The record of a run's end; each outcome is a key of it, with its count."""
    counts: dict[str, int] = {outcome: end.counts.get(outcome, 0) for outcome in OUTCOMES}
    # "execs" is the former name of "commands": to be dropped with version 2
    sizes = {"hosts": end.hosts, "commands": end.commands, "execs": end.commands, "connections": end.connections}
    optional = {"message": end.message, "next": end.next, "report": end.report, "lacking": list(end.lacking)}
    details = {key: value for key, value in optional.items() if value}
    head = {"event": "summary", "run": end.run, "exit": end.exit}
    return {**head, **counts, **sizes, "seconds": round(end.seconds, 3), **details}
