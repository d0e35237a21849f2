"""The DWS that somebody else deploys (`dws: external`): which one it is, where its programs run, what serves its Workflows.

Other installers may put it elsewhere than the csm overlay does. The namespace is that of the Service which the CRD of Workflows
names for conversions, or which a webhook configuration names for Workflows. The webhook is the Deployment that this Service
selects; the controller has the name or the label that every overlay of dws gives it. Nothing here changes anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict

from dws_on_csm.domain import crd_versions, dws_objects, managers, names
from dws_on_csm.domain.workflow_version import Version
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.step import Fact, StepContext
from dws_on_csm.stages.dws import closing, installed, manifest_comparison, readiness

Json = Mapping[str, Any]


class Program(TypedDict):
    """A Deployment of DWS: its name, the number of its ready pods, and that in words ("1 of 1"), its images."""

    name: str
    ready: int
    pods: str
    images: list[str]


class External(TypedDict):
    """The DWS in the cluster.

    namespace   where its programs run
    controller  None where it is missing; webhook likewise
    tag         of the image of DWS; "" where no image of the controller is called dws
    manager     who delivers the controller, by its marks; "" where it has none
    workflows   name -> a version of the CRD workflows; empty where there is no CRD
    deleting    whether that CRD is being deleted
    """

    namespace: str
    controller: Program | None
    webhook: Program | None
    tag: str
    manager: str
    workflows: dict[str, Version]
    deleting: bool


FACT: Fact[External] = Fact("preflight", "dws")

_WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/{}webhookconfigurations"
_LABELS = {"control-plane": "controller-manager"}
"""What every overlay of dws labels its controller with (config/manager/manager.yaml)."""


def read(cluster: Cluster) -> External:
    """The DWS in the cluster. Raises ClusterError."""
    crd = cluster.get(f"{installed.CRDS}/{names.WORKFLOWS}")
    service = _service(cluster, crd)
    namespace = service["namespace"] if service else names.NAMESPACE
    deployments = _items(cluster, f"/apis/apps/v1/namespaces/{namespace}/deployments")
    controller = _controller(deployments)
    return {
        "namespace": namespace,
        "controller": _program(controller),
        "webhook": _program(_webhook(cluster, service, deployments)),
        "tag": installed.image_tag(controller) if controller else "",
        "manager": managers.manager(controller) if controller else "",
        "workflows": crd_versions.described(dict(crd)) if crd else {},  # type: ignore[typeddict-item]  # its text is for 3.6
        "deleting": bool(crd and "deletionTimestamp" in crd["metadata"]),
    }


def _items(cluster: Cluster, path: str) -> list[Json]:
    """The objects of a collection; none where the API has no such collection."""
    items: list[Json] = (cluster.get(path) or {"items": []})["items"]
    return items


def _service(cluster: Cluster, crd: Json | None) -> Json | None:
    """The Service of DWS's webhook: {"namespace", "name"}; None where nothing names one."""
    conversion = dws_objects.part(dict(crd or {}), "spec", "conversion", "webhook", "clientConfig", "service")
    return conversion or next(_admission_services(cluster), None)


def _admission_services(cluster: Cluster) -> Iterator[Json]:
    """The Services that webhook configurations name for Workflows; not the one of our own that closes DWS."""
    for kind in ("mutating", "validating"):
        for configuration in _items(cluster, _WEBHOOKS.format(kind)):
            if configuration["metadata"]["name"] == closing.NAME:
                continue
            for webhook in configuration.get("webhooks") or ():
                service = webhook["clientConfig"].get("service")
                if service and any(map(_is_for_workflows, webhook.get("rules") or ())):
                    yield service


def _is_for_workflows(rule: Json) -> bool:
    return names.GROUP in (rule.get("apiGroups") or ()) and "workflows" in (rule.get("resources") or ())


def _controller(deployments: Sequence[Json]) -> Json | None:
    """The Deployment of the controller: the one with the usual name, or with the usual label and an image called dws."""
    labelled = [
        deployment
        for deployment in deployments
        if _LABELS.items() <= _pod_labels(deployment).items() and installed.image_tag(deployment)
    ]
    return next(iter([*_named(deployments, names.CONTROLLER), *labelled]), None)


def _webhook(cluster: Cluster, service: Json | None, deployments: Sequence[Json]) -> Json | None:
    """The Deployment whose pods the Service selects; without one, that with the usual name."""
    path = f"/api/v1/namespaces/{service['namespace']}/services/{service['name']}" if service else ""
    existing = cluster.get(path) if path else None
    selector = ((existing or {}).get("spec") or {}).get("selector")
    selected = [item for item in deployments if selector and selector.items() <= _pod_labels(item).items()]
    return next(iter([*selected, *_named(deployments, names.WEBHOOK)]), None)


def _named(deployments: Sequence[Json], name: str) -> list[Json]:
    return [deployment for deployment in deployments if deployment["metadata"]["name"] == name]


def _pod_labels(deployment: Json) -> Json:
    labels: Json = (deployment["spec"]["template"].get("metadata") or {}).get("labels") or {}
    return labels


def _program(deployment: Json | None) -> Program | None:
    if deployment is None:
        return None
    return {
        "name": deployment["metadata"]["name"],
        "ready": readiness.ready(deployment),
        "pods": readiness.ready_pods(deployment),
        "images": manifest_comparison.image_names(deployment),
    }


def version(ctx: StepContext) -> str:
    """The version of DWS that the site file asks for. Where somebody else deploys DWS, the release that is there; "" where the
    image's tag names none, or before DWS was looked at."""
    if not ctx.site.external:
        return ctx.site.versions.dws
    seen = ctx.facts.one_or_none(FACT)
    return installed.release(seen["tag"]) if seen else ""


def version_text(seen: External) -> str:
    """This DWS in words: "DWS 0.1.17, delivered by Argo CD application dws, in the namespace dws-system; it serves ..."."""
    images = seen["controller"]["images"] if seen["controller"] else []
    called = seen["tag"] or (f"with the image {images[0]}" if images else "of an unknown version")
    by = f", delivered by {seen['manager']}" if seen["manager"] else ""
    served = [name for name, version in seen["workflows"].items() if version["served"]]
    return f"DWS {called}{by}, in the namespace {seen['namespace']}; it serves Workflows of {', '.join(served)}"
