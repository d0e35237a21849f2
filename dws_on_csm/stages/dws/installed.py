"""The DWS installation in the cluster, whichever version it has."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict

from dws_on_csm.domain import dws_objects, managers, names
from dws_on_csm.model.cluster_api import Cluster, ClusterError
from dws_on_csm.model.step import Check, Fact, StepContext
from dws_on_csm.stages.dws import manifest_comparison


class Crd(TypedDict):
    """One of DWS's CRDs: its kind, the versions that the API serves, the version in which objects are stored."""

    kind: str
    served: list[str]
    storage: str
    deleting: bool


class Installed(TypedDict):
    """The DWS installation in the cluster.

    tag         of the image of DWS; "" where none is deployed
    unfinished  the tag of the version that an interrupted undeploy was removing; "" if there was none
    namespace   whether DWS's namespace exists
    traces      labels of TRACES that exist
    crds        DWS's CRDs by their plural ("workflows")
    manager     who else delivers its controller, by its marks; "" for nobody
    applied     whether its controller was made by `kubectl apply`, as `make deploy` does it
    writers     the programs that wrote its controller's spec
    """

    tag: str
    unfinished: str
    namespace: bool
    traces: list[str]
    crds: dict[str, Crd]
    manager: str
    applied: bool
    writers: list[str]


FACT: Fact[Installed] = Fact("preflight", "installed")

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
NAMESPACE = f"/api/v1/namespaces/{names.NAMESPACE}"

UNFINISHED = "dws-on-csm/undeploying"
"""An annotation of the namespace while an undeploy runs: the tag of the version that it removes."""

_APPS = f"/apis/apps/v1/namespaces/{names.NAMESPACE}/deployments"
_ADMISSION = "/apis/admissionregistration.k8s.io/v1"
TRACES = {
    f"Deployment {names.CONTROLLER}": f"{_APPS}/{names.CONTROLLER}",
    f"Deployment {names.WEBHOOK}": f"{_APPS}/{names.WEBHOOK}",
    f"Service {names.WEBHOOK}-service": f"{NAMESPACE}/services/{names.WEBHOOK}-service",
    **{
        f"{kind}WebhookConfiguration dws-{kind.lower()}-webhook-configuration": (
            f"{_ADMISSION}/{kind.lower()}webhookconfigurations/dws-{kind.lower()}-webhook-configuration"
        )
        for kind in ("Mutating", "Validating")
    },
}
"""Objects that every version of DWS has besides its CRDs, by label: their paths in the API."""


def read(cluster: Cluster) -> Installed:
    """Return the state of the DWS installation. Raises ClusterError."""
    objects = {label: cluster.get(path) for label, path in TRACES.items()}
    space, controller = cluster.get(NAMESPACE), objects[f"Deployment {names.CONTROLLER}"]
    return {
        "tag": tag(controller, objects[f"Deployment {names.WEBHOOK}"]),
        "unfinished": ((space or {}).get("metadata", {}).get("annotations") or {}).get(UNFINISHED, ""),
        "namespace": space is not None,
        "traces": [label for label, content in objects.items() if content],
        "crds": crds(cluster),
        "manager": managers.manager(controller) if controller else "",
        "applied": controller is None or manifest_comparison.by_apply(controller),
        "writers": manifest_comparison.writers(controller) if controller else [],
    }


def tag(deployment: Mapping[str, Any] | None, webhook: Mapping[str, Any] | None = None) -> str:
    """The tag of the image of DWS in its controller's Deployment; "" if there is none, "unknown" if no container has such an image.

    An admission policy may have rewritten the image (a digest in place of the tag, another registry): then the tag is that of the
    image with which the Deployment was applied. So it is where somebody has set another image in this Deployment alone, and the
    one of the webhook still has the tag that both were applied with: that is no other version of DWS, whose objects are all there.
    """
    if deployment and webhook and not image_tag(deployment).endswith("-dirty"):
        applied = image_tag(manifest_comparison.last_applied(deployment))
        if applied and applied == image_tag(webhook) == image_tag(manifest_comparison.last_applied(webhook)):
            return applied
    return (image_tag(deployment) or "unknown") if deployment else ""


def made_by(dws: Installed) -> str:
    """The programs that made the Deployment of its controller in another way than `make deploy`, in words; "" for none."""
    if not dws["tag"] or dws["applied"]:
        return ""
    return ", ".join(dws["writers"] or ["another program"])


def image_tag(deployment: Mapping[str, Any]) -> str:
    """The tag of the image of DWS in a Deployment; "" if it has no such image."""
    images = map(names.image_parts, manifest_comparison.image_names(deployment))
    return next((tag for repository, tag in images if tag and repository.endswith("/dws")), "")


