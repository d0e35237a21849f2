"""The cluster's Lease at the end of a run; tests/ssh/test_cluster_lease.py tries it with a real API server."""

from __future__ import annotations

import threading
import time
from typing import Any

from dws_on_csm.engine import cluster_lease


class Silent:
    """A cluster that answers until it is asked to give the Lease back."""

    def __init__(self) -> None:
        self.asked, self.over = threading.Event(), threading.Event()

    def get(self, path: str, **query: str) -> Any:
        """There is no Lease yet."""

    def create(self, path: str, body: Any, **query: str) -> Any:
        """The Lease as it was made."""
        return {"metadata": {"resourceVersion": "1"}}

    def patch(self, path: str, body: Any, **query: str) -> Any:
        """No answer before the test is over."""
        self.asked.set()
        self.over.wait(60)
        return {"metadata": {"resourceVersion": "2"}}


def test_an_api_server_that_does_not_answer_holds_up_no_end_of_a_run() -> None:
    """The Lease expires then; giving it back is tried, for a limited time."""
    cluster = Silent()
    lease = cluster_lease.Lease(cluster, "m1", "m1-id", "r", lambda why: None)  # type: ignore[arg-type]
    lease.take()
    began = time.monotonic()
    cluster_lease.give_back(lease, 0.2)
    assert cluster.asked.is_set() and not cluster.over.is_set()
    assert time.monotonic() - began < 30
    cluster.over.set()
