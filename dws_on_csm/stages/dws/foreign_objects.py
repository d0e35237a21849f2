"""Objects of others in DWS's namespace: no rollback removes a namespace that has any."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dws_on_csm.domain import names
from dws_on_csm.model.cluster_api import Cluster, ClusterError
from dws_on_csm.stages.dws import installed

_PASSING = frozenset(
    {
        ("", "endpoints"),
        ("", "events"),
        ("coordination.k8s.io", "leases"),
        ("discovery.k8s.io", "endpointslices"),
        ("events.k8s.io", "events"),
        ("wgpolicyk8s.io", "policyreports"),
    }
)
"""(group, plural) of objects that Kubernetes and other controllers write automatically, and that hold nobody's data."""

_OF_EVERY_NAMESPACE = frozenset(
    {
        "configmaps/istio-ca-root-cert",
        "configmaps/kube-root-ca.crt",
        "configmaps/openshift-service-ca.crt",
        "secrets/webhook-server-cert",  # cert-manager's, for DWS
        "serviceaccounts/default",
    }
)
_LEADER, _TOKEN = "control-plane.alpha.kubernetes.io/leader", "kubernetes.io/service-account.name"

_GONE = (404, 405)


def found(cluster: Cluster, own: Collection[str] = ()) -> list[str]:
    """The objects in DWS's namespace that neither DWS nor this tool made, as PLURAL/NAME; an API that does not respond counts as
    one. Raises ClusterError where discovery fails.

    While DWS is installed, objects called dws-*, and the objects of its kinds, are its own. `own`: labels of more own objects.
    """
    kinds = list(_kinds(cluster))
    with ThreadPoolExecutor(4) as pool:
        objects = [item for listed in pool.map(lambda kind: _listed(cluster, *kind), kinds) for item in listed]
    spaced = {kind for _, _, kind in kinds}
    dws_installed = any(cluster.get(path) for path in installed.TRACES.values())
    left = {
        label
        for label, group, meta in objects
        if label not in own
        and not _automatic(label, meta, spaced)
        and not (dws_installed and (group == names.GROUP or label.partition("/")[2].startswith("dws-")))
    }
    return sorted(left)


def _kinds(cluster: Cluster) -> Iterator[tuple[str, str, str]]:
    """Each kind that objects in a namespace may have, once: the path of its API version, its plural, and KIND.GROUP.

    Of all versions of a group, since the preferred one need not serve all its kinds: CronJob is only in batch/v1beta1 up to
    Kubernetes 1.20. Any version of a kind lists all its objects.
    """
    groups = (cluster.get("/apis") or {"groups": []})["groups"]
    listed = set[tuple[str, str]]()
    for path in ["/api/v1", *(f"/apis/{version}" for group in groups for version in _versions(group))]:
        group = path.split("/")[2] if path != "/api/v1" else ""
        try:
            kinds = (cluster.get(path) or {"resources": []})["resources"]
        except ClusterError:
            yield path, "", ""
            continue
        for kind in kinds:
            # kinds that cannot be deleted, as measurements and reviews, do not count
            served = kind["namespaced"] and "/" not in kind["name"] and {"list", "delete"} <= {*kind["verbs"]}
            if served and (group, kind["name"]) not in listed:
                listed.add((group, kind["name"]))
                yield path, kind["name"], f"{kind['kind']}.{group}"


def _versions(group: Mapping[str, Any]) -> list[str]:
    """The versions of an API group as GROUP/VERSION, the preferred one first."""
    preferred = group["preferredVersion"]["groupVersion"]
    return [
        preferred,
        *(version["groupVersion"] for version in group["versions"] if version["groupVersion"] != preferred),
    ]


def _listed(cluster: Cluster, path: str, plural: str, kind: str) -> Sequence[tuple[str, str, Mapping[str, Any]]]:
    """(label, group, metadata) of each object of a kind in DWS's namespace."""
    group = kind.partition(".")[2]
    if (group, plural) in _PASSING:
        return ()
    try:
        if not plural:
            raise ClusterError(0, path)
        every = cluster.metadata(f"{path}/namespaces/{names.NAMESPACE}/{plural}")
    except ClusterError as error:
        # such objects may exist
        unknown = f"{plural or 'objects'} of {path.split('/', 2)[2]}, which does not respond"
        return () if error.status in _GONE else ((unknown, group, {}),)
    return [(f"{plural}/{meta['name']}", group, meta) for meta in every]


def _automatic(label: str, meta: Mapping[str, Any], spaced: Collection[str]) -> bool:
    """Whether an object is being deleted, is in every namespace, or is deleted with an owner in this one, which counts instead."""
    if "deletionTimestamp" in meta or label in _OF_EVERY_NAMESPACE:
        return True
    notes = meta.get("annotations") or {}
    if _LEADER in notes or (_TOKEN in notes and label.startswith("secrets/")):
        return True
    owners = [
        f"{owner['kind']}.{owner['apiVersion'].rpartition('/')[0]}" for owner in meta.get("ownerReferences") or []
    ]
    return bool(owners) and all(kind in spaced for kind in owners)
