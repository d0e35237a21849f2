"""The master's connection, and the Kubernetes API through it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress

from dws_on_csm.kube.client import Cluster
from dws_on_csm.model.cluster_api import ClusterError
from dws_on_csm.transport import sudo
from dws_on_csm.transport.session import Links, Session

PROMPT = 3.0
"""Seconds within which an API server that is well answers its first request; that another one is silent, the next request says."""


class MasterSession(Session):
    """The connection to the master. `context` is the one of its kubeconfig that cluster() uses, "" for the current one."""

    def __init__(
        self,
        host: str,
        links: Links,
        environment: Mapping[str, str],
        password: sudo.Password | None,
        context: str = "",
    ) -> None:
        super().__init__(host, links, environment, password)
        self._context = context
        self._cluster: Cluster | None = None
        self._making = threading.Lock()
        self._warming: threading.Thread | None = None

    def cluster(self) -> Cluster:
        """The Kubernetes API, with the rights of this host's kubeconfig; the same object for every caller. It waits while `warm`
        has the only channel: a request would start another one."""
        if self._warming and self._warming is not threading.current_thread():
            self._warming.join(PROMPT)
        with self._making:
            if self._cluster is None:
                self._cluster = Cluster(self, self._context)
            return self._cluster

    def warm(self) -> threading.Thread:
        """Starts kubectl proxy for cluster() in a thread, ahead of the first request. That request reports errors."""

        def start() -> None:
            with suppress(ClusterError):
                self.cluster().get("/version")

        self._warming = threading.Thread(target=start, daemon=True, name="warm")
        self._warming.start()
        return self._warming

    def close(self) -> None:
        """Closes the connection, kubectl proxy first."""
        if self._cluster:
            self._cluster.close()
        super().close()
