"""A ConfigMap that is generated: its templates and its Job are found by what they are, not by their names alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dws_on_csm.config.site import Pod
from dws_on_csm.stages.pod import generated
from tests.unit.stages.pod.test_pod import TEMPLATES, Cluster, jobs

POD = Pod("user", "app=slurmctld", "slurmctld")
OPERATOR = "/api/v1/namespaces/slurm-operator/configmaps"


def templates(name: str) -> dict[str, Any]:
    """The templates of a cluster of the operator, and the Job that renders them."""
    there = {f"{OPERATOR}/{name}-config-templates": {"metadata": {}, "data": {"slurm.conf": "ClusterName=c"}}}
    return there | jobs(f"{name}-slurm-config", f"{name}-config-templates", "slurm-operator")


@pytest.mark.parametrize(
    ("there", "name", "found"),
    [
        (TEMPLATES, "slurm-conf", ("services/slurm-config-templates", "services/slurm-config")),
        (
            templates("blue"),
            "blue-slurm-conf",
            ("slurm-operator/blue-config-templates", "slurm-operator/blue-slurm-config"),
        ),
        (templates("blue"), "red-slurm-conf", None),
        (templates("blue"), "slurm-conf", None),
        (TEMPLATES, "blue-slurm-conf", None),
        ({}, "slurm-conf", None),
    ],
)
def test_a_result_has_the_templates_of_its_own_flavour(
    there: dict[str, Any], name: str, found: tuple[str, str] | None
) -> None:
    """A chart's and each cluster of the operator have their own; a Slurm without them is edited as it is."""
    have = generated.find(Cluster(there), POD, name)  # type: ignore[arg-type]
    assert (have and (have["templates"], have["job"])) == found


def test_templates_without_slurm_conf_are_of_something_else() -> None:
    """A ConfigMap of that name alone is no reason to refuse."""
    there = TEMPLATES | {"/api/v1/namespaces/services/configmaps/slurm-config-templates": {"data": {"x": ""}}}
    assert generated.find(Cluster(there), POD, "slurm-conf") is None  # type: ignore[arg-type]


def test_the_templates_themselves_are_not_generated() -> None:
    """A site that mounts them directly."""
    assert generated.find(Cluster(TEMPLATES), replace(POD, namespace="services"), "slurm-config-templates") is None  # type: ignore[arg-type]


def test_the_newest_job_is_the_one_that_renders() -> None:
    """An upgrade may leave the Job of the version before."""
    there = TEMPLATES | jobs("slurm-config-1", "slurm-config-templates")
    newer = jobs("slurm-config-2", "slurm-config-templates")["/apis/batch/v1/namespaces/services/jobs"]["items"]
    newer[0]["metadata"]["creationTimestamp"] = "2026-02-01T00:00:00Z"
    there["/apis/batch/v1/namespaces/services/jobs"]["items"] += newer
    have = generated.find(Cluster(there), POD, "slurm-conf")  # type: ignore[arg-type]
    assert have is not None and have["job"] == "services/slurm-config-2"


def test_the_site_file_may_say_it() -> None:
    """Other names, and a Job that does not mount the templates."""
    pod = replace(POD, templates="ops/templates", job="ops/render")
    there = {"/api/v1/namespaces/ops/configmaps/templates": {"metadata": {}, "data": {"slurm.conf": "ClusterName=c"}}}
    have = generated.find(Cluster(there), pod, "conf")  # type: ignore[arg-type]
    assert have == {
        "templates": "ops/templates",
        "job": "ops/render",
        "result": "user/conf",
        "slurm_conf": "ClusterName=c",
    }


def test_templates_of_the_site_file_that_do_not_exist_are_no_reason_to_edit_the_result() -> None:
    """A wrong name is said."""
    have = generated.find(Cluster(TEMPLATES), replace(POD, templates="ops/wrong", job="ops/render"), "slurm-conf")  # type: ignore[arg-type]
    assert have is not None and (have["job"], have["slurm_conf"]) == ("", None)
