"""kubectl of the worker, mounted into slurmctld's container where its image has none and the site file says `kubectl: hostPath`.

A read-only mount of one file: Kubernetes' own builds of kubectl are static, so they need nothing of the image, whichever C library
it has. Its type is File: on a worker without that file no container starts, and the rollout restores the template.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dws_on_csm.config.site import Pod
from dws_on_csm.model.actions import Action
from dws_on_csm.model.step import ApiLook, Fact, Finding, NotYetKnown, Restart, Step, StepContext, Value
from dws_on_csm.stages import restart_notice
from dws_on_csm.stages.facts import CLUSTER, CONTROLLER
from dws_on_csm.stages.pod import discover, rollout
from dws_on_csm.stages.pod.discover import KUBECTL_VOLUME, Json, PodState

SOURCE = "/usr/bin/kubectl"
"""Where a worker has it: the package of CSM's management nodes, and those of Kubernetes itself."""
FOLDERS = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin")
"""The folders of slurmctld's PATH in which it may appear in the container, the best first."""


def agreed(ctx: StepContext) -> bool:
    """Whether the site file allows the mount for this controller's pod."""
    pod = discover.pod_of(ctx)
    return pod is not None and pod.kubectl == "hostPath"


def refusal(have: PodState) -> str:
    """Why the template must not be edited, in words; "" where it may."""
    workload = have.get("workload")
    if workload is None:
        return "nothing is known of its workload"
    if workload["manager"]:
        return (
            f"{workload['kind']} {workload['name']} is managed by {workload['manager']}, which would revert the mount"
        )
    return ""


def wanted(ctx: StepContext) -> str:
    """The path in the container where the worker's kubectl should be; "" for none. A mount of ours stays as it is: it hides whether
    the image has a kubectl by now. Raises NotYetKnown."""
    have = discover.state(ctx)
    if mounted := have.get("kubectl", ""):
        return mounted
    if not agreed(ctx) or refusal(have):
        return ""
    if ctx.host not in ctx.facts.known(CONTROLLER):
        raise NotYetKnown(CONTROLLER.stage)
    controller = ctx.facts.on(CONTROLLER, ctx.host)
    if controller["kubectl"]:
        return ""
    return f"{_folder(controller['path'])}/kubectl"


def _folder(path: str) -> str:
    """The folder of slurmctld's PATH for kubectl."""
    known = path.split(":")
    return next((folder for folder in FOLDERS if folder in known), FOLDERS[0])


def missing(ctx: StepContext, pod: Pod, text: str) -> Sequence[Finding]:
    """The finding where slurmctld's container has no kubectl, as `text` says; none where the step pod.mount brings the worker's."""
    have = ctx.facts.known(discover.FACT).get(ctx.host)
    mounted = have.get("kubectl", "") if have else ""
    why = refusal(have) if have else "the pod is unknown"
    if agreed(ctx) and not why and not mounted:
        return ()
    which = f"container {pod.container} of {pod.selector} in namespace {pod.namespace}"
    fix = f"give {which} an image with a kubectl of the cluster's version; in its Dockerfile: `{_dockerfile(ctx)}`"
    if mounted:
        text += f", although the worker's is mounted as {mounted}"
    elif agreed(ctx):
        text += f"; kubectl: hostPath has no effect here: {why}"
    elif not why:
        fix += f". Or let this tool mount {SOURCE} of the worker: set kubectl: hostPath of this pod in {ctx.site.path.name}"
    return (Finding("kubectl-missing", text, fix),)


def _dockerfile(ctx: StepContext) -> str:
    """The line for an image's Dockerfile that brings a kubectl of the cluster's version."""
    clusters = list(ctx.facts.known(CLUSTER).values())
    version = clusters[0]["kubernetes"].partition("+")[0].removeprefix("v") if clusters else "VERSION"
    source = f"https://dl.k8s.io/release/v{version}/bin/linux/amd64/kubectl"
    return f"ADD --chmod=0755 {source} /usr/local/bin/kubectl"


def describe(path: str) -> dict[str, Value]:
    """The mount for a difference."""
    return {path: [f"{SOURCE} of the worker, read-only"]} if path else {}


def edits(ctx: StepContext, have: PodState, path: str) -> list[Json]:
    """The edits (see pod_edit.py) that add our mount at `path`; with "" they remove it. Other volumes and mounts stay as they are,
    whoever edits them meanwhile, also where a rollout that failed is undone."""
    pod = discover.pod_of(ctx)
    assert pod is not None
    spec: list[Any] = ["spec", "template", "spec"]
    mounts = [*spec, "containers", {"name": pod.container}, "volumeMounts"]
    volume = {"name": KUBECTL_VOLUME, "hostPath": {"path": SOURCE, "type": "File"}}
    mount = {"name": KUBECTL_VOLUME, "mountPath": path, "readOnly": True}
    changes = (([*spec, "volumes"], have["volumes"], volume), (mounts, have["container_mounts"], mount))
    return [
        {
            "object": rollout.workload(ctx),
            "at": [*at, {"name": KUBECTL_VOLUME}],
            "seen": next((entry for entry in there if entry["name"] == KUBECTL_VOLUME), None),
            "value": wanted if path else None,
        }
        for at, there, wanted in changes
    ]


# --- an undeploy

_FACT: Fact[PodState] = Fact("slurm", "kubectl")


def _look(ctx: StepContext) -> ApiLook:
    pod = discover.pod_of(ctx)
    assert pod is not None
    return _FACT.api(lambda cluster: discover.read(cluster, pod))


def _unmount(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    seen = ctx.facts.on(_FACT, ctx.host)
    return [rollout.action(ctx, "no longer mount the worker's kubectl", edits(ctx, seen, ""))]


def _restart(ctx: StepContext, have: Value, want: Value) -> Restart | None:
    return restart_notice.of_slurmctld(ctx, rollout=rollout.workload_text(ctx)) if have != want else None


UNMOUNTED = Step(
    _FACT.step,
    "pod",
    _look,
    lambda ctx: {},
    _unmount,
    read=lambda ctx, have: describe(have.get("kubectl", "")),
    settle_seconds=lambda site: 30.0,
    side_effect=lambda ctx, have, want: rollout.side_effect(ctx) if have != want else "",
    restarts=_restart,
    window=lambda ctx, have, want: True,
    hint="the pod's template was restored; `kubectl describe` of the pod shows what it waited for",
)
"""The pod's template has no mount of ours: the plugin, which called kubectl, is removed."""
