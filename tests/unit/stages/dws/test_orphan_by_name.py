"""`invoke workflows --delete NAME`: which Workflow it means, and when it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from dws_on_csm.model.step import Check
from dws_on_csm.stages.dws import orphan_by_name
from dws_on_csm.stages.dws.workflows import Workflow
from dws_on_csm.stages.jobs import Jobs
from tests.unit.stages.test_undeploy import INSTALLED, a_job, a_place, a_workflow, slurm_says

GONE = slurm_says(past={"12": 1500})


def refusals(name: str, seen: Jobs, *existing: Workflow) -> list[str]:
    """The findings of `--delete NAME` where these Workflows exist."""
    found: dict[str, Any] = {
        "preflight.installed": INSTALLED,
        "preflight.workflows": [*existing],
        "preflight.jobs": seen,
    }
    (check,) = [item for item in orphan_by_name.stages(name)[0].steps if item.name == "orphan"]
    assert isinstance(check, Check)
    return [finding.name for finding in check.judge(a_place(found), None)]


@pytest.mark.parametrize("name", ["12", "bb12", "default/bb12"])
def test_an_orphan_is_deleted_by_each_of_its_names(name: str) -> None:
    """And a name that nobody has is no reason to refuse: there is nothing to delete."""
    assert refusals(name, GONE, a_workflow()) == []
    assert refusals("99", GONE, a_workflow()) == []


def test_a_workflow_whose_job_lives_is_refused() -> None:
    """So is one that may be of another Slurm, one of two of the same name, and any where Slurm does not answer."""
    assert refusals("12", slurm_says(a_job("RUNNING")), a_workflow()) == ["workflow-live"]
    assert refusals("12", slurm_says(), a_workflow()) == ["workflow-foreign"]
    assert refusals("12", GONE, a_workflow(), a_workflow(namespace="user", id="x")) == ["workflow-ambiguous"]
    assert refusals("12", slurm_says(answers=False), a_workflow()) == ["jobs-unknown"]


def test_another_workflow_is_left_alone() -> None:
    """Not even an orphan, and not one that took the name since the first look."""
    deleted: Any = orphan_by_name.stages("12")[1].steps[0]
    found: dict[str, Any] = {"preflight.workflows": [a_workflow(), a_workflow("bb13")], "preflight.jobs": GONE}
    there = [a_workflow(), a_workflow("bb13"), a_workflow(id="later")]
    assert [workflow["id"] for workflow in deleted.read(a_place(found), there)] == ["id-bb12"]
