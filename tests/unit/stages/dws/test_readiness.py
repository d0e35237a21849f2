"""The number of DWS's ready pods, from the status of its Deployments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.domain import names
from dws_on_csm.model.step import Facts, StepContext
from dws_on_csm.stages.dws import manifests, readiness


def a_deployment(wanted: int, generation: int = 1, **status: int) -> dict[str, Any]:
    return {
        "metadata": {"generation": generation},
        "spec": {"replicas": wanted},
        "status": {"observedGeneration": 1, **status},
    }


class Answers:
    """The API of a cluster that has these Deployments and no waiting pod."""

    def __init__(self, **deployments: Mapping[str, Any]) -> None:
        self.deployments = {name.replace("_", "-"): one for name, one in deployments.items()}

    def get(self, path: str, **query: str) -> Any:
        """A Deployment by the last word of its path."""
        return self.deployments.get(path.rpartition("/")[2])


@pytest.mark.parametrize(
    ("status", "generation", "ready"),
    [
        ({}, 1, "0 of 3"),
        ({"replicas": 3, "updatedReplicas": 3}, 1, "0 of 3"),
        ({"replicas": 3, "updatedReplicas": 3, "availableReplicas": 1}, 1, "1 of 3"),
        ({"replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}, 1, "3 of 3"),
        (
            {"replicas": 4, "updatedReplicas": 1, "availableReplicas": 3},
            1,
            "0 of 3",
        ),  # a rolling update: all are former
        ({"replicas": 4, "updatedReplicas": 3, "availableReplicas": 3}, 1, "2 of 3"),
        ({"replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}, 2, "0 of 3"),  # changed, and not yet seen to
    ],
)
def test_pods_of_a_former_form_do_not_count(status: dict[str, int], generation: int, ready: str) -> None:
    """During an update only the pods count that are certainly up to date."""
    found = readiness.AVAILABLE.look(None).read(Answers(dws_webhook=a_deployment(3, generation, **status)))  # type: ignore[arg-type, union-attr]
    assert readiness.pods_text(found["pods"][names.WEBHOOK]) == ready and found["pods"][names.CONTROLLER] is None


@pytest.mark.parametrize(
    ("controller", "webhook", "serves"),
    [(1, 0, False), (0, 3, False), (1, 1, True), (1, 3, True)],
)
def test_a_proof_needs_the_controller_and_an_answering_webhook(controller: int, webhook: int, serves: bool) -> None:
    """A Workflow needs the controller and one pod of the webhook."""
    rendered = [
        {"kind": "Deployment", "metadata": {"name": name}, "spec": {"replicas": count}}
        for name, count in ((names.CONTROLLER, 1), (names.WEBHOOK, 3))
    ]
    place = StepContext(load(DEFAULT), Facts({"workarea.rendered": {"ncn-m001": {"objects": rendered}}}), "ncn-m001")
    have = {"pods": counted((controller, 1), (webhook, 3)), "because": "slow", "stuck": []}
    step = readiness.MINIMUM
    assert step.read is not None
    assert (step.read(place, have) == step.want(place)) == serves


@pytest.mark.parametrize(
    ("controller", "webhook", "unscheduled", "name"),
    [
        ((1, 1), (2, 3), 1, "workers-few"),
        ((1, 1), (1, 3), 2, "workers-few"),
        ((1, 1), (1, 3), 1, ""),  # another pod is still starting
        ((1, 1), (0, 3), 3, ""),
        ((1, 1), None, 0, ""),
        ((0, 1), (2, 3), 1, ""),
        ((1, 1), (2, 3), 0, ""),
    ],
)
def test_pods_that_find_no_worker_can_be_accepted(
    controller: tuple[int, int], webhook: tuple[int, int] | None, unscheduled: int, name: str
) -> None:
    """Only where every pod that lacks waits for a worker, and the rest serves."""
    because = "x: not scheduled: 1 node is cordoned"
    state = {"pods": counted(controller, webhook), "unscheduled": unscheduled, "because": because}
    place = StepContext(load(DEFAULT), Facts({"deploy.available": {"ncn-m001": state}}), "ncn-m001")
    assert readiness.AVAILABLE.read is not None
    have = readiness.AVAILABLE.read(place, state)
    want = {names.CONTROLLER: "1 of 1", names.WEBHOOK: "3 of 3", "because": ""}
    assert readiness.accepted_available(place, have, want) == name


def counted(controller: tuple[int, int], webhook: tuple[int, int] | None) -> dict[str, readiness.Pods | None]:
    """The pods of both Deployments, (ready, wanted) each; None: it is missing."""
    both = {names.CONTROLLER: controller, names.WEBHOOK: webhook}
    return {name: {"ready": pods[0], "wanted": pods[1]} if pods else None for name, pods in both.items()}


@pytest.mark.parametrize(
    ("there", "ready", "uncounted"), [(3, "3 of 3", ""), (1, "1 of 3", "counts 3 available pods, and has 1")]
)
def test_pods_that_are_gone_do_not_count(there: int, ready: str, uncounted: str) -> None:
    """Where kube-controller-manager does not run, the Deployment's number stays as it was."""
    webhook = a_deployment(3, replicas=3, updatedReplicas=3, availableReplicas=3)
    webhook["metadata"]["name"] = names.WEBHOOK
    webhook["spec"]["selector"] = {"matchLabels": {"app": "w"}}
    status = {"conditions": [{"type": "Ready", "status": "True"}]}
    pods = [
        {"metadata": {"name": f"w{number}", "labels": {"app": "w", "x": "y"}}, "status": status}
        for number in range(there)
    ]
    other = {"metadata": {"name": "c", "labels": {"app": "c"}}, "status": status}
    found = readiness.AVAILABLE.look(None).read(Answers(dws_webhook=webhook, pods={"items": [*pods, other]}))  # type: ignore[arg-type, union-attr]
    assert readiness.pods_text(found["pods"][names.WEBHOOK]) == ready and found["uncounted"].endswith(uncounted)
    assert bool(found["uncounted"]) == bool(uncounted)


