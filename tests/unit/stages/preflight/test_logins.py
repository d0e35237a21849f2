"""A login without root's rights is reported before a run changes anything, on every host that it would change."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import Any

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.config.site import ComputeGroup, Host, Pod, Site
from dws_on_csm.model.step import Constant, Facts, ShellLook, StepContext
from dws_on_csm.stages import undeploy
from dws_on_csm.stages.preflight import logins
from dws_on_csm.stages.preflight.stage import STAGE
from tests.unit.hostile import needs_root

SITE = load(DEFAULT)


def _site(pod: bool = False, slurm_conf: Any = "edit") -> Site:
    controller = Host("c1", "controller", "admin", False, Pod("slurm", "app=slurm", "ctld") if pod else None)
    group = ComputeGroup((Host("nid1", "compute", "admin", False),), slurm_conf, 0)
    return replace(SITE, controllers=(controller,), computes=(group,))


@needs_root
@pytest.mark.parametrize(("check", "host"), [(logins.CONTROLLER, "c1"), (logins.COMPUTE, "nid1")])
@pytest.mark.parametrize("user", ["root", "nobody"])
def test_login_that_is_not_root_is_a_finding(check: Any, host: str, user: str) -> None:
    """A controller, or a node whose slurm.conf is edited, needs root's rights; the finding names the host and the fix."""
    place = StepContext(_site(), Facts(), host)
    look = check.look(place)
    assert isinstance(look, ShellLook)
    done = subprocess.run(["setpriv", "--reuid", user, "sh", "-c", look.script], capture_output=True, check=True)
    findings = check.judge(place, look.parse(done.stdout))
    assert [finding.name for finding in findings] == ([] if user == "root" else ["not-root"])
    assert all(host in finding.text and "sudo: true" in finding.fix for finding in findings)


def test_hosts_that_need_no_root() -> None:
    """A pod's container may run as SlurmUser, and a node whose slurm.conf is only compared is not changed."""
    for check, host, site in (
        (logins.CONTROLLER, "c1", _site(pod=True)),
        (logins.COMPUTE, "nid1", _site(slurm_conf="check")),
        (logins.COMPUTE, "nid1", _site(slurm_conf="print")),
    ):
        place = StepContext(site, Facts(), host)
        look = check.look(place)
        assert isinstance(look, Constant) and not check.judge(place, look.value)


def test_every_change_of_slurm_checks_the_logins() -> None:
    """An install does, and an undeploy that changes slurm.conf."""
    (undeploying,) = (stage for stage in undeploy.stages(slurm=True) if stage.name == "preflight")
    for stage in (STAGE, undeploying):
        assert {logins.CONTROLLER, logins.COMPUTE} <= set(stage.steps)
