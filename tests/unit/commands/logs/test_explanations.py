"""What an entry means that does not say so itself, and entries that say nothing."""

from __future__ import annotations

import pytest

from dws_on_csm.commands.logs.entries import Entry
from dws_on_csm.commands.logs.explanations import explanation, is_noise

HOOK = "error: lua: burst_buffer.lua: slurm_bb_{}(), workflow=bb12: {}"
TEARDOWN = "wait_for_status_complete: DWS driver error(s):\n"
EXPLAINED = {
    "Teardown was skipped": (HOOK.format("job_teardown", TEARDOWN), "before any storage driver ran its Teardown"),
    "an empty line follows": (HOOK.format("job_teardown", TEARDOWN + "\n"), "storage of job 12 may be left"),
    "Teardown failed": (HOOK.format("job_teardown", TEARDOWN + "rabbit: mounted"), "although its Teardown has failed"),
    "Teardown could not be asked for": (
        HOOK.format("job_teardown", "set_desired_state: x"),
        "storage of job 12 may be left",
    ),
    "somebody else deleted it": (
        HOOK.format("job_teardown", 'set_desired_state: workflows "bb12" not found'),
        "",
    ),
    "Teardown is still tried": (HOOK.format("job_teardown", "unable to check driver errors: x"), ""),
    "another state": (HOOK.format("data_in", TEARDOWN + "rabbit: no space"), ""),
    "capacity": ("error: burst_buffer/lua: Must specify pool with capacity for burst buffer", "Slurm itself refused"),
    "another entry": ("lua: slurm_bb_job_teardown(). job id:12", ""),
}


@pytest.mark.parametrize("name", EXPLAINED)
def test_explanation(name: str) -> None:
    """Where storage may be left, and where Slurm refuses a job without a reason that users see."""
    text, wanted = EXPLAINED[name]
    meaning = explanation(Entry(1.0, "slurmctl1", text))
    assert wanted in meaning and bool(meaning) == bool(wanted)


@pytest.mark.parametrize(
    ("text", "noise"),
    [
        ('INFO  controllers.Workflow  Reconciling Workflow  {"Workflow": {"name":"bb12","namespace":"default"}}', True),
        ('INFO  controllers.Workflow  Workflow transitioning to ready  {"Workflow": {"name":"bb12"}}', False),
        ("lua: apiVersion: v1\nINFO controllers.Workflow Reconciling Workflow", False),
    ],
)
def test_noise(text: str, noise: bool) -> None:
    """What DWS's controller logs at each read of a Workflow; a text of users in another entry is none."""
    assert is_noise(Entry(1.0, "manager@w1", text)) == noise
