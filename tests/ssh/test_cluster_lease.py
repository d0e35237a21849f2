"""The cluster's Lease, on a real API server: runs through several masters of one cluster keep each other out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from dws_on_csm.engine import cluster_lease, site_lock
from dws_on_csm.engine.cluster_lease import EXPIRED, PATH, RUN, Lease
from dws_on_csm.engine.site_lock import LEASE_SECONDS, Locked
from dws_on_csm.kube.client import Cluster
from dws_on_csm.model.cluster_api import ClusterError
from dws_on_csm.model.errors import LockLost, Unreachable
from tests.ssh.test_cluster import api, cluster, master  # noqa: F401 - fixtures

pytestmark = pytest.mark.lab


class Clock:
    """The clock of this process, set by a test."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def transport() -> str:
    """The usual transport: a Lease does not depend on it. The API server, which is the module's, asks for this."""
    return "auto"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (site_lock, cluster_lease):
        monkeypatch.setattr(module, "clock", clock)
    return clock


@pytest.fixture
def lease(cluster: Cluster) -> Iterator[Callable[[str, str], Lease]]:  # noqa: F811
    """Makes the Lease of a run through a master; `lost` of it are the reasons for which it was lost."""

    def lease_of(master: str, run: str) -> Lease:  # noqa: F811
        lost: list[str] = []
        lease = Lease(cluster, master, f"{master}-identity", run, lost.append)
        lease.reasons = lost  # type: ignore[attr-defined]
        return lease

    yield lease_of
    cluster.delete(PATH)


def failing(status: int, message: str) -> Lease:
    """The Lease of a run through m2, to which the API server gives this answer."""

    def get(path: str, **query: str) -> None:
        raise ClusterError(status, message)

    return Lease(SimpleNamespace(get=get), "m2", "m2-identity", "run-2", lambda why: None)


def content(cluster: Cluster) -> dict[str, Any]:  # noqa: F811
    lease = cluster.get(PATH)
    assert lease is not None
    return lease


def test_a_run_through_another_master_is_refused(cluster: Cluster, lease: Callable[[str, str], Lease]) -> None:  # noqa: F811
    """By the run's name, its person and its master, and when the Lease would expire; once it is left, the other run gets it."""
    first, other = lease("m1", "run-1"), lease("m2", "run-2")
    first.take()
    with pytest.raises(Locked, match=r"Run run-1 by .* through the master m1 is running") as locked:
        other.take()
    assert LEASE_SECONDS < locked.value.holder.left <= EXPIRED
    first.release()
    assert "holderIdentity" not in content(cluster)["spec"]
    other.take()
    assert content(cluster)["metadata"]["annotations"][RUN] == "run-2"
    assert other.elsewhere and not first.elsewhere  # what it has read before may be old
    assert other.former == ""  # and nobody else believes to have the Lease
    other.keep_records(["user/slurmctld"])
    other.release()
    assert cluster_lease.records_on(cluster, ["user/slurmctld"]) == ("run-2", "m2-identity", True)
    assert cluster_lease.records_on(cluster, ["tenant/slurmctld"]) is None
    again = lease("m2", "run-3")
    again.take()
    assert not again.elsewhere


def test_a_later_run_through_the_same_master_takes_it(cluster: Cluster, lease: Callable[[str, str], Lease]) -> None:  # noqa: F811
    """The lock on that master has kept them apart; the former run does not take it back, nor remove it."""
    former, later = lease("m1", "run-1"), lease("m1", "run-2")
    former.take()
    later.take()
    assert not former.renew() and later.renew()
    with pytest.raises(LockLost, match="took the cluster's Lease with run run-2"):
        former.check()
    assert len(former.reasons) == 1  # type: ignore[attr-defined]
    former.release()
    assert content(cluster)["metadata"]["annotations"][RUN] == "run-2"


