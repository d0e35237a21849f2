"""The Kubernetes API over SSH, with a real API server, kubectl proxy and sshd."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.kube import proxy
from dws_on_csm.kube.client import Cluster
from dws_on_csm.kube.master_session import MasterSession
from dws_on_csm.model.cluster_api import ClusterError, ClusterSilent
from dws_on_csm.model.errors import LockLost
from dws_on_csm.transport.sudo import Question
from lab import pki
from tests.ssh.conftest import Connect, Master
from tests.ssh.server import Server, free_port
from tests.ssh.sudoers import PASSWORD, hosting
from tests.unit import loopback_cluster
from tests.unit.held_lock import holder
from tests.unit.loopback_cluster import Cluster as ApiServer

One = Callable[..., MasterSession]
pytestmark = pytest.mark.lab


@pytest.fixture(scope="module", params=["fabric", "openssh"])
def transport(request: pytest.FixtureRequest) -> str:
    """Each test holds for both, each with an API server of its own."""
    return str(request.param)


MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, transport: str) -> Iterator[ApiServer]:
    """An API server alone: these tests need no DWS."""
    one = ApiServer(tmp_path_factory.mktemp("api"), free_port(), free_port(), pki.authority("loopback"))
    with ExitStack() as ends:
        loopback_cluster._start_api_server(one, ends)
        yield one


def _master(api: ApiServer, user: str = "admin", context: str = "") -> Master:
    return Master(f"{api.folder / 'bin'}:/usr/bin:/bin", str(api.folder / user), context)


@pytest.fixture
def master(api: ApiServer, server: Server, one: One) -> MasterSession:
    return one(server.config(), role="master", master=_master(api))


@pytest.fixture
def cluster(master: MasterSession) -> Cluster:
    return master.cluster()


def _map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def _await(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)  # what other processes do wakes nobody here


def test_read_and_create(cluster: Cluster) -> None:
    """A created object can be read, a missing one is None, and a dry run changes nothing."""
    assert cluster.create(MAPS, _map("dry", x="1"), dryRun="All")["data"] == {"x": "1"}
    assert cluster.get(f"{MAPS}/dry") is None
    cluster.create(MAPS, _map("made", x="1"))
    made = cluster.get(f"{MAPS}/made")
    assert made is not None and made["data"] == {"x": "1"}
    listed = cluster.get(MAPS, fieldSelector="metadata.name=made")
    assert listed is not None and len(listed["items"]) == 1


def test_refusals_speak_for_the_server(cluster: Cluster) -> None:
    """A refusal has the server's status and message."""
    cluster.create(MAPS, _map("twice"))
    with pytest.raises(ClusterError, match='configmaps "twice" already exists') as caught:
        cluster.create(MAPS, _map("twice"))
    assert caught.value.status == 409
    with pytest.raises(ClusterError, match='namespaces "nowhere" not found') as caught:
        cluster.create("/api/v1/namespaces/nowhere/configmaps", _map("x"))
    assert caught.value.status == 404


def test_apply_converges(cluster: Cluster) -> None:
    """An object is as in its manifest when applied once, again, and after another manager's change."""
    cluster.apply(_map("applied", x="1"))
    cluster.patch(f"{MAPS}/applied", {"data": {"x": "drift", "more": "theirs"}})
    assert cluster.apply(_map("applied", x="1"))["data"] == {"x": "1", "more": "theirs"}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "applied"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
    }
    assert cluster.apply(binding)["metadata"]["managedFields"][0]["manager"] == "dws-on-csm"


