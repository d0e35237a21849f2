"""Findings about DWS in the cluster."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dws_on_csm.commands.doctor import rules, rules_cluster
from dws_on_csm.commands.doctor.probes import stages
from dws_on_csm.model.step import Check
from dws_on_csm.stages.dws import deploy
from tests.unit.commands.doctor.context import MASTER, SITE, place, told

INSTALLED = {"tag": SITE.versions.dws, "unfinished": "", "namespace": True, "traces": ["Deployment x"], "crds": {}}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"tag": f"{SITE.versions.dws}-dirty"}, ["dirty-tag"]),
        ({"tag": "0.0.1"}, ["other-version"]),
        ({"tag": "", "traces": []}, ["dws-not-installed"]),
        ({"unfinished": "0.0.19"}, ["undeploy-unfinished"]),
        ({"crds": {"workflows": {"deleting": True}}}, ["crds-stuck"]),
    ],
)
def test_the_state_of_dws(change: dict[str, Any], expected: list[str]) -> None:
    """Not installed, another version, the tag of a changed clone, an interrupted undeploy, CRDs whose deletion is stuck."""
    assert told(rules_cluster.in_cluster(place(MASTER), {**INSTALLED, **change})) == expected


@pytest.mark.parametrize(("at_work", "expected"), [("", ["dws-closed"]), ("a command of run x", []), ("run x", [])])
def test_dws_that_was_left_closed_is_reported(at_work: str, expected: list[str]) -> None:
    """While a run, or a script that a run left, is running, DWS may be closed."""
    seen = place(MASTER, **{"doctor_at-work": at_work})
    assert told(rules.RULES["deploy.open"](seen, "closed", "open")) == expected


@pytest.mark.parametrize("makes", [False, True])
def test_a_missing_namespace_is_reported(makes: bool) -> None:
    """Also where the next install may create it: until then every #DW sbatch fails."""
    site = replace(SITE, access=replace(SITE.access, create_namespace=makes))
    by_name = {stage.name: stage for stage in stages(site)}
    seen, found = replace(place(MASTER), site=site), {"state": "missing", "workflows": {}}
    (check,) = (item for item in by_name["preflight"].steps if item.name == "namespace")
    assert isinstance(check, Check)
    every = list(check.judge(seen, found))
    if "namespace" in by_name:
        (step,) = by_name["namespace"].steps
        every += rules.RULES[f"namespace.{step.name}"](seen, "missing", "there")
    assert told(every) == ["namespace-missing"]


def test_an_api_server_that_does_not_call_the_webhooks_is_a_finding_of_its_own() -> None:
    """Nothing of DWS has to be started then: an option of the API server, or a selector, keeps it from calling them."""
    seen = place(MASTER, preflight_installed=INSTALLED, deploy_webhook={"refusal": None})
    (found,) = rules.RULES["deploy.webhook"](seen, {"webhook": deploy.UNCHECKED}, {})
    assert found.name == "webhooks-not-called" and "--disable-admission-plugins" in found.fix


def test_without_dws_its_parts_are_not_reported_separately() -> None:
    """A DWS that is not installed is one finding, not four."""
    seen = place(MASTER, preflight_installed={**INSTALLED, "tag": "", "traces": []})
    have = {"missing": ["a"], "not as rendered": ["b"], "webhook": "no", "because": ""}
    for step in ("deploy.applied", "deploy.available", "deploy.webhook"):
        assert told(rules.RULES[step](seen, have, {})) == []
