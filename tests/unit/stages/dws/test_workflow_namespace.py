"""The namespace of Workflows: no kubeconfig is switched to one that does not exist, or away from live Workflows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from dws_on_csm.commands.history import rollback_target
from dws_on_csm.commands.history.host_record import HostRecord
from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.config.site import Site
from dws_on_csm.domain.names import KUBECONFIG
from dws_on_csm.model.actions import CallApi
from dws_on_csm.model.cluster_api import ClusterError
from dws_on_csm.model.snapshot import FileSnapshot, RollbackTarget
from dws_on_csm.model.step import ApiLook, Check, Facts, Step, StepContext
from dws_on_csm.stages.access import revoke, rotate
from dws_on_csm.stages.access.stage import STAGE as ACCESS
from dws_on_csm.stages.dws import deploy, workflow_namespace
from dws_on_csm.stages.install import procedure
from dws_on_csm.stages.preflight.stage import STAGE as PREFLIGHT
from dws_on_csm.stages.rollback import procedure as rollback_procedure
from tests.unit import steps


class Cluster:
    """An API server with these namespaces; DWS serves Workflows or doesn't."""

    def __init__(self, spaces: Mapping[str, Mapping[str, Any]], serves: bool = True) -> None:
        self.spaces, self.serves, self.made = dict(spaces), serves, [""][1:]

    def get(self, path: str, **query: str) -> Any:
        name = path.removeprefix("/api/v1/namespaces/")
        return {"metadata": {"name": name, **self.spaces[name]}} if name in self.spaces else None

    def create(self, path: str, body: object, **query: str) -> None:
        space = path.split("/")[5]
        if space not in self.spaces or not self.serves:
            raise ClusterError(404, "not found")

    def apply(self, manifest: Mapping[str, Any]) -> Any:
        self.made.append(manifest["metadata"]["name"])
        return manifest


def site(name: str = "slurm", **more: Any) -> Site:
    default = load(DEFAULT)
    return replace(default, access=replace(default.access, namespace=name, **more))


def place(at: Site, kubeconfigs: Mapping[str, Mapping[str, str]] | None = None) -> StepContext:
    return StepContext(at, Facts({"access.kubeconfig": dict(kubeconfigs or {})}), "ncn-m001")


@pytest.mark.parametrize(
    ("there", "names"),
    [
        ({"slurm": {}, "lab": {}}, ["workflows-in-old-namespace"]),
        ({"slurm": {}}, ["namespace-missing", "workflows-in-old-namespace"]),
    ],
)
@pytest.mark.parametrize("busy", [True, False])
def test_a_rollback_brings_no_kubeconfig_back_that_names_another_namespace_than_live_workflows(
    monkeypatch: pytest.MonkeyPatch, there: Mapping[str, Any], names: list[str], busy: bool
) -> None:
    """The plugin would no longer find them; and the namespace has to exist."""
    every = [{"namespace": "slurm", "name": "bb1"}] if busy else []
    monkeypatch.setattr("dws_on_csm.stages.dws.workflows.read", lambda cluster: every)
    goal = RollbackTarget(
        "1", "leave", {}, (), {"c": True, "d": True}, spaces={"c": ("slurm", "lab"), "d": ("slurm", "lab")}
    )
    (check,) = (one for one in rollback_procedure.stages(goal, "c")[0].steps if one.name == "spaces")
    assert isinstance(check, Check)
    look = check.look(place(site()))
    assert isinstance(look, ApiLook)
    told = check.judge(place(site()), look.read(Cluster(there)))  # type: ignore[arg-type]
    assert [one.name for one in told] == [one for one in names if busy or one == "namespace-missing"]
    assert not busy or "bb1 in the namespace slurm, which the kubeconfig on c, d names" in told[-1].text


@pytest.mark.parametrize(
    ("now", "then", "renewed", "moved"),
    [
        ("slurm", "lab", False, {"slurmctl": ("slurm", "lab")}),
        ("lab", "lab", False, {}),
        ("", "lab", False, {}),
        ("slurm", None, False, {}),
        ("lab", None, True, {"slurmctl": ("lab", "slurm")}),
    ],
)
def test_which_namespaces_a_rollback_changes(
    now: str, then: str | None, renewed: bool, moved: Mapping[str, tuple[str, str]]
) -> None:
    """By the present kubeconfig and the restored one; a new kubeconfig names the namespace of the site file."""
    coming = {} if then is None else {KUBECONFIG: FileSnapshot(KUBECONFIG, "1", "", "", "x", frozenset(), space=then)}
    at = site()
    found = rollback_target.kubeconfig_namespaces(at, HostRecord(namespace=now), coming, renewed)
    assert ({"slurmctl": found} if all(found) and found[0] != found[1] else {}) == moved


@pytest.mark.parametrize(
    ("state", "create", "fix"),
    [
        ("there", False, None),
        ("missing", False, "set access.create_namespace: true"),
        ("missing", True, None),
        ("being deleted", False, "wait until it is deleted"),
        ("being deleted", True, "wait until it is deleted"),
    ],
)
def test_a_missing_namespace_is_reported_before_any_change(state: str, create: bool, fix: str | None) -> None:
    """The finding names it and offers to create it; a namespace that is being deleted cannot be created yet."""
    found = workflow_namespace.judge(place(site(create_namespace=create)), {"state": state, "workflows": {}})
    assert [one.name for one in found] == ([] if fix is None else ["namespace-missing"])
    assert all("slurm" in one.text and fix and fix in one.fix for one in found)


