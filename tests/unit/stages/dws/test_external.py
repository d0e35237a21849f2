"""DWS that somebody else deploys (`dws: external`): how it is found, what is said of it, and that nothing of it is changed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.config.site import Site
from dws_on_csm.domain import names
from dws_on_csm.domain import workflow_version as domain
from dws_on_csm.model.step import NotYetKnown, Step
from dws_on_csm.stages.dws import external, plugin_workflow_version
from dws_on_csm.stages.install import OF_DWS, procedure
from dws_on_csm.stages.preflight import external_dws
from tests.unit.external_site import Api, cluster, context, external_site, read


@pytest.fixture
def site() -> Site:
    """A site whose DWS somebody else deploys."""
    return external_site()


@pytest.mark.parametrize("converts", [True, False], ids=["conversion", "admission"])
@pytest.mark.parametrize(
    ("space", "controller"), [("dws-system", names.CONTROLLER), ("rabbit", "other-controller-manager")]
)
def test_it_is_found_by_its_webhooks_service_and_its_labels(space: str, controller: str, converts: bool) -> None:
    """Whatever its namespace is called: the Service leads to the webhook, name or label and image to the controller."""
    found = read(cluster(space, controller, converts, labels={"argocd.argoproj.io/instance": "1-dws"}))
    assert (found["namespace"], found["tag"], found["manager"]) == (space, "0.1.17", "Argo CD application 1-dws")
    assert [program and program["name"] for program in (found["controller"], found["webhook"])] == [
        controller,
        "the-webhook",
    ]
    assert list(external_dws.CHECK.judge(context(load(DEFAULT)), found)) == []
    said = external.version_text(found)
    assert said == (
        f"DWS 0.1.17, delivered by Argo CD application 1-dws, in the namespace {space}; it serves Workflows of v1alpha7"
    )


def test_what_is_not_there_is_said_with_whom_to_ask(site: Site) -> None:
    """No CRD; a CRD that goes; a controller that is missing; a webhook without a ready pod."""
    whole = read(cluster())
    assert whole["webhook"] is not None
    cases: list[tuple[external.External, list[str]]] = [
        (read(Api({})), ["dws-missing"]),
        ({**whole, "deleting": True}, ["dws-missing"]),
        ({**whole, "controller": None}, ["dws-not-available"]),
        ({**whole, "webhook": {**whole["webhook"], "ready": 0, "pods": "0 of 3"}}, ["dws-not-available"]),
        ({**whole, "webhook": {**whole["webhook"], "ready": 1, "pods": "1 of 3"}}, []),
    ]
    for have, expected in cases:
        plugin = replace(site, plugin=replace(site.plugin, workflow_version="plugin"))
        findings = external_dws.CHECK.judge(context(plugin, preflight_dws=have), have)
        assert [finding.name for finding in findings] == expected
        assert all("ask" in finding.fix and "dws: external" in finding.text + finding.fix for finding in findings)


def test_no_step_changes_anything_of_it(site: Site) -> None:
    """There are no stages of a deployment; `deploy` only waits for the webhook, and reopens what this tool closed."""
    stages = {stage.name: stage for stage in procedure(site)}
    assert not set(OF_DWS) & stages.keys()
    changing = [item.name for item in stages["deploy"].steps if isinstance(item, Step) and item.change]
    assert changing == ["open"]
    assert {need.partition(".")[0] for stage in stages.values() for need in stage.needs} <= stages.keys()
    assert "deploy.webhook" in stages["slurm"].needs and "deploy.webhook" in stages["verify"].needs
    checks = {item.name for item in stages["preflight"].steps}
    assert "dws" in checks and not checks & {"registry", "installer", "storage", "namespace-deletion"}
    made = replace(site, access=replace(site.access, create_namespace=True))
    assert "namespace" in {need for stage in procedure(made) for need in stage.needs}


def test_the_plugin_writes_what_the_cluster_serves(site: Site) -> None:
    """The version is chosen from the CRD that is there, and its reason stays the same when others replace DWS."""
    known = {**domain.WRITES, **domain.READS}
    version = {"served": True, "storage": True, "fields": known, "required": []}
    here = context(site, preflight_dws={**read(cluster()), "workflows": {"v1alpha7": version}})
    lua = f"apiVersion: {names.GROUP}/v1alpha2\n"
    assert plugin_workflow_version.wanted(here) == "v1alpha7"
    assert "because the DWS of this cluster serves it no more" in plugin_workflow_version.for_plugin(here, lua)
    with pytest.raises(NotYetKnown):
        plugin_workflow_version.wanted(context(site))
