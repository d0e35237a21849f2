"""The objects that DWS's manifests make, with this site's names and versions; and where a live one differs from its manifest."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from dws_on_csm.model.step import StepContext
from dws_on_csm.stages.dws import cert_manager_overlay, manifests

PLURALS = {
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "CustomResourceDefinition": "customresourcedefinitions",
    "Namespace": "namespaces",
}
"""Kinds without a namespace that the overlay has; the plural of every other is its name in lower case and an s."""


def path(one: Mapping[str, Any]) -> str:
    """Where the API has an object: `/apis/apps/v1/namespaces/dws-system/deployments/dws-webhook`."""
    version, kind, meta = one["apiVersion"], one["kind"], one["metadata"]
    base = f"/apis/{version}" if "/" in version else f"/api/{version}"
    within = f"/namespaces/{meta['namespace']}" if "namespace" in meta else ""
    return f"{base}{within}/{PLURALS.get(kind, kind.lower() + 's')}/{meta['name']}"


def differs(want: Any, have: Any, at: str = "") -> str:
    """The first place where the live object isn't as its manifest says, or "". What the server adds doesn't count."""
    if isinstance(want, Mapping) and isinstance(have, Mapping):
        found = (
            differs(value, have.get(key), f"{at}.{key}") for key, value in want.items() if value not in (None, {}, [])
        )
        return next(filter(None, found), "")
    if isinstance(want, list) and isinstance(have, list) and len(want) == len(have):
        return next(
            filter(None, (differs(w, h, f"{at}[{i}]") for i, (w, h) in enumerate(zip(want, have, strict=True)))), ""
        )
    return "" if want == have else f"{at.lstrip('.')} is {json.dumps(have)}, not {json.dumps(want)}"


def wanted(ctx: StepContext) -> list[dict[str, Any]]:
    """The objects that are to be in the cluster, with their image tags and with the cert-manager version that is served."""
    made = json.dumps(manifests.objects(ctx))
    version = ctx.site.versions.dws
    for name in manifests.asked(ctx):
        base = name.rpartition(":")[0]
        if base.endswith("/dws"):
            made = re.sub(rf'"{re.escape(base)}(:[^"]*)?"', f'"{base}:{version}"', made)
    if cert_manager_overlay.modern(ctx):
        made = made.replace('"cert-manager.io/v1alpha3"', '"cert-manager.io/v1"')
    found: list[dict[str, Any]] = json.loads(made)
    return found


def label(one: Mapping[str, Any]) -> str:
    """How people call an object: `Deployment dws-webhook`."""
    return f"{one['kind']} {one['metadata']['name']}"
