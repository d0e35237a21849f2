"""A rollout gives a slurmctld a new pod: one transaction on the master, undone unless slurmctld responds in that pod."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from typing import Any

from dws_on_csm.config.site import Pod
from dws_on_csm.kube import pods
from dws_on_csm.model import render
from dws_on_csm.model.actions import STATE, RunElsewhere
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.step import ApiLook, Step, StepContext
from dws_on_csm.stages.pod import discover, generated
from dws_on_csm.stages.pod.discover import Json, pod_of
from dws_on_csm.stages.pod.generated import config_map_path, job_path

RESTARTED = "kubectl.kubernetes.io/restartedAt"
"""The annotation of the pod's template with which `kubectl rollout restart` makes a new pod: an operator that reverts changes made
to its Deployments leaves this one."""


def workload(ctx: StepContext) -> str:
    """`deployment/slurmctld`, as kubectl takes it."""
    have = discover.workload(ctx)
    return f"{have['kind'].lower()}/{have['name']}"


def workload_text(ctx: StepContext) -> str:
    """`Deployment slurmctld (Recreate)`, as people read it."""
    have = discover.workload(ctx)
    return f"{have['kind']} {have['name']} ({have['strategy']})"


def side_effect(ctx: StepContext) -> str:
    """What a rollout does to slurmctld, for a plan."""
    have = discover.workload(ctx)
    return (
        f"slurmctld stops while {have['kind']} {have['name']} rolls out ({have['strategy']}), then starts in a new pod"
    )


def action(
    ctx: StepContext, title: str, edits: Sequence[Json], back: Sequence[Json] | None = None, *, text: bytes = b""
) -> RunElsewhere:
    """Make the edits (see pod_edit.py) and a new pod, from the master; undo them unless slurmctld responds in it.

    Nothing is changed where Slurm's programs in the pod that runs cannot read the new pod's slurm.conf.

    back    the edits that are made instead then; by default those that undo `edits`. Without `edits` they are undone in turn if
            slurmctld does not respond with them either
    text    slurm.conf as the edits make it; b"" where they leave it as it is
    """
    pod, have = pod_of(ctx), discover.workload(ctx)
    assert pod is not None
    undone = [reversed_edit(edit, "next") for edit in reversed(edits)] if back is None else list(back)
    was = [reversed_edit(edit, "back") for edit in reversed(undone)] if not edits and undone else None
    script = _rollout_script(
        ctx,
        pod,
        [*edits, _restart(ctx, 0)],
        [*undone, _restart(ctx, 1)],
        [*was, _restart(ctx, 2)] if was else [],
        workload(ctx),
        f"dws-on-csm-rollout-{ctx.host}",
        text,
    )
    objects: tuple[str, ...] = (have["path"], discover.config_map(ctx)["path"])
    if known := discover.generator(discover.config_map(ctx)):
        objects += (config_map_path(known["templates"]), job_path(known["job"]))
    return RunElsewhere(title, "master", script, deadline=longest(ctx) + 60.0, show_output=True, objects=objects)


def edit_only(ctx: StepContext, title: str, edit: Json, unit: str) -> RunElsewhere:
    """Change templates and run their Job, from the master, without a new pod. `unit` distinguishes such changes that may run at the
    same time. One that is interrupted leaves a Job that exists."""
    pod, known = pod_of(ctx), discover.generator(discover.config_map(ctx))
    assert pod is not None and known is not None
    rest = {**edit, "keys": {}, "sets": {}}
    script = _rollout_script(ctx, pod, [edit], [rest], [], "", f"dws-on-csm-templates-{unit}")
    objects = (config_map_path(known["templates"]), job_path(known["job"]), discover.config_map(ctx)["path"])
    return RunElsewhere(title, "master", script, deadline=longest(ctx) + 60.0, show_output=True, objects=objects)


def _restart(ctx: StepContext, number: int) -> dict[str, Any]:
    """The edit that makes a new pod; `number`: each edit of a transaction has another time."""
    at = ["spec", "template", "metadata", "annotations", RESTARTED]
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + number))
    return {"object": workload(ctx), "at": at, "seen": ANYTHING, "value": moment}


def longest(ctx: StepContext) -> float:
    """The seconds that it may take: three times edits, a pod and its response (new text, former text, and the new one again where
    that was not the cause)."""
    return 3 * (ctx.site.deadlines.slurmctld * 2 + _edits_longest(ctx))


def _edits_longest(ctx: StepContext) -> float:
    """The seconds that edits may take: with a Job, those in which it may wait for another run, then run, and again to undo that."""
    job = discover.generator(discover.config_map(ctx))
    return 60.0 + (5 * ctx.site.deadlines.deploy if job else 0.0)


ANYTHING = "*"
"""An edit's `seen` that accepts any value."""


