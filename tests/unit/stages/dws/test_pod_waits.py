"""What pods that are not ready wait for, from the API's own words: each reason once, with where it is true."""

from __future__ import annotations

from typing import Any

import pytest

from dws_on_csm.stages.dws import pod_waits


def a_pod(number: int, **waiting: str) -> dict[str, Any]:
    """A pod of the webhook on a worker, whose container waits."""
    state = {"name": "webhook", "state": {"waiting": waiting}}
    meta = {"name": f"dws-webhook-{number}", "uid": str(number)}
    return {"metadata": meta, "spec": {"nodeName": f"ncn-w00{number}"}, "status": {"containerStatuses": [state]}}


def an_event(
    number: int, reason: str, message: str, time: str = "2026-12-01T15:34:37Z", component: str = "kubelet"
) -> Any:
    """A warning of a pod."""
    return {
        "involvedObject": {"name": f"dws-webhook-{number}", "uid": str(number)},
        "reason": reason,
        "message": message,
        "source": {"component": component},
        "reportingComponent": component,
        "lastTimestamp": time,
        "eventTime": None,
    }


def reasons(*pods: Any, events: Any = ()) -> list[pod_waits.Reason]:
    """Of all pods."""
    return [reason for pod in pods for reason in pod_waits.reasons(pod, events)]


def test_crashes_are_told_once_without_names_and_uids() -> None:
    """The kubelet's message has the name and UID of each pod, and its own delay."""
    message = "back-off 10s restarting failed container=webhook pod=dws-webhook-{0}_dws-system(c8f09edd-{0})"
    pods = [a_pod(number, reason="CrashLoopBackOff", message=message.format(number)) for number in (2, 1)]
    pods[0]["status"]["containerStatuses"].append({**pods[0]["status"]["containerStatuses"][0], "name": "manager"})
    assert pod_waits.told(reasons(*pods)) == ["webhook, manager: CrashLoopBackOff (on ncn-w001, ncn-w002)"]
    assert pod_waits.lacking(reasons(*pods)) == [] and pod_waits.is_stuck(pods[0])


IMAGE = "registry.local/dws:0.0.20"
PULL = (
    f'failed to pull and unpack image "{IMAGE}": failed to resolve reference "{IMAGE}": '
    "pulling from host registry.local failed with status code [manifests 0.0.20]: 401 Unauthorized"
)
UNAUTHORIZED = "pulling from host registry.local failed with status code [manifests 0.0.20]: 401 Unauthorized"


def test_an_image_that_cannot_be_pulled_is_told_once() -> None:
    """Before a retry and after it, as new kubelets and as older ones say it."""
    pods = [
        a_pod(1, reason="ErrImagePull", message=PULL),
        a_pod(2, reason="ImagePullBackOff", message=f'Back-off pulling image "{IMAGE}": ErrImagePull: {PULL}'),
        a_pod(3, reason="ImagePullBackOff", message=f'Back-off pulling image "{IMAGE}"'),
    ]
    assert [pod_waits.needs_events(pod) for pod in pods] == [False, False, True]
    events = [
        an_event(3, "Failed", f'Failed to pull image "{IMAGE}": rpc error: code = Unknown desc = {PULL}'),
        an_event(3, "Failed", "Error: ImagePullBackOff", "2026-12-01T15:34:59Z"),
    ]
    found = reasons(*pods, events=events)
    assert pod_waits.told(found) == [
        f'webhook: ErrImagePull "{IMAGE}": {UNAUTHORIZED} (on ncn-w001, ncn-w002, ncn-w003)'
    ]
    workers = ["ncn-w001", "ncn-w002", "ncn-w003"]
    assert pod_waits.lacking(found) == [
        {"image": IMAGE, "sandbox": False, "why": UNAUTHORIZED, "workers": workers, "holders": []}
    ]


def test_a_long_message_keeps_its_end() -> None:
    """The cause is at the end of the kubelet's long message."""
    why = "failed to pull and unpack image: " * 20 + "x509: certificate signed by unknown authority"
    (said,) = pod_waits.told(reasons(a_pod(2, reason="ErrImagePull", message=why)))
    assert said.startswith("webhook: ErrImagePull failed to pull") and len(said) < 450
    assert said.endswith("x509: certificate signed by unknown authority (on ncn-w002)")


SANDBOX = (
    'Failed to create pod sandbox: rpc error: code = Unknown desc = failed to get sandbox image "lab.local/pause:1": '
    'failed to pull image "lab.local/pause:1": failed to pull and unpack image "lab.local/pause:1": '
    'failed to resolve reference "lab.local/pause:1": failed to do request: '
    'Head "https://lab.local/v2/pause/manifests/1": dial tcp: lookup lab.local: Temporary failure in name resolution'
)
NO_NAME = (
    'failed to do request: Head "https://lab.local/v2/pause/manifests/1": dial tcp: lookup lab.local: Temporary failure '
    "in name resolution"
)


def test_a_pod_that_is_being_created_has_its_newest_warning() -> None:
    """Of the kubelet, of this very pod; warnings after which it continues do not count."""
    pods = [a_pod(number, reason="ContainerCreating") for number in (1, 2)]
    assert all(map(pod_waits.needs_events, pods))
    events = [
        an_event(1, "FailedMount", 'secret "webhook-server-cert" not found', "2026-12-01T15:29:17Z"),
        *(an_event(number, "FailedCreatePodSandBox", SANDBOX) for number in (1, 2, 3)),
        an_event(1, "MissingClusterDNS", 'pod: "dws-webhook-1". Falling back', "2026-12-01T15:35:01Z"),
        an_event(2, "FailedScheduling", "0/4 nodes", "2026-12-01T15:35:01Z", "default-scheduler"),
    ]
    found = reasons(*pods, events=events)
    (said,) = pod_waits.told(found)
    assert said.startswith(
        "webhook: ContainerCreating: FailedCreatePodSandBox Failed to create pod sandbox: failed to get"
    )
    assert said.count("lab.local/pause:1") == 1 and said.endswith(f"{NO_NAME} (on ncn-w001, ncn-w002)")
    (lacking,) = pod_waits.lacking(found)
    assert (
        lacking["sandbox"]
        and lacking["image"] == "lab.local/pause:1"
        and lacking["workers"] == ["ncn-w001", "ncn-w002"]
    )
    assert pod_waits.told(reasons(pods[0])) == ["webhook: ContainerCreating (on ncn-w001)"]


@pytest.mark.parametrize(
    "message",
    [
        f'Failed to create pod sandbox: failed to start sandbox "{"ab" * 32}": no space left on device',
        f'Failed to create pod sandbox: failed to setup network for sandbox "{"cd" * 32}": no space left on device',
    ],
)
def test_the_numbers_of_sandboxes_are_left_out(message: str) -> None:
    """Each try has its own."""
    pod = a_pod(1, reason="ContainerCreating")
    (said,) = pod_waits.told(reasons(pod, events=[an_event(1, "FailedCreatePodSandBox", message)]))
    assert "abab" not in said and "cdcd" not in said and said.endswith("sandbox: no space left on device (on ncn-w001)")
