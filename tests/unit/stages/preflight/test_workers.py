"""Workers that take no pods: which ones, why, and the command for each."""

from __future__ import annotations

from typing import Any, cast

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.step import Facts, Finding, StepContext
from dws_on_csm.stages.preflight import cluster

READY = {"type": "Ready", "status": "True"}
DOWN = {"type": "Ready", "status": "Unknown", "lastTransitionTime": "2026-01-01T00:00:00Z", "message": "no kubelet"}
TAINT = {"key": "x/y", "effect": "NoSchedule"}


def node(name: str, condition: dict[str, str], labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels or {}}, "spec": spec, "status": {"conditions": [condition]}}


def few(*nodes: dict[str, Any]) -> Finding | None:
    """The finding about workers in a cluster of these nodes."""
    answers = {"/version": {"gitVersion": "v1.30.0"}, "/api/v1/nodes": {"items": [*nodes]}}
    api = cast(Cluster, type("Api", (), {"get": lambda self, path: answers.get(path)})())
    found = cluster.CHECK.judge(StepContext(load(DEFAULT), Facts({}), "m"), cluster.read(api))
    return next((finding for finding in found if finding.name == "workers-few"), None)


@pytest.mark.parametrize(
    ("worker", "why", "command"),
    [
        (node("w3", DOWN), "w3 (not Ready since 2026-01-01T00:00:00Z: no kubelet)", "`systemctl start kubelet` on w3"),
        (node("w3", READY, unschedulable=True), "w3 (cordoned)", "`kubectl uncordon w3`"),
        (node("w3", READY, taints=[TAINT]), "w3 (taint x/y)", "`kubectl describe node w3`"),
    ],
)
def test_a_worker_that_takes_no_pods_is_named(worker: dict[str, Any], why: str, command: str) -> None:
    """With the reason; a control-plane node is no worker."""
    control = node("m1", READY, {"node-role.kubernetes.io/control-plane": ""}, taints=[TAINT])
    finding = few(control, node("w1", READY), node("w2", READY), worker)
    assert finding and finding.text.startswith("only 2 workers") and f"These take none: {why}" in finding.text
    assert "m1" not in finding.text and command in finding.fix


def test_three_workers_are_enough() -> None:
    """Whatever else there is."""
    assert few(*(node(f"w{n}", READY) for n in (1, 2, 3)), node("w4", DOWN)) is None
