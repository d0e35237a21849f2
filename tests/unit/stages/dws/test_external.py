"""DWS that somebody else deploys (`dws: external`): how it is found, what is said of it, and that nothing of it is changed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.config.site import Site
from dws_on_csm.domain import names, plugin_role
from dws_on_csm.domain import workflow_version as domain
from dws_on_csm.model.actions import Action, Apply, Delete, RunScript
from dws_on_csm.model.step import ApiLook, Facts, NotYetKnown, Refused, Step, StepContext
from dws_on_csm.stages import undeploy
from dws_on_csm.stages.access import external_role, rbac
from dws_on_csm.stages.access.stage import STAGE as ACCESS
from dws_on_csm.stages.dws import closing, deploy, external, in_use, installed, other_installer, workflow_version
from dws_on_csm.stages.facts import BINDING, NAMED, ROLE
from dws_on_csm.stages.install import OF_DWS, procedure
from dws_on_csm.stages.preflight import external_dws
from tests.unit import steps

MASTER = "ncn-m001"
SERVED = {"served": True, "storage": True, "schema": {}}


class Api:
    """The Kubernetes API of objects by path; a collection is what lies directly below it."""

    def __init__(self, objects: Mapping[str, Any]) -> None:
        self.objects = objects

    def get(self, path: str, **query: str) -> Any:
        """An object, or the list of a collection."""
        below = [item for at, item in self.objects.items() if at.rpartition("/")[0] == path]
        return self.objects.get(path) or ({"items": below} if below else None)


def deployment(space: str, name: str, label: str, image: str, ready: int = 1, **meta: Any) -> dict[str, Any]:
    """A Deployment with one pod, and how many of it are ready."""
    template = {"metadata": {"labels": {"control-plane": label}}, "spec": {"containers": [{"image": image}]}}
    status = {"updatedReplicas": 1, "replicas": 1, "availableReplicas": ready, "observedGeneration": 1}
    metadata = {"name": name, "namespace": space, "generation": 1, **meta}
    item = {"metadata": metadata, "spec": {"replicas": 1, "template": template}, "status": status}
    return {f"/apis/apps/v1/namespaces/{space}/deployments/{name}": item}


def cluster(space: str = "dws-system", controller: str = names.CONTROLLER, converts: bool = True, **meta: Any) -> Api:
    """A cluster with DWS in a namespace; its CRD names the webhook's Service, or else a webhook configuration does."""
    service = {"namespace": space, "name": "hook"}
    crd: dict[str, Any] = {"metadata": {}, "spec": {"versions": [{"name": "v1alpha7", **SERVED}]}}
    rule = {"apiGroups": [names.GROUP], "resources": ["workflows"]}
    webhook = {"clientConfig": {"service": service}, "rules": [rule]}
    if converts:
        crd["spec"]["conversion"] = {"webhook": {"clientConfig": {"service": service}}}
    admission = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
    return Api(
        {
            f"{installed.CRDS}/{names.WORKFLOWS}": crd,
            f"{admission}/hooks": {"metadata": {"name": "hooks"}, "webhooks": [webhook]},
            f"/api/v1/namespaces/{space}/services/hook": {"spec": {"selector": {"control-plane": "webhook"}}},
            **deployment(space, controller, "controller-manager", "ghcr.io/x/dws:0.1.17", **meta),
            **deployment(space, "the-webhook", "webhook", "ghcr.io/x/dws:0.1.17"),
        }
    )


def read(api: Api) -> external.External:
    """What is found there."""
    return external.read(api)  # type: ignore[arg-type]


@pytest.fixture
def site() -> Site:
    """A site whose DWS somebody else deploys."""
    usual = load(DEFAULT)
    return replace(usual, dws="external", versions=replace(usual.versions, dws=""))


def context(site: Site, **facts: Any) -> StepContext:
    """The master, with these facts: `preflight_dws` is that of the check preflight.dws."""
    return StepContext(site, Facts({key.replace("_", ".", 1): {MASTER: fact} for key, fact in facts.items()}), MASTER)


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
    assert workflow_version.wanted(here) == "v1alpha7"
    assert "because the DWS of this cluster serves it no more" in workflow_version.for_plugin(here, lua)
    with pytest.raises(NotYetKnown):
        workflow_version.wanted(context(site))


RULES = external_role.own()["rules"]


@pytest.mark.parametrize(
    ("have", "name", "applied"),
    [
        pytest.param(
            {"rules": RULES, "name": "dws-workload-manager", "own": False}, "dws-workload-manager", 0, id="theirs"
        ),
        pytest.param(None, "workload-manager", 1, id="none"),
        pytest.param({"rules": [], "name": "workload-manager", "own": True}, "workload-manager", 1, id="ours-edited"),
        pytest.param({"rules": [], "name": "dws-workload-manager", "own": False}, "", 0, id="theirs-too-narrow"),
    ],
)
def test_the_role_that_is_there_is_used_and_one_is_made_where_there_is_none(
    site: Site, have: Any, name: str, applied: int
) -> None:
    """A role of DWS is not changed: where it allows too little, the run says so."""
    here = context(site, access_role=have)
    if not name:
        with pytest.raises(Refused, match="role-lacks-rights"):
            rbac.ROLE_STEP.want(here)
        return
    want = rbac.ROLE_STEP.want(here)
    actions = steps.change(ACCESS, "role", here, have, want) if have != want else []
    assert (rbac.role(here), len(actions), plugin_role.lacking(want["rules"])) == (name, applied, [])
    assert all(isinstance(action, Apply) for action in actions)