def test_pods_that_cannot_be_created_are_told_with_the_cause() -> None:
    """A quota, or a policy that rejects pods: no pod exists that could say why it waits."""
    webhook = a_deployment(3)
    why = 'pods "dws-webhook-1" is forbidden: admission webhook "policies" denied the request: no root'
    webhook["status"]["conditions"] = [{"type": "ReplicaFailure", "status": "True", "message": why}]
    found = readiness.AVAILABLE.look(None).read(Answers(dws_webhook=webhook))  # type: ignore[arg-type, union-attr]
    assert found["because"] == f"pods cannot be created: {why}"


@pytest.mark.parametrize(
    ("spec", "status", "why"),
    [
        (
            {"paused": True},
            {},
            "its rollout is paused: run `kubectl -n dws-system rollout resume deployment/dws-webhook`",
        ),
        ({}, {"observedGeneration": 0}, "kube-controller-manager has not processed its last change yet"),
        ({}, {"replicas": 2}, "some pods have not been created yet, or are being deleted"),
        ({}, {"replicas": 3}, "the rollout has not finished"),
    ],
)
def test_pods_that_lack_without_a_word_have_a_reason(spec: dict[str, Any], status: dict[str, int], why: str) -> None:
    """No pod waits and none was rejected: the Deployment says what it can."""
    webhook = a_deployment(3, **status)
    webhook["spec"] |= spec
    webhook["metadata"]["name"] = names.WEBHOOK
    found = readiness.AVAILABLE.look(None).read(Answers(dws_webhook=webhook))  # type: ignore[arg-type, union-attr]
    assert found["because"].startswith(why)


