"""etcd, kube-apiserver and our fake DWS as processes on the loopback: an API server without nodes."""

import contextlib
import os
import socket
import subprocess
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from ssl import create_default_context
from typing import Any

import yaml

from lab import go_builds, pki, upstream_fakes
from tests.ssh.server import free_port

# Who logs in with a token of the name, and the groups they are in; RBAC decides what they may do.
USERS = {
    "admin": ("admin", "system:masters"),
    "controller": ("system:serviceaccount:dws-system:dws-controller-manager", "system:serviceaccounts"),
    "webhook": ("system:serviceaccount:dws-system:dws-webhook", "system:serviceaccounts"),
    "slurm-dws": ("slurm-dws", "system:authenticated"),
}


@dataclass(frozen=True)
class Cluster:
    """A running API server, and the folder with kubectl and a kubeconfig for each of USERS.

    `port` is the API server's, `webhook` that of DWS's webhook, both on 127.0.0.1.
    """

    folder: Path
    port: int
    webhook: int
    ca: pki.Pair

    def kubectl(self, *words: str, stdin: str = "", user: str = "admin") -> subprocess.CompletedProcess[str]:
        """Runs kubectl as `user`; 100 s at most."""
        command = [str(self.folder / "bin/kubectl"), f"--kubeconfig={self.folder / user}", *words]
        home = {**os.environ, "HOME": str(self.folder)}
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=100, env=home)

    def workflow(self, name: str) -> dict[str, Any]:
        """The Workflow `name` in the namespace default."""
        shown = self.kubectl("get", "workflow", name, "-o", "yaml")
        assert shown.returncode == 0, shown.stderr
        found: dict[str, Any] = yaml.safe_load(shown.stdout)
        return found

    def until(self, name: str, state: str, status: str) -> dict[str, Any]:
        """Waits (60 s at most for each) until the Workflow shows that state and status."""
        words = (f"--for=jsonpath={{.status.status}}={status}", f"--for=jsonpath={{.status.state}}={state}")
        for word in reversed(words):
            waited = self.kubectl("wait", "workflow", name, word, "--timeout=60s")
            assert waited.returncode == 0, f"{waited.stderr}\n{self.workflow(name)['status']}"
        return self.workflow(name)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """An API server with our DWS's CRDs and webhooks, its controller and its webhook, all ended afterwards."""
    cluster = Cluster(folder, free_port(), free_port(), pki.authority("loopback"))
    with contextlib.ExitStack() as ends:
        _start_api_server(cluster, ends)
        _apply_dws(cluster)
        _start_dws(cluster, ends)
        yield cluster


def _start_api_server(cluster: Cluster, ends: contextlib.ExitStack) -> None:
    folder = cluster.folder
    (folder / "bin").mkdir()
    for name in ("etcd", "kube-apiserver"):
        (folder / "bin" / name).symlink_to(go_builds.kubernetes())
    (folder / "bin/kubectl").symlink_to(go_builds.kubectl())
    _write_pair(folder, "server", pki.issue(cluster.ca, "kube-apiserver", "server", names=["127.0.0.1"]))
    (folder / "ca.crt").write_bytes(cluster.ca.crt)
    tokens = [f'{user},{name},{user},"{group}"' for user, (name, group) in USERS.items()]
    (folder / "tokens").write_text("\n".join(tokens) + "\n")
    for user in USERS:
        (folder / user).write_text(_kubeconfig(cluster, user))
    store, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    etcd = [f"--listen-client-urls={store}", f"--advertise-client-urls={store}", f"--listen-peer-urls={peer}"]
    etcd += [f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}"]
    _start(ends, folder, "etcd", ["bin/etcd", f"--data-dir={folder / 'etcd'}", "--unsafe-no-fsync", *etcd])
    flags = {
        "etcd-servers": store,
        "bind-address": "127.0.0.1",
        "secure-port": str(cluster.port),
        "tls-cert-file": "server.crt",
        "tls-private-key-file": "server.key",
        "token-auth-file": "tokens",
        "authorization-mode": "RBAC",
        "service-account-issuer": "https://kubernetes",
        "service-account-key-file": "server.key",
        "service-account-signing-key-file": "server.key",
        "service-cluster-ip-range": "10.96.0.0/16",
        "disable-admission-plugins": "ServiceAccount",
    }
    _start(ends, folder, "apiserver", ["bin/kube-apiserver", *(f"--{k}={v}" for k, v in flags.items())])
    # the namespace is made by the API server itself, which may be ready before it
    for path in ("readyz", "api/v1/namespaces/default"):
        _await(f"https://127.0.0.1:{cluster.port}/{path}", folder / "apiserver.log", folder / "ca.crt")


