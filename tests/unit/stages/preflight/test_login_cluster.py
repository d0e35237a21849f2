"""The login host of the test job, and the cluster to which it submits."""

from __future__ import annotations

from pathlib import Path

import pytest

from dws_on_csm.model.step import Constant, Facts, ShellLook, StepContext
from dws_on_csm.stages.preflight import login_cluster, stage
from dws_on_csm.stages.slurm import start
from tests.unit.stages.test_verify_job import a_login_site


@pytest.mark.parametrize(
    ("there", "here", "found"),
    [
        ("cluster=Lab\n", "lab", []),
        ("cluster=other\n", "lab", ["test-host-cluster"]),
        ("cluster=\n", "lab", []),
        ("", "lab", []),
        ("cluster=other\n", "", []),
    ],
)
def test_a_login_host_of_another_cluster_is_a_finding(tmp_path: Path, there: str, here: str, found: list[str]) -> None:
    """The numbers of its jobs are those of other jobs here. Where either does not say its cluster, the test job itself shows it."""
    site = a_login_site(tmp_path)
    facts = Facts({start.START.name: {"c1": start.parse(f"cluster={here}\n".encode())}})
    ctx = StepContext(site, facts, "uan01")
    look = login_cluster.CHECK.look(ctx)
    assert isinstance(look, ShellLook) and "running_setting 30 ClusterName" in look.script and "as_user" in look.script
    findings = login_cluster.CHECK.judge(ctx, look.parse(there.encode()))
    assert [finding.name for finding in findings] == found
    assert all("the Slurm cluster other, but the controllers belong to lab" in finding.text for finding in findings)


def test_it_is_part_of_the_preflight_and_asks_no_controller(tmp_path: Path) -> None:
    """A controller belongs to its own cluster."""
    assert login_cluster.CHECK in stage.STAGE.steps and login_cluster.CHECK in stage.EXTERNAL.steps
    assert login_cluster.CHECK.look(StepContext(a_login_site(tmp_path), Facts(), "c1")) == Constant("")