def test_only_a_run_with_the_lock_changes_the_cluster(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that paused before its call, and lost the lock meanwhile, changes no object: the master refuses, and names the
    new run. Reads still work; and the next run waits until a running call has ended."""
    monkeypatch.setattr(proxy, "STATE", str(tmp_path))
    cluster.create(MAPS, _map("before"))
    file = tmp_path / "lock/holder"
    file.parent.mkdir()
    file.write_text(holder("run-1"))
    cluster.fence("run-1")
    cluster.create(MAPS, _map("mine", x="1"))
    file.write_text(holder("run-2"))
    large = _map("mine", x="x" * 300_000)  # more than comes at once
    for change in (lambda: cluster.apply(large), lambda: cluster.delete(f"{MAPS}/mine")):
        with pytest.raises(
            LockLost, match=r"lost its lock on the site: ann@admin2 took it with run run-2\. It changes"
        ):
            change()
    found = cluster.get(f"{MAPS}/mine")
    assert found is not None and found["data"] == {"x": "1"}
    file.unlink()
    with pytest.raises(LockLost, match="it is gone from the master"):
        cluster.patch(f"{MAPS}/mine", {"data": {"x": "2"}})
    file.write_text(holder("run-1"))
    assert cluster.patch(f"{MAPS}/mine", {"data": {"x": "2"}})["data"] == {"x": "2"}
    subprocess.run(["flock", "-n", "-x", tmp_path / "busy", "true"], check=True)  # nothing holds it any more


def test_deferred_requests_are_repeated(cluster: Cluster) -> None:
    """Objects are listed right after a change of their CRD, although the API server asks for a later retry (HTTP 429)."""
    widgets = "/apis/example.com/v1/widgets"
    for number in range(10):
        _apply_widgets(cluster, f".metadata.annotations.{number}")
        _await(lambda: cluster.get(widgets) is not None)
        listed = cluster.get(widgets)
        assert listed is not None and listed["items"] == []


def _apply_widgets(cluster: Cluster, column: str) -> None:
    columns = [{"name": "Column", "type": "string", "jsonPath": column}]
    schema = {"openAPIV3Schema": {"type": "object"}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema, "additionalPrinterColumns": columns}
    spec = {"group": "example.com", "scope": "Cluster", "versions": [version]}
    cluster.apply(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "widgets.example.com"},
            "spec": {**spec, "names": {"kind": "Widget", "plural": "widgets"}},
        }
    )


def test_unknown_kind(cluster: Cluster) -> None:
    """A kind that the server does not serve is named."""
    with pytest.raises(ClusterError, match="does not serve the kind Confusion of v1"):
        cluster.apply({"apiVersion": "v1", "kind": "Confusion", "metadata": {"name": "x"}})
    with pytest.raises(ClusterError, match=r"does not serve the kind Thing of example\.com/v1"):
        cluster.apply({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "x"}})


def test_delete_waits_until_it_is_gone(cluster: Cluster) -> None:
    """delete() returns when the object is gone, and accepts a missing one; an object that stays is reported with its finalizers."""
    held = _map("held")
    held["metadata"]["finalizers"] = ["example.com/held"]
    cluster.create(MAPS, held)
    with pytest.raises(ClusterError, match=r"still exists after 1 s \(finalizers: example\.com/held\)"):
        cluster.delete(f"{MAPS}/held", deadline=1)
    with ThreadPoolExecutor(1) as pool:
        gone = pool.submit(cluster.delete, f"{MAPS}/held", 60)
        cluster.patch(f"{MAPS}/held", {"metadata": {"finalizers": None}})
        gone.result(60)
    assert cluster.get(f"{MAPS}/held") is None
    cluster.delete(f"{MAPS}/held")


def test_watch_tells_what_happens(cluster: Cluster) -> None:
    """A watch yields present and new objects, and ends after its seconds."""
    cluster.create(MAPS, _map("watched-before"))
    seen = []
    for event in cluster.watch(MAPS, 30):
        seen.append((event["type"], event["object"]["metadata"]["name"]))
        if seen[-1] == ("ADDED", "watched-before"):
            cluster.create(MAPS, _map("watched-after"))
        if seen[-1] == ("ADDED", "watched-after"):
            break
    assert sum(1 for _ in cluster.watch(MAPS, 5)) >= 2


def test_watch_of_nothing(cluster: Cluster) -> None:
    """A watch of a missing collection is an error; so is waiting for its events."""
    with pytest.raises(ClusterError) as caught:
        list(cluster.watch("/apis/example.com/v1/things", 5))
    assert caught.value.status == 404
    with pytest.raises(ClusterError):
        cluster.await_event("/apis/example.com/v1/things", 5)


def test_event_ends_the_wait(cluster: Cluster) -> None:
    """A wait ends with an event, also with one since the last wait; else after its seconds."""
    assert not cluster.await_event("/api/v1/namespaces/default/secrets", 0.3)
    _await(lambda: _changed(cluster) and cluster.await_event(MAPS, 1))  # from then on it is watched
    timer = threading.Timer(0.3, cluster.apply, (_map("event", x="1"),))
    timer.start()
    began = time.monotonic()
    assert cluster.await_event(MAPS, 60)
    assert time.monotonic() - began < 30
    timer.join()
    cluster.apply(_map("event", x="2"))
    assert cluster.await_event(MAPS, 60)


def _changed(cluster: Cluster) -> bool:
    return bool(cluster.apply(_map("event", now=str(time.monotonic_ns()))))


def test_many_threads_share_a_few_channels(cluster: Cluster, master: MasterSession) -> None:
    """Many parallel requests, with open watches and running scripts, stay within sshd's limit of sessions."""
    cluster.apply(_map("shared", x="y" * 500_000))

    def work(n: int) -> int:
        if n % 4 == 0:
            return int(master.run("echo 500000", deadline=60).out)
        if n % 4 == 1:
            cluster.await_event(MAPS, 0.2)
        found = cluster.get(f"{MAPS}/shared")
        assert found
        return len(found["data"]["x"])

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(work, range(48))) == {500_000}