def test_a_number_of_pods_that_admission_made_is_the_wanted_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy may set the number; a Deployment that somebody scaled still lacks pods."""
    manifest = {"kind": "Deployment", "metadata": {"name": names.WEBHOOK}, "spec": {"replicas": 3}}
    monkeypatch.setattr(manifests, "objects", lambda ctx: [manifest])
    for state, wanted in (("as rendered", "2 of 2"), ("spec.replicas is 2, not 3", "3 of 3")):
        applied = {f"Deployment {names.WEBHOOK}": {"state": state, "refused": "", "updated": ""}}
        facts = {"deploy.applied": {"m": applied}, "deploy.available": {"m": {"pods": counted((1, 1), (2, 2))}}}
        ctx = StepContext(load(DEFAULT), Facts(facts), "m")  # type: ignore[arg-type]
        assert readiness.AVAILABLE.want(ctx)[names.WEBHOOK] == wanted


@pytest.mark.parametrize(
    ("created", "conditions", "named"),
    [
        ("2026-01-31T12:00:00Z", [], True),
        ("2026-01-31T12:00:50Z", [], False),  # the scheduler may be about to look at it
        ("2026-01-31T12:00:00Z", [{"type": "PodScheduled", "status": "False", "message": "no room"}], False),
    ],
)
def test_a_pod_that_no_scheduler_has_looked_at(created: str, conditions: list[dict[str, str]], named: bool) -> None:
    """By the time of the kubelets: kube-scheduler says of each pod soon why it finds no worker."""
    webhook = a_deployment(3)
    pod = {"metadata": {"name": "w1", "creationTimestamp": created}, "spec": {}, "status": {"conditions": conditions}}
    leases = {"items": [{"spec": {"renewTime": "2026-01-31T12:01:00.000001Z"}}, {"spec": {}}]}
    found = readiness.AVAILABLE.look(None).read(Answers(dws_webhook=webhook, pods={"items": [pod]}, leases=leases))  # type: ignore[arg-type, union-attr]
    assert found["unplaced"] == ("it has not looked at w1" if named else "")
    assert found["because"] == ("not scheduled: no room" if conditions else NOT_LOOKED_AT)


NOT_LOOKED_AT = "kube-scheduler has not looked at it yet: it is busy, or does not run"


def test_pods_on_a_worker_are_told_before_those_that_find_none() -> None:
    """What can be mended on a worker comes first; the API is asked for events only where a pod does not say itself why it waits."""
    webhook = a_deployment(3)
    state = {"name": "webhook", "state": {"waiting": {"reason": "ErrImagePull", "message": "no room"}}}
    pods = [
        {
            "metadata": {"name": "w1", "uid": "1"},
            "spec": {},
            "status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": "no worker"}]},
        },
        {
            "metadata": {"name": "w2", "uid": "2"},
            "spec": {"nodeName": "ncn-w002"},
            "status": {"containerStatuses": [state]},
        },
    ]
    found = readiness.AVAILABLE.look(None).read(Answers(dws_webhook=webhook, pods={"items": pods}))  # type: ignore[arg-type, union-attr]
    assert found["because"] == "webhook: ErrImagePull no room (on ncn-w002); not scheduled: no worker"
    assert found["stuck"] == ["w2"] and found["unscheduled"] == 1


def test_the_image_that_each_pod_starts_with_is_looked_for_on_the_nodes() -> None:
    """Where it is, it can be copied from."""
    state = {"name": "webhook", "state": {"waiting": {"reason": "ContainerCreating"}}}
    pod = {
        "metadata": {"name": "w1", "uid": "1"},
        "spec": {"nodeName": "ncn-w001"},
        "status": {"containerStatuses": [state]},
    }
    event = {
        "involvedObject": {"uid": "1"},
        "source": {"component": "kubelet"},
        "reason": "FailedCreatePodSandBox",
        "message": 'Failed to create pod sandbox: failed to get sandbox image "a/pause:1": no such host',
    }
    nodes = [
        {"metadata": {"name": name}, "status": {"images": [{"names": [image]}]}}
        for name, image in (("ncn-m001", "a/pause:1"), ("ncn-w001", "a/pause:1"), ("ncn-w002", "a/other:1"))
    ]
    answers = Answers(
        dws_webhook=a_deployment(3), pods={"items": [pod]}, events={"items": [event]}, nodes={"items": nodes}
    )
    (lacking,) = readiness.AVAILABLE.look(None).read(answers)["lacking"]  # type: ignore[arg-type, union-attr]
    assert lacking["workers"] == ["ncn-w001"] and lacking["holders"] == ["ncn-m001"]


@pytest.mark.parametrize(
    ("status", "conditions", "blocked"),
    [
        ({"replicas": 4, "updatedReplicas": 1, "readyReplicas": 3, "availableReplicas": 3}, ["no room"], "dws-webhook"),
        ({"replicas": 4, "updatedReplicas": 1, "readyReplicas": 2, "availableReplicas": 2}, ["no room"], ""),
        (
            {"replicas": 4, "updatedReplicas": 1, "readyReplicas": 3, "availableReplicas": 3},
            [],
            "",
        ),  # it may just have begun
        ({"replicas": 3, "updatedReplicas": 3, "readyReplicas": 2, "availableReplicas": 2}, ["no room"], ""),
    ],
)
def test_an_update_that_finds_no_worker(status: dict[str, int], conditions: list[str], blocked: str) -> None:
    """Each worker has a former pod, which serves and would go only when a new one is ready."""
    webhook = a_deployment(3, **status)
    webhook["metadata"]["name"] = names.WEBHOOK
    pods = {
        "items": [
            {
                "metadata": {"name": "new", "creationTimestamp": "2026-01-31T12:00:00Z"},
                "spec": {} if conditions else {"nodeName": "w1"},
                "status": {
                    "conditions": [{"type": "PodScheduled", "status": "False", "message": text} for text in conditions]
                },
            },
            *(
                {
                    "metadata": {"name": f"w{number}"},
                    "spec": {"nodeName": f"w{number}"},
                    "status": {"conditions": READY},
                }
                for number in range(3)
            ),
        ]
    }
    found = readiness.AVAILABLE.look(None).read(Answers(dws_webhook=webhook, pods=pods))  # type: ignore[arg-type, union-attr]
    assert found["blocked"] == blocked


READY = [{"type": "Ready", "status": "True"}]
