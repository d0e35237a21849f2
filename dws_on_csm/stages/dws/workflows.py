"""The Workflows that are there, and what is to become of each: those of jobs that live, and orphans."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal, TypedDict

from dws_on_csm.domain import names
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.stages.dws import installed
from dws_on_csm.stages.jobs import Jobs, elsewhere

ORIGIN = "burst_buffer.lua"
"""The label `origin` of a Workflow that Slurm's plugin made."""

SETTLED = 60
"""Seconds that a Workflow is given to go after its job has ended."""

Fate = Literal["live", "ending", "orphan", "foreign", "lost"]
"""live: its job is in Slurm; ending: its job's end is younger than SETTLED; orphan: its job is gone;
foreign: not made by Slurm's plugin; lost: it is being deleted with its CRD, and can't be saved any more."""


class Workflow(TypedDict):
    """A Workflow as far as it matters here; `job` is "" where its name isn't one that the plugin gives.

    id   the object's own, which another Workflow of its name does not have
    uid  the number of its user
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
    finalizers: list[str]


def read(cluster: Cluster) -> list[Workflow]:
    """All Workflows of the cluster, oldest first; none where there is no such CRD. Raises ClusterError."""
    crd = installed.crd(cluster, "workflows")
    every = installed.objects(cluster, "workflows", crd) if crd else []
    return sorted(map(parse, every), key=lambda one: one["created"])


def parse(one: Mapping[str, Any]) -> Workflow:
    """A Workflow object as the API has it."""
    meta, spec, status = one["metadata"], one.get("spec", {}), one.get("status", {})
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
        "created": datetime.fromisoformat(meta["creationTimestamp"]).timestamp(),
        "deleting": "deletionTimestamp" in meta,
        "finalizers": list(meta.get("finalizers", [])),
    }


def fate(one: Workflow, jobs: Jobs, crd_deleting: bool = False) -> Fate:
    """What is to be thought of a Workflow, by what Slurm said of its job.

    Slurm has to have been asked after the Workflow was seen: the plugin makes it for a job that Slurm has already. So no
    clock tells whether it is too young to judge, and none of them has to agree with another one.
    """
    if crd_deleting and one["deleting"]:
        return "lost"
    if not one["job"]:
        return "foreign"
    if needed(one, jobs):
        return "live"
    job = jobs["jobs"].get(one["job"])
    # both by slurmctld's clock; where that is not known, for as long as Slurm knows the job
    return "ending" if job and jobs["now"] - job["ended"] < SETTLED else "orphan"


def needed(one: Workflow, jobs: Jobs) -> bool:
    """Whether its job is still in Slurm, or nobody knows."""
    job = jobs["jobs"].get(one["job"])
    if job is None:
        return not jobs["answers"] or elsewhere(one["job"], jobs)
    return not jobs["answers"] or not job["over"]


def path(one: Workflow, version: str) -> str:
    """Where the API has it."""
    return f"/apis/{names.GROUP}/{version}/namespaces/{one['namespace']}/workflows/{one['name']}"


def label(one: Workflow) -> str:
    """NAMESPACE/NAME."""
    return f"{one['namespace']}/{one['name']}"


def told(one: Workflow, jobs: Jobs) -> str:
    """A Workflow in words: "Workflow default/bb12 in PreRun (not ready): job 12 of joe, RUNNING, 3 min"."""
    state = one["desired"] + ("" if one["ready"] else f" (not ready{': ' + one['status'] if one['status'] else ''})")
    return f"Workflow {label(one)} in {state}: {_job(one, jobs)}, {ago(jobs, one['created'])} old"


def _job(one: Workflow, jobs: Jobs) -> str:
    job = jobs["jobs"].get(one["job"])
    if not one["job"]:
        return f"made by no job of Slurm's, of user {one['uid']}"
    if not jobs["answers"]:
        return f"job {one['job']} of user {one['uid']}, of which nothing is known"
    if job is None and elsewhere(one["job"], jobs):
        return f"job {one['job']} of user {one['uid']}, of another cluster of the federation, which alone knows of it"
    if job is None:
        return f"job {one['job']} of user {one['uid']}, which Slurm no longer knows"
    since = f" {ago(jobs, job['ended'])} ago" if job["over"] else ""
    return f"job {one['job']} of {job['user']}, {job['state']}{since}"


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
    """Workflows by what is to be thought of them."""
    sorted_: dict[Fate, list[Workflow]] = {}
    for one in every:
        sorted_.setdefault(fate(one, jobs, crd_deleting), []).append(one)
    return sorted_
