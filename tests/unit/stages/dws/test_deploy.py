"""DWS's webhook is replaced only where its pods change, and not while Workflows need it."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.domain import names
from dws_on_csm.model.actions import Action, Delete
from dws_on_csm.model.cluster_api import ClusterError
from dws_on_csm.model.step import Check, Constant, Facts, Refused, Step, StepContext
from dws_on_csm.stages.dws import cert_manager_overlay, deploy, installed, manifest_comparison, manifests, readiness
from tests.unit import steps

WEBHOOK: Mapping[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": names.WEBHOOK, "namespace": names.NAMESPACE, "generation": 1, "resourceVersion": "1"},
    "spec": {"replicas": 3, "template": {"spec": {"containers": [{"name": "manager", "image": "dws:1"}]}}},
}
WORKFLOW = {
    "namespace": "default",
    "name": "bb7",
    "id": "u7",
    "job": "7",
    "desired": "DataOut",
    "ready": False,
    "status": "",
} | {"created": 1.0, "deleting": False, "uid": 1, "state": "", "since": 1.0, "drivers": []}


class Answers:
    """The API of a cluster that has this one Deployment."""

    def __init__(self, live: Mapping[str, Any] | None, refuses: str = "", creates: Any = None) -> None:
        self.live = live
        self.refuses = refuses
        self.creates = creates or (lambda body: body)

    def get(self, path: str, **query: str) -> Any:
        """The Deployment, at its path."""
        return self.live if path.endswith(f"/{names.WEBHOOK}") else None

    def create(self, path: str, body: Any, **query: str) -> Any:
        """A dry run."""
        if self.refuses:
            raise ClusterError(400, self.refuses)
        return self.creates(body)

    def replace(self, path: str, body: Any, **query: str) -> Any:
        """A dry run."""
        return body


def place(
    change: str, available: int, monkeypatch: pytest.MonkeyPatch, refuses: str = "", creates: Any = None
) -> StepContext:
    """A master whose webhook has so many pods that respond, up to date or not, and differs from its manifest in `change`."""
    live = copy.deepcopy(dict(WEBHOOK))
    if change == "replicas":
        live["spec"]["replicas"] = 2
    if change == "image":
        live["spec"]["template"]["spec"]["containers"][0]["image"] = "dws:0"
    if change == "both":
        live["spec"]["replicas"] = 2
        live["spec"]["template"]["spec"]["containers"][0]["image"] = "dws:0"
    live["status"] = {"observedGeneration": 1, "replicas": available, "availableReplicas": available}
    monkeypatch.setattr(manifests, "wanted", lambda place: [WEBHOOK])
    monkeypatch.setattr(cert_manager_overlay, "modern", lambda place: False)
    here = StepContext(load(DEFAULT), Facts({}), "ncn-m001")
    cluster: Any = Answers(None if change == "missing" else live, refuses, creates)
    steps = {one.name: one for one in deploy.STAGE.steps}
    for name in ("applied", "available"):
        look: Any = steps[name].look(here)
        here.facts.found[f"deploy.{name}"] = {here.host: look.read(cluster)}
    assert readiness.AVAILABLE.name == "available"
    return here


@pytest.mark.parametrize(
    ("change", "available", "goes", "guarded"),
    [
        ("", 3, False, False),
        ("replicas", 2, False, False),
        ("image", 3, True, True),
        ("image", 1, True, True),
        ("both", 2, True, True),
        ("replicas", 0, True, False),
        ("image", 0, True, False),
        ("missing", 0, False, False),
    ],
)
def test_when_the_webhook_is_replaced(
    change: str, available: int, goes: bool, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is replaced where its pods change, or none responds; where one responds, Workflows and jobs are checked first."""
    here = place(change, available, monkeypatch)
    found = here.facts.one(manifest_comparison.APPLIED)
    actions = steps.change(
        deploy.STAGE,
        "applied",
        here,
        steps.read(deploy.STAGE, "applied", here, found),
        steps.step(deploy.STAGE, "applied").want(here),
    )
    assert any(isinstance(one, Delete) for one in actions) == goes
    checks = {one.name: one for one in deploy.STAGE.steps if isinstance(one, Check)}
    assert isinstance(checks["workflows"].look(here), Constant) != guarded
    assert bool(steps.side_effect(deploy.STAGE, "applied", here, found, None)) == guarded


