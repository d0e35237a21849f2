"""Scripts in a pod's container: a real sshd as the master, and a kubectl that runs the container's command right there."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dws_on_csm.config.site import Pod
from dws_on_csm.kube.master_session import MasterSession
from dws_on_csm.kube.pod_session import PodSession
from dws_on_csm.model.cluster_api import ClusterError
from dws_on_csm.model.errors import DeadlineExceeded, Unreachable
from tests.ssh.conftest import One
from tests.ssh.server import HANG, Server

pytestmark = pytest.mark.slow


@pytest.fixture(params=["fabric", "openssh"])
def transport(request: pytest.FixtureRequest) -> str:
    """Each test holds for both."""
    return str(request.param)


KUBECTL = """#!/bin/sh
printf '%s\\n' "$*" >>"$(dirname "$0")/calls"
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
"""
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

OpenPod = Callable[..., PodSession]


@pytest.fixture
def open_pod(server: Server, one: One, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenPod:
    """Opens the session of a pod; `names` are the pods that run, or the API's error."""
    (tmp_path / "kubectl").write_text(KUBECTL)
    (tmp_path / "kubectl").chmod(0o755)
    master = one(server.config(), role="master")
    assert isinstance(master, MasterSession)

    def pods(names: Any) -> Any:
        if isinstance(names, Exception):
            raise names
        return {"items": [{"status": {"phase": "Running"}, "metadata": {"name": name}} for name in names]}

    def opened(names: Any = ("slurmctld-0",)) -> PodSession:
        monkeypatch.setattr(master, "cluster", lambda: SimpleNamespace(get=lambda path, **query: pods(names)))
        kubectl = {"PATH": f"{tmp_path}:{PATH}"}
        pod = PodSession("c1", Pod("slurm", "app=slurm", "ctld"), master, {"IN": "the pod"}, kubectl, "site")
        pod.open(HANG)
        return pod

    return opened


def test_a_script_runs_in_the_container(open_pod: OpenPod, tmp_path: Path) -> None:
    """Output, exit code, stdin and environment are the container's, and kubectl gets namespace, pod, container and context."""
    pod = open_pod()
    result = pod.run("cat; echo $IN; echo to stderr >&2; exit 3", b"data\n", deadline=HANG)
    assert (result.out, result.err, result.code) == (b"data\nthe pod\n", b"to stderr\n", 3)
    call = (tmp_path / "calls").read_text()
    assert "--context=site" in call and "exec --stdin --namespace slurm slurmctld-0 --container ctld -- sh -c" in call
    assert (pod.commands, pod.connects) == (0, 0), "they are the master's"
    pod.close()
    assert pod.run("echo on", deadline=HANG).out == b"on\n", "the connection is the master's to close"


def test_a_script_in_a_pod_ends(open_pod: OpenPod) -> None:
    """At its deadline, and by stop()."""
    pod = open_pod()
    with pytest.raises(DeadlineExceeded):
        pod.run("sleep 100", deadline=1.0)
    with ThreadPoolExecutor(1) as pool:
        script = pool.submit(pod.run, "echo on; sleep 60", deadline=HANG, line=lambda text: pod.stop())
        assert script.result(HANG).code == 143


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ((), "no pod with app=slurm runs in namespace slurm"),
        (("a", "b"), "more than one pod with app=slurm runs in namespace slurm: a, b"),
        (ClusterError(500, "etcd is down"), "did not list its pods: etcd is down"),
    ],
)
def test_not_exactly_one_pod(open_pod: OpenPod, names: Any, text: str) -> None:
    """The host is unreachable, with the reason and the fix."""
    with pytest.raises(Unreachable, match=text) as error:
        open_pod(names)
    assert error.value.host == "c1" and error.value.fix
