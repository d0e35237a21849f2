"""The storage drivers of a Workflow: which it waits for, in words, and what an orphan's drivers still have to do."""

from __future__ import annotations

from typing import Any

import pytest

from dws_on_csm.stages.dws import storage_drivers, workflows
from dws_on_csm.stages.dws.storage_drivers import Driver
from tests.unit.stages.test_undeploy import NOW, a_workflow


def a_driver(**more: Any) -> Driver:
    """A driver that waits in Teardown."""
    made: dict[str, Any] = {"id": "tape", "task": "", "line": "", "state": "Teardown", "status": "Running"}
    return {**made, "error": "", "heard": 0.0, **more}  # type: ignore[typeddict-item]


def manifest(state: str, *drivers: Any, **status: Any) -> dict[str, Any]:
    """A Workflow object in this state, as the API has it."""
    meta = {"namespace": "default", "name": "bb12", "uid": "u", "creationTimestamp": "2026-01-31T12:00:00Z"}
    spec = {"jobID": "12", "dwDirectives": ["#DW tape reel=1", "#DW tape reel=2"], "desiredState": state}
    return {"metadata": meta, "spec": spec, "status": {"state": state, "ready": False, "drivers": [*drivers], **status}}


def entry(state: str, **more: Any) -> dict[str, Any]:
    """An entry of status.drivers, as DWS makes it."""
    made: dict[str, Any] = {"driverID": "tape", "taskID": "", "dwdIndex": 1, "watchState": state, "lastHB": 0}
    return {**made, "completed": False, "status": "Pending", **more}


def test_a_workflow_waits_for_the_uncompleted_drivers_of_its_state() -> None:
    """Each with the #DW line that it is for; those that have to free its storage are known from the beginning."""
    listed = manifest("DataIn", entry("Setup", completed=True), entry("DataIn"), entry("PreRun"), entry("Teardown"))
    workflow = workflows.parse(listed)
    assert [(driver["state"], driver["line"]) for driver in workflows.awaited(workflow)] == [
        ("DataIn", "#DW tape reel=2")
    ]
    assert [driver["state"] for driver in workflows.holders(workflow)] == ["Teardown"]
    assert workflows.awaited({**workflow, "ready": True}) == []


@pytest.mark.parametrize("broken", ["text", None, {}, {"watchState": "DataIn", "dwdIndex": "x", "lastHB": "y"}])
def test_what_drivers_write_wrongly_is_empty(broken: Any) -> None:
    """Anybody who may change a Workflow writes these entries."""
    drivers = storage_drivers.parse(manifest("DataIn", broken))
    assert all(isinstance(driver["id"], str) and driver["heard"] == 0 for driver in drivers)
    assert storage_drivers.parse({}) == []


@pytest.mark.parametrize("beat", [1_700_000_000, 1_700_000_000_000, 1_700_000_000_000_000_000])
def test_a_heartbeat_counts_in_any_unit(beat: int) -> None:
    """The API only says that it is a number."""
    (driver,) = storage_drivers.parse(manifest("DataIn", entry("DataIn", lastHB=beat)))
    assert driver["heard"] == 1_700_000_000


def test_a_wait_in_words() -> None:
    """Which driver, since when, its error; a text of others is short and has none of the marks of our commands."""
    driver = a_driver(task="t1", line="#DW tape `reel`", status="Error", error="e" * 1000, heard=NOW - 60)
    workflow = a_workflow(state="Teardown", desired="Teardown", ready=False, drivers=[driver])
    (text,) = workflows.wait_texts(workflow, NOW)
    assert text.startswith(
        "waits in Teardown for 5 min for storage driver tape (task t1, \"#DW tape 'reel'\"): Error: ee"
    )
    assert text.endswith("..., last heard 60 s ago") and len(text) < 500
    assert " for " not in workflows.wait_texts(workflow, 0)[0].partition(" for storage")[0]
    assert "ask those who run the storage driver tape" in workflows.ask(workflow)


@pytest.mark.parametrize(
    ("workflow", "first"),
    [
        (a_workflow(), "run `invoke workflows --delete default/bb12`: no job needs it"),
        (
            a_workflow(drivers=[a_driver()]),
            "first let the storage driver tape free the storage: run `kubectl patch workflows.dataworkflowservices.github.io "
            '--namespace default bb12 --type merge --patch \'{"spec":{"desiredState":"Teardown"}}\'` on the master',
        ),
        (
            a_workflow(desired="Teardown", state="Teardown", ready=False, drivers=[a_driver()]),
            "ask those who run the storage driver tape: it still has to free the storage",
        ),
    ],
    ids=["without storage", "before Teardown", "in Teardown"],
)
def test_the_fix_of_an_orphan_names_what_drivers_still_have_to_do(workflow: Any, first: str) -> None:
    """A deletion skips Teardown: where a driver holds the storage, that comes first, and the question of --delete says so."""
    assert workflows.orphan_fix(workflow).startswith(first)
    seen: Any = {"answers": True, "now": NOW, "jobs": {}}
    held = "The storage driver tape has not freed its storage" in workflows.describe_removal(workflow, seen)
    assert held == bool(workflow["drivers"])
