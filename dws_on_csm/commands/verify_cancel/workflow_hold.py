"""Holds Workflows in a state for a moment, with a lab's DWS."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dws_on_csm.stages.verify_cancel import HOLD


class WorkflowHold:
    """The ConfigMap that a lab's DWS obeys; its keys are STATE or WORKFLOW.STATE. Threads may share it. Raises ClusterError."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self._keys: set[str] = set()
        self._lock = threading.Lock()
        self._making = threading.Lock()

    def change(self, add: Sequence[str] = (), drop: Sequence[str] = ()) -> None:
        """Add these keys and drop those."""
        with self._lock:
            self._keys = (self._keys | set(add)) - set(drop)
            data = dict.fromkeys(sorted(self._keys), "held for a moment, to be cancelled")
            self._cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": HOLD, "data": data})

    @contextmanager
    def proposals(self) -> Iterator[None]:
        """Meanwhile hold every new Workflow in Proposal: its name is unknown before it exists."""
        with self._making:
            self.change(add=["Proposal"])
            try:
                yield
            finally:
                self.change(drop=["Proposal"])

    def clear(self) -> None:
        """Release all Workflows, also those that another run holds."""
        with self._lock:
            self._keys.clear()
            self._cluster.delete("/api/v1/namespaces/{namespace}/configmaps/{name}".format(**HOLD))
