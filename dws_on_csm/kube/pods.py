"""Which pod of the cluster a pod of the site file is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dws_on_csm.config.site import Pod


def running(cluster: Any, pod: Pod) -> list[Mapping[str, Any]]:
    """The pods that `pod` means, as the API has them: those that run and aren't being ended. Raises ClusterError."""
    path = f"/api/v1/namespaces/{pod.namespace}/pods"
    found = (cluster.get(path, labelSelector=pod.selector) or {"items": []})["items"]
    return [
        one for one in found if one["status"].get("phase") == "Running" and "deletionTimestamp" not in one["metadata"]
    ]
