"""A rollback never removes objects of others in DWS's namespace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.config.load import load
from dws_on_csm.config.site import Site
from dws_on_csm.domain import names
from dws_on_csm.engine.perform import perform_in_cluster
from dws_on_csm.engine.reach import Reach, StepReporter
from dws_on_csm.model.cluster_api import ClusterError
from dws_on_csm.model.snapshot import ObjectSnapshot
from dws_on_csm.model.step import ApiLook, Facts, Refused, StepContext
from dws_on_csm.stages.dws import foreign_objects, installed
from dws_on_csm.stages.rollback import objects
from tests.unit.site_files import MINIMAL, write

KINDS = {
    "/api/v1": ["configmaps ConfigMap", "secrets Secret", "serviceaccounts ServiceAccount", "events Event", "pods Pod"],
    "/apis/apps/v1": ["deployments Deployment", "replicasets ReplicaSet"],
    "/apis/coordination.k8s.io/v1": ["leases Lease"],
    f"/apis/{names.GROUP}/v1alpha2": ["storages Storage"],
    "/apis/batch/v1": ["jobs Job"],
    "/apis/batch/v1beta1": ["jobs Job", "cronjobs CronJob"],
}


class SpaceApi:
    """An API: PLURAL -> metadata of the objects in DWS's namespace. `broken`: a path that does not respond."""

    broken = ""
    deleted: tuple[str, ...] = ()

    def __init__(self, **there: list[dict[str, Any]]) -> None:
        self.there = there

    def __getitem__(self, plural: str) -> list[dict[str, Any]]:
        return self.there.setdefault(plural, [])

    def get(self, path: str, **query: str) -> dict[str, Any] | None:
        if path == self.broken:
            raise ClusterError(503, "no endpoints")
        if path == "/apis":
            versions = [one.removeprefix("/apis/") for one in KINDS if one != "/api/v1"]
            groups: dict[str, list[str]] = {}
            for version in versions:
                groups.setdefault(version.partition("/")[0], []).append(version)
            return {
                "groups": [
                    {"preferredVersion": {"groupVersion": own[0]}, "versions": [{"groupVersion": one} for one in own]}
                    for own in groups.values()
                ]
            }
        if path in KINDS:
            some = [one.split() for one in KINDS[path]]
            return {
                "resources": [
                    {"name": plural, "kind": kind, "namespaced": True, "verbs": ["list", "delete"]}
                    for plural, kind in some
                ]
            }
        if path == installed.NAMESPACE:
            meta = {"name": names.NAMESPACE, "uid": "u", "resourceVersion": "1"}
            return None if path in self.deleted else {"kind": "Namespace", "metadata": meta}
        plural, name = path.split("/")[-2:]
        return {"kind": "x"} if any(one["name"] == name for one in self[plural]) else None

    def metadata(self, path: str) -> list[dict[str, Any]]:
        if path == self.broken:
            raise ClusterError(503, "no endpoints")
        return self[path.rpartition("/")[2]]

    def delete(self, path: str, deadline: float, uid: str = "", version: str = "") -> None:
        assert (uid, version) == ("u", "1")
        self.deleted = (*self.deleted, path)


def of_itself() -> SpaceApi:
    """Objects that are in the namespace after an undeploy, and that controllers create automatically."""
    owner = {"kind": "ReplicaSet", "apiVersion": "apps/v1", "name": "gone", "uid": "x"}
    return SpaceApi(
        configmaps=[
            {"name": "kube-root-ca.crt"},
            {"name": "a.lock", "annotations": {"control-plane.alpha.kubernetes.io/leader": "x"}},
        ],
        secrets=[
            {"name": "webhook-server-cert"},
            {"name": "default-token", "annotations": {"kubernetes.io/service-account.name": "default"}},
        ],
        serviceaccounts=[{"name": "default"}],
        leases=[{"name": f"a.{names.GROUP}"}],
        events=[{"name": "x"}],
        pods=[{"name": "on-its-way", "deletionTimestamp": "now"}, {"name": "dws-1", "ownerReferences": [owner]}],
    )


def with_dws(site: SpaceApi) -> SpaceApi:
    """The same before the undeploy."""
    site["deployments"].append({"name": names.CONTROLLER})
    site["serviceaccounts"].append({"name": "dws-webhook"})
    site["storages"].append({"name": "rabbit-1"})
    return site


