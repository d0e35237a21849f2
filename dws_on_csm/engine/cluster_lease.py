"""One run at a time may change a cluster, through whichever of its masters: a Lease in kube-system.

The lock on a master (site_lock.py) keeps the runs apart that go through it. Several masters serve one cluster, each with a lock of
its own; the Lease says which of them counts now. It is renewed as the lock is, and its age is measured by the API server's own
times, which are in `metadata.managedFields`: clocks of other machines do not matter. It stays in the cluster, without a holder, and
says through which master the last run worked.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

from dws_on_csm.engine import site_lock
from dws_on_csm.engine.reach import ClusterLease
from dws_on_csm.engine.site_lock import LEASE_SECONDS, MARGIN, RETRY_SECONDS, Holder, Locked, Renewable, clock, owner
from dws_on_csm.model.actions import STATE
from dws_on_csm.model.cluster_api import CONFLICT, ETCD_FULL_FIX, Cluster, ClusterError
from dws_on_csm.model.errors import RemoteError, Unreachable
from dws_on_csm.model.printable import plain_line

NAME = "dws-on-csm"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
PATH = f"{LEASES}/{NAME}"
RUN, OWNER, MASTER = "dws-on-csm/run", "dws-on-csm/owner", "dws-on-csm/master"
"""Annotations of the Lease, for people: the run, user and machine of its process, and the master as the site file names it."""
LAST = "dws-on-csm/last-master"
"""The annotation that says which master the last run used; it stays when the holder is gone."""
RECORDS = "dws-on-csm/records-"
"""How the annotations begin that say which master has the records of a site's runs: one for each of its controllers, since sites
share a cluster. A digest of the controller follows; the value is "RUN MASTER CONTROLLER", for the last run that changed something.
A run that only verifies does not move them."""
UNSAID = "dws-on-csm/records"
"""The annotation, "RUN MASTER", of the last run of a version of this tool that did not say which site's records it left, nor
whether it left any."""
MARKS = "dws-on-csm/marks-records"
"""The annotation that names the last run of a version that says that: a run after it, which LAST is then of, was of another one."""

EXPIRED = 1800
"""Seconds without a renewal after which a run through another master may take the Lease: its holder stops long before that, but a
script that it had begun on its master may run on until its own deadline. A run through the same master does not have to wait."""

GIVE_BACK = 10.0
"""Seconds in which a run gives the Lease back: an API server that does not answer would hold its end up for more than a minute. A
Lease that was not given back keeps nobody waiting who uses the same master; for others it expires."""

SILENT = (0, 502, 503, 504)
"""HTTP statuses of an API server that does not answer; every other error is an answer, and no run begins without the Lease then."""

_HAS_RUN = f"[ ! -e {STATE}/before/{{run}} ] || echo yes\n"

_IDENTITY = (
    "uname -n; cat /etc/machine-id 2>/dev/null || :\n[ -s /etc/machine-id ] || cat /proc/sys/kernel/random/boot_id\n"
)


class Lease(Renewable, ClusterLease):
    """The cluster's Lease for `run`, as far as this process knows.

    An API server that does not answer keeps nobody from hosts that need no cluster: then the Lease is taken before a later change.
    """

    expired = "the cluster's Lease could not be renewed for {:.0f} s ({})"

    def __init__(self, cluster: Cluster, master: str, identity: str, run: str, tell: Callable[[str], None]) -> None:
        super().__init__(master, tell, clock())
        self.elsewhere = False
        self.former = ""
        self._notes = {RUN: run, OWNER: owner(), MASTER: master, LAST: identity, MARKS: run}
        self._marks: dict[str, str] = {}
        """Where the records are from this run on. Never written by the request that takes the Lease, since only its answer shows
        whether a run through another master has worked meanwhile."""
        self._cluster, self._master, self._identity, self._run = cluster, master, identity, run
        self._version = ""
        """Of the Lease as this run wrote it last; "" before it was taken."""
        self._retry = 0.0

    def keep_records(self, controllers: Collection[str]) -> None:
        self._marks = {record_key(name): f"{self._run} {self._identity} {name}" for name in controllers}
        self._claim()

    def _claim(self) -> None:
        if self._version and self._marks:
            self.renew()  # where that fails, each later renewal says it again

    def take(self) -> None:
        """Take the Lease. An API server that does not answer is asked later.

        Raises Locked where a run through another master holds it, and Unreachable where the API server refuses.
        """
        with self._renewing:
            asked = clock()
            try:
                self._version = self._taken()
                self._until = asked + LEASE_SECONDS - MARGIN
                if self.elsewhere and self._retry:  # the looks of this run were made before it had the Lease
                    self.lose("a run through another master has worked since this run's checks")
            except ClusterError as error:
                if error.status not in SILENT:
                    fix = f"allow the administrator's kubeconfig there to write {PATH}, or correct what refuses it"
                    if error.status >= 500:
                        fix = "correct what the API server names. If it is `database space exceeded`, etcd is full: it rejects "
                        fix += f"every change, for jobs too. Then {ETCD_FULL_FIX}"
                    raise Unreachable(self._master, f"the cluster's Lease cannot be taken: {error}", fix) from error
                self._retry = asked + RETRY_SECONDS

    def check(self) -> None:
        if not self.lost and not self._version and clock() >= self._retry:
            try:
                self.take()
            except (Locked, Unreachable) as error:
                self.lose(str(error))
            self._claim()
        super().check()

    def _send_renewal(self) -> str:
        if not self._version:
            return ""  # check() takes it
        try:
            self._version = self._patched(self._version, self._marks)
        except ClusterError as error:
            if error.status == CONFLICT and (taker := self._taker()):
                self.lose(taker)
            return str(error)
        return ""

    def release(self) -> None:
        """Give the Lease back, if it is still this run's."""
        self.over.set()
        with self._renewing:
            if self._version and not self.lost:
                meta = {"resourceVersion": self._version, "annotations": self._marks}
                self._cluster.patch(PATH, {"metadata": meta, "spec": {"holderIdentity": None}})

    def _taken(self) -> str:
        """Take the Lease and return its version. Raises Locked, ClusterError."""
        for _ in range(3):  # another run may take it or release it in between
            lease = self._cluster.get(PATH)
            try:
                self._notes[UNSAID] = _unsaid(_annotations(lease))
                if lease is None:
                    return _version(self._cluster.create(LEASES, self._body()))
                last = lease["metadata"].get("annotations", {}).get(LAST, self._identity)
                if (left := self._left(lease)) > 0:
                    raise Locked(self._holder(lease, left))
                version = self._patched(_version(lease))
                self.elsewhere = last != self._identity
                if self.elsewhere and lease.get("spec", {}).get("holderIdentity"):
                    self.former = self._holder(lease, 0).run
                return version
            except ClusterError as error:
                if error.status != CONFLICT:
                    raise
        raise ClusterError(CONFLICT, f"{PATH} changes all the time")

    def _left(self, lease: dict[str, Any]) -> int:
        """Seconds until this run may take the Lease; 0 where that is now."""
        if lease.get("spec", {}).get("holderIdentity") in (None, "", self._identity):
            return 0  # the lock on that master keeps its runs apart
        renewed = [parse_time(entry["time"]) for entry in lease["metadata"].get("managedFields", []) if "time" in entry]
        if not renewed:
            return 0
        trial = self._body()
        trial["metadata"] = {"generateName": f"{NAME}-", "namespace": "kube-system"}
        now = parse_time(self._cluster.create(LEASES, trial, dryRun="All")["metadata"]["creationTimestamp"])
        return max(0, round(EXPIRED - (now - max(renewed)).total_seconds()))

    def _holder(self, lease: dict[str, Any], left: int) -> Holder:
        notes = lease["metadata"].get("annotations", {})
        run, user, master = (plain_line(notes.get(key, "?"))[:100] for key in (RUN, OWNER, MASTER))
        return Holder(f"{user} through the master {master}", 0, run, left)

    def _taker(self) -> str:
        """Who has the Lease instead of this run; "" where it is still this run's, in another version, which counts from now on."""
        try:
            lease = self._cluster.get(PATH)
        except ClusterError:
            return ""
        if lease and lease["metadata"].get("annotations", {}).get(RUN) == self._run:
            self._version = _version(lease)
            return ""
        if not lease:
            return "the cluster's Lease is gone"
        holder = self._holder(lease, 0)
        return f"{holder.owner} took the cluster's Lease with run {holder.run}"

    def _patched(self, version: str, marks: Mapping[str, str] | None = None) -> str:
        body = self._body()
        body["metadata"]["resourceVersion"] = version
        body["metadata"]["annotations"].update(marks or {})
        return _version(self._cluster.patch(PATH, body))

    def _body(self) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": self._identity, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now}
        meta = {"name": NAME, "namespace": "kube-system", "annotations": dict(self._notes)}
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}


