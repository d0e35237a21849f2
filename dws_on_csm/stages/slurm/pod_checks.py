"""The check `pod`: whether changes to a slurmctld in a pod would survive the pod; each finding names the place to correct."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

from dws_on_csm.config.site import Pod
from dws_on_csm.domain import managers, names
from dws_on_csm.model.actions import STATE as STATE_FOLDER
from dws_on_csm.model.printable import first_few
from dws_on_csm.model.step import Check, Finding, StepContext
from dws_on_csm.stages.facts import CONTROLLER, KUBECONFIG
from dws_on_csm.stages.pod import service_account
from dws_on_csm.stages.pod.discover import (
    DEFAULT_ACCOUNT,
    FACT,
    FILE,
    FOLDER,
    KEY,
    PLUGIN,
    SAME,
    SAME_ON_NODE,
    PodState,
    listed_files,
    look,
    pod_of,
    volume_sources,
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
    return [*findings, *_state_findings(ctx, have), *_account_findings(ctx, pod, have)]


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
    elif volume is None or not volume_sources(volume):
        kind = ", ".join(sorted(set(volume) - {"name"})) if volume else "the image itself"
        text = f"{FOLDER} of pod {have['pod']} comes from {kind}, not from a ConfigMap"
        fix = f"put slurm.conf into a ConfigMap, and mount that as {FOLDER} in {_template(ctx, have)}"
        yield Finding("pod-folder", text, fix)
    elif config_map is None:
        text = f"the ConfigMaps mounted as {FOLDER} of pod {have['pod']} lack the key slurm.conf"
        yield Finding("pod-folder", text, "rename the key with Slurm's configuration to slurm.conf")
    elif config_map["generated"] and not config_map["generated"]["job"]:
        yield _without_job(config_map["generated"])
    elif config_map["immutable"] and not config_map["generated"]:
        text = f"ConfigMap {config_map['name']} is immutable"
        yield Finding("pod-immutable", text, "recreate it without `immutable: true`")


def _without_job(source: Generated) -> Finding:
    if source["slurm_conf"] is None:
        text = (
            f"ConfigMap {source['templates']}, the site file's templates of {source['result']}, has no key slurm.conf"
        )
        return Finding("pod-generated", text, "correct `templates: NAMESPACE/NAME` of this pod in the site file")
    text = f"ConfigMap {source['result']} seems to be rendered from ConfigMap {source['templates']}, but the Job that renders "
    text += "it was not found; when it runs, it overwrites what this run changes"
    fix = f"run `ls {STATE_FOLDER}/job.*.json` on the master: if it lists a file, an interrupted run left it, so run "
    fix += "`kubectl create -f FILE`; otherwise set `job: NAMESPACE/NAME` of this pod in the site file"
    return Finding("pod-generated", text, fix)


def _account_findings(ctx: StepContext, pod: Pod, have: PodState) -> Iterator[Finding]:
    """What keeps the plugin from its pod's token, and who else would get its rights."""
    if not have["workload"] or not have["config_map"] or not service_account.way(ctx, have).by_account:
        return
    name, template, secret = have.get("account", ""), _template(ctx, have), have["secret"]
    lists = listed_files(have["volume"], have["config_map"]["name"]) is not None
    fixed = have["workload"]["manager"] or secret.get("required") or lists
    if secret["mounted"] and fixed:
        text = f"pod {have['pod']} mounts Secret {secret['name']} as {names.KUBECONFIG}, and so hides the file that names the token"
        fix = f"remove that mount from {template}; or set access.via: ca in {ctx.site.path.name}"
        yield Finding("account-hidden", text, fix)
    if not have.get("token"):
        text = f"pod {have['pod']} has no token of its ServiceAccount {name}, with which the plugin must log in"
        fix = f"set automountServiceAccountToken: true in {template}; or set access.via: ca in {ctx.site.path.name}"
        yield Finding("account-token-missing", text, fix)
    elif service_account.token_problem(ctx, have):
        user = ctx.facts.on(KUBECONFIG, ctx.host)
        text = f"SlurmUser {user['slurm_user']} in {ctx.host} cannot read the pod's token ({names.ACCOUNT_TOKEN})"
        group = user.get("slurm_group") or "the number of SlurmUser's group"
        fix = f"set securityContext.fsGroup: {group} in {template}; or set access.via: ca in {ctx.site.path.name}"
        yield Finding("account-token-unreadable", text, fix)
    if name == f"{pod.namespace}/{DEFAULT_ACCOUNT}":
        yield _shared_account(ctx, pod, have)


