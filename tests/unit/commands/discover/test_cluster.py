"""Slurm in pods is found by what it is, in both forms of CSM, and each slurmctld by labels that select it alone."""

from __future__ import annotations

from typing import Any

import pytest

from dws_on_csm.commands.discover import cluster
from tests.unit.commands.discover import samples
from tests.unit.commands.discover.samples import Api, workload


def found(objects: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Each Slurm: its name, and the name and selector of each slurmctld."""
    view = cluster.read(Api(objects))  # type: ignore[arg-type]
    return [(one.name, [(entry.name, entry.pod.selector) for entry in one.controllers]) for one in view.slurms]


def test_the_chart() -> None:
    """The primary is before its backup; the namespace names the Slurm; the label is the chart's own."""
    both = [("slurmctld", "app=slurmctld"), ("slurmctld-backup", "app=slurmctld-backup")]
    assert found(samples.helm()) == [("user", both)]


def test_the_operator() -> None:
    """A tenant's Slurm has the name of its SlurmCluster, and the operator's label."""
    key = "app.kubernetes.io/name"
    both = [("lab-slurmctld", f"{key}=slurmctld"), ("lab-slurmctld-backup", f"{key}=slurmctld-backup")]
    assert found(samples.operator()) == [("lab", both)]


def test_several_slurms() -> None:
    """The chart's and two tenants' are three."""
    every = {**samples.helm(), **samples.operator("a"), **samples.operator("b")}
    assert [name for name, _ in found(every)] == ["a", "b", "user"]


def test_what_renders_slurm_conf_and_who_keeps_the_workload() -> None:
    """Templates, Job, ConfigMap, manager and the pod that runs are named in both forms."""
    every = {**samples.helm(), **samples.operator()}
    view = cluster.read(Api(every))  # type: ignore[arg-type]
    first = {one.name: one.controllers[0] for one in view.slurms}
    assert (first["user"].templates, first["user"].job) == ("services/slurm-config-templates", "services/slurm-config")
    assert (first["lab"].templates, first["lab"].job) == (
        "slurm-operator/lab-config-templates",
        "slurm-operator/lab-slurm-config",
    )
    assert [first[name].manager for name in ("user", "lab")] == ["Helm release cray-slurmctld", "SlurmCluster lab"]
    assert first["user"].running == ("slurmctld-0 on ncn-w001",)
    assert first["user"].files == "user/slurm-conf"


def test_the_same_name_in_two_namespaces() -> None:
    """A name that two Slurms have gets their namespaces, so that --cluster can choose either."""
    twice = {
        **workload("one", "x-slurmctld", {"app": "slurmctld"}),
        **workload("two", "x-slurmctld", {"app": "slurmctld"}),
    }
    assert [name for name, _ in found(twice)] == ["one-x", "two-x"]


def test_a_label_that_selects_others_too() -> None:
    """Where the usual label selects pods of another workload, all labels of the workload's own selector are taken."""
    labels = {"app": "slurmctld", "role": "primary"}
    both = {
        **workload("user", "slurmctld", labels),
        **workload("user", "exporter", {"app": "slurmctld", "role": "metrics"}, container="exporter"),
    }
    ((_, entries),) = found(both)
    assert ("slurmctld", "app=slurmctld,role=primary") in entries


def test_a_stateful_set_of_several_pods() -> None:
    """Each pod of it is a controller of its own."""
    each = found(workload("user", "slurmctld", {"app": "slurmctld"}, "StatefulSet", replicas=2))
    label = "statefulset.kubernetes.io/pod-name"
    assert each == [("user", [("slurmctld-0", f"{label}=slurmctld-0"), ("slurmctld-1", f"{label}=slurmctld-1")])]


def test_other_workloads_are_none() -> None:
    """slurmdbd, slurmrestd and an exporter are no slurmctld."""
    others: dict[str, Any] = {}
    for name in ("slurmdbd", "slurmrestd", "prometheus-slurm-exporter"):
        others |= workload("user", name, {"app": name}, container=name)
    assert found(others) == []


def secret(namespace: str, name: str) -> dict[str, Any]:
    """A Secret; its content would be a mistake to read."""
    return {f"/api/v1/namespaces/{namespace}/secrets/{name}": {"metadata": {"namespace": namespace, "name": name}}}


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        pytest.param(secret("nexus", "nexus-admin-credential"), ("nexus/nexus-admin-credential",), id="csm"),
        pytest.param({**secret("a", "harbor-push-secret"), **secret("a", "x")}, ("a/harbor-push-secret",), id="other"),
        pytest.param({}, (), id="none"),
        pytest.param({**secret("a", "harbor-push-secret"), "/forbidden": {"metadata": {}}}, (), id="forbidden"),
    ],
)
def test_the_registrys_secret(objects: dict[str, Any], expected: tuple[str, ...]) -> None:
    """CSM's own, or those that are called like one; who may not list Secrets finds none."""
    assert cluster.read(Api(objects)).secrets == expected  # type: ignore[arg-type]


def test_a_dws_of_somebody_else() -> None:
    """Version, proxy and manager of an installed DWS are read from its Deployment."""
    labels = {"argocd.argoproj.io/instance": "dws"}
    objects = workload("dws-system", "dws-controller-manager", {}, container="manager", metadata={"labels": labels})
    deployment = objects["/apis/apps/v1/namespaces/dws-system/deployments/dws-controller-manager"]
    images = ("registry.local/dws:0.1.12", "registry.local/kube-rbac-proxy:v0.16.0")
    deployment["spec"]["template"]["spec"]["containers"] = [{"name": name, "image": name} for name in images]
    view = cluster.read(Api(objects))  # type: ignore[arg-type]
    assert (view.dws["tag"], view.proxy, view.external["manager"]) == ("0.1.12", "v0.16.0", "Argo CD application dws")