def reversed_edit(edit: Json, done: str) -> Json:
    """The edit that undoes `edit`, one of the edits of the name `done`. The API server adds defaults to all values but texts: those
    are not compared."""
    if "templates" in edit:
        return generated.reversed_edit(edit, done)
    seen = edit["value"] if isinstance(edit["value"], str) else ANYTHING
    return {**edit, "seen": seen, "value": edit["seen"]}


def _rollout_script(
    ctx: StepContext,
    pod: Pod,
    following: Sequence[Json],
    undone: Sequence[Json],
    was: Sequence[Json],
    workload: str,
    unit: str,
    text: bytes = b"",
) -> str:
    slurm, context = ctx.site.slurm, ctx.site.master.context
    inside = {"folder": slurm.folder, "unit": slurm.service, "state": STATE}
    fixed = {
        "state": STATE,
        "host": ctx.host,
        "namespace": pod.namespace,
        "selector": pod.selector,
        "container": pod.container,
        "workload": workload,
        "context": f"--context={context}" if context else "",
        "deadline": str(int(ctx.site.deadlines.slurmctld)),
        "edit": render.read("pod/pod_edit.py"),
        "edit_limit": str(int(240.0 + _edits_longest(ctx))),
        "config": discover.config_map(ctx)["name"],
        "candidate": render.script(
            "lib/as.sh", "lib/slurmctld.sh", "lib/slurm_start.sh", "pod/pod_candidate.sh", **inside
        ),
        "answers": render.script(
            "lib/as.sh", "lib/slurmctld.sh", "pod/pod_start_files.sh", "pod/pod_answers.sh", **inside
        ),
    }
    settings = {
        "state": STATE,
        "longest": str(int(longest(ctx))),
        "unit": unit,
        "program": render.script("pod/rollout.sh", **fixed),
        "next": _base64(following),
        "back": _base64(undone),
        "was": _base64(was) if was else "",
        "text": base64.b64encode(text).decode(),
    }
    return render.script("lib/detach.sh", "lib/temporary.sh", "pod/run_rollout.sh", **settings)


def _base64(edits: Sequence[Json]) -> str:
    return base64.b64encode(json.dumps(edits).encode()).decode()


# --- a rollout that somebody else began


def _look_rolled(ctx: StepContext) -> ApiLook:
    pod, path = pod_of(ctx), discover.workload(ctx)["path"]
    assert pod is not None
    watch = f"/api/v1/namespaces/{pod.namespace}/pods"
    return ApiLook(
        lambda cluster: {"rolled out": _rolled(cluster, path), "pods": len(pods.running(cluster, pod))}, watch
    )


def _rolled(cluster: Cluster, path: str) -> bool:
    """Whether all of the workload's pods are of its present template, and available."""
    current = cluster.get(path)
    if current is None:
        return False
    status, wanted = current.get("status", {}), current["spec"].get("replicas", 1)
    counts = {status.get(key, 0) for key in ("replicas", "updatedReplicas", "readyReplicas")}
    return status.get("observedGeneration", 0) >= current["metadata"]["generation"] and counts == {wanted}


ROLLED = Step(
    "rolled",
    "pod",
    _look_rolled,
    lambda ctx: {"rolled out": True, "pods": 1},
    settle_seconds=lambda site: site.deadlines.slurmctld + 60.0,
    status_text=lambda have: "" if have["rolled out"] else "the workload is still rolling out",
    hint="run `kubectl rollout status` for the workload and `kubectl describe` for its pod",
)
"""A step that only waits until the pod is of the workload's present template."""