@contextmanager
def hold(session: Any, cluster: Cluster, run: str, tell: Callable[[str], None]) -> Iterator[Lease]:
    """Hold the cluster's Lease for the master of `session` while the `with` lasts.

    Raises what Lease.take() and session.run() raise.
    """
    lease = Lease(cluster, session.host, identity(session), run, tell)
    lease.take()
    threading.Thread(target=lease.keep, daemon=True, name="lease").start()
    try:
        yield lease
    finally:
        give_back(lease)


def give_back(lease: Lease, seconds: float = GIVE_BACK) -> None:
    """Give the Lease back; where that takes longer than `seconds`, the run ends without it."""

    def release() -> None:
        with suppress(RemoteError):  # then it expires
            lease.release()

    releasing = threading.Thread(target=release, daemon=True, name="lease-release")
    releasing.start()
    releasing.join(seconds)


class Records(NamedTuple):
    """Which master has the records of a site's runs.

    run      the last of them; "" where unknown
    master   the master's identity()
    certain  False: what is known is a run that did not say for which site it was, nor whether it left records
    """

    run: str
    master: str
    certain: bool


def records_on(cluster: Cluster, controllers: Collection[str]) -> Records | None:
    """Which master has the records of the runs of the site with these controllers; None where no run has left any. Raises
    ClusterError."""
    notes = _annotations(cluster.get(PATH))
    every = [_records(notes[key], True) for key in map(record_key, controllers) if key in notes]
    if unsaid := _unsaid(notes):
        every.append(_records(unsaid, False))
    return max(every, default=None)


