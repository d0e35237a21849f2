"""DWS that another installer keeps, without `dws: external` in the site file: it is never fought over."""

from __future__ import annotations

from typing import Any

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.model.step import Refused
from dws_on_csm.stages.dws import deploy, installed, other_installer
from tests.unit import steps
from tests.unit.external_site import INSTALLED, cluster, context


@pytest.mark.parametrize(
    ("dws", "words"),
    [
        pytest.param(INSTALLED | {"manager": "", "applied": True}, "", id="by-hand"),
        pytest.param(INSTALLED | {"tag": "0.0.19", "applied": True}, "", id="by-hand-another-version"),
        pytest.param(
            INSTALLED | {"manager": "Argo CD application dws"}, "delivered by Argo CD application dws", id="argo-cd"
        ),
        pytest.param(INSTALLED | {"applied": False}, "", id="another-tool-and-the-same"),
        pytest.param(
            INSTALLED | {"tag": "0.1.17", "applied": False, "writers": ["operator"]},
            "made by operator",
            id="another-tool",
        ),
        pytest.param(INSTALLED | {"tag": "", "applied": True}, "", id="not-there"),
    ],
)
def test_what_another_installer_keeps_is_refused(dws: Any, words: str) -> None:
    """What was made by `kubectl apply` is adopted, as before; the fix names the key."""
    findings = other_installer.check().judge(context(load(DEFAULT), preflight_installed=dws), None)
    assert bool(findings) == bool(words)
    assert all(words in finding.text and "dws: external" in finding.fix for finding in findings)


def test_a_difference_that_shows_later_is_refused_before_the_change() -> None:
    """Where the manifests are known only after the clone."""
    dws = INSTALLED | {"applied": False}
    applied = {"Deployment dws-webhook": {"state": "spec.replicas is 1, not 3", "refused": "", "updated": ""}}
    here = context(load(DEFAULT), preflight_installed=dws, deploy_applied=applied)
    with pytest.raises(Refused, match="dws-managed"):
        steps.change(deploy.STAGE, "applied", here, {}, {})


def test_marks_are_read_from_the_deployment() -> None:
    """Who delivers it, and whether `kubectl apply` made it."""
    note = {"kubectl.kubernetes.io/last-applied-configuration": "{}"}
    ours = installed.read(cluster(annotations=note))  # type: ignore[arg-type]
    fields = [{"manager": "flux", "fieldsV1": {"f:spec": {}}}]
    label = {"kustomize.toolkit.fluxcd.io/name": "apps"}
    theirs = installed.read(cluster(labels=label, managedFields=fields))  # type: ignore[arg-type]
    assert (ours["manager"], ours["applied"]) == ("", True)
    assert (theirs["manager"], theirs["applied"], theirs["writers"]) == ("Flux Kustomization apps", False, ["flux"])
