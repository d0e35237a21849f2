"""A user whom slurmctld cannot look up: its job would stop slurmctld."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.model.step import Constant, Facts, NotYetKnown, ShellLook, StepContext
from dws_on_csm.stages.facts import CONTROLLER
from dws_on_csm.stages.preflight import job_user, stage
from tests.unit.stages.test_verify_job import a_login_site


def found(tmp_path: Path, answer: str, conf: str) -> list[str]:
    """The findings on the controller c1 with this slurm.conf."""
    site = a_login_site(tmp_path)
    state: dict[str, Any] = {"files": {site.slurm.conf: conf}}
    ctx = StepContext(site, Facts({CONTROLLER.name: {"c1": state}}), "c1")
    return [finding.name for finding in job_user.CHECK.judge(ctx, answer)]


@pytest.mark.parametrize(
    ("answer", "parameters", "names"),
    [
        ("known", "", []),
        ("unknown", "", ["test-user-unknown"]),
        ("unknown", "LaunchParameters=use_interactive_step,Disable_send_gids\n", []),
        ("unknown", "LaunchParameters=disable_send_gids,enable_nss_slurm\n", ["test-user-unknown"]),
        ("", "", ["test-user-unknown"]),
    ],
)
def test_an_unknown_user_is_a_finding(tmp_path: Path, answer: str, parameters: str, names: list[str]) -> None:
    """Unless slurm.conf says that the user's groups are not looked up."""
    assert found(tmp_path, answer, f"ClusterName=x\n{parameters}") == names


def test_it_asks_the_controllers_where_a_login_host_submits(tmp_path: Path) -> None:
    """And judges once slurm.conf was read."""
    assert job_user.CHECK in stage.STAGE.steps and job_user.CHECK in stage.EXTERNAL.steps
    look = job_user.CHECK.look(StepContext(a_login_site(tmp_path), Facts(), "c1"))
    assert isinstance(look, ShellLook)
    with pytest.raises(NotYetKnown):
        job_user.CHECK.judge(StepContext(a_login_site(tmp_path), Facts(), "c1"), "unknown")
    for user, said in (("joe-is-nobody-here", b"unknown\n"), ("daemon", b"known\n")):
        script = f"{look.script.replace('user=joe', 'user=' + user)}"
        assert subprocess.run(["sh", "-c", script], capture_output=True, check=True, timeout=60).stdout == said
    of_a_controller = a_login_site(tmp_path, "[{host: uan01}, {host: c1}]")
    assert job_user.CHECK.look(StepContext(of_a_controller, Facts(), "c1")) == Constant("known")