def _apply_dws(cluster: Cluster) -> None:
    """Applies what `make deploy OVERLAY=csm` does, but for cert-manager's objects; the webhooks are on the loopback."""
    tree = upstream_fakes.UPSTREAM / "dws/config"
    build = [str(go_builds.kustomize()), "build", str(tree / "csm")]
    rendered = subprocess.run(build, check=True, capture_output=True, text=True, timeout=100).stdout
    objects = [o for o in yaml.safe_load_all(rendered) if o["kind"] not in ("Certificate", "Issuer")]
    for item in objects:
        for client in _webhook_clients(item):
            client["url"] = f"https://127.0.0.1:{cluster.webhook}{client.pop('service')['path']}"
            client["caBundle"] = b64encode(cluster.ca.crt).decode()
    applied = cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))
    assert applied.returncode == 0, applied.stderr
    role = str(tree / "rbac/workload_manager_role.yaml")
    assert cluster.kubectl("apply", "-f", role).returncode == 0
    bind = ("create", "clusterrolebinding", "slurm-dws", "--clusterrole=workload-manager", "--user=slurm-dws")
    assert cluster.kubectl(*bind).returncode == 0
    kinds = [f"crd/{item['metadata']['name']}" for item in objects if item["kind"] == "CustomResourceDefinition"]
    assert cluster.kubectl("wait", *kinds, "--for=condition=Established", "--timeout=60s").returncode == 0


def _webhook_clients(item: dict[str, Any]) -> list[dict[str, Any]]:
    if item["kind"] == "CustomResourceDefinition":
        return [item["spec"]["conversion"]["webhook"]["clientConfig"]]
    return [webhook["clientConfig"] for webhook in item.get("webhooks", [])]


def _start_dws(cluster: Cluster, ends: contextlib.ExitStack) -> None:
    folder = cluster.folder
    certificates = folder / "k8s-webhook-server/serving-certs"
    certificates.mkdir(parents=True)
    _write_pair(certificates, "tls", pki.issue(cluster.ca, "webhook", "server", names=["127.0.0.1"]))
    for mode in ("controller", "webhook"):
        probes = f"127.0.0.1:{free_port()}"
        flags = [f"--mode={mode}", "--metrics-bind-address=0", f"--health-probe-bind-address={probes}"]
        flags += [f"--webhook-port={cluster.webhook}"]
        own = {"KUBECONFIG": str(folder / mode), "TMPDIR": str(folder), "POD_NAMESPACE": "dws-system"}
        _start(ends, folder, mode, [str(upstream_fakes.manager()), *flags], own)
        _await(f"http://{probes}/readyz", folder / f"{mode}.log")
    with contextlib.closing(_connected(cluster.webhook, folder / "webhook.log")):
        pass


def _start(
    ends: contextlib.ExitStack, folder: Path, name: str, command: list[str], own: dict[str, str] | None = None
) -> None:
    log = ends.enter_context((folder / f"{name}.log").open("w"))
    process = subprocess.Popen(command, cwd=folder, env={**os.environ, **(own or {})}, stdout=log, stderr=log)
    ends.callback(process.wait, 60)
    ends.callback(process.kill)


def _await(url: str, log: Path, ca: Path | None = None) -> None:
    context = create_default_context(cafile=str(ca)) if ca else None
    request = urllib.request.Request(url, headers={"Authorization": "Bearer admin"})  # noqa: S310 - ours
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(request, timeout=5, context=context):  # noqa: S310 - ours
                return
        except OSError as problem:  # no connection, no answer in time, or another than is wanted
            assert time.monotonic() < deadline, f"{url}: {problem}\n{log.read_text()[-2000:]}"
            time.sleep(0.05)


def _connected(port: int, log: Path) -> socket.socket:
    deadline = time.monotonic() + 60
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=2)
        except OSError:
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.05)


def _write_pair(folder: Path, name: str, pair: pki.Pair) -> None:
    (folder / f"{name}.crt").write_bytes(pair.crt)
    (folder / f"{name}.key").write_bytes(pair.pem)


def _kubeconfig(cluster: Cluster, user: str) -> str:
    at = {"server": f"https://127.0.0.1:{cluster.port}", "certificate-authority": str(cluster.folder / "ca.crt")}
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "loopback", "cluster": at}],
            "users": [{"name": user, "user": {"token": user}}],
            "contexts": [{"name": user, "context": {"cluster": "loopback", "user": user}}],
            "current-context": user,
        }
    )
