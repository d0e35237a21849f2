"""Who manages an object of the cluster, and so reverts what others change in it: its owner, Helm, Flux or Argo CD. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]


def controlling_owner(resource: Json) -> Json | None:
    """The owner that controls an object (metadata.ownerReferences); None without one."""
    return next((owner for owner in resource["metadata"].get("ownerReferences", ()) if owner.get("controller")), None)


def manager(resource: Json) -> str:
    """The name of what reverts changes made to an object; "" for nothing."""
    meta = resource["metadata"]
    if owner := controlling_owner(resource) or next(iter(meta.get("ownerReferences") or ()), None):
        return f"{owner['kind']} {owner['name']}"
    return managed_by(meta)


_HELM, _HELM_RELEASE = "Helm", "Helm release"


def is_helm(manager: str) -> bool:
    """Whether this manager, as `manager` names it, is Helm itself, which keeps what its chart does not set."""
    return manager == _HELM or manager.startswith(f"{_HELM_RELEASE} ")


_MARKS = (
    ("labels", "helm.toolkit.fluxcd.io/name", "Flux HelmRelease"),  # before Helm's own, which is there too
    ("annotations", "meta.helm.sh/release-name", _HELM_RELEASE),
    ("labels", "kustomize.toolkit.fluxcd.io/name", "Flux Kustomization"),
    ("annotations", "argocd.argoproj.io/tracking-id", "Argo CD application"),
    ("labels", "argocd.argoproj.io/instance", "Argo CD application"),
)
"""Where each manager notes its name on an object, by its own documentation."""


def managed_by(meta: Mapping[str, Any]) -> str:
    """The release or delivery that manages the object with this metadata, by its marks; "" for none."""
    for where, key, manager_kind in _MARKS:
        if name := (meta.get(where) or {}).get(key):
            return f"{manager_kind} {name.partition(':')[0]}"  # Argo CD's mark has the object's own name after it
    if (meta.get("labels") or {}).get("app.kubernetes.io/managed-by") == "Helm":
        return _HELM
    # Argo CD may know an object by a label that others use too: the writers show it then
    writers = {entry.get("manager", "") for entry in meta.get("managedFields") or ()}
    return "Argo CD" if any(writer.startswith("argocd-") for writer in writers) else ""
