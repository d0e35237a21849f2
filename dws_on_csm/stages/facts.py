"""Facts that several rooms read, some of them below the room whose look returns the fact."""

from __future__ import annotations

from typing import Any, TypedDict

from dws_on_csm.model.step import Fact


class ClusterState(TypedDict):
    """The versions of Kubernetes, the API versions of cert-manager, and the workers that take pods."""

    kubernetes: str
    cert_manager: list[str]
    workers: list[str]


class ApiServer(TypedDict):
    """The cluster in the administrator's kubeconfig: its name, its server's URL, the CA that it trusts; and the cluster's CA."""

    name: str
    server: str
    trusts: str
    ca: str


CLUSTER: Fact[ClusterState] = Fact("preflight", "cluster")
API_SERVER: Fact[ApiServer] = Fact("access", "cluster")
KUBECONFIG: Fact[dict[str, Any]] = Fact("access", "kubeconfig")
"""The values of a controller's kubeconfig, and SlurmUser's numbers there: see access/kubeconfig.py."""