def change(here: StepContext) -> Sequence[Action]:
    """The step's actions."""
    step = steps.step(deploy.STAGE, "applied")
    return steps.change(
        deploy.STAGE, "applied", here, step.have(here, here.facts.one(manifest_comparison.APPLIED)), step.want(here)
    )


@pytest.mark.parametrize(("available", "state"), [(3, "image"), (0, "image"), (0, "replicas")])
def test_a_webhook_that_could_not_be_created_again_is_not_deleted(
    available: int, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the API server refuses a dry run of its manifest, a policy may have made the difference, too: the cause is told."""
    here = place(state, available, monkeypatch, refuses="admission webhook x does not support dry run")
    with pytest.raises(Refused, match="does not support dry run") as refused:
        change(here)
    assert [finding.name for finding in refused.value.findings] == ["dry-run-refused"]
    (text,) = steps.read(deploy.STAGE, "applied", here, here.facts.one(manifest_comparison.APPLIED))["not as rendered"]
    assert "or an admission policy made this difference" in text and "does not support dry run" in text


def test_a_webhook_that_an_update_would_change_is_not_updated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that acts on creations only: the Deployment is as rendered, and `make deploy` for another object would not end."""

    def creates(body: Any) -> Any:
        body = copy.deepcopy(body)
        body["spec"]["template"]["spec"]["containers"][0]["image"] = "dws:0"
        return body

    here = place("image", 3, monkeypatch, creates=creates)
    have = steps.read(deploy.STAGE, "applied", here, here.facts.one(manifest_comparison.APPLIED))
    assert have == steps.step(deploy.STAGE, "applied").want(here)
    with pytest.raises(Refused) as refused:
        change(here)
    assert [finding.name for finding in refused.value.findings] == ["policy-of-creations"]


@pytest.mark.parametrize(
    ("image", "applied", "tag"),
    [
        ("registry.local/dws:0.0.20", "", "0.0.20"),
        ("registry.local:5000/dws:0.0.20", "", "0.0.20"),
        ("registry.local/dws:0.0.20@sha256:ab", "", "0.0.20"),
        ("mirror.local/registry.local/dws:0.0.20", "", "0.0.20"),
        ("registry.local:5000/dws@sha256:ab", "registry.local/dws:0.0.20", "0.0.20"),
        ("mirror/csm-dws:stable", "registry.local/dws:0.0.20", "0.0.20"),
        ("registry.local/dws:0.0.19", "registry.local/dws:0.0.20", "0.0.19"),
        ("registry.local:5000/dws", "", "unknown"),
        ("registry.local/dws@sha256:ab", "not JSON", "unknown"),
    ],
)
def test_the_installed_version_is_known_from_its_image(image: str, applied: str, tag: str) -> None:
    """Also where admission rewrote it: `make deploy` leaves the manifest as it was in an annotation. A DWS of an unknown version
    would be removed as another one."""
    containers = {"spec": {"template": {"spec": {"containers": [{"image": "proxy:1"}, {"image": applied}]}}}}
    note = json.dumps(containers) if applied.startswith("registry") else applied
    live = {"metadata": {"annotations": {manifest_comparison.LAST_APPLIED: note}} if applied else {}}
    spec = {"template": {"spec": {"containers": [{"image": "quay.io/proxy:1"}, {"image": image}]}}}
    assert installed.tag({**live, "spec": spec}) == tag


@pytest.mark.parametrize(
    ("controller", "webhook", "tag"),
    [
        (("0.0.99", "0.0.20"), ("0.0.20", "0.0.20"), "0.0.20"),
        (("0.0.20-dirty", "0.0.20"), ("0.0.20", "0.0.20"), "0.0.20-dirty"),
        (("0.1.12", "0.0.20"), ("0.1.12", "0.0.20"), "0.1.12"),  # another installer updated both
        (("0.0.99", ""), ("0.0.20", ""), "0.0.99"),
    ],
)
def test_an_image_that_somebody_set_by_hand_is_no_other_version(
    controller: tuple[str, str], webhook: tuple[str, str], tag: str
) -> None:
    """An install would else undeploy all of DWS, for a difference that `make deploy` corrects."""
    assert installed.tag(deployed(*controller), deployed(*webhook)) == tag


def deployed(tag: str, applied: str) -> dict[str, Any]:
    """A Deployment with this tag, which was applied with the other one ("": unknown)."""

    def spec(of: str) -> dict[str, Any]:
        return {"template": {"spec": {"containers": [{"image": f"registry.local/dws:{of}"}]}}}

    notes = {manifest_comparison.LAST_APPLIED: json.dumps({"spec": spec(applied)})} if applied else {}
    return {"metadata": {"annotations": notes}, "spec": spec(tag)}


def test_a_workflow_that_is_at_work_keeps_the_webhook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its job could not copy its results out while no webhook responds."""
    here = place("image", 3, monkeypatch)
    job = {
        "id": "7",
        "user": "joe",
        "uid": None,
        "state": "STAGE_OUT",
        "submitted": 1.0,
        "burst_buffer": True,
        "over": False,
    }
    seen = {"answers": True, "now": 9.0, "jobs": {"7": job}}
    here.facts.found |= {
        "preflight.workflows": {here.host: []},
        "preflight.jobs": {"slurmctl1": None},
        "preflight.installed": {here.host: {"crds": {}, "tag": "", "unfinished": "", "traces": []}},
        "deploy.workflows": {here.host: [WORKFLOW]},
        "deploy.jobs": {"slurmctl1": seen},
    }
    checks = {one.name: one for one in deploy.STAGE.steps if isinstance(one, Check)}
    found = checks["jobs"].judge(StepContext(here.site, here.facts, "slurmctl1"), seen)
    assert [one.name for one in found] == ["workflow-live"]


@pytest.mark.parametrize(
    ("change", "available", "accepted"),
    [("replicas", 3, "objects-differ"), ("image", 3, "objects-differ"), ("image", 0, ""), ("missing", 0, "")],
)
def test_accepted_differences_stay(change: str, available: int, accepted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every object exists and the webhook answers; then nothing interrupts it, and no Workflow stands in the way."""
    here = place(change, available, monkeypatch)
    applied = next(one for one in deploy.STAGE.steps if one.name == "applied")
    have = steps.read(deploy.STAGE, "applied", here, here.facts.one(manifest_comparison.APPLIED))
    assert isinstance(applied, Step) and applied.accepted_as
    assert applied.accepted_as(here, have, steps.step(deploy.STAGE, "applied").want(here)) == accepted
    accepting = StepContext(replace(here.site, accept=frozenset({"objects-differ"})), here.facts, here.host)
    assert (
        steps.side_effect(deploy.STAGE, "applied", accepting, have, steps.step(deploy.STAGE, "applied").want(here))
        == ""
    )


RULES = [{"apiGroups": [names.GROUP], "resources": ["workflows"], "verbs": ["create", "get", "patch", "delete"]}]
WIDER = [{**RULES[0], "resources": ["workflows", "storages"]}]


@pytest.mark.parametrize(
    ("odd", "rules", "accept", "accepted"),
    [
        (["ClusterRole dws-workload-manager"], RULES, (), "role-differs"),
        (["ClusterRole dws-workload-manager"], WIDER, (), ""),
        (["ClusterRole dws-workload-manager", "Deployment dws-webhook"], RULES, (), ""),
        (["ClusterRole dws-workload-manager", "Deployment dws-webhook"], RULES, ("objects-differ",), "role-differs"),
        (["ClusterRole dws-manager-role"], RULES, ("objects-differ",), ""),
        (["ClusterRoleBinding dws-x", "Deployment dws-webhook"], RULES, ("objects-differ",), ""),
    ],
)
def test_what_gives_rights_is_accepted_for_the_plugins_harmless_role_alone(
    odd: list[str], rules: Any, accept: tuple[str, ...], accepted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rules may look different, or allow less than upstream's; a role that allows more is put back."""
    role = {
        "apiVersion": "rbac/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "dws-workload-manager"},
        "rules": RULES,
    }
    monkeypatch.setattr(manifests, "wanted", lambda place: [role])
    site = load(DEFAULT)
    site = replace(site, versions=replace(site.versions, dws="0.1.12"), accept=frozenset(accept))
    states = {one: {"state": "rules", "refused": "", "updated": ""} for one in odd}
    facts = {"deploy.available": {"m": {"answers": True}}, "access.role": {"m": {"rules": rules}}}
    facts["deploy.applied"] = {"m": states}
    assert steps.accepted_as(deploy.STAGE, "applied", StepContext(site, Facts(facts), "m"), None, None) == accepted
