"""The network between the API server and the webhooks: which of its parts is broken."""

from __future__ import annotations

from typing import Any

import pytest

from dws_on_csm.commands.doctor import webhook_network, webhook_pods
from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.model.cluster_api import ClusterError
from dws_on_csm.model.step import Facts, StepContext

MASTER = "ncn-m001"
ADDRESS = "10.108.219.94"
CALL = 'Internal error occurred: failed calling webhook "webhook.cert-manager.io": failed to call webhook: Post "https://x/": '
NO_ROUTE = f"{CALL}dial tcp {ADDRESS}:443: connect: no route to host"
LATE = f"{CALL}context deadline exceeded"
LOST = "error trying to reach service: dial tcp 10.32.0.7:9443: i/o timeout"


class Api:
    """The API of a cluster with cert-manager's webhook, whose pod answers, or not: `why`."""

    def __init__(self, why: str, *addresses: dict[str, Any]) -> None:
        self.why, self.addresses = why, [*addresses]

    def get(self, path: str) -> Any:
        """As an API server of Kubernetes 1.33 answers."""
        if path.endswith("/endpoints/cert-manager-webhook"):
            return {
                "subsets": [
                    {"addresses": self.addresses, "ports": [{"name": "https", "port": 10250, "protocol": "TCP"}]}
                ]
            }
        if path.endswith("/services/cert-manager-webhook"):
            return {"spec": {"clusterIP": ADDRESS, "ports": [{"port": 443}]}}
        assert path == "/api/v1/namespaces/cert-manager/pods/https:one:10250/proxy/none"
        if self.why:
            raise ClusterError(503, self.why)
        return None


POD = {
    "ip": "10.32.0.9",
    "nodeName": "ncn-w002",
    "targetRef": {"kind": "Pod", "name": "one", "namespace": "cert-manager"},
}


def read(why: str, *addresses: dict[str, Any]) -> webhook_network.Webhook:
    api: Any = Api(why, *addresses)
    return webhook_network.read(api, "cert-manager", "cert-manager-webhook")


def ctx(ours: str, admission: str) -> StepContext:
    """DWS's webhook with two pods, which are reached unless `ours` says why not; and what the API server says of a Workflow."""
    pods = [webhook_pods.Pod(name=name, worker=f"ncn-w00{number}", why=ours) for number, name in enumerate("ab", 1)]
    installed = {"traces": ["x"], "crds": {}, "unfinished": "", "tag": ""}
    known: dict[str, Any] = {
        "doctor.webhook-pods": {MASTER: pods},
        "deploy.webhook": {MASTER: {"webhook": admission}},
        "preflight.installed": {MASTER: installed},
    }
    return StepContext(load(DEFAULT), Facts(known), MASTER)


@pytest.mark.parametrize(
    ("message", "network"),
    [
        (NO_ROUTE, True),
        (LATE, True),
        (f"{CALL}dial tcp {ADDRESS}:443: connect: connection refused", True),
        (f"{CALL}x509: certificate has expired or is not yet valid", False),
        ("admission webhook denied the request: connection refused", False),
    ],
)
def test_reasons_of_network_are_told_from_others(message: str, network: bool) -> None:
    """A webhook that answers, or has a wrong certificate, is reached."""
    assert webhook_network.failed(message) is network


def test_pods_that_answer_behind_a_service_that_does_not_are_kube_proxys() -> None:
    """The address of the Service in the message, or both webhooks that do not answer in time."""
    for message, admission in ((NO_ROUTE, ""), (LATE, LATE)):
        (found,) = webhook_network.judge(ctx("", admission), read("", POD), message)
        assert found.name == "kube-proxy-away" and ADDRESS in found.text and message in found.text
        assert "`systemctl start kube-proxy` on ncn-m001" in found.fix
        assert "`kubectl -n kube-system get pods -l k8s-app=kube-proxy -o wide`" in found.fix
        assert ("every sbatch" in found.text) is bool(admission)
    assert not webhook_network.judge(ctx("", ""), read("", POD), LATE), "one slow webhook says nothing of kube-proxy"
    assert not webhook_network.judge(ctx("", LATE), read(""), NO_ROUTE), "a Service without pods refuses connections"


def test_pods_that_do_not_answer_are_the_pod_networks() -> None:
    """All workers are named, and what to look at first there."""
    (found,) = webhook_network.judge(ctx(LOST, LATE), read(LOST, POD), LATE)
    assert found.name == "pod-network-broken"
    assert "1 of 1 pods of cert-manager's webhook (one on ncn-w002)" in found.text
    assert "2 of 2 pods of DWS's webhook" in found.text and "every sbatch with #DW lines waits and fails" in found.text
    assert "`sysctl net.ipv4.ip_forward` on ncn-w001, ncn-w002." in found.fix
    assert "`sysctl -w net.ipv4.ip_forward=1` on each of them" in found.fix
    assert not webhook_network.judge(ctx("", LATE), read(LOST, POD), LATE), "DWS's pods are reached"
    assert not webhook_network.judge(ctx(LOST, LATE), read("", POD), LATE), "cert-manager's pods are reached"
