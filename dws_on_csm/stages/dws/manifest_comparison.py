"""Objects of DWS in the cluster, compared with what the API server makes of their manifests.

Admission policies may rewrite an object (an image's registry or digest) or add to it (a securityContext, labels). So an object
that differs from its manifest is compared with the API server's answers to server-side dry runs of that manifest: as an update of
the object, and as a creation, since a policy may act on one of them only. A policy may also have changed since: a Deployment that
was applied from this manifest, and that nobody has written since, is what admission made of it then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypedDict

from dws_on_csm.domain import dws_objects, names
from dws_on_csm.model.cluster_api import CONFLICT, Cluster, ClusterError
from dws_on_csm.model.step import Fact
from dws_on_csm.stages.dws import manifests

AS_RENDERED, MISSING, DELETED = "as rendered", "missing", "being deleted"
TEMPLATE = "spec.template"
"""Where a Deployment says what its pods are made of."""


def replaces_pods(difference: str) -> bool:
    """Whether an update that ends this difference (`first_difference`) replaces the pods of a Deployment."""
    return difference.startswith(TEMPLATE)


class ObjectState(TypedDict):
    """An object, compared with its manifest.

    state    AS_RENDERED, MISSING, DELETED, or the first difference
    refused  why the API server refused a dry run of the manifest; "" where it accepted, or was not asked
    updated  the first difference that an update would make although it is AS_RENDERED: a policy acted on its creation only, or then
    """

    state: str
    refused: str
    updated: str


APPLIED: Fact[dict[str, ObjectState]] = Fact("deploy", "applied")
"""Label -> the object in the cluster."""

_TRIES = 5
"""How often an object may change between its reading and the dry run of its update."""


def compare(cluster: Cluster, manifest: Mapping[str, Any]) -> ObjectState:
    """The object of this manifest in the cluster. Raises ClusterError where it cannot be read."""
    have = cluster.get(manifests.api_path(manifest))
    if have is None:
        return {"state": MISSING, "refused": "", "updated": ""}
    if "deletionTimestamp" in have["metadata"]:
        return {"state": DELETED, "refused": "", "updated": ""}
    wanted = {key: value for key, value in manifest.items() if key != "status"}
    difference = first_difference(wanted, have)
    # Before the webhook's Deployment is deleted to be created again, it has to be known that it can be created.
    recreated = manifests.label(manifest) == f"Deployment {names.WEBHOOK}"
    if wanted["kind"] == "CustomResourceDefinition" or not (difference or recreated):
        # a CRD's manifest is known here without its schemas
        return {"state": difference or AS_RENDERED, "refused": "", "updated": ""}
    return _after_admission(cluster, wanted, have, difference)


def _after_admission(
    cluster: Cluster, wanted: Mapping[str, Any], have: Mapping[str, Any], difference: str
) -> ObjectState:
    """Compare with the answers to dry runs. `difference`: from the manifest itself."""
    untouched = bool(difference) and _is_as_applied(wanted, have)
    try:
        created = first_difference(answered(wanted, _creation(cluster, wanted)), have)
        updated = first_difference(answered(wanted, _update(cluster, wanted)), have) if difference else ""
    except ClusterError as error:
        state = AS_RENDERED if untouched or not difference else difference
        return {"state": state, "refused": str(error), "updated": ""}
    if not difference or not updated:
        return {"state": AS_RENDERED, "refused": "", "updated": ""}
    if not created or untouched:
        return {"state": AS_RENDERED, "refused": "", "updated": updated}
    return {"state": updated, "refused": "", "updated": ""}


def _is_as_applied(wanted: Mapping[str, Any], have: Mapping[str, Any]) -> bool:
    """Whether a Deployment was applied from this manifest, and nobody has written its spec since. The API server names admission's
    changes after whoever sent the request (metadata.managedFields), here `kubectl apply`."""
    if wanted["kind"] != "Deployment":
        return False
    applied = _applied_manifest(have["metadata"])
    same = isinstance(applied, dict) and not manifests.difference(wanted, applied)
    # `kubectl scale --replicas=0` leaves no trace there, because it leaves the number out
    scaled = have["spec"].get("replicas") != wanted["spec"].get("replicas", 1)
    return same and writers(have) == [APPLIER] and not scaled


def by_apply(have: Mapping[str, Any]) -> bool:
    """Whether an object was made by `kubectl apply`, which leaves the manifest that it sent on the object."""
    return LAST_APPLIED in (have["metadata"].get("annotations") or {})


def writers(have: Mapping[str, Any]) -> list[str]:
    """Who has written an object's spec, as the API server noted it: names of programs."""
    entries = have["metadata"].get("managedFields") or []
    return sorted({str(entry.get("manager", "")) for entry in entries if "f:spec" in (entry.get("fieldsV1") or {})})


