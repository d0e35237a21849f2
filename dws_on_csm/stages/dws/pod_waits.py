"""What a pod that is not ready waits for: in words that are equal for all pods that wait for the same. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypedDict


class Reason(TypedDict):
    """Why a container waits, and on which worker; a reason of the whole pod has neither."""

    container: str
    worker: str
    text: str


class Lacking(TypedDict):
    """An image that workers lack and cannot get; `sandbox`: containerd needs it for each pod; `why`: its last words;
    `holders`: other nodes, which have it."""

    image: str
    sandbox: bool
    why: str
    workers: list[str]
    holders: list[str]


_PULLS = ("ImagePullBackOff", "ErrImagePull")
_CREATING = "ContainerCreating"
_CRASHES = "CrashLoopBackOff"


def of_pod(text: str) -> Reason:
    """The reason of a whole pod."""
    return {"container": "", "worker": "", "text": text}


def reasons(pod: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> list[Reason]:
    """What the containers of a pod wait for. `events`: those of the type Warning."""
    worker = pod.get("spec", {}).get("nodeName", "")
    return [
        {"container": name, "worker": worker, "text": _text(state, _newest(pod, events, state.get("reason", "")))}
        for name, state in _waiting(pod)
    ]


def is_stuck(pod: Mapping[str, Any]) -> bool:
    """Whether a pod would wait long before it tries again."""
    return any(state.get("reason") in (*_PULLS, _CRASHES) for _, state in _waiting(pod))


def needs_events(pod: Mapping[str, Any]) -> bool:
    """Whether only an event can say why a pod waits: of a pod that is being created, and of an image where the kubelet (before
    Kubernetes 1.32) says only that it waits before it pulls again."""
    return any(
        state.get("reason") == _CREATING or (state.get("reason") in _PULLS and not _pull_error(state))
        for _, state in _waiting(pod)
    )


def _waiting(pod: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for status in pod["status"].get("containerStatuses", []):
        if "waiting" in status["state"]:
            yield status["name"], status["state"]["waiting"]


def _pull_error(state: Mapping[str, Any]) -> str:
    """Why an image was not pulled, as the state of a container says it; "" where it does not."""
    message = str(state.get("message", ""))
    if state.get("reason") == "ErrImagePull":
        return message
    return message.partition("ErrImagePull: ")[2]


def _newest(pod: Mapping[str, Any], events: Sequence[Mapping[str, Any]], reason: str) -> str:
    """The newest warning of the kubelet about a pod: why it is not created, or why an image was not pulled."""
    wanted = _FAILED_PULL if reason in _PULLS else ""
    own = [
        event
        for event in events
        if event["involvedObject"].get("uid") == pod["metadata"].get("uid")
        and "kubelet" in (event.get("source", {}).get("component"), event.get("reportingComponent"))
        and event.get("reason") not in _HARMLESS
        and str(event.get("message", "")).startswith(wanted)
    ]
    if not own:
        return ""
    event = max(own, key=_time)
    message = str(event.get("message", ""))
    return message.partition(": ")[2] if wanted else f"{event.get('reason', '')} {message}"


_HARMLESS = ("MissingClusterDNS", "DNSConfigForming")
"""Warnings after which the kubelet continues with the pod."""

_FAILED_PULL = "Failed to pull image "


def _time(event: Mapping[str, Any]) -> str:
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or "")


def _text(state: Mapping[str, Any], event: str) -> str:
    reason, message = state.get("reason", "waiting"), str(state.get("message", ""))
    if reason == _CRASHES:
        return _CRASHES  # its message has the pod's name and UID, and nothing else
    if reason in _PULLS and (error := _pull_error(state) or event):
        return _shortened(f"ErrImagePull {_without_repetition(error)}")
    if reason == _CREATING and event:
        return _shortened(f"{reason}: {_without_repetition(event)}")
    return _shortened(f"{reason} {message}".strip())


_OF_ONE_POD = (
    (re.compile(r"rpc error: code = \w+ desc = "), ""),
    (re.compile(r' "?[0-9a-f]{64}"?'), ""),
    (re.compile(r"(?:read|dial) (?:udp|tcp) \S+->\S+: "), ""),
    (re.compile(r'failed to pull and unpack image ("[^"]+"): failed to resolve reference \1: '), r"\1: "),
    (re.compile(r'failed to pull image ("[^"]+"): \1: '), r"\1: "),
    (re.compile(r'failed to get sandbox image ("[^"]+"): \1: '), r"failed to get sandbox image \1: "),
)
"""What differs from pod to pod though the cause is the same, and what a message says twice."""


def _without_repetition(text: str) -> str:
    for pattern, instead in _OF_ONE_POD:
        text = pattern.sub(instead, text)
    return text


def _shortened(text: str) -> str:
    """A message of the kubelet with its beginning and its end: the cause is the last part ("...: x509: unknown authority")."""
    return text if len(text) <= 400 else f"{text[:120]} ... {text[-270:]}"


def told(every: Iterable[Reason]) -> list[str]:
    """Each reason once, with the containers and the workers of which it is true."""
    texts: dict[str, tuple[dict[str, None], set[str]]] = {}
    for reason in every:
        containers, workers = texts.setdefault(reason["text"], ({}, set()))
        containers.update(dict.fromkeys(filter(None, [reason["container"]])))
        workers.update(filter(None, [reason["worker"]]))
    return [
        f"{', '.join(containers)}{': ' if containers else ''}{text}{_on(workers)}"
        for text, (containers, workers) in texts.items()
    ]


def _on(workers: Iterable[str]) -> str:
    listed = ", ".join(sorted(workers))
    return f" (on {listed})" if listed else ""


_SANDBOX = re.compile(r'failed to get sandbox image "([^"]+)": (.*)', re.DOTALL)
_PULLED = re.compile(r'ErrImagePull "([^"]+)": (.*)', re.DOTALL)


def lacking(every: Iterable[Reason]) -> list[Lacking]:
    """The images that pods wait for, and that their workers cannot get."""
    images: dict[tuple[str, bool], Lacking] = {}
    for reason in every:
        sandbox, pulled = _SANDBOX.search(reason["text"]), _PULLED.search(reason["text"])
        if not (match := sandbox or pulled):
            continue
        name, why = match[1], match[2]
        item = images.setdefault(
            (name, bool(sandbox)), {"image": name, "sandbox": bool(sandbox), "why": why, "workers": [], "holders": []}
        )
        item["workers"] = sorted({*item["workers"], reason["worker"]} - {""})
    return list(images.values())


def with_holders(item: Lacking, nodes: Sequence[Mapping[str, Any]]) -> Lacking:
    """The same, with the nodes that have the image, as their kubelets say."""
    names = [
        node["metadata"]["name"]
        for node in nodes
        if any(item["image"] in (image.get("names") or ()) for image in node["status"].get("images") or ())
    ]
    return {**item, "holders": [name for name in names if name not in item["workers"]]}