def crds(cluster: Cluster) -> dict[str, Crd]:
    """DWS's CRDs by their plural ("workflows"). Raises ClusterError.

    A cluster has some hundred CRDs, of some ten kilobytes each: this asks only for those that discovery names.
    """
    group = cluster.get(f"/apis/{names.GROUP}") or {"versions": []}
    answers = [cluster.get(f"/apis/{version['groupVersion']}") or {"resources": []} for version in group["versions"]]
    plurals = sorted({resource["name"].partition("/")[0] for answer in answers for resource in answer["resources"]})
    return {plural: definition for plural in plurals if (definition := crd(cluster, plural))}


def crd(cluster: Cluster, plural: str) -> Crd | None:
    """One of DWS's CRDs; None if it does not exist."""
    definition = cluster.get(f"{CRDS}/{plural}.{names.GROUP}")
    if definition is None:
        return None
    versions = definition["spec"]["versions"]
    return {
        "kind": definition["spec"]["names"]["kind"],
        "served": [version["name"] for version in versions if version["served"]],
        "storage": next(version["name"] for version in versions if version["storage"]),
        "deleting": "deletionTimestamp" in definition["metadata"],
    }


def path(plural: str, crd: Crd) -> str:
    """The path at which the API lists the objects of a CRD: in the version in which they are stored, so that no webhook has to
    convert them, or in another one where that version is not served."""
    version = crd["storage"] if crd["storage"] in crd["served"] else next(iter(crd["served"]), crd["storage"])
    return f"/apis/{names.GROUP}/{version}/{plural}"


def objects(cluster: Cluster, plural: str, definition: Crd) -> list[dict[str, Any]]:
    """All objects of a CRD. Raises ClusterError, also where a CRD exists but its objects cannot be listed."""
    at = path(plural, definition)
    answer = cluster.get(at)
    if answer is None and crd(cluster, plural):
        raise ClusterError(404, f"CRD {plural}.{names.GROUP} exists, but its objects are not served at {at}")
    items: list[dict[str, Any]] = answer["items"] if answer else []
    return [
        {"kind": definition["kind"], "apiVersion": at.split("/", 2)[2].rpartition("/")[0], **item} for item in items
    ]


def name(item: Mapping[str, Any]) -> str:
    """NAMESPACE/NAME; NAME where objects of its kind have no namespace."""
    return dws_objects.name(dict(item))


def contents(cluster: Cluster) -> dict[str, list[dict[str, Any]]]:
    """The objects of all kinds of the installed DWS, by plural. Raises ClusterError."""
    return {plural: objects(cluster, plural, definition) for plural, definition in crds(cluster).items()}


def found(ctx: StepContext) -> Installed:
    """Return the DWS installation as it was before this run changed anything. Raises NotYetKnown if the check was not made."""
    return ctx.facts.one(FACT)


def there(ctx: StepContext) -> bool:
    """Whether any part of DWS was in the cluster, or an undeploy was interrupted."""
    dws = found(ctx)
    return bool(dws["traces"] or dws["crds"] or dws["unfinished"])


def version_text(ctx: StepContext) -> str:
    """The installed version in words, by the tag of its image or by the mark of an interrupted undeploy; "" where no part of
    DWS was in the cluster."""
    dws = found(ctx)
    return (dws["tag"] or dws["unfinished"] or "of an unknown version") if there(ctx) else ""


def version(ctx: StepContext) -> str:
    """The version whose clone undeploys the installed DWS; that of the site file where the image's tag names none."""
    return release(version_text(ctx)) or ctx.site.versions.dws


def release(tag: str) -> str:
    """The version in a tag as dws's Makefile makes them: "0.0.20", "0.0.20-dirty", "0.0.20.3-ab12" -> "0.0.20"; else ""."""
    match = re.fullmatch(r"(\d+\.\d+\.\d+)(\.\d+-[0-9a-f]+)?(-dirty)?", tag)
    return match[1] if match else ""


def as_of(ctx: StepContext, version: str, workarea: str) -> StepContext:
    """The context as if the site file had this version; the facts of the stage `workarea` are those of its clone."""
    site = replace(ctx.site, versions=replace(ctx.site.versions, dws=version))
    own = {f"workarea.{name}": {**ctx.facts.known(Fact[Any](workarea, name))} for name in _WORKAREA}
    return replace(ctx, site=site, facts=replace(ctx.facts, found={**ctx.facts.found, **own}))


_WORKAREA: Sequence[str] = ("clone", "kustomize", "rendered")


def _record(dws: Installed) -> Mapping[str, Any]:
    """What a rollback needs of it."""
    kept = {"tag": dws["tag"], "unfinished": dws["unfinished"], "traces": dws["traces"]}
    return {**kept, "crds": sorted(dws["crds"])}


CHECK = Check(FACT.step, "master", lambda ctx: FACT.api(read), lambda ctx, have: (), _record)
