"""The running pods of the cluster that a pod of the site file stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dws_on_csm.config.site import Pod


def running(cluster: Any, pod: Pod) -> list[Mapping[str, Any]]:
    """The pods that match `pod`, as the API returns them: running ones that are not being deleted. Raises ClusterError."""
    path = f"/api/v1/namespaces/{pod.namespace}/pods"
    items = (cluster.get(path, labelSelector=pod.selector) or {"items": []})["items"]
    return [
        item
        for item in items
        if item["status"].get("phase") == "Running" and "deletionTimestamp" not in item["metadata"]
    ]
