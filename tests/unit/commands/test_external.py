"""What commands say where somebody else deploys DWS (`dws: external`): one sentence for what makes no sense there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tasks
from dws_on_csm.commands import bundle, check
from dws_on_csm.commands.doctor import probes, rules_cluster
from dws_on_csm.commands.repair import chosen
from dws_on_csm.config.load import load
from dws_on_csm.config.site import Site
from dws_on_csm.model.step import Facts, StepContext
from dws_on_csm.runner.read_only import only
from dws_on_csm.stages.install import procedure
from tests.unit.site_files import MINIMAL, write


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """The smallest site of this kind."""
    return load(write(tmp_path, f"{MINIMAL}dws: external\nversions: {{dws: 0.0.20}}\n"))


def test_no_version_of_dws_counts(site: Site) -> None:
    """Whatever the file says: nothing is done by a number that nobody asked for."""
    assert site.external and site.versions.dws == ""


@pytest.mark.parametrize(
    ("command", "words"),
    [
        pytest.param(lambda site: bundle.make(site, "x.bundle"), "No bundle was made", id="bundle.make"),
        pytest.param(lambda site: bundle.attached(site, "x.bundle"), "--bundle", id="--bundle"),
        pytest.param(lambda site: tasks._deleting(site, "a,b"), "--delete-persistent-storage", id="storage"),
        pytest.param(
            lambda site: chosen(only(site, "m"), procedure(site), "images"), "no stage images here", id="repair"
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(
    site: Site, command: Callable[[Site], Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, before any host is contacted."""
    with pytest.raises(SystemExit) as ended:
        command(site)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and words in said and "dws: external" in said


def test_check_says_what_has_no_effect(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """The version and the registry are not shown as if they counted."""
    assert check.show(site) == 0
    said = capsys.readouterr().out
    assert "somebody else deploys it" in said and "registry.local" not in said and "0.0.20" not in said


def test_the_doctor_leaves_to_others_what_is_theirs(site: Site) -> None:
    """cert-manager, DWS's objects and its version are not judged; the check of preflight is."""
    keys = {f"{stage.name}.{item.name}" for stage in probes.stages(site) for item in stage.steps}
    assert not keys & {
        "doctor.cert-manager",
        "preflight.registry",
        "deploy.applied",
        "deploy.available",
        "workarea.clone",
    }
    assert {"preflight.dws", "deploy.webhook", "access.role", "plugin.lua"} <= keys
    gone = {"tag": "", "unfinished": "", "traces": [], "crds": {}}
    assert list(rules_cluster.in_cluster(StepContext(site, Facts(), "m"), gone)) == []
