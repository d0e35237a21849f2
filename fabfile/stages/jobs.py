"""Slurm's jobs, as far as they stand in the way of an undeploy: which there are, and which use the burst buffer."""

from __future__ import annotations

from typing import TypedDict

from fabfile import render
from fabfile.step import Place, Shell

OVER = frozenset(
    {
        *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED"),
        *("NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
    }
)
"""States of a job that has ended (squeue(1), JOB STATE CODES); in every other one it may still need its Workflow."""


class Job(TypedDict):
    """A job as squeue has it; times are seconds since 1970, `ended` only means something when it is over."""

    id: str
    user: str
    state: str
    submitted: float
    ended: float
    over: bool
    burst_buffer: bool


class Jobs(TypedDict):
    """What a controller says: whether squeue answers, the time there, and the jobs by id, those just ended included."""

    answers: bool
    now: float
    jobs: dict[str, Job]


def look(place: Place) -> Shell:
    """All jobs, by one call of squeue on a controller; see `parse`."""
    slurm = place.site.slurm
    return Shell(render.script("as.sh", "slurmctld.sh", "jobs.sh", folder=slurm.folder, unit=slurm.service), parse)


def parse(out: bytes) -> Jobs:
    """The look's lines: `now=SECONDS`, `answers=yes` where squeue did, `job=` and squeue's row. Raises ValueError."""
    lines = [line.partition("=") for line in out.decode(errors="replace").splitlines()]
    single = {key: text for key, _, text in lines if key != "job"}
    rows = [_job(text) for key, _, text in lines if key == "job"]
    return {
        "answers": single.get("answers") == "yes",
        "now": float(single["now"]),
        "jobs": {job["id"]: job for job in rows},
    }


def _job(row: str) -> Job:
    """The burst buffer's specification fills two columns, blank where there is none; words without blanks follow."""
    number, state, user, submitted, ended = row[2:].split()
    return {
        "id": number,
        "user": user,
        "state": state,
        "submitted": _time(submitted),
        "ended": _time(ended),
        "over": state in OVER,
        "burst_buffer": bool(row[:2].strip()),
    }


def _time(text: str) -> float:
    return float(text) if text.isdigit() else 0.0