def test_objects_that_kubernetes_creates_are_not_foreign() -> None:
    """Neither leftovers of an undeploy count, nor DWS itself while it is installed."""
    for one in (of_itself(), with_dws(of_itself())):
        assert foreign_objects.found(one) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("plural", "meta"),
    [
        ("configmaps", {"name": "others"}),
        ("secrets", {"name": "password"}),
        ("pods", {"name": "bare"}),
        ("pods", {"name": "of-a-node", "ownerReferences": [{"kind": "Node", "apiVersion": "v1", "uid": "n"}]}),
        ("cronjobs", {"name": "served-in-an-old-version-only"}),
        ("configmaps", {"name": "noted", "annotations": {"kubernetes.io/service-account.name": "default"}}),
    ],
)
def test_foreign_objects_are_named(plural: str, meta: dict[str, Any]) -> None:
    """With DWS installed and without it."""
    for one in (of_itself(), with_dws(of_itself())):
        one[plural].append(meta)
        assert foreign_objects.found(one) == [f"{plural}/{meta['name']}"]  # type: ignore[arg-type]


def test_only_kubernetes_own_kinds_hold_nobodys_data() -> None:
    """A kind of another group with the plural of one of them counts."""

    class Claims(SpaceApi):
        def get(self, path: str, **query: str) -> dict[str, Any] | None:
            if path == "/apis":
                version = {"groupVersion": "claims.example/v1"}
                return {"groups": [{"preferredVersion": version, "versions": [version]}]}
            kind = {"name": "leases", "kind": "Lease", "namespaced": True, "verbs": ["list", "delete"]}
            return {"resources": [kind]} if path == "/apis/claims.example/v1" else None

    assert foreign_objects.found(Claims(leases=[{"name": "of-a-user"}])) == ["leases/of-a-user"]  # type: ignore[arg-type]


def test_without_dws_no_object_is_its_own() -> None:
    """Objects with names like DWS's, and objects of its kinds, belong to somebody then."""
    site = with_dws(of_itself())
    site["deployments"].clear()
    assert foreign_objects.found(site) == ["serviceaccounts/dws-webhook", "storages/rabbit-1"]  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["/apis/apps/v1", f"/apis/apps/v1/namespaces/{names.NAMESPACE}/replicasets"])
def test_who_does_not_answer_may_have_something_there(path: str) -> None:
    """A failed request is not an empty list: it is reported."""
    site = of_itself()
    site.broken = path
    told = foreign_objects.found(site)  # type: ignore[arg-type]
    assert any(one.endswith("of apps/v1, which does not respond") for one in told)


# --- the rollback


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with a master."""
    return load(write(tmp_path, MINIMAL))


def rolled_back(api: SpaceApi, site: Site, meanwhile: str = "") -> tuple[Any, Any, str]:
    """Run the step; `meanwhile`: a ConfigMap that is created in between. Returns have, want and the status text."""
    step = objects.step([ObjectSnapshot(installed.NAMESPACE, None, frozenset())], "objects", "1")
    look = step.look(StepContext(site, Facts({}), "m"))
    assert isinstance(look, ApiLook) and step.read and step.change and step.status_text
    found = look.read(api)  # type: ignore[arg-type]
    place = StepContext(site, Facts({"objects.objects": {"m": found}}), "m")
    have, want = step.read(place, found), step.want(place)
    if meanwhile:
        api["configmaps"].append({"name": meanwhile})
    if have != want:
        assert step.removals(place, have, want)
        perform_in_cluster(
            Reach(lambda host: None, lambda: api, lambda role: "m"),
            StepReporter("2", "m", "objects", "objects", lambda event: None),
            step.change(place, have, want),
        )
    return have, want, step.status_text(have)


def test_an_empty_namespace_goes(site: Site) -> None:
    """Together with the objects that Kubernetes creates automatically."""
    api = of_itself()
    rolled_back(api, site)
    assert api.deleted == (installed.NAMESPACE,)


def test_a_namespace_with_things_of_others_stays_and_they_are_named(site: Site) -> None:
    """The rollback reports it, and then nothing is confirmed, deleted or refused."""
    api = of_itself()
    api["configmaps"].append({"name": "others-driver"})
    have, want, told = rolled_back(api, site)
    assert have == want and "namespaces/dws-system stays" in told and "configmaps/others-driver" in told
    assert api.deleted == ()


def test_what_comes_right_before_the_deed_stops_it(site: Site) -> None:
    """The step checks once more then."""
    api = of_itself()
    with pytest.raises(Refused) as refused:
        rolled_back(api, site, "just-now")
    assert [one.name for one in refused.value.findings] == ["namespace-in-use"]
    assert "configmaps/just-now" in refused.value.findings[0].text and api.deleted == ()