def test_a_bound_role_that_will_do_is_kept() -> None:
    """DWS brings another one from 0.1.1 on. Recreating the binding for it would interrupt other Slurms for nothing."""
    theirs, usual = (f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{name}" for name in names.ROLES)
    bound = {f"{rbac.BINDINGS}/{names.BINDING}": {"roleRef": {"name": "workload-manager"}}}
    marked = {"labels": dict(external_role.MARK)}
    for meta, rules, kept in [({}, RULES, True), ({}, [], False), (marked, [], True)]:
        api = Api({theirs: {"metadata": {}, "rules": RULES}, usual: {"metadata": meta, "rules": rules}, **bound})
        have = external_role.read(api)  # type: ignore[arg-type]
        assert have and (have["name"] == "workload-manager") == kept
        own = external_role.read_own(api)  # type: ignore[arg-type]
        assert (own is not None) == bool(meta), "what an undeploy removes does not depend on the binding"
    del api.objects[usual]  # type: ignore[attr-defined]
    have = external_role.read(api)  # type: ignore[arg-type]
    assert have and have["name"] == "dws-workload-manager"


OURS, THEIRS = "User slurm-dws", "User slurm-b"


class Bindings:
    """An API with ClusterRoleBindings that stops answering after some calls that change something."""

    def __init__(self, calls: int) -> None:
        self.objects: dict[str, Any] = {}
        self.calls = calls

    def get(self, path: str) -> Any:
        """The object at a path."""
        return self.objects.get(path)

    def apply(self, manifest: Mapping[str, Any]) -> None:
        """Apply a binding; the API server refuses another role for one that exists."""
        path = f"{rbac.BINDINGS}/{manifest['metadata']['name']}"
        assert self.objects.get(path, manifest)["roleRef"] == manifest["roleRef"]
        self.objects[path] = manifest

    def do(self, actions: Sequence[Action]) -> None:
        """Do what a step does, as far as it comes; in between, everybody has rights all the time."""
        for action in actions:
            if self.calls == 0:
                return
            self.calls -= 1
            if isinstance(action, Apply):
                self.apply(action.manifest)
            else:
                assert isinstance(action, Delete)
                self.objects.pop(action.path, None)
            named = {subject["name"] for bound in self.objects.values() for subject in bound["subjects"]}
            assert named == {"slurm-dws", "slurm-b"}, action


@pytest.mark.parametrize("calls", range(5))
@pytest.mark.parametrize("then", ["new", "old", "third"])
def test_a_recreated_binding_leaves_nobody_without_rights(calls: int, then: str) -> None:
    """Also where the run is interrupted after any call, and the next one wants the role that was bound before, or a third: it knows
    all subjects, and leaves the one binding."""
    api: Any = Bindings(1)
    api.do(rbac.bind(None, "old", [OURS, THEIRS]))
    for role, limit in (("new", calls), (then, 9)):
        api.calls = limit
        have = rbac.read_binding(api)
        assert have and have["subjects"] == [THEIRS, OURS]
        api.do(rbac.bind(have, role, [OURS, THEIRS]))
    assert rbac.read_binding(api) == {"role": then, "subjects": [THEIRS, OURS]}
    assert len(api.objects) == 1


def test_what_an_interrupted_run_left_goes_with_the_binding(site: Site) -> None:
    """An undeploy removes the interim binding, too, and a command to paste does."""
    binding: Any = {"role": "workload-manager", "subjects": [OURS, THEIRS], "interim": "instead"}
    paths = [action.path for action in rbac.unbind(binding) if isinstance(action, Delete)]
    assert [path.rpartition("/")[2] for path in paths] == ["slurm-dws-viewer", "slurm-dws-viewer-interim"]
    assert paths == [path for label, path in undeploy.APPLIED.items() if "Binding" in label]
    command = rbac.removal_command(context(site), binding)
    assert "kubectl create --filename=- && kubectl delete clusterrolebinding slurm-dws-viewer-interim" in command


# --- without the key: never fought over

DWS: dict[str, Any] = {
    "tag": "0.0.20",
    "unfinished": "",
    "namespace": True,
    "traces": [],
    "crds": {},
    "manager": "",
    "applied": True,
    "writers": [],
}


@pytest.mark.parametrize(
    ("dws", "words"),
    [
        pytest.param(DWS | {"manager": "", "applied": True}, "", id="by-hand"),
        pytest.param(DWS | {"tag": "0.0.19", "applied": True}, "", id="by-hand-another-version"),
        pytest.param(
            DWS | {"manager": "Argo CD application dws"}, "delivered by Argo CD application dws", id="argo-cd"
        ),
        pytest.param(DWS | {"applied": False}, "", id="another-tool-and-the-same"),
        pytest.param(
            DWS | {"tag": "0.1.17", "applied": False, "writers": ["operator"]}, "made by operator", id="another-tool"
        ),
        pytest.param(DWS | {"tag": "", "applied": True}, "", id="not-there"),
    ],
)
def test_what_another_installer_keeps_is_refused(dws: Any, words: str) -> None:
    """What was made by `kubectl apply` is adopted, as before; the fix names the key."""
    findings = other_installer.check().judge(context(load(DEFAULT), preflight_installed=dws), None)
    assert bool(findings) == bool(words)
    assert all(words in finding.text and "dws: external" in finding.fix for finding in findings)


def test_a_difference_that_shows_later_is_refused_before_the_change() -> None:
    """Where the manifests are known only after the clone."""
    dws = DWS | {"applied": False}
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


# --- undeploy


def test_an_undeploy_takes_only_what_is_ours() -> None:
    """Slurm's side and the plugin's rights; nothing of DWS, and no clone."""
    stages = undeploy.of_external()
    assert [stage.name for stage in stages] == ["preflight", "close", "slurm", "plugin", "access", "open"]
    assert {item.name for item in stages[4].steps} == {"binding", "role", "slurm-cluster"}
    assert not {item.name for item in stages[0].steps} & {"storage", "owned", "installer", "shared", "stuck"}
    assert "orphans" in {item.name for item in undeploy.of_external(orphans=True)[4].steps}


def test_dws_is_closed_to_this_site_alone(site: Site) -> None:
    """To the plugin's Workflows in the namespaces of its kubeconfigs, if all were seen. What another Slurm's run left closed is not
    enough."""
    (close,) = (step for step in undeploy.of_external()[1].steps if isinstance(step, Step))
    others = closing.of_slurm({"origin": "burst_buffer.lua"}, ["slurm-b"])
    every = closing.of_slurm({"origin": "burst_buffer.lua"}, [])

    def state(here: StepContext, have: Any) -> Any:
        look = close.look(here)
        assert isinstance(look, ApiLook)
        return look.read(Api({closing.PATH: have} if have else {}))  # type: ignore[arg-type]

    def closed(here: StepContext) -> Any:
        (action,) = steps.change(undeploy.of_external()[1], "dws", here, "open", "closed")
        assert isinstance(action, RunScript)
        return json.loads(shlex.split(action.script)[2])

    here = context(site)
    assert closed(here) == every, "a kubeconfig that was not seen"
    assert [state(here, have) for have in (None, others, every)] == ["open", "open", "closed"]
    files = {host.name: {"mode": "600", "namespace": f"n{at}"} for at, host in enumerate(site.controllers)}
    here.facts.found[NAMED.name] = {**files, site.controllers[-1].name: {"mode": "600", "namespace": "$no"}}
    (webhook,) = closed(here)["webhooks"]
    spaces = [f"n{at}" for at in range(len(files) - 1)]
    assert webhook["namespaceSelector"]["matchExpressions"][0]["values"] == sorted(["default", *spaces])
    assert webhook["objectSelector"] == {"matchLabels": {"origin": "burst_buffer.lua"}}
    cases = [None, others, every, closing.CONFIGURATION, closed(here)]
    assert [state(here, have) for have in cases] == ["open", "open", "closed", "closed", "closed"]
    assert close.side_effect and "burst-buffer-is-being-removed" in close.side_effect(here, "open", "closed")


def test_workflows_of_others_do_not_prevent_it() -> None:
    """DWS serves them as before."""
    assert in_use.Terms(slurm=True, stays=True).spared == {"foreign"}
    assert in_use.Terms().spared == {"lost"}


@pytest.mark.parametrize(("others", "own"), [([], True), (["User slurm-b"], True), ([], False)])
def test_the_names_of_others_keep_their_rights(site: Site, others: list[str], own: bool) -> None:
    """And the role that gives them."""
    binding = {"role": "workload-manager", "subjects": sorted([f"User {site.access.common_name}", *others])}
    role = {"rules": RULES, "name": "workload-manager", "own": own}
    here = context(site, **{BINDING.name.replace(".", "_"): binding, ROLE.name.replace(".", "_"): role})
    stage = undeploy.of_external()[4]
    want = steps.step(stage, "binding").want(here)
    (action,) = steps.change(stage, "binding", here, binding, want)
    assert isinstance(action, Apply if others else Delete)
    assert want == ({"role": "workload-manager", "subjects": others} if others else None)
    have = steps.read(stage, "role", here, role)
    assert (have == steps.step(stage, "role").want(here)) == (bool(others) or not own)
