"""A cluster that answers and stores nothing, by the Leases of its kubelets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dws_on_csm.commands.doctor import cluster_writes
from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.model.step import Facts, StepContext

MASTER = "ncn-m001"


class Leases:
    """The API of a cluster whose kubelets renewed their Leases so many seconds ago."""

    def __init__(self, *ago: float) -> None:
        self.times = [f"{datetime.now(UTC) - timedelta(seconds=one):%Y-%m-%dT%H:%M:%S.%f}Z" for one in ago]

    def get(self, path: str, **query: str) -> Any:
        """The Leases of the kubelets."""
        assert path.endswith("/namespaces/kube-node-lease/leases")
        return {"items": [{"spec": {"renewTime": time}} for time in self.times]}


@pytest.mark.parametrize(
    ("ago", "workers", "found"),
    [
        ((900.0, 901.0), ["w1"], ["cluster-stores-nothing"]),
        ((900.0, 5.0), ["w1"], []),
        ((900.0,), [], []),  # the workers are away, which is known and stored
        ((), ["w1"], []),
    ],
)
def test_ready_workers_without_a_sign_of_life(ago: tuple[float, ...], workers: list[str], found: list[str]) -> None:
    """If only the kubelets were away, their nodes would not be Ready."""
    ctx = StepContext(load(DEFAULT), Facts({"preflight.cluster": {MASTER: {"workers": workers}}}), MASTER)
    look: Any = cluster_writes.CHECK.look(ctx)
    findings = cluster_writes.CHECK.judge(ctx, look.read(Leases(*ago)))
    assert [one.name for one in findings] == found
    for one in findings:
        assert "has stored nothing since 20" in one.text
        assert "etcdctl endpoint status -w json" in one.fix and "systemctl start etcd" in one.fix
