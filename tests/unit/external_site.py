"""A site whose DWS somebody else deploys (`dws: external`), and its cluster, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.config.site import Site
from dws_on_csm.domain import names
from dws_on_csm.model.step import Facts, StepContext
from dws_on_csm.stages.dws import external, installed

MASTER = "ncn-m001"
INSTALLED: dict[str, Any] = {
    "tag": "0.0.20",
    "unfinished": "",
    "namespace": True,
    "traces": [],
    "crds": {},
    "manager": "",
    "applied": True,
    "writers": [],
}
"""DWS that somebody made by `kubectl apply`, as installed.CHECK reads it."""
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


def external_site() -> Site:
    """A site whose DWS somebody else deploys."""
    usual = load(DEFAULT)
    return replace(usual, dws="external", versions=replace(usual.versions, dws=""))


def context(site: Site, **facts: Any) -> StepContext:
    """The master, with these facts: `preflight_dws` is that of the check preflight.dws."""
    return StepContext(site, Facts({key.replace("_", ".", 1): {MASTER: fact} for key, fact in facts.items()}), MASTER)
