"""docs/change-window.md, which goes with a change request: it names what the code changes, and what --prepare leaves."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.domain import names
from dws_on_csm.engine import cluster_lease
from dws_on_csm.model.actions import STATE
from dws_on_csm.model.step import Step
from dws_on_csm.stages import install, undeploy
from dws_on_csm.stages.dws import cert_manager_overlay
from dws_on_csm.stages.slurm import plugin, transaction

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/change-window.md").read_text()
SITE = load(DEFAULT)
VERSIONS = replace(SITE, versions=replace(SITE.versions, dws="VERSION", plugin="VERSION"))


def test_the_page_names_each_step_that_prepare_may_leave() -> None:
    """The first table is the code's: a step that belongs into the window has a row, and no other has."""
    table = PAGE.partition("## What --prepare does")[2].partition("\n## ")[0]
    named = {
        name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)
    }
    steps = {
        f"{stage.name}.{item.name}"
        for stage in install.STAGES
        for item in stage.steps
        if isinstance(item, Step) and item.window
    }
    assert named == steps


def test_each_step_that_restarts_something_belongs_into_the_window() -> None:
    """No run that only prepares restarts a service."""
    steps = [item for stage in install.STAGES for item in stage.steps if isinstance(item, Step) and item.restarts]
    assert steps and all(step.window for step in steps)


@pytest.mark.parametrize(
    "name",
    [
        names.clone(VERSIONS),
        plugin.clone(VERSIONS),
        cert_manager_overlay.folder(VERSIONS),
        STATE,
        names.KUBECONFIG,
        names.PLUGIN_LUA,
        names.PLUGIN_CONF,
        f"{transaction.UNITS}/dws-on-csm-activation-boot.service",
        "BurstBufferType=burst_buffer/lua",
        names.NAMESPACE,
        names.CONTROLLER,
        names.WEBHOOK,
        names.BINDING,
        names.ROLE,
        f"dws-{names.ROLE}",
        cluster_lease.NAME,
        SITE.access.common_name,
        SITE.slurm.service,
        f"{SITE.deadlines.slurmctld:.0f} s",
        *(label.partition(" ")[2] for label in undeploy.APPLIED),
    ],
)
def test_what_is_changed_is_named(name: str) -> None:
    """Files, objects, units and users are those of the code."""
    assert name in PAGE


def test_units_are_those_of_the_scripts() -> None:
    """The transient unit and the one for boot have these names in the templates."""
    run, activate = ((ROOT / f"templates/controller/{name}.sh").read_text() for name in ("run_activation", "activate"))
    assert "run_detached dws-on-csm-activation " in run and "boot=dws-on-csm-activation-boot.service" in activate
