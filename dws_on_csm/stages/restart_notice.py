"""What a restart of slurmctld means for a site, in words: how long it takes here, and what becomes of the jobs."""

from __future__ import annotations

from typing import TypedDict

from dws_on_csm.model import render
from dws_on_csm.model.lines import first_values, parse_pairs
from dws_on_csm.model.step import Check, Fact, Restart, ShellLook, StepContext
from dws_on_csm.stages import controller_library


class Queue(TypedDict):
    """Jobs in Slurm as a controller has them; None where squeue did not answer.

    seconds  how long slurmctld took to answer after its last restart by this tool on that host; None where there was none
    """

    running: int | None
    pending: int | None
    seconds: float | None


QUEUE: Fact[Queue] = Fact("slurm", "queue")


def _look(ctx: StepContext) -> ShellLook:
    return QUEUE.shell(render.read("controller/queue.sh"), _parse, controller_library.with_slurmctld(ctx))


def _parse(out: bytes) -> Queue:
    values = first_values(parse_pairs(out, "replace"))
    return {
        "running": int(values["running"]) if "running" in values else None,
        "pending": int(values["pending"]) if "pending" in values else None,
        "seconds": float(values["seconds"]) if "seconds" in values else None,
    }


CHECK = Check(QUEUE.step, "controller", _look, lambda ctx, have: ())
"""Reads the numbers of jobs, for the question before a restart."""


def jobs_text(ctx: StepContext) -> str:
    """What becomes of the jobs: "3 running jobs continue, 2 pending jobs keep their place"."""
    queues = [queue for queue in ctx.facts.known(QUEUE).values() if queue["running"] is not None]
    if not queues:
        return "running jobs continue, pending jobs keep their place"
    running, pending = queues[0]["running"], queues[0]["pending"]
    texts = {
        "1 running job continues" if running == 1 else f"{running} running jobs continue": running,
        "1 pending job keeps its place" if pending == 1 else f"{pending} pending jobs keep their place": pending,
    }
    return ", ".join(text for text, number in texts.items() if number) or "no job is running or pending"


def of_slurmctld(ctx: StepContext, *, after: str = "", rollout: str = "") -> Restart:
    """The restart of this controller's slurmctld. `rollout`: what rolls out instead, where it is in a pod ("Deployment x")."""
    queue = ctx.facts.known(QUEUE).get(ctx.host)
    seconds = queue["seconds"] if queue else None
    if rollout:
        detail = f"{rollout} rolls out, and slurmctld starts in a new pod (not measured)"
    elif seconds is not None:
        detail = f"about {max(seconds, 0.1):.1f} s, as at its last restart by this tool"
    else:
        detail = "usually a few seconds (not measured on this host yet)"
    effect = f"Jobs: {jobs_text(ctx)}. Until slurmctld answers again, Slurm's commands wait."
    return Restart("slurmctld", detail, effect, after)
