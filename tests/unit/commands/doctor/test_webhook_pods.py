"""The pods of DWS's webhook, each asked through the API server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from dws_on_csm.commands.doctor import webhook_pods
from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.model.cluster_api import ClusterError, ClusterSilent
from dws_on_csm.model.step import Facts, StepContext

MASTER = "ncn-m001"
TIMEOUT = "error trying to reach service: dial tcp 10.32.0.7:9443: i/o timeout"


class Pods:
    """The API of a cluster with these pods of the webhook: name -> what an answer through the API server raises, or None."""

    def __init__(self, **pods: Exception | None) -> None:
        self.pods = pods
        self.asked: list[str] = []

    def get(self, path: str, **query: str) -> Any:
        """All pods of the webhook; or what one of them says of a path that it does not have."""
        if query:
            assert query == {"labelSelector": "control-plane=webhook"}
            return {"items": [pod(name) for name in self.pods]}
        self.asked.append(path)
        if error := self.pods[path.rpartition("https:")[2].partition(":")[0]]:
            raise error
        return None


def pod(name: str) -> Mapping[str, Any]:
    """One that is ready, but for those named late."""
    ports = [{"name": "webhook-server", "containerPort": 9443}]
    ready = "False" if name == "late" else "True"
    return {
        "metadata": {"name": name},
        "spec": {"nodeName": f"worker-{name}", "containers": [{"ports": ports}, {}]},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


def read(cluster: Pods) -> list[webhook_pods.Pod]:
    look: Any = webhook_pods.CHECK.look(StepContext(load(DEFAULT), Facts({}), MASTER))
    found: list[webhook_pods.Pod] = look.read(cluster)
    return found


def test_each_pod_is_asked_at_its_port() -> None:
    """A pod that answers is reached, whatever it says of the path; one that is not ready is another finding."""
    cluster = Pods(
        a=None,
        b=ClusterError(503, TIMEOUT),
        c=ClusterError(400, "client sent HTTP"),
        d=ClusterError(0, TIMEOUT),
        late=None,
    )
    found = {one["name"]: one["why"] for one in read(cluster)}
    assert found == {"a": "", "b": TIMEOUT, "c": "", "d": TIMEOUT}
    assert cluster.asked[0] == "/api/v1/namespaces/dws-system/pods/https:a:9443/proxy/none"


def test_an_api_server_that_does_not_answer_says_nothing_of_pods() -> None:
    """That is another finding."""
    with pytest.raises(ClusterSilent):
        read(Pods(a=ClusterSilent("no answer")))


def test_the_pod_that_is_not_reached_is_named_with_its_worker() -> None:
    """And how many of all sbatch that concerns."""
    known = {"preflight.installed": {MASTER: {"traces": ["x"], "crds": {}, "unfinished": "", "tag": ""}}}
    ctx = StepContext(load(DEFAULT), Facts(known), MASTER)
    have = read(Pods(a=None, b=ClusterError(503, TIMEOUT)))
    (found,) = webhook_pods.CHECK.judge(ctx, have)
    assert found.name == "webhook-pod-unreachable"
    assert "1 of 2 pods" in found.text and "b on worker-b" in found.text and TIMEOUT in found.text
    assert "spec.nodeName=worker-b`" in found.fix
    assert webhook_pods.CHECK.judge(ctx, read(Pods(a=None))) == ()
    (found,) = webhook_pods.CHECK.judge(ctx, read(Pods(a=ClusterError(503, TIMEOUT), b=ClusterError(503, TIMEOUT))))
    assert "every sbatch with #DW lines waits" in found.text
    assert found.fix.startswith("run `sysctl net.ipv4.ip_forward` on worker-a, worker-b.")
