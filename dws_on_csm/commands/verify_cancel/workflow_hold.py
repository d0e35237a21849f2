"""Workflows that are held in a state for a moment, by the DWS of a lab."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dws_on_csm.stages.cancel import HOLD


class Holds:
    """The ConfigMap that DWS obeys; its keys are STATE or WORKFLOW.STATE. Threads may share it. Raises ClusterError."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self._keys: set[str] = set()
        self._lock = threading.Lock()
        self._making = threading.Lock()

    def change(self, add: Sequence[str] = (), drop: Sequence[str] = ()) -> None:
        """Hold at these keys too, and no longer at those."""
        with self._lock:
            self._keys = (self._keys | set(add)) - set(drop)
            data = dict.fromkeys(sorted(self._keys), "held for a moment, to be cancelled")
            self._cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": HOLD, "data": data})

    @contextmanager
    def proposals(self) -> Iterator[None]:
        """Hold every Workflow that is made meanwhile in Proposal: the name of one is not known before it is there."""
        with self._making:
            self.change(add=["Proposal"])
            try:
                yield
            finally:
                self.change(drop=["Proposal"])

    def clear(self) -> None:
        """Hold nothing, whoever asked for it."""
        with self._lock:
            self._keys.clear()
            self._cluster.delete("/api/v1/namespaces/{namespace}/configmaps/{name}".format(**HOLD))
