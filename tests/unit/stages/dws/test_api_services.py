"""APIServices that send the requests for DWS's objects elsewhere: the finding names each, its Service and why that fails."""

from __future__ import annotations

from typing import Any, cast

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.step import Facts, StepContext
from dws_on_csm.stages.dws import api_services

PLACE = StepContext(load(DEFAULT), Facts({}), "m")

OWN: dict[str, Any] = {
    "metadata": {
        "name": "v1alpha2.dataworkflowservices.github.io",
        "labels": {"kube-aggregator.kubernetes.io/automanaged": "true"},
    },
    "spec": {
        "group": "dataworkflowservices.github.io",
        "version": "v1alpha2",
        "groupPriorityMinimum": 1000,
        "versionPriority": 100,
    },
    "status": {
        "conditions": [
            {
                "type": "Available",
                "status": "True",
                "reason": "Local",
                "message": "Local APIServices are always available",
            }
        ]
    },
}
"""As Kubernetes makes it for a CRD."""

SERVICE = {"namespace": "old", "name": "storage-api", "port": 443}
MESSAGE = 'service/storage-api in "old" is not present'
MISSING = {"type": "Available", "status": "False", "reason": "ServiceNotFound", "message": MESSAGE}
REDIRECTED = {
    "metadata": {"name": "v1alpha2.dataworkflowservices.github.io"},
    "spec": {**OWN["spec"], "service": SERVICE},
    "status": {"conditions": [MISSING]},
}
METRICS = {
    "metadata": {"name": "v1beta1.metrics.k8s.io"},
    "spec": {"group": "metrics.k8s.io", "version": "v1beta1", "service": SERVICE},
    "status": {"conditions": [MISSING]},
}


def found(*items: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The findings of a cluster with these APIServices."""

    class Api:
        def get(self, path: str) -> dict[str, Any]:
            assert path == api_services.PATH
            return {"items": list(items)}

    have = api_services.read(cast(Cluster, Api()))
    return [(finding.name, finding.text, finding.fix) for finding in api_services.CHECK.judge(PLACE, have)]


def test_an_api_service_with_a_service_is_named() -> None:
    """With its Service, the reason of its condition, and the command that removes it."""
    ((name, text, fix),) = found(OWN, REDIRECTED, METRICS)
    assert name == "api-redirected"
    assert "to the Service old/storage-api" in text and f"(ServiceNotFound: {MESSAGE})" in text
    assert "`kubectl delete apiservice v1alpha2.dataworkflowservices.github.io`" in fix


def test_another_server_that_answers_is_named_too() -> None:
    """It has none of DWS's objects; no check fails because of it."""
    answers = {**REDIRECTED, "status": OWN["status"]}
    ((name, text, _),) = found(answers)
    assert name == "api-redirected" and "not available" not in text


def test_what_kubernetes_makes_for_a_crd_is_no_finding() -> None:
    """Nor is the APIService of another group."""
    assert found(OWN, METRICS) == []
