"""Several Slurm clusters on one DWS: what a run knows of the others, and what it refuses for their sake."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.config.site import Host, Pod, Site
from dws_on_csm.domain import names
from dws_on_csm.model.actions import CallApi
from dws_on_csm.model.step import Facts, StepContext
from dws_on_csm.stages.access import rbac, slurm_record
from dws_on_csm.stages.dws import replace as dws_replace
from dws_on_csm.stages.dws import slurm_clusters
from dws_on_csm.stages.dws.slurm_clusters import Entry
from dws_on_csm.stages.preflight.stage import STAGE as PREFLIGHT

BOUND = ["User slurm-b", "User slurm-dws"]


def entry(user: str = "slurm-b", **changes: Any) -> Entry:
    whole: Entry = {
        "user": user,
        "cluster": "second",
        "namespace": "slurm-b",
        "writes": "v1alpha2",
        "controllers": ["b1"],
        "subjects": [f"User {user}"],
    }
    return {**whole, **changes}  # type: ignore[typeddict-item]  # the changes are keys of it


class Cluster:
    """An API server with the record and the binding; it applies merge patches."""

    def __init__(self, data: Mapping[str, str] | None, bound: list[str]) -> None:
        self.data, self.bound = data, bound

    def get(self, path: str, **query: str) -> Any:
        if path.endswith(f"clusterrolebindings/{names.BINDING}"):
            subjects = [dict(zip(("kind", "name"), subject.split(" "), strict=True)) for subject in self.bound]
            return {"roleRef": {"name": "workload-manager"}, "subjects": subjects}
        return {"data": self.data} if path == slurm_clusters.PATH and self.data is not None else None

    def create(self, path: str, body: Mapping[str, Any], **query: str) -> Any:
        assert path == "/api/v1/namespaces/kube-system/configmaps" and self.data is None
        self.data = dict(body["data"])

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        merged = {**(self.data or {}), **body["data"]}
        self.data = {key: text for key, text in merged.items() if text is not None}
        return {"data": self.data} if self.data else {}

    def delete(self, path: str, deadline: float) -> None:
        assert path == slurm_clusters.PATH
        self.data = None


def site(**access: Any) -> Site:
    default = load(DEFAULT)
    controllers = (Host("slurmctl1", "controller", "root", False),)
    return replace(default, controllers=controllers, access=replace(default.access, **access))


def place(at: Site, entries: Mapping[str, Entry], bound: list[str] | None = None) -> StepContext:
    seen = {"entries": dict(entries), "bound": BOUND if bound is None else bound}
    return StepContext(at, Facts({slurm_clusters.FACT.name: {"ncn-m001": seen}}), "ncn-m001")


def refused(ctx: StepContext) -> list[str]:
    have = ctx.facts.one(slurm_clusters.FACT)
    return [finding.name for finding in slurm_clusters.judge(ctx, have)]


@pytest.mark.parametrize(
    ("theirs", "bound", "names"),
    [
        (entry(), BOUND, []),
        (entry(namespace="default"), BOUND, ["namespace-shared"]),
        (entry(namespace="default"), ["User slurm-dws"], []),
        (entry("slurm-dws"), BOUND, ["name-shared"]),
        (entry("slurm-dws"), ["User slurm-b"], []),
        (entry("slurm-dws", controllers=["slurmctl1"]), BOUND, []),
    ],
    ids=("apart", "one namespace", "one namespace, gone", "one name", "one name, gone", "the same Slurm"),
)
def test_two_slurm_clusters_share_neither_name_nor_namespace(theirs: Entry, bound: list[str], names: list[str]) -> None:
    """A Slurm cluster without rights is gone; one with a controller of this site is this one."""
    assert refused(place(site(namespace="default"), {theirs["user"]: theirs}, bound)) == names


def test_a_slurm_cluster_with_new_controllers_is_known_by_its_cluster_name() -> None:
    """ClusterName in slurm.conf says that the name is this Slurm's own."""
    at = site()
    conf = {"files": {at.slurm.conf: "ClusterName=second\n"}}
    ctx = place(at, {"slurm-dws": entry("slurm-dws")})
    ctx.facts.found["preflight.controller"] = {"slurmctl1": conf}
    assert not refused(ctx)
    assert refused(place(at, {"slurm-dws": entry("slurm-dws", cluster="")})) == ["name-shared"]


def test_pods_of_two_slurm_clusters_have_different_names() -> None:
    """Their records on the master have these names. Hosts keep theirs themselves."""
    pod = Host("slurmctld", "controller", "", False, Pod("user", "app=slurmctld", "slurmctld"))
    at = replace(site(), controllers=(pod,))
    theirs = entry(controllers=["slurmctld (pod vcluster-b/app=slurmctld)"])
    assert refused(place(at, {"slurm-b": theirs})) == ["controller-name-shared"]
    assert not refused(place(at, {"slurm-b": entry(controllers=["b1 (pod vcluster-b/app=slurmctld)"])}))


