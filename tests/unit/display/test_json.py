"""Events as JSON: the journal's records and the lines of --json."""

from __future__ import annotations

import io
import json
from typing import get_args

import pytest

from dws_on_csm.display import select
from dws_on_csm.model import event_json
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
)
from tests.unit.sample_run import RUNS, events

ALL: list[Event] = [
    Opened("r", "install", {"master": ("m",), "computes": ()}, {"a": (), "b": ("a",)}, 1.5),
    Renamed("r2", 2.0),
    Stopping(2.2),
    Began("h", "a", "s", "title", 2.5),
    Line("h", "a", "s", "text\x1b[0m"),
    Awaiting("h", "a", "s", "why", 3.5),
    Done("h", "a", "s", "failed", 1.0, 2.0, ("+ x",), "note", (Failure("c", 2, ("t", "u"), "m", "f"), Failure())),
    Summary("r", 1, {"ok": 2}, 1, 2, 3, 4.5, "message", "next"),
]


@pytest.mark.parametrize("event", ALL, ids=lambda event: type(event).__name__)
def test_round_trip(event: Event) -> None:
    """An event that was written to the journal is read back as the same event."""
    assert event_json.from_json(json.loads(json.dumps(event_json.to_json(event)))) == event


def test_words_of_earlier_versions() -> None:
    """A journal that an earlier version wrote is read in today's words."""
    done = event_json.to_json(ALL[6]) | {"outcome": "fixed"}
    summary = event_json.to_json(ALL[7]) | {"counts": {"change": 2, "ok": 1}, "execs": 7}
    del summary["commands"]
    read = [event_json.from_json(record) for record in (done, summary)]
    assert isinstance(read[0], Done) and read[0].outcome == "changed"
    assert isinstance(read[1], Summary) and (read[1].counts, read[1].commands) == ({"would change": 2, "ok": 1}, 7)


def test_every_kind() -> None:
    """No kind of event is forgotten in the round trip."""
    assert {type(event) for event in ALL} == set(get_args(Event))


@pytest.mark.parametrize(
    "record", [{}, {"event": "gone"}, {"event": "line", "host": "h"}, {"event": "began", "odd": 1}]
)
def test_strange_records(record: dict[str, object]) -> None:
    """A record that is no event of this version is refused by name."""
    with pytest.raises(ValueError, match="not an event"):
        event_json.from_json(record)


def written(name: str) -> tuple[str, str]:
    """What a run leaves on standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with select.consumer(name, json=True, out=out, err=err) as show:
        for event in events(name):
            show(event)
    return out.getvalue(), err.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_lines(name: str) -> None:
    """Standard output has a JSON object a line and nothing else: a step each, then the summary."""
    records = [json.loads(line) for line in written(name)[0].splitlines()]
    assert [r["event"] for r in records] == ["step"] * (len(records) - 1) + ["summary"]
    assert all(r["outcome"] in OUTCOMES and r.keys() >= {"host", "stage", "step", "seconds"} for r in records[:-1])
    for outcome in OUTCOMES:
        assert records[-1][outcome] == sum(r["outcome"] == outcome for r in records[:-1])


def test_details() -> None:
    """Differences and failures are in the record of their step, and only where there are some."""
    records = {(r["stage"], r["step"]): r for r in map(json.loads, written("failed")[0].splitlines()[:-1])}
    failure = records["deploy", "manifests"]["failures"][0]
    assert failure["code"] == 2
    assert failure["fix"]
    assert records["workarea", "clone"]["diff"] == ["+ tag: v0.0.20"]
    assert "diff" not in records["preflight", "lua"]


def test_people() -> None:
    """Lines for people go to standard error."""
    assert "deploy.manifests failed" in written("failed")[1]


def test_ascii() -> None:
    """The lines are pure ASCII, so that no terminal can be driven by them."""
    assert written("failed")[0].isascii()
