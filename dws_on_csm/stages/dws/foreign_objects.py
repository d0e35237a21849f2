"""What others have put into DWS's namespace: with anything of theirs in it, no rollback takes it away."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dws_on_csm.domain import names
from dws_on_csm.model.cluster_api import Cluster, ClusterError
from dws_on_csm.stages.dws import installed

_PASSING = frozenset({"endpoints", "endpointslices", "events", "leases", "policyreports"})
"""Kinds of objects that Kubernetes and its like write by themselves, and that hold nothing of anybody."""

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
    """What is in DWS's namespace and belongs to nobody whom this tool knows, as PLURAL/NAME; of an API that does not answer,
    that. Raises ClusterError where nobody says which kinds of objects there are.

    As long as DWS is there, its own things are, too: those called dws-*, and the objects of its kinds. `own`: labels of others.
    """
    kinds = list(_kinds(cluster))
    with ThreadPoolExecutor(4) as pool:
        every = [one for some in pool.map(lambda kind: _listed(cluster, *kind), kinds) for one in some]
    spaced = {kind for _, _, kind in kinds}
    of_dws = any(cluster.get(path) for path in installed.TRACES.values())
    left = {
        label
        for label, group, meta in every
        if label not in own and not _comes_by_itself(label, meta, spaced) and not (of_dws and _dws(label, group))
    }
    return sorted(left)


def _dws(label: str, group: str) -> bool:
    return group == names.GROUP or label.partition("/")[2].startswith("dws-")


def _kinds(cluster: Cluster) -> Iterator[tuple[str, str, str]]:
    """Of each kind that objects in a namespace may have: its API version's path, its plural, and KIND.GROUP."""
    groups = (cluster.get("/apis") or {"groups": []})["groups"]
    for path in ["/api/v1", *(f"/apis/{one['preferredVersion']['groupVersion']}" for one in groups)]:
        group = path.split("/")[2] if path != "/api/v1" else ""
        try:
            kinds = (cluster.get(path) or {"resources": []})["resources"]
        except ClusterError:
            yield path, "", ""
            continue
        for one in kinds:
            # what can't be deleted goes with nothing: measurements, reviews
            if one["namespaced"] and "/" not in one["name"] and {"list", "delete"} <= {*one["verbs"]}:
                yield path, one["name"], f"{one['kind']}.{group}"


def _listed(cluster: Cluster, path: str, plural: str, kind: str) -> Sequence[tuple[str, str, Mapping[str, Any]]]:
    """(label, group, metadata) of each object of a kind in DWS's namespace."""
    group = kind.partition(".")[2]
    if plural in _PASSING:
        return ()
    try:
        if not plural:
            raise ClusterError(0, path)
        every = cluster.metadata(f"{path}/namespaces/{names.NAMESPACE}/{plural}")
    except ClusterError as error:
        # nobody can say that nothing of it is there
        unknown = f"{plural or 'objects'} of {path.split('/', 2)[2]}, which does not answer"
        return () if error.status in _GONE else ((unknown, group, {}),)
    return [(f"{plural}/{one['name']}", group, one) for one in every]


def _comes_by_itself(label: str, meta: Mapping[str, Any], spaced: Collection[str]) -> bool:
    """Whether an object goes anyway, comes with every namespace, or goes with an owner in this one, which counts instead."""
    if "deletionTimestamp" in meta or label in _OF_EVERY_NAMESPACE:
        return True
    notes = meta.get("annotations") or {}
    if _LEADER in notes or (_TOKEN in notes and label.startswith("secrets/")):
        return True
    owners = [f"{one['kind']}.{_group(one['apiVersion'])}" for one in meta.get("ownerReferences") or []]
    return bool(owners) and all(one in spaced for one in owners)


def _group(version: str) -> str:
    return version.rpartition("/")[0]
