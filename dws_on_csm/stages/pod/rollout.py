"""A rollout gives a slurmctld a new pod: one transaction on the master, undone unless slurmctld responds in that pod."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence

from dws_on_csm.config.site import Pod
from dws_on_csm.kube import pods
from dws_on_csm.model import render
from dws_on_csm.model.actions import STATE, RunElsewhere
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.step import ApiLook, Step, StepContext
from dws_on_csm.stages.pod import discover
from dws_on_csm.stages.pod.discover import Json, pod_of

RESTARTED = "dws-on-csm/restarted"
"""An annotation of the pod's template: a new value makes a new pod."""


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


def action(ctx: StepContext, title: str, edits: Sequence[Json], back: Sequence[Json] | None = None) -> RunElsewhere:
    """Make the edits (see pod_edit.py) and a new pod, from the master; undo them unless slurmctld responds in it.

    back    the edits that are made instead then; by default those that undo `edits`. Without `edits` they are undone in turn if
            slurmctld does not respond with them either
    """
    pod, have = pod_of(ctx), discover.workload(ctx)
    assert pod is not None
    at = ["spec", "template", "metadata", "annotations", RESTARTED]
    again = {
        "object": workload(ctx),
        "at": at,
        "seen": ANYTHING,
        "value": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    undone = [_reversed_edit(edit) for edit in reversed(edits)] if back is None else list(back)
    was = [_reversed_edit(edit) for edit in reversed(undone)] if not edits and undone else None
    script = _rollout_script(
        ctx,
        pod,
        [*edits, again],
        [*undone, {**again, "value": f"{again['value']}-back"}],
        [*was, {**again, "value": f"{again['value']}-was"}] if was else [],
    )
    objects = (have["path"], discover.config_map(ctx)["path"])
    return RunElsewhere(title, "master", script, deadline=longest(ctx) + 60.0, show_output=True, objects=objects)


def longest(ctx: StepContext) -> float:
    """The seconds that it may take: three times edits, a pod and its response (new text, former text, and the new one again where
    that was not the cause)."""
    return 3 * (ctx.site.deadlines.slurmctld * 2 + 60.0)


ANYTHING = "*"
"""An edit's `seen` that accepts any value."""


def _reversed_edit(edit: Json) -> Json:
    """The edit that undoes `edit`. The API server adds defaults to all values but texts: those are not compared."""
    seen = edit["value"] if isinstance(edit["value"], str) else ANYTHING
    return {**edit, "seen": seen, "value": edit["seen"]}


def _rollout_script(
    ctx: StepContext, pod: Pod, following: Sequence[Json], undone: Sequence[Json], was: Sequence[Json]
) -> str:
    slurm, context = ctx.site.slurm, ctx.site.master.context
    inside = {"folder": slurm.folder, "unit": slurm.service, "state": STATE}
    fixed = {
        "state": STATE,
        "host": ctx.host,
        "namespace": pod.namespace,
        "selector": pod.selector,
        "container": pod.container,
        "workload": workload(ctx),
        "context": f"--context={context}" if context else "",
        "deadline": str(int(ctx.site.deadlines.slurmctld)),
        "edit": render.read("pod/pod_edit.py"),
        "answers": render.script("lib/as.sh", "lib/slurmctld.sh", "pod/pod_noted.sh", "pod/pod_answers.sh", **inside),
    }
    settings = {
        "state": STATE,
        "longest": str(int(longest(ctx))),
        "unit": f"dws-on-csm-rollout-{ctx.host}",
        "program": render.script("pod/pod_activate.sh", **fixed),
        "next": _base64(following),
        "back": _base64(undone),
        "was": _base64(was) if was else "",
    }
    return render.script("lib/detach.sh", "pod/pod_follow.sh", **settings)


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