def test_every_install_looks_who_else_uses_dws() -> None:
    """Also where somebody else deploys DWS."""
    assert slurm_clusters.CHECK in PREFLIGHT.steps


def test_the_record_is_read_as_it_is() -> None:
    """What somebody has edited to something else is left out."""
    data = {"slurm-b": json.dumps(entry()), "a": "no JSON", "b": "[]", "c": '{"user": 1}'}
    assert slurm_clusters.read_entries(Cluster(data, [])) == {"slurm-b": entry()}  # type: ignore[arg-type]
    assert slurm_clusters.read_entries(Cluster(None, [])) == {}  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [None, {}, {"slurm-b": "theirs", "slurm-dws": "old"}])
def test_a_run_writes_its_own_entry_alone(data: Mapping[str, str] | None) -> None:
    """Another Slurm's stays, whatever it says."""
    cluster = Cluster(data, BOUND)
    slurm_clusters.write(cluster, {"slurm-dws": entry("slurm-dws"), "gone": None})  # type: ignore[arg-type]
    kept = {"slurm-b": "theirs"} if data else {}
    assert cluster.data == {**kept, "slurm-dws": json.dumps(entry("slurm-dws"), sort_keys=True)}


def test_the_record_goes_with_its_last_entry() -> None:
    """Nothing of this tool is left in kube-system."""
    cluster = Cluster({"slurm-dws": "mine"}, [])
    slurm_clusters.write(cluster, {"slurm-dws": None})  # type: ignore[arg-type]
    assert cluster.data is None


def test_an_entry_of_a_former_name_goes() -> None:
    """The controllers say that it was this Slurm's. The object is saved, so that a rollback restores it."""
    at = site(common_name="new", namespace="default")
    ctx = place(at, {})
    ctx.facts.found[slurm_record.RECORDED.name] = {
        "ncn-m001": {"slurm-b": entry(), "old": entry("old", controllers=["slurmctl1"])}
    }
    have = slurm_record.STEP.have(ctx, ctx.facts.one(slurm_record.RECORDED))
    want = slurm_record.STEP.want(ctx)
    assert [*have] == ["old"] and [*want] == ["new"] and want["new"]["subjects"] == ["User new"]
    (action,) = (slurm_record.STEP.change or (lambda *given: ()))(ctx, have, want)
    assert isinstance(action, CallApi) and action.objects == (slurm_clusters.PATH,)
    cluster = Cluster({"slurm-b": "theirs", "old": "mine"}, [])
    action.ask(cluster)  # type: ignore[arg-type]
    assert cluster.data is not None and [*cluster.data] == ["slurm-b", "new"]


@pytest.mark.parametrize(
    ("writes", "dws", "breaks"),
    [("v1alpha2", "0.1.12", False), ("v1alpha2", "0.1.17", True), ("v1alpha7", "0.1.17", False)],
)
def test_an_upgrade_that_another_slurms_plugin_cannot_use_is_refused(writes: str, dws: str, breaks: bool) -> None:
    """Before the clone by what is known of releases; the text names the other Slurm, the fix its site file."""
    at = replace(site(), versions=replace(site().versions, dws=dws))
    told = slurm_clusters.broken(place(at, {"slurm-b": entry(writes=writes)}))
    assert [finding.name for finding in told] == (["other-slurm-breaks"] if breaks else [])
    assert all(
        "Slurm cluster second" in finding.text and "the other Slurm's site file" in finding.fix for finding in told
    )


def test_a_slurm_without_an_entry_is_taken_to_have_the_plugin_as_it_comes() -> None:
    """An earlier version of this tool, or somebody by hand, gave it its rights."""
    at = replace(site(), versions=replace(site().versions, dws="0.1.17"))
    (told,) = slurm_clusters.broken(place(at, {}))
    assert "User slurm-b" in told.text
    assert not slurm_clusters.broken(place(at, {}, ["User slurm-dws"]))


def test_the_other_is_asked_before_dws_is_removed_too() -> None:
    """In preflight, and again when the wanted DWS is cloned."""
    assert "other-slurms" in [step.name for step in PREFLIGHT.steps]
    assert "other-slurms" in [step.name for step in dws_replace.STAGE.steps]


def test_the_binding_names_whose_the_other_subjects_are() -> None:
    """One that is recorded is another Slurm's; of any other that is only possible."""
    ctx = place(site(), {"slurm-b": entry()})
    assert "Slurm cluster second (User slurm-b; controllers b1;" in rbac.described(ctx, ["User slurm-b"])
    assert "another Slurm uses this DWS" in rbac.described(ctx, ["User slurm-b"])
    assert "another Slurm may use this DWS" in rbac.described(ctx, ["User slurm-b", "User x"])