def test_an_expired_lease_is_taken_and_its_run_stops(
    cluster: Cluster,  # noqa: F811
    lease: Callable[[str, str], Lease],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the API server's clock alone: the Lease was not renewed for longer than its run would have continued."""
    first, other = lease("m1", "run-1"), lease("m2", "run-2")
    first.take()
    create = cluster.create

    def later(path: str, body: Any, **query: str) -> dict[str, Any]:
        """The API server's answers, from a time in which the Lease has expired."""
        answer = create(path, body, **query)
        stamp = cluster_lease.parse_time(answer["metadata"]["creationTimestamp"]).timestamp() + EXPIRED + 2
        answer["metadata"]["creationTimestamp"] = datetime.fromtimestamp(stamp, UTC).isoformat()
        return answer

    monkeypatch.setattr(cluster, "create", later)
    other.take()
    assert content(cluster)["metadata"]["annotations"][RUN] == "run-2"
    assert other.former == "run-1"
    assert not first.renew()
    with pytest.raises(LockLost, match="through the master m2 took the cluster's Lease"):
        first.check()


def test_a_run_that_cannot_renew_stops_before_another_may_begin(
    cluster: Cluster,  # noqa: F811
    lease: Callable[[str, str], Lease],
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A failed renewal is tried again; when the time is up, and it still fails, the run begins nothing more."""
    first = lease("m1", "run-1")
    first.take()
    patch = cluster.patch

    def refused(path: str, body: Any, **query: str) -> dict[str, Any]:
        raise ClusterError(503, "etcd is down")

    monkeypatch.setattr(cluster, "patch", refused)
    assert not first.renew()
    first.check()
    monkeypatch.setattr(cluster, "patch", patch)
    clock.now += LEASE_SECONDS
    first.check()  # renewed now
    monkeypatch.setattr(cluster, "patch", refused)
    clock.now += LEASE_SECONDS
    with pytest.raises(LockLost, match="etcd is down"):
        first.check()
    assert clock.now < 1000 + LEASE_SECONDS + EXPIRED


def test_what_others_write_into_it_changes_no_holder(cluster: Cluster, lease: Callable[[str, str], Lease]) -> None:  # noqa: F811
    """A label that somebody sets makes another version of it; the run continues with that."""
    first = lease("m1", "run-1")
    first.take()
    cluster.patch(PATH, {"metadata": {"labels": {"x": "y"}}})
    first.renew()
    assert first.renew()
    first.check()
    assert first.reasons == []  # type: ignore[attr-defined]


def test_without_an_api_server_it_is_taken_later(
    cluster: Cluster,  # noqa: F811
    lease: Callable[[str, str], Lease],
    clock: Clock,
) -> None:
    """A repair of a host needs no cluster. Before a later change, when the API answers, another's run is noticed."""

    late = failing(0, "did not answer")
    late.take()
    late.check()
    lease("m1", "run-1").take()
    late._cluster = cluster
    late.check()  # not asked for each change
    clock.now += 60
    with pytest.raises(LockLost, match="Run run-1"):
        late.check()
    late.release()
    assert content(cluster)["metadata"]["annotations"][RUN] == "run-1"


def test_a_run_that_got_it_late_stops_where_another_worked_meanwhile(
    cluster: Cluster,  # noqa: F811
    lease: Callable[[str, str], Lease],
    clock: Clock,
) -> None:
    """The API server did not answer when the run began, and its checks are from before the other run."""

    late = failing(0, "did not answer")
    late.take()
    first = lease("m1", "run-1")
    first.take()
    first.release()
    late._cluster = cluster
    clock.now += 60
    with pytest.raises(LockLost, match="has worked since this run's checks"):
        late.check()


def test_a_refusal_of_the_api_server_is_no_silence(lease: Callable[[str, str], Lease]) -> None:
    """No run begins without the Lease where somebody may not write it."""

    with pytest.raises(Unreachable, match="Lease cannot be taken: leases is forbidden"):
        failing(403, "leases is forbidden").take()