def _applied_manifest(meta: Mapping[str, Any]) -> Any:
    """The manifest with which an object was applied; None where that is not known."""
    try:
        return json.loads((meta.get("annotations") or {}).get(LAST_APPLIED, "null"))
    except ValueError:
        return None


def _creation(cluster: Cluster, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a dry run that creates the object under a name that is free."""
    meta = wanted["metadata"]
    collection = manifests.api_path(wanted).rpartition("/")[0]
    body = {**wanted, "metadata": {**meta, "name": f"{meta['name']}-dry-run"}}
    answer = cluster.create(collection, body, dryRun="All")
    return {**answer, "metadata": {**answer["metadata"], "name": meta["name"]}}


def _update(cluster: Cluster, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a dry run that updates the object to its manifest."""
    path = manifests.api_path(wanted)
    for left in reversed(range(_TRIES)):
        present = cluster.get(path)
        version = present["metadata"]["resourceVersion"] if present else ""
        body = {**wanted, "metadata": {**wanted["metadata"], "resourceVersion": version}}
        try:
            return cluster.replace(path, body, dryRun="All")
        except ClusterError as error:
            if error.status != CONFLICT or not left:
                raise
    raise AssertionError  # the last try returns or raises


def answered(manifest: Any, answer: Any) -> Any:
    """The manifest with the values that the API server's answer has in their places. What the server adds elsewhere does not count;
    a list of another length is the server's."""
    if isinstance(manifest, Mapping) and isinstance(answer, Mapping):
        return {key: answered(value, answer.get(key)) for key, value in manifest.items()}
    if isinstance(manifest, list) and isinstance(answer, list) and len(manifest) == len(answer):
        return [answered(*pair) for pair in zip(manifest, answer, strict=True)]
    return answer


def first_difference(wanted: Mapping[str, Any], have: Mapping[str, Any]) -> str:
    """The first difference of an object, "" for none; one that replaces pods is reported before any other."""
    template = dws_objects.part(dict(wanted), *TEMPLATE.split("."))
    pods = manifests.difference({"spec": {"template": template}}, have) if template else ""
    return pods or manifests.difference(wanted, have)


LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""The annotation in which `kubectl apply`, and so `make deploy`, keeps the manifest as it was sent, before admission."""


APPLIER = "kubectl-client-side-apply"
"""The manager of what `kubectl apply` writes (kubectl 1.18 and later)."""


def last_applied(deployment: Mapping[str, Any]) -> Mapping[str, Any]:
    """The Deployment as it was last applied; one without containers where that is unknown."""
    applied = _applied_manifest(deployment["metadata"])
    return {"metadata": {}, "spec": applied.get("spec") or {} if isinstance(applied, dict) else {}}


def image_names(deployment: Mapping[str, Any]) -> list[str]:
    """The images of a Deployment: those that it has, then those with which it was applied."""
    applied = _applied_manifest(deployment["metadata"])
    containers: list[Any] = []
    for item in (dict(deployment), applied):
        containers += dws_objects.part(item, "spec", "template", "spec", "containers") or []
    return [str(dws_objects.part(container, "image") or "") for container in containers]