ACCOUNT = "slurmctld"
"""The name that a fix proposes for an account of slurmctld's own."""


def _shared_account(ctx: StepContext, pod: Pod, have: PodState) -> Finding:
    """With the lines of each way out: an account of its own, which only the site can give to a workload that somebody else manages;
    or the site file's."""
    workload, file = have["workload"], ctx.site.path.name
    assert workload is not None
    own = {seen["pod"] for seen in ctx.facts.known(FACT).values()}
    others = [name for name in have.get("sharing", []) if name not in own]
    now = f"now also {first_few(others, LISTED, ', ')}" if others else "now no other pod"
    text = f"pod {have['pod']} has the ServiceAccount {have['account']}, as every pod in {pod.namespace} that names none ({now}): "
    text += "all of them could create, read and delete every Workflow"
    space = f"kubectl --namespace {pod.namespace}"
    body = json.dumps({"spec": {"template": {"spec": {"serviceAccountName": ACCOUNT}}}}, separators=(",", ":"))
    patch = f"{space} patch {workload['kind'].lower()} {workload['name']} --patch '{body}'"
    fix = f"give slurmctld an account of its own: `{space} create serviceaccount {ACCOUNT}` on the master, and serviceAccountName: "
    fix += f"{ACCOUNT} where the pods of {workload['name']} are described"
    fix += f" ({workload['manager']})" if workload["manager"] else ""
    if managers.is_helm(workload["manager"]):
        fix += f". If the chart has no value for it: `{patch}`; that replaces the pod, and Helm keeps what its chart does not set"
    fix += f". Or, if you trust all pods of {pod.namespace}, also future ones, write `accept: [account-shared]` in {file}. "
    fix += f"Or write `access: {{via: ca}}` there, and mount Secret {have['secret']['name']} (docs/csm.md)"
    return Finding("account-shared", text, fix)


LISTED = 3
"""So many other pods are named."""

STATE = "/var/spool"
"""StateSaveLocation where slurm.conf has none."""


def _state_findings(ctx: StepContext, have: PodState) -> Iterator[Finding]:
    """Slurm keeps its jobs in StateSaveLocation alone: they are lost if the next pod does not have the same folder."""
    seen = ctx.facts.known(CONTROLLER).get(ctx.host)
    if not seen:
        return  # the check `controller` reports it
    setting = controller.setting(seen["files"], ctx.site, "StateSaveLocation")
    state = setting.value if setting else STATE
    kept_in = _lifetime_at(state, have["mounts"])
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


def _lifetime_at(path: str, mounts: Sequence[Sequence[str]]) -> str:
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
    config_map = have["config_map"]
    # a restart of its pods is what the manager of a workload allows; what a Job renders is not edited; and a plugin that logs in
    # with the pod's token needs no mount
    workload = None if have["secret"]["mounted"] or _needs_no_mount(ctx, have) else have["workload"]
    edited = None if config_map and config_map["generated"] else config_map
    for resource, noun in ((workload, "workload"), (edited, "ConfigMap")):
        if resource and resource["manager"]:
            kind = resource.get("kind", noun)
            text = f"{kind} {pod.namespace}/{resource['name']} is managed by {resource['manager']}, which will revert changes"
            text += " made here"
            yield Finding(
                "pod-kept", text, f"change it there: {_by_hand(pod, have)}; then accept this finding by its name"
            )


def _needs_no_mount(ctx: StepContext, have: PodState) -> bool:
    """Whether the pod's template stays as it is: the plugin logs in with the pod's token, and new keys reach the pod."""
    config_map = have["config_map"]
    if not have["workload"] or not config_map or listed_files(have["volume"], config_map["name"]) is not None:
        return False
    return service_account.way(ctx, have).by_account


def _by_hand(pod: Pod, have: PodState) -> str:
    """What the site must configure where this tool can't."""
    name = have["config_map"]["name"] if have["config_map"] else "the ConfigMap with slurm.conf"
    secret = have["secret"]["name"]
    return (
        f"{', '.join(PLUGIN)} and BurstBufferType=burst_buffer/lua in {name}, and {FOLDER} as a projected "
        f"volume of it and of Secret {secret} (key {KEY} as {FILE}, optional), all in namespace {pod.namespace}"
    )


CHECK = Check("pod", "pod", look, judge, note=lambda ctx, have: service_account.note(ctx))
KNOWN = replace(CHECK, judge=lambda ctx, have: (), note=None)
"""The same look without findings, for runs that mount nothing new."""