def test_api_server_that_is_down(api: ApiServer, server: Server, one: One, tmp_path: Path) -> None:
    """A missing API server, a missing kubectl and an invalid kubeconfig are each reported."""
    dead = tmp_path / "kubeconfig"
    dead.write_text((api.folder / "admin").read_text().replace(str(api.port), "1"))
    with pytest.raises(ClusterSilent, match="connection refused"):
        one(server.config(), role="master", master=Master(_master(api).path, str(dead))).cluster().get("/version")
    (tmp_path / "python3").symlink_to("/usr/bin/python3")
    with pytest.raises(ClusterError, match="No such file or directory: 'kubectl'"):
        one(server.config(), role="master", master=Master(str(tmp_path), str(dead))).cluster().get("/version")
    gone = Master(_master(api).path, "/nowhere/admin.conf")
    with pytest.raises(ClusterError, match=r"/nowhere/admin\.conf"):
        one(server.config(), role="master", master=gone).cluster().get("/version")


def test_configured_context_is_used(api: ApiServer, server: Server, one: One) -> None:
    """Another context than the kubeconfig's current one can be used."""
    session = one(server.config(), role="master", master=_master(api, context="nobody"))
    with pytest.raises(ClusterError, match="nobody"):
        session.cluster().get("/version")
    assert one(server.config(), role="master", master=_master(api, context="admin")).cluster().get("/version")


def test_proxy_that_died_is_restarted(cluster: Cluster, master: MasterSession) -> None:
    """When kubectl proxy dies the next request starts another."""
    assert cluster.get("/version")
    socket = cluster._proxy._socket
    master.run(f"kill -KILL $(pgrep -f 'kubectl proxy.*{socket}')", deadline=60)
    _await(lambda: not Path(socket).exists())
    assert cluster.get("/version")


def test_folder_is_root_s_alone_and_goes(
    cluster: Cluster, master: MasterSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The socket is in a folder that only root may enter, and close() removes both."""
    monkeypatch.setattr(proxy, "END", 60.0)
    assert cluster.get("/version")
    folder = Path(cluster._proxy._socket).parent
    assert (folder.stat().st_mode & 0o777, folder.stat().st_uid) == (0o700, 0)
    master.close()
    assert not folder.exists()


def test_warm_starts_the_proxy(master: MasterSession) -> None:
    """After warm() the first request finds a running proxy, and takes its channel, even where it is sent at once."""
    master.warm()
    assert master.cluster().get("/version")
    assert master.commands == 1


def test_no_cache_is_left(server: Server, cluster: Cluster) -> None:
    """kubectl writes nothing into root's home."""
    assert cluster.get("/version")
    assert not (server.folder / "home/.kube").exists()


def test_killed_program_leaves_nothing(api: ApiServer, server: Server, tmp_path: Path) -> None:
    """When this process is killed, the proxy on the master and its folder disappear within seconds."""
    (tmp_path / "config").write_text(server.config())
    program = f"""
import time
from pathlib import Path
from dws_on_csm.runner.connections import connect_all
from dws_on_csm.config.site import Host
from tests.ssh.conftest import Master, Site, Ssh
master = Master({_master(api).path!r}, {str(api.folder / "admin")!r})
site = Site(Ssh(Path({str(tmp_path / "config")!r})), master=master)
(session,) = connect_all(site, [Host("host", "master", "root", False)]).values()
session.cluster().get("/version")
print(session.cluster()._proxy._socket, flush=True)
time.sleep(600)
"""
    client = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert client.stdout
        socket = Path(client.stdout.readline().strip())
        assert socket.is_socket()
    finally:
        client.kill()
        client.wait(60)
    _await(lambda: not socket.parent.exists())
    _await(lambda: not subprocess.run(["pgrep", "-f", str(socket)], capture_output=True, check=False).stdout)


def test_under_sudo(api: ApiServer, connect: Connect, tmp_path: Path) -> None:
    """With sudo the API is reached in the same way, and the password is asked for once."""
    asked: list[Question] = []

    def ask(question: Question) -> str:
        asked.append(question)
        return PASSWORD

    with hosting(tmp_path) as server:
        sessions = connect(server.config(), user="operator", sudo=True, ask=ask, role="master", master=_master(api))
        (session,) = sessions.open()
        cluster = sessions.master(session.host).cluster()
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: cluster.get("/version"), range(8)))
        assert all(found)
        folder = Path(cluster._proxy._socket).parent
        assert folder.stat().st_uid == 0
        sessions.close()
        _await(lambda: not folder.exists())
    assert [question.host for question in asked] == ["host"]
