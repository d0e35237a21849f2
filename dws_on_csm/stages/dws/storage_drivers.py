"""The storage drivers of a Workflow: which of them it waits for, what they report, and what each still has to do.

DWS enters the drivers when a Workflow is created, by DWDirectiveRules: one entry in `status.drivers` for each #DW line, driver and
state that the driver takes part in. The Workflow leaves a state once all of the state's drivers have completed their entries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

FREES = "Teardown"
"""The state in which a driver frees the storage of the job."""

FAILED = ("Error", "TransientCondition")
"""The values of a driver's status that report an error; of the second the driver may recover."""

PATIENCE: Mapping[str, float] = {"DataIn": 86400.0, "DataOut": 86400.0}
"""Seconds that a driver may need in a state: copying users' data may take hours."""

USUAL_PATIENCE = 900.0
"""The same in the other states, and in every state for a driver that has not begun."""

LONGEST = 300
"""Characters that are shown of a driver's error, or of a #DW line."""


class Driver(TypedDict):
    """An entry of `status.drivers` that is not completed.

    id          who it is: the rule's driverLabel, or the rule's name
    task        its own name for the work; "" where it gives none
    line        the #DW line that it is for
    state       the state of the Workflow in which it has to act
    status      Pending until it begins; Error, TransientCondition: see `error`
    error       what it says of its error, or else of its work
    heard       its last heartbeat, in seconds since 1970; 0: none
    """

    id: str
    task: str
    line: str
    state: str
    status: str
    error: str
    heard: float


def parse(manifest: Mapping[str, Any]) -> list[Driver]:
    """The uncompleted drivers of a Workflow object: those of its present state, and those that have to free its storage.

    Drivers write the entries, so a field that is missing, or of another type, counts as empty.
    """
    status = manifest.get("status", {})
    lines = manifest.get("spec", {}).get("dwDirectives") or []
    wanted = (status.get("state", ""), FREES)
    entries = [entry for entry in status.get("drivers") or [] if isinstance(entry, dict)]
    return [
        _driver(entry, lines) for entry in entries if not entry.get("completed") and entry.get("watchState") in wanted
    ]


def _driver(entry: Mapping[str, Any], lines: Sequence[str]) -> Driver:
    index = entry.get("dwdIndex")
    known = isinstance(index, int) and 0 <= index < len(lines)
    return {
        "id": str(entry.get("driverID", "")),
        "task": str(entry.get("taskID") or ""),
        "line": str(lines[index]) if known and isinstance(index, int) else "",
        "state": str(entry.get("watchState", "")),
        "status": str(entry.get("status") or ""),
        "error": str(entry.get("error") or entry.get("message") or "").strip(),
        "heard": _seconds(entry.get("lastHB")),
    }


def _seconds(beat: object) -> float:
    """A heartbeat in seconds since 1970: the API says only that it is a number, so drivers may count smaller units."""
    if not isinstance(beat, int) or beat <= 0:
        return 0.0
    at = float(beat)
    while at > 1e11:  # no time of this millennium in seconds
        at /= 1000
    return at


def failed(driver: Driver) -> bool:
    """Whether it reports an error."""
    return driver["status"] in FAILED


def patience(driver: Driver) -> float:
    """Seconds after which it is slow, unless it reports an error."""
    return USUAL_PATIENCE if driver["status"] in ("", "Pending") else PATIENCE.get(driver["state"], USUAL_PATIENCE)


def describe(driver: Driver) -> str:
    """A driver in words: 'storage driver tape (task t1, "#DW tape reel=1"): Error: no tape left'."""
    line = f'"{_cut(driver["line"])}"' if driver["line"] else ""
    about = ", ".join(filter(None, (f"task {driver['task']}" if driver["task"] else "", line)))
    status = driver["status"] or "Pending"
    error = f": {_cut(driver['error'])}" if driver["error"] else ""
    return f"storage driver {driver['id']}{f' ({about})' if about else ''}: {status}{error}"


def _cut(text: str) -> str:
    """A text of a user's or a driver's, which may be of any length; without backticks, which mark our commands."""
    text = text.replace("`", "'")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def ids(drivers: Sequence[Driver]) -> str:
    """The names of the drivers, each once: "tape" or "tape, nnf"."""
    return ", ".join(dict.fromkeys(driver["id"] for driver in drivers))
