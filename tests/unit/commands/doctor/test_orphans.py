"""Workflows without a job are found, and other CRDs called workflows are named."""

from __future__ import annotations

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
