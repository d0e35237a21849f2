"""The Workflows of the cluster, and what becomes of each: in use, orphaned, or of somebody else."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal, NotRequired, TypedDict

from dws_on_csm.domain import names
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.step import Fact
from dws_on_csm.stages.dws import installed, storage_drivers
from dws_on_csm.stages.dws.storage_drivers import FREES, Driver
from dws_on_csm.stages.jobs import Jobs, elsewhere

ORIGIN = "burst_buffer.lua"
"""The label `origin` of a Workflow that Slurm's plugin made."""

SETTLED = 60
"""Seconds that a Workflow is given to go after its job has ended."""

CLOCKS_APART = 3600.0
"""Seconds by which the API server's clock and slurmctld's may differ where a Workflow is compared with a past job."""

Fate = Literal["live", "ending", "orphan", "foreign", "lost"]
"""live: its job is in Slurm; ending: its job ended less than SETTLED ago; orphan: its job was one of this Slurm, and is over;
foreign: nothing shows that a job of this Slurm made it; lost: it is being deleted with its CRD, and cannot be saved."""


class Workflow(TypedDict):
    """A Workflow as far as it matters here; `job` is "" where its name is not one that the plugin gives.

    id       the object's own, which another Workflow of its name does not have
    uid      the number of its user
    deleted  when somebody deleted it, as the API has that
    since    when its present state was asked for, in seconds since 1970
    drivers  the storage drivers that have not completed its present state, or not freed its storage
    """

    namespace: str
    name: str
    id: str
    job: str
    uid: int
    desired: str
    state: str
    ready: bool
    status: str
    created: float
    deleting: bool
    deleted: NotRequired[str]
    finalizers: list[str]
    since: float
    drivers: list[Driver]


def fact(stage: str) -> Fact[list[Workflow]]:
    """What the check `workflows` of a stage read."""
    return Fact(stage, "workflows")


def read(cluster: Cluster) -> list[Workflow]:
    """All Workflows of the cluster, oldest first; none where the CRD does not exist. Raises ClusterError."""
    crd = installed.crd(cluster, "workflows")
    objects = installed.objects(cluster, "workflows", crd) if crd else []
    return sorted(map(parse, objects), key=lambda workflow: workflow["created"])


def parse(manifest: Mapping[str, Any]) -> Workflow:
    """A Workflow object as the API has it."""
    meta, spec, status = manifest["metadata"], manifest.get("spec", {}), manifest.get("status", {})
    created = datetime.fromisoformat(meta["creationTimestamp"]).timestamp()
    since = status.get("desiredStateChange")
    made_by_plugin = meta.get("labels", {}).get("origin") == ORIGIN and meta["name"] == f"bb{spec.get('jobID')}"
    return {
        "namespace": meta["namespace"],
        "name": meta["name"],
        "id": meta["uid"],
        "job": str(spec["jobID"]) if made_by_plugin else "",
        "uid": int(spec.get("userID", 0)),
        "desired": spec.get("desiredState", ""),
        "state": status.get("state", ""),
        "ready": bool(status.get("ready", False)),
        "status": status.get("status", ""),
        "created": created,
        "deleting": "deletionTimestamp" in meta,
        "deleted": meta.get("deletionTimestamp", ""),
        "finalizers": list(meta.get("finalizers", [])),
        "since": datetime.fromisoformat(since).timestamp() if since else created,
        "drivers": storage_drivers.parse(manifest),
    }


def awaited(workflow: Workflow) -> list[Driver]:
    """The storage drivers that keep a Workflow in its present state."""
    if workflow["ready"]:
        return []
    return [driver for driver in workflow["drivers"] if driver["state"] == workflow["state"]]


def holders(workflow: Workflow) -> list[Driver]:
    """The storage drivers that have not freed the storage of a Workflow."""
    return [driver for driver in workflow["drivers"] if driver["state"] == FREES]


def wait_texts(workflow: Workflow, now: float) -> list[str]:
    """What a Workflow waits for, in words: a sentence for each driver. `now`: when that was, 0 if unknown."""
    since = f" for {age(now - workflow['since'])}" if now else ""
    texts = []
    for driver in awaited(workflow):
        silent = f", last heard {age(now - driver['heard'])} ago" if now and driver["heard"] else ""
        texts.append(f"waits in {workflow['state']}{since} for {storage_drivers.describe(driver)}{silent}")
    return texts


