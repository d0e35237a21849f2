"""What threads that share the Kubernetes API do to each other, without one; what it says is in tests/ssh."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from fabfile.api import ClusterError
from fabfile.cluster import Cluster
from fabfile.session import Session

THING = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "x"}}


def test_a_kind_that_nobody_knows_is_told_to_all_who_ask_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server said is forgotten then, since a CRD may bring the kind: by whoever comes first."""
    both = threading.Barrier(2, timeout=60)

    class Kinds(list[dict[str, Any]]):
        def __iter__(self) -> Iterator[dict[str, Any]]:
            both.wait()
            return super().__iter__()

    cluster = Cluster(cast(Session, None))
    monkeypatch.setattr(cluster, "get", lambda path: {"resources": Kinds()})
    with ThreadPoolExecutor(2) as pool:
        for told in [pool.submit(cluster.path, THING) for _ in range(2)]:
            with pytest.raises(ClusterError, match=r"knows no Thing of example\.com/v1"):
                told.result()
