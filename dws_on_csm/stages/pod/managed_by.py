"""Who keeps an object of the cluster as it is: releases and deliveries that put back what is changed in it by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MARKS = (
    ("labels", "helm.toolkit.fluxcd.io/name", "Flux HelmRelease"),  # before Helm's own, which is there too
    ("annotations", "meta.helm.sh/release-name", "Helm release"),
    ("labels", "kustomize.toolkit.fluxcd.io/name", "Flux Kustomization"),
    ("annotations", "argocd.argoproj.io/tracking-id", "Argo CD application"),
    ("labels", "argocd.argoproj.io/instance", "Argo CD application"),
)
"""Where each notes the name of what it keeps, as their own documentation has it."""


def told(meta: Mapping[str, Any]) -> str:
    """By whom the object with this metadata is kept, in words, as its marks say; "" by nobody."""
    for where, key, what in _MARKS:
        if name := (meta.get(where) or {}).get(key):
            return f"{what} {name.partition(':')[0]}"  # Argo CD's mark goes on with the object itself
    if (meta.get("labels") or {}).get("app.kubernetes.io/managed-by") == "Helm":
        return "Helm"
    # one that Argo CD knows by a label which others use as well shows who wrote it
    writers = {entry.get("manager", "") for entry in meta.get("managedFields") or ()}
    return "Argo CD" if any(writer.startswith("argocd-") for writer in writers) else ""
