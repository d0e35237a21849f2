"""The check `pod`: whether changes to a slurmctld in a pod would survive the pod; each finding names the place to correct."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from dws_on_csm.config.site import Pod
from dws_on_csm.model.step import Check, Finding, StepContext
from dws_on_csm.stages.facts import CONTROLLER
from dws_on_csm.stages.pod.discover import (
    FILE,
    FOLDER,
    KEY,
    PLUGIN,
    SAME,
    SAME_ON_NODE,
    PodState,
    look,
    pod_of,
    sources,
)
from dws_on_csm.stages.pod.generated import Generated
from dws_on_csm.stages.slurm import controller


def judge(ctx: StepContext, have: PodState) -> Sequence[Finding]:
    """The findings about this pod whose changes would not survive it."""
    pod = pod_of(ctx)
    assert pod is not None
    if not have["pod"]:
        return ()  # reported when it was connected to
    findings = [*_workload_findings(ctx, pod, have), *_folder_findings(ctx, have), *_kept_findings(ctx, pod, have)]
    return [*findings, *_state_findings(ctx, have)]


def _workload_findings(ctx: StepContext, pod: Pod, have: PodState) -> Iterator[Finding]:
    workload = have["workload"]
    if workload is None:
        text = f"pod {have['pod']} belongs to {have['owner']}, not to a Deployment or StatefulSet: changes would end with it"
        yield Finding("pod-workload", text, f"run slurmctld in a Deployment or StatefulSet; {_by_hand(pod, have)}")
    elif workload["strategy"] == "OnDelete":
        text = f"{workload['kind']} {workload['name']} has the update strategy OnDelete: a changed template creates no new pod"
        yield Finding("pod-on-delete", text, "set spec.updateStrategy.type to RollingUpdate")
    if ctx.site.slurm.folder != FOLDER:
        text = f"slurm.folder is {ctx.site.slurm.folder}; in a pod it must be {FOLDER}"
        yield Finding("pod-folder", text, f"set slurm.folder to {FOLDER}, and mount it there")


def _folder_findings(ctx: StepContext, have: PodState) -> Iterator[Finding]:
    volume, config_map = have["volume"], have["config_map"]
    if have["subpaths"]:
        text = (
            f"{', '.join(have['subpaths'])} of pod {have['pod']} is mounted with a subPath, so changes never reach it"
        )
        yield Finding(
            "pod-subpath", text, f"mount the whole ConfigMap as {FOLDER}, without subPath, in {_template(ctx, have)}"
        )
    elif volume is None or not sources(volume):
        kind = ", ".join(sorted(set(volume) - {"name"})) if volume else "the image itself"
        text = f"{FOLDER} of pod {have['pod']} comes from {kind}, not from a ConfigMap"
        fix = f"put slurm.conf into a ConfigMap, and mount that as {FOLDER} in {_template(ctx, have)}"
        yield Finding("pod-folder", text, fix)
    elif config_map is None:
        text = f"the ConfigMaps mounted as {FOLDER} of pod {have['pod']} lack the key slurm.conf"
        yield Finding("pod-folder", text, "rename the key with Slurm's configuration to slurm.conf")
    elif config_map["generated"]:
        yield _generated(ctx, config_map["name"], config_map["generated"])
    elif config_map["immutable"]:
        text = f"ConfigMap {config_map['name']} is immutable"
        yield Finding("pod-immutable", text, "recreate it without `immutable: true`")


def _generated(ctx: StepContext, name: str, source: Generated) -> Finding:
    pod = pod_of(ctx)
    assert pod is not None
    namespace, _, job = source["job"].partition("/")
    text = f"ConfigMap {pod.namespace}/{name} is rendered by Job {source['job']} from ConfigMap {source['templates']}:"
    text += " what this run would change in it is lost when that Job runs again"
    fix = f"add {', '.join(PLUGIN)} and BurstBufferType=burst_buffer/lua to the templates; run Job {job} again, as CSM's documents "
    fix += f"say (save it with `kubectl -n {namespace} get job {job} -o yaml`, delete it, and create it without spec.selector and "
    fix += "spec.template.metadata); then accept this finding by its name"
    return Finding("pod-generated", text, fix)


STATE = "/var/spool"
"""StateSaveLocation where slurm.conf has none."""


def _state_findings(ctx: StepContext, have: PodState) -> Iterator[Finding]:
    """Slurm keeps its jobs in StateSaveLocation alone: they are lost if the next pod does not have the same folder."""
    seen = ctx.facts.known(CONTROLLER).get(ctx.host)
    if not seen:
        return  # the check `controller` reports it
    setting = controller.setting(seen["files"], ctx.site, "StateSaveLocation")
    state = setting.value if setting else STATE
    kept_in = _lasting(state, have["mounts"])
    if kept_in == SAME:
        return
    whose = f"StateSaveLocation {state} of pod {have['pod']}"
    if kept_in == SAME_ON_NODE:
        text = f"{whose} is a folder of its node, and the next pod may run on another node: Slurm would lose all jobs"
        fix = f"bind the pod to that node (nodeSelector kubernetes.io/hostname) in {_template(ctx, have)}"
        yield Finding("pod-state-on-node", text, f"{fix}; or accept this finding, if all nodes share that folder")
        return
    text = f"{whose} is {kept_in} and ends with the pod: an install replaces the pod, and Slurm would lose all jobs"
    yield Finding("pod-state-lost", text, f"mount a PersistentVolumeClaim there in {_template(ctx, have)}")


def _lasting(path: str, mounts: Sequence[Sequence[str]]) -> str:
    """What the next pod finds at a path, by the innermost mount that contains it."""
    above = [
        (at.rstrip("/"), lifetime) for at, lifetime in mounts if f"{path.rstrip('/')}/".startswith(f"{at.rstrip('/')}/")
    ]
    return max(above, key=lambda mount: len(mount[0]))[1] if above else "inside the container"


def _template(ctx: StepContext, have: PodState) -> str:
    """The place where a mount is changed, for a fix."""
    pod, workload = pod_of(ctx), have["workload"]
    assert pod is not None
    whose = f"{workload['kind']} {pod.namespace}/{workload['name']}" if workload else f"what makes pod {have['pod']}"
    return f"the template of {whose}, container {pod.container}"


def _kept_findings(ctx: StepContext, pod: Pod, have: PodState) -> Iterator[Finding]:
    for resource, noun in ((have["workload"], "workload"), (have["config_map"], "ConfigMap")):
        if resource and resource["manager"]:
            kind = resource.get("kind", noun)
            text = f"{kind} {pod.namespace}/{resource['name']} is managed by {resource['manager']}, which will revert changes"
            text += " made here"
            yield Finding(
                "pod-kept", text, f"change it there: {_by_hand(pod, have)}; then accept this finding by its name"
            )


def _by_hand(pod: Pod, have: PodState) -> str:
    """What the site must configure where this tool can't."""
    name = have["config_map"]["name"] if have["config_map"] else "the ConfigMap with slurm.conf"
    secret = have["secret"]["name"]
    return (
        f"{', '.join(PLUGIN)} and BurstBufferType=burst_buffer/lua in {name}, and {FOLDER} as a projected "
        f"volume of it and of Secret {secret} (key {KEY} as {FILE}, optional), all in namespace {pod.namespace}"
    )


CHECK = Check("pod", "pod", look, judge)
KNOWN = replace(CHECK, judge=lambda ctx, have: ())
"""The same look without findings, for runs that mount nothing new."""