def _annotations(lease: Mapping[str, Any] | None) -> Mapping[str, str]:
    return ((lease or {}).get("metadata") or {}).get("annotations") or {}


def record_key(controller: str) -> str:
    """The annotation's key for a controller, whose name may have characters that a key may not."""
    return RECORDS + hashlib.sha256(controller.encode()).hexdigest()[:16]


def _records(value: str, certain: bool) -> Records:
    run, _, rest = value.partition(" ")
    return Records(run, rest.partition(" ")[0], certain)


def _unsaid(notes: Mapping[str, str]) -> str:
    """What UNSAID is to say after the last run."""
    if LAST not in notes or notes.get(MARKS) == notes.get(RUN, ""):
        return notes.get(UNSAID, "")
    return f"{notes.get(RUN, '')} {notes[LAST]}"


def has_run(session: Any, run: str) -> bool:
    """Whether the master of `session` has the records of a run. Raises what session.run() raises."""
    if not site_lock.RUN.fullmatch(run):
        return False
    return bool(session.run(_HAS_RUN.format(run=run), deadline=30.0).out)


def machine(identity: str) -> str:
    """What the master of this identity calls itself, for people."""
    return plain_line(identity.rpartition("-")[0])[:64]


def identity(session: Any) -> str:
    """A name of this master that no other machine has; the machine's own id is not shown elsewhere (machine-id(5))."""
    answer = session.run(_IDENTITY, deadline=30.0)
    name = re.sub(r"[^A-Za-z0-9.-]", "", answer.out.decode(errors="replace").partition("\n")[0])[:64]
    return f"{name}-{hashlib.sha256(b'dws-on-csm' + answer.out).hexdigest()[:16]}"


def _version(lease: dict[str, Any]) -> str:
    return str(lease["metadata"]["resourceVersion"])


def parse_time(text: str) -> datetime:
    """A time of Kubernetes. Raises ValueError."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
