"""`invoke workflows`: a Workflow that waits for a storage driver says which one, and whom to ask."""

from __future__ import annotations

from typing import Any

from dws_on_csm.commands import workflows
from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.display.style import text
from tests.unit.stages.dws.test_storage_drivers import a_driver
from tests.unit.stages.test_undeploy import a_job, a_workflow, slurm_says


def rows(fate: Any, *, workflow: Any) -> list[str]:
    """The lines that are printed for one Workflow."""
    seen = slurm_says(a_job("RUNNING"))
    return [text(row) for row in workflows.workflow_rows(load(DEFAULT), [workflow], seen, [fate], [], True)]


def test_a_waiting_workflow_names_its_driver() -> None:
    """Its line is followed by the driver's, with its error; the last line says whom to ask, with a command that can be typed."""
    driver = a_driver(state="DataIn", status="Error", error="No space left\non rabbit 7")
    workflow = a_workflow(state="DataIn", desired="DataIn", ready=False, status="Error", drivers=[driver])
    shown = rows("live", workflow=workflow)
    assert shown[2].strip() == ("waits in DataIn for 5 min for storage driver tape: Error: No space left\\non rabbit 7")
    assert "ask those who run the storage driver tape" in shown[3]
    assert "`invoke workflows --yaml default/bb12`" in shown[3] and len(shown) == 4


def test_an_orphan_with_storage_is_not_only_deleted() -> None:
    """Its footer says what the driver still has to do, and leads to no undeploy."""
    shown = "\n".join(rows("orphan", workflow=a_workflow(drivers=[a_driver()])))
    assert "first let the storage driver tape free the storage" in shown
    assert "invoke workflows --delete default/bb12" in shown and "undeploy" not in shown