def ask(workflow: Workflow) -> str:
    """Whom to ask about the drivers that a Workflow waits for, as a fix."""
    drivers = awaited(workflow)
    name = label(workflow)
    return (
        f"ask those who run the storage driver {storage_drivers.ids(drivers)}: it has to complete {workflow['state']} of {name} "
        f"(`invoke workflows --yaml {name}` shows its entry in status.drivers)"
    )


def describe_removal(workflow: Workflow, jobs: Jobs) -> str:
    """An orphan that will be deleted, in words; and which drivers then never run its Teardown."""
    held = storage_drivers.ids(holders(workflow))
    lost = f". The storage driver {held} has not freed its storage ({FREES}), and may keep it forever" if held else ""
    return f"{describe(workflow, jobs)}{lost}"


def foreign_finalizers(workflow: Workflow) -> list[str]:
    """The finalizers of other programs than DWS and Kubernetes that keep a deleted Workflow; none where it is not deleted."""
    if not workflow.get("deleting"):
        return []
    return [each for each in workflow["finalizers"] if "/" in each and each.partition("/")[0] not in _OF_DWS]


_OF_DWS = (names.GROUP, "dws.cray.hpe.com")
"""DWS's API group, and its former one."""


def _let_go(workflow: Workflow, finalizer: str) -> str:
    """The command that removes one finalizer: only while it is still at its place in the list."""
    at = f"/metadata/finalizers/{workflow['finalizers'].index(finalizer)}"
    steps = [{"op": "test", "path": at, "value": finalizer}, {"op": "remove", "path": at}]
    patch = shlex.quote(json.dumps(steps, separators=(",", ":")))
    return f"kubectl patch {names.WORKFLOWS} --namespace {workflow['namespace']} {workflow['name']} --type json --patch {patch}"


def orphan_fix(workflow: Workflow) -> str:
    """How to remove an orphan: its storage first, where drivers still hold it, as a deletion skips their Teardown. One that is
    deleted already waits for those who hold it."""
    if foreign := foreign_finalizers(workflow):
        return (
            f"let the program that set the finalizer {foreign[0]} clear it: ask its owner, since a storage driver frees its "
            "storage before it does so. Only if nobody needs it any more, run "
            f"`{_let_go(workflow, foreign[0])}` on the master, which removes just this finalizer"
        )
    delete = f"run `invoke workflows --delete {label(workflow)}`"
    drivers = holders(workflow)
    if not drivers:
        return f"{delete}: no job needs it, and Slurm will never remove it"
    driver = storage_drivers.ids(drivers)
    if workflow["desired"] == FREES:
        return (
            f"ask those who run the storage driver {driver}: it still has to free the storage (Teardown). "
            f"If the Workflow stays after that, {delete}"
        )
    return (
        f"first let the storage driver {driver} free the storage: run `{_teardown(workflow)}` on the master, and wait until "
        f"`invoke workflows` shows it ready in Teardown; then {delete}"
    )


def _teardown(workflow: Workflow) -> str:
    patch = json.dumps({"spec": {"desiredState": FREES}}, separators=(",", ":"))
    at = f"{names.WORKFLOWS} --namespace {workflow['namespace']} {workflow['name']}"
    return f"kubectl patch {at} --type merge --patch '{patch}'"


def fate(workflow: Workflow, jobs: Jobs, crd_deleting: bool = False) -> Fate:
    """What becomes of a Workflow, by what Slurm said of its job after the Workflow was read.

    The plugin makes a Workflow for a job that Slurm already has. So no clock decides whether a Workflow is too young to judge.
    """
    if crd_deleting and workflow["deleting"]:
        return "lost"
    if doubt(workflow, jobs):
        return "foreign"
    if needed(workflow, jobs):
        return "live"
    job = jobs["jobs"].get(workflow["job"])
    # both by slurmctld's clock; where that is unknown, for as long as Slurm knows the job
    return "ending" if job and jobs["now"] - job["ended"] < SETTLED else "orphan"


