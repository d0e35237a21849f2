"""Workflows without a job are found, and other CRDs called workflows are named."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import pytest

from dws_on_csm.commands.doctor.orphans import judge_workflows
from dws_on_csm.commands.workflows import namesakes
from dws_on_csm.domain import names
from dws_on_csm.model.step import NotYetKnown
from tests.unit.commands.doctor.context import place

NOW = 1_000_000.0


def workflow(job: str, age: float) -> dict[str, Any]:
    return {
        "namespace": "default", "name": f"bb{job}", "id": job, "job": job, "uid": 1, "desired": "Proposal", "state": "Proposal",
        "ready": True, "status": "Completed", "created": NOW - age, "deleting": False, "finalizers": [],
        "since": NOW,
        "drivers": [],
    }  # fmt: skip


def test_only_workflows_without_a_job_are_orphans() -> None:
    """A Workflow with a job is no orphan, whatever the clocks say of its age."""
    job = {
        "id": "1",
        "user": "joe",
        "uid": None,
        "state": "RUNNING",
        "submitted": NOW,
        "ended": 0.0,
        "over": False,
        "burst_buffer": True,
    }
    here: dict[str, Any] = {"namespace": workflow("1", 0)["namespace"]}
    seen = place(doctor_jobs={"answers": True, "now": NOW, "jobs": {"1": job}, **here})
    found = judge_workflows(seen, [workflow("1", 500), workflow("2", 500), workflow("1", -500)])
    assert [(one.name, "bb2" in one.text, "bb2" in one.fix) for one in found] == [("orphan", True, True)]


def test_a_deleted_workflow_that_another_program_holds_is_named() -> None:
    """Another deletion would wait in vain. The command removes that finalizer alone, and DWS's own is none of another program."""
    own, other = "dataworkflowservices.github.io/workflow", "backup.example.com/hold"
    seen = place(doctor_jobs={"answers": True, "now": NOW, "jobs": {}, "namespace": "default"})
    held = workflow("2", 500) | {"deleting": True, "deleted": "2026-01-31T12:00:00Z", "finalizers": [own, other]}
    (found,) = judge_workflows(seen, [held])
    assert f"It was deleted at 2026-01-31T12:00:00Z, and is held by what is not of DWS: finalizer {other}" in found.text
    (command,) = re.findall("`([^`]+)`", found.fix)
    assert json.loads(shlex.split(command)[-1]) == [
        {"op": "test", "path": "/metadata/finalizers/1", "value": other},
        {"op": "remove", "path": "/metadata/finalizers/1"},
    ]
    for finalizers, deleting in (([own], True), ([own, other], False)):
        (found,) = judge_workflows(seen, [held | {"finalizers": finalizers, "deleting": deleting}])
        assert "finalizer" not in f"{found.text} {found.fix}"


@pytest.mark.parametrize(
    ("state", "submitted", "burst_buffer", "number", "found"),
    [
        ("PENDING", NOW - 90, True, "3", ["workflow-gone"]),
        ("RUNNING", NOW - 90, True, "3", ["workflow-gone"]),
        ("PENDING", NOW - 30, True, "3", []),  # the Workflows were read before it was submitted
        ("COMPLETING", NOW - 90, True, "3", []),  # the plugin may be deleting it
        ("STAGE_OUT", NOW - 90, True, "3", []),
        ("PENDING", NOW - 90, False, "3", []),
        ("PENDING", NOW - 90, True, "1", []),
        ("PENDING", NOW - 90, True, str((5 << 26) + 3), []),  # of another cluster of the federation
    ],
)
def test_a_job_whose_workflow_is_gone(
    state: str, submitted: float, burst_buffer: bool, number: str, found: list[str]
) -> None:
    """It waits forever: the finding has the command that ends it."""
    job = {
        "id": number,
        "user": "joe",
        "uid": 1500,
        "state": state,
        "submitted": submitted,
        "ended": 0.0,
        "over": False,
        "burst_buffer": burst_buffer,
    }
    seen = place(doctor_jobs={"answers": True, "now": NOW, "jobs": {number: job}, "namespace": "default", "cluster": 0})
    findings = judge_workflows(seen, [{**workflow("1", 500), "deleting": True}])
    gone = [one for one in findings if one.name == "workflow-gone"]
    assert [one.name for one in gone] == found
    for one in gone:
        assert f"job 3 of joe ({state})" in one.text
        assert "`scancel 3` on " in one.fix


def test_without_slurms_answer_no_workflow_is_an_orphan() -> None:
    """Where squeue responds on no controller, the jobs are unknown."""
    silent = place(doctor_jobs={"answers": False, "now": 0.0, "jobs": {}})
    with pytest.raises(NotYetKnown):
        judge_workflows(silent, [workflow("2", 500)])
    assert judge_workflows(silent, []) == []


def test_other_crds_called_workflows_are_named() -> None:
    """Argo's CRD has the same plural; a name that only begins the same has not."""
    crds = ["workflows.argoproj.io", names.WORKFLOWS, "workflowtemplates.argoproj.io", "jobs.batch"]
    assert namesakes(crds) == ["workflows.argoproj.io"]
