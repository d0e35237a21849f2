"""The plugin's ClusterRole where somebody else deploys DWS (`dws: external`): theirs as it is, or one that this tool makes."""

from __future__ import annotations

from typing import Any

from dws_on_csm.domain import dws_objects, names, plugin_role
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.stages.facts import Role

MARK = {"app.kubernetes.io/managed-by": "dws-on-csm"}
"""The label of a role that this tool made: only that one is removed again."""


def read(cluster: Cluster) -> Role | None:
    """The plugin's ClusterRole: the one that its binding gives already, where that will do, since other Slurms may be at work with
    it; else the one that DWS brings, or that its documentation says to apply; None where there is neither. Raises ClusterError."""
    found = [role for name in names.ROLES if (role := _role(cluster, name))]
    binding = cluster.get(f"{names.RBAC}/clusterrolebindings/{names.BINDING}")
    bound = dws_objects.part(binding or {}, "roleRef", "name")
    kept = [role for role in found if role["name"] == bound and (role["own"] or not plugin_role.lacking(role["rules"]))]
    return next(iter([*kept, *found]), None)


def read_own(cluster: Cluster) -> Role | None:
    """The ClusterRole that this tool made; None where it made none. Raises ClusterError."""
    role = _role(cluster, names.ROLE)
    return role if role and role["own"] else None


def _role(cluster: Cluster, name: str) -> Role | None:
    role = cluster.get(f"{names.RBAC}/clusterroles/{name}")
    if not role:
        return None
    own = MARK.items() <= (role["metadata"].get("labels") or {}).items()
    return {"rules": role.get("rules") or [], "name": name, "own": own}


def own() -> Role:
    """The ClusterRole that this tool makes where DWS brings none: what the plugin needs, and lists of Workflows, which the test job
    asks for."""
    rules: list[dict[str, object]] = [
        {"apiGroups": [names.GROUP], "resources": ["workflows"], "verbs": [*plugin_role.VERBS, "list", "watch"]}
    ]
    return {"rules": rules, "name": names.ROLE, "own": True}


def manifest(role: Role) -> dict[str, Any]:
    """The manifest of a role that this tool makes."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": role["name"], "labels": dict(MARK)},
        "rules": role["rules"],
    }