def test_how_it_is_seen() -> None:
    """There, missing or being deleted, as the API has it."""
    cluster = Cluster({"slurm": {}, "going": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
    names = ("slurm", "going", "none")
    assert [workflow_namespace.state(cluster, site(name)) for name in names] == ["there", "being deleted", "missing"]  # type: ignore[arg-type]


LEFT = {"old": [f"bb{number}" for number in range(1, 8)], "other": ["bb99"]}


@pytest.mark.parametrize(
    ("kubeconfigs", "limit", "hosts"),
    [
        ({"c1": {"mode": "600", "namespace": "old"}}, None, ["c1"]),
        ({"c1": {"mode": "600", "namespace": "slurm"}}, None, []),
        ({"c1": {"mode": "600", "namespace": "slurm"}, "c2": {"mode": "600", "namespace": "old"}}, None, ["c2"]),
        ({"c1": {"mode": "600", "namespace": "empty"}}, None, []),
        ({"c1": {}}, None, []),
        ({"c1": {"mode": "600", "namespace": "old"}}, frozenset({"c2"}), []),
    ],
)
def test_workflows_in_the_namespace_in_use_stand_in_the_way(
    kubeconfigs: Mapping[str, Mapping[str, str]], limit: frozenset[str] | None, hosts: list[str]
) -> None:
    """While a Workflow is in the namespace of a controller's kubeconfig, that kubeconfig is not switched."""
    here = place(replace(site(), limit=limit), kubeconfigs)
    found = workflow_namespace.judge(here, {"state": "there", "workflows": LEFT})
    assert [one.name for one in found] == ["workflows-in-old-namespace"] * bool(hosts)
    for one in found:
        assert (
            "bb1, bb2, bb3, bb4, bb5 and 2 more in the namespace old" in one.text and f"on {hosts[0]} names" in one.text
        )
        assert "set access.namespace back to old" in one.fix


def test_a_kubeconfig_without_a_namespace_has_the_default_one() -> None:
    """As kubectl reads it."""
    found = workflow_namespace.judge(
        place(site(), {"c1": {"mode": "600"}}), {"state": "there", "workflows": {"default": ["bb1"]}}
    )
    assert "bb1 in the namespace default" in found[0].text


def test_whatever_writes_kubeconfigs_looks_before() -> None:
    """An install, a rotation and a revocation refuse before anything is touched, and once more right before."""
    firsts = [PREFLIGHT, rotate.stages(site())[0], revoke.stages()[0]]
    assert all(workflow_namespace.CHECK in stage.steps for stage in firsts)
    for stage in (ACCESS, rotate.stages(site())[1], revoke.stages()[1]):
        names = [item.name for item in stage.steps]
        assert names.index("namespace") < names.index("kubeconfig")


@pytest.mark.parametrize("renew", [False, True])
def test_a_rollback_looks_once_more_right_before_a_kubeconfig_comes_that_names_another_namespace(renew: bool) -> None:
    """For a restored and for a new one: since the preflight a job may have been submitted, or the namespace deleted."""
    former = {KUBECONFIG: FileSnapshot(KUBECONFIG, "1", "600", "slurm:slurm", "x", frozenset(), image=KUBECONFIG)}
    files, roles = {"c": {} if renew else former}, {"controller": ("c",)}
    goal = RollbackTarget(
        "1", "leave", files, (), {"c": True}, renew=renew, roles=roles, spaces={"c": ("slurm", "lab")}
    )
    writing = [
        stage
        for stage in rollback_procedure.stages(goal, "c")
        if any("kubeconfig" in item.name for item in stage.steps if isinstance(item, Step))
    ]
    assert len(writing) == 1
    names = [item.name for item in writing[0].steps]
    assert names.index("spaces") < next(at for at, name in enumerate(names) if "kubeconfig" in name)


def test_the_look_has_all_that_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """One look finds both."""
    told = [{"namespace": "old", "name": "bb1"}, {"namespace": "old", "name": "bb2"}]
    monkeypatch.setattr("dws_on_csm.stages.dws.workflows.read", lambda cluster: told)
    look = workflow_namespace.CHECK.look(place(site()))
    assert isinstance(look, ApiLook)
    assert look.read(Cluster({})) == {"state": "missing", "workflows": {"old": ["bb1", "bb2"]}}  # type: ignore[arg-type]


def test_it_is_created_before_it_is_needed_and_only_on_request() -> None:
    """The stage exists only with access.create_namespace; DWS and the kubeconfigs wait for it."""
    assert "namespace" not in [stage.name for stage in procedure(site())]
    for version in ("0.0.20", "0.1.12"):
        asked = site(create_namespace=True)
        asked = replace(asked, versions=replace(asked.versions, dws=version))
        stages = {stage.name: stage for stage in procedure(asked)}
        assert stages["namespace"].needs == ("preflight",)
        assert "namespace" in stages["deploy"].needs and "namespace" in stages["access"].needs


def test_no_rollback_takes_it_away() -> None:
    """It is not recorded as an object of the run: others may have put something there since."""
    (action,) = steps.change(workflow_namespace.STAGE, "made", place(site(create_namespace=True)), "missing", "there")
    assert isinstance(action, CallApi) and action.objects == ()
    cluster = Cluster({})
    action.ask(cluster)  # type: ignore[arg-type]
    assert cluster.made == ["slurm"]


@pytest.mark.parametrize(
    ("spaces", "serves", "said"),
    [
        ({"slurm": {}}, True, "admits a Workflow (server-side dry run)"),
        ({"slurm": {}}, False, "the API server does not serve Workflows of v1alpha2"),
        ({}, True, "the namespace slurm is missing"),
    ],
)
def test_missing_objects_are_named(spaces: Mapping[str, Mapping[str, Any]], serves: bool, said: str) -> None:
    """A 404 means the namespace or the resource: the message names the right one."""
    assert deploy.dry_run(Cluster(spaces, serves), site(), "v1alpha2")[0] == said  # type: ignore[arg-type]
