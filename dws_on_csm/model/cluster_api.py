"""The Kubernetes API for steps and actions: its calls, and its error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from dws_on_csm.model.errors import RemoteError


class Cluster(Protocol):
    """The calls of the Kubernetes API; paths as in the API (`/api/v1/nodes`), objects as parsed JSON."""

    def get(self, path: str, **query: str) -> dict[str, Any] | None:
        """The object or list at `path`; None where there is none (404)."""

    def metadata(self, path: str) -> list[dict[str, Any]]:
        """The metadata of the objects in the collection at `path`. Raises ClusterError, also for 404."""

    def create(self, path: str, body: Mapping[str, Any], **query: str) -> dict[str, Any]:
        """POST; `dryRun="All"` for a server-side dry run. Raises ClusterError with the server's own message."""

    def replace(self, path: str, body: Mapping[str, Any], **query: str) -> dict[str, Any]:
        """PUT of an object that exists; `dryRun="All"` for a server-side dry run. Raises ClusterError."""

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """A JSON merge patch; one with a resourceVersion fails if the object has changed since."""

    def apply(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Server-side apply of one object, field manager dws-on-csm."""

    def delete(self, path: str, deadline: float, uid: str = "", version: str = "") -> None:
        """Delete the object and wait until it is gone; a missing object is fine.

        `uid`, `version`: delete it only while it has this uid and this resourceVersion.
        """

    def await_event(self, path: str, seconds: float) -> bool:
        """Wait until an object below `path` has changed since the last call for this path; False after `seconds`.

        The first call for a path returns True at once.
        """


CONFLICT = 409
"""HTTP status: the object now has another uid or another version than the request names."""


class ClusterError(RemoteError):
    """The API server refused or failed. `status`: the HTTP code (0: not reached); the message is the server's own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


ETCD_FULL_FIX = (
    'on a master run `etcdctl endpoint status -w json` (it prints `"revision":REVISION`), `etcdctl compact REVISION`, `etcdctl '
    "defrag --cluster --command-timeout 60s` and `etcdctl alarm disarm`, each with `--endpoints https://127.0.0.1:2379 --cacert "
    "/etc/kubernetes/pki/etcd/ca.crt --cert /etc/kubernetes/pki/etcd/peer.crt --key /etc/kubernetes/pki/etcd/peer.key`"
)
"""What to do where etcd rejects every change, jobs' too, with `database space exceeded`."""

ETCD_DOWN_FIX = (
    "start etcd on a majority of the masters: with `systemctl start etcd` where it is a unit, as in CSM (`journalctl -u etcd` "
    "shows why it does not run); elsewhere the kubelet starts it, and `crictl ps -a --name etcd` and `journalctl -u kubelet` show "
    "why not"
)
"""What to do where etcd has no majority: the API server then says `timed out` or `no leader`."""

SILENT_FIX = (
    "run `kubectl get --raw /readyz` on the master. If it prints ok, correct master.kubeconfig and master.context in the site "
    "file. Otherwise start the API server: `crictl ps -a --name kube-apiserver` and `journalctl -u kubelet` show why it does "
    "not run. If it runs but hangs, run `crictl stop $(crictl ps -q --name kube-apiserver)`; the kubelet restarts it. If "
    "/readyz says `etcd failed`, restart etcd: `systemctl restart etcd` where it is a unit, as in CSM, otherwise `crictl stop "
    "$(crictl ps -q --name etcd)`. If kubectl names a certificate (x509), `openssl x509 -noout -text -in "
    "/etc/kubernetes/pki/apiserver.crt` shows its names and when it expires. `kubeadm certs renew apiserver` renews it. To add "
    "names, move apiserver.crt and apiserver.key to another folder and run `kubeadm init phase certs apiserver "
    "--apiserver-cert-extra-sans NAMES`, with all names and addresses of the former certificate and the new ones, separated by "
    "commas. Then restart the API server"
)
"""What to do about an API server that does not respond: the same words, whichever command noticed it."""


class ClusterSilent(ClusterError):
    """The API server does not respond to kubectl on the master; `reason` says how that was seen."""

    fix = SILENT_FIX

    def __init__(self, reason: str) -> None:
        super().__init__(0, f"the Kubernetes API does not respond to kubectl on the master: {reason}")