def doubt(workflow: Workflow, jobs: Jobs) -> str:
    """Why nothing shows that a job of this site's Slurm made a Workflow, in words; "" where that is shown.

    Other Slurms may use the same DWS, in the same namespace and with job numbers of the same range. So a number alone shows
    nothing: the job's user has to be the Workflow's, and a job that is over has to have existed when the Workflow was made.
    """
    number, uid = workflow["job"], workflow["uid"]
    own_namespace = jobs.get("namespace", workflow["namespace"])
    if not number:
        return f"no job of Slurm made it, of user {uid}"
    if workflow["namespace"] != own_namespace:
        return f"job {number} of user {uid}, of another Slurm: access.namespace of this site is {own_namespace}"
    job = jobs["jobs"].get(number)
    if not jobs["answers"] or (job is None and elsewhere(number, jobs)):
        return ""
    if job and not job["over"]:
        return (
            ""
            if job["uid"] in (uid, None)
            else f"job {number} of user {uid}, of another Slurm: job {number} of this one is of {job['user']}"
        )
    records = [*jobs.get("accounted", {}).get(number, ())]
    # a job that is queued again gets another time of submission
    records += [(job["uid"], 0.0, job["ended"])] if job and job["burst_buffer"] else []
    if any(uid == owner and _existed(workflow["created"], begin, end) for owner, begin, end in records):
        return ""
    if job or records:
        return f"job {number} of user {uid}, and job {number} of this Slurm was of another user, at another time, or had no #DW"
    return f"job {number} of user {uid}, which {_UNKNOWN[jobs.get('accounting', 'none')]}"


_UNKNOWN = {
    "none": "this Slurm no longer knows; without accounting (slurmdbd) nothing shows whose it was",
    "silent": "slurmctld no longer knows, and accounting (sacct) does not respond",
    "answers": "this Slurm's accounting does not know",
}


def _existed(created: float, begin: float, end: float) -> bool:
    return begin - CLOCKS_APART <= created <= (end or created) + CLOCKS_APART


def needed(workflow: Workflow, jobs: Jobs) -> bool:
    """Whether its job is still in Slurm, or that is unknown."""
    job = jobs["jobs"].get(workflow["job"])
    if job is None:
        return not jobs["answers"] or elsewhere(workflow["job"], jobs)
    return not jobs["answers"] or not job["over"]


def path(workflow: Workflow, version: str) -> str:
    """Where the API has it."""
    return f"/apis/{names.GROUP}/{version}/namespaces/{workflow['namespace']}/workflows/{workflow['name']}"


def deletion(workflow: Workflow) -> str:
    """The command that deletes it, for whoever has made sure that nobody needs it."""
    return f"kubectl delete {names.WORKFLOWS} --namespace {workflow['namespace']} {workflow['name']}"


def label(workflow: Workflow) -> str:
    """NAMESPACE/NAME."""
    return f"{workflow['namespace']}/{workflow['name']}"


def describe(workflow: Workflow, jobs: Jobs) -> str:
    """A Workflow in words: "Workflow default/bb12 in PreRun (not ready): job 12 of joe, RUNNING, 3 min old"."""
    status = f": {workflow['status']}" if workflow["status"] else ""
    state = workflow["desired"] + ("" if workflow["ready"] else f" (not ready{status})")
    waits = "".join(f"; it {text}" for text in wait_texts(workflow, jobs["now"]))
    text = f"Workflow {label(workflow)} in {state}: {_job_text(workflow, jobs)}, {ago(jobs, workflow['created'])} old{waits}"
    if foreign := foreign_finalizers(workflow):
        text += f". It was deleted at {workflow.get('deleted', '')}, and is held by what is not of DWS: "
        text += f"finalizer {', '.join(foreign)}"
    return text


def _job_text(workflow: Workflow, jobs: Jobs) -> str:
    if text := doubt(workflow, jobs):
        return text
    job, owner = jobs["jobs"].get(workflow["job"]), f"job {workflow['job']} of user {workflow['uid']}"
    if not jobs["answers"]:
        return f"{owner}, of which nothing is known"
    if job is None and elsewhere(workflow["job"], jobs):
        return f"{owner}, of another cluster of the federation, which alone knows of it"
    if job is None:
        return f"{owner}, which is over"
    since = f" {ago(jobs, job['ended'])} ago" if job["over"] else ""
    return f"job {workflow['job']} of {job['user']}, {job['state']}{since}"


def ago(jobs: Jobs, then: float) -> str:
    """How long ago that was when Slurm was asked, in words."""
    return age(jobs["now"] - then) if jobs["now"] else "some time"


def age(seconds: float) -> str:
    """So many seconds in words: "12 s", "3 min", "5 h", "2 days"."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def by_fate(every: Iterable[Workflow], jobs: Jobs, crd_deleting: bool = False) -> dict[Fate, list[Workflow]]:
    """Workflows by what becomes of them."""
    fates: dict[Fate, list[Workflow]] = {}
    for workflow in every:
        fates.setdefault(fate(workflow, jobs, crd_deleting), []).append(workflow)
    return fates
