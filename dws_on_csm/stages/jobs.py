"""Slurm's jobs, as an undeploy must know them: which exist, and which use the burst buffer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NotRequired, TypedDict

from dws_on_csm.model import render
from dws_on_csm.model.step import Fact, ShellLook, StepContext
from dws_on_csm.stages import controller_library

OVER = frozenset(
    {
        *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED"),
        *("NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"),
    }
)
"""States of a job that has ended (squeue(1), JOB STATE CODES); in every other one it may still need its Workflow. A job that is
REVOKED here has been started by another cluster of the federation."""

WIDTHS = {"burst_buffer": 2, "id": 21, "state": 41, "user": 65, "submitted": 22, "ended": 22, "uid": 11}
"""Bytes of each column of a row (jobs.sh)."""

FEDERATED = 26
"""Bits of a job's number that are its own; those above are the number of the cluster that it was submitted to (slurm.conf(5))."""


class Job(TypedDict):
    """A job as squeue has it; times are seconds since 1970, `ended` only means something when it is over; `uid` None: unknown."""

    id: str
    user: str
    uid: int | None
    state: str
    submitted: float
    ended: float
    over: bool
    burst_buffer: bool


class Jobs(TypedDict):
    """What a controller says: whether squeue answers, and the jobs by id, those just ended included.

    now         the time by slurmctld's clock, by which the jobs' times are, too; 0 where it does not say
    cluster     its number in a federation, 0 in none
    namespace   the one in which the site file has this Slurm's Workflows
    accounting  "none" is configured, it "answers", or it is "silent"
    accounted   number -> (number of the user, submitted, ended) of each such job that accounting knows
    """

    answers: bool
    now: float
    jobs: dict[str, Job]
    cluster: NotRequired[int]
    namespace: NotRequired[str]
    accounting: NotRequired[str]
    accounted: NotRequired[dict[str, list[tuple[int, float, float]]]]


def fact(stage: str) -> Fact[Jobs | None]:
    """What the check `jobs` of a stage read; None where nobody had to be asked."""
    return Fact(stage, "jobs")


def look(ctx: StepContext, numbers: Iterable[str] = ()) -> ShellLook:
    """All jobs, by one call of squeue on a controller, and what accounting knows of past jobs of these numbers; see `parse`."""
    asked = ",".join(sorted({number for number in numbers if number.isascii() and number.isdigit()}))
    return ShellLook(
        render.script("controller/jobs.sh", asked=asked),
        lambda out: {**parse(out), "namespace": ctx.site.access.namespace},
        controller_library.text(ctx),
    )


def parse(out: bytes) -> Jobs:
    """The look's lines: `now=SECONDS`, `answers=yes` where squeue did, `job=` and squeue's row, `accounting=`, and `past=` with
    sacct's row. Raises ValueError."""
    lines = [line.partition(b"=") for line in out.split(b"\n")]
    single = {key.decode(errors="replace"): text.decode(errors="replace") for key, _, text in lines if key != b"job"}
    rows = [_job(text) for key, _, text in lines if key == b"job"]
    accounted: dict[str, list[tuple[int, float, float]]] = {}
    for key, _, text in lines:
        if key == b"past":
            number, uid, submitted, ended = text.decode().split("|")
            accounted.setdefault(number, []).append((int(uid), _time(submitted), _time(ended)))
    return {
        "answers": single.get("answers") == "yes",
        "now": float(single["now"]),
        "jobs": {job["id"]: job for job in rows},
        "cluster": int(single.get("cluster", 0)),
        "accounting": single.get("accounting", "none"),
        "accounted": accounted,
    }


def elsewhere(number: str, jobs: Jobs) -> bool:
    """Whether a job of this number belongs to another cluster of a federation, of whose jobs this one need know nothing."""
    cluster = int(number) >> FEDERATED if number.isdigit() else 0
    return cluster not in (0, jobs.get("cluster", 0))


def _job(row: bytes) -> Job:
    """A row by the widths of its columns. Raises ValueError for one that isn't a job's."""
    cells: dict[str, str] = {}
    at = 0
    for name, width in WIDTHS.items():
        cells[name] = row[at : at + width].decode(errors="replace").strip()
        at += width
    if not cells["id"] or not cells["state"]:
        raise ValueError(f"no job's row: {row[:80]!r}")
    return {
        "id": cells["id"],
        "user": cells["user"],
        "uid": int(cells["uid"]) if cells["uid"].isdigit() else None,
        "state": cells["state"],
        "submitted": _time(cells["submitted"]),
        "ended": _time(cells["ended"]),
        "over": cells["state"] in OVER,
        "burst_buffer": bool(cells["burst_buffer"]),
    }


def _time(text: str) -> float:
    return float(text) if text.isdigit() else 0.0
