"""Whether any node takes the jobs of the test job's partition: after a pause of munge Slurm may leave all of them down."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from dws_on_csm.model import render
from dws_on_csm.model.lines import lines
from dws_on_csm.model.step import Check, Finding, ShellLook, StepContext
from dws_on_csm.stages import controller_library

_TAKE_JOBS = frozenset({"idle", "mix", "alloc", "comp", "unk"})
"""States of `sinfo --format %t` in which a node has jobs, or will have; a mark behind them (`*`, `~`, `-`) says more. Of "unk", a
slurmctld that has just started has not heard yet: one that stays silent becomes down after SlurmdTimeout."""

Row = tuple[str, ...]
"""Partition, whether it is up, state, nodes, since when, and the reason."""


def _look(ctx: StepContext) -> ShellLook:
    script = render.script("controller/nodes.sh", partition=ctx.site.test_job.partition)
    return ShellLook(script, parse, controller_library.text(ctx))


def parse(out: bytes) -> list[Row]:
    """Parse the lines of templates/controller/nodes.sh."""
    rows = [tuple(line.split("|", 5)) for line in lines(out, "replace")]
    return [row for row in rows if len(row) == 6]


def judge(ctx: StepContext, rows: list[Row]) -> Sequence[Finding]:
    """The partition of the test job without any node that takes jobs."""
    asked = ctx.site.test_job.partition
    mine = [row for row in rows if row[0].removesuffix("*") == asked or (not asked and row[0].endswith("*"))]
    if not mine or any(_takes_jobs(row) for row in mine):
        return ()
    name, host = mine[0][0].removesuffix("*"), ctx.host
    if mine[0][1] != "up":
        text = f"partition {name} is {mine[0][1]}: no job of it starts, and no test job can prove the result"
        fix = f"if nobody has closed it on purpose, run `scontrol update PartitionName={shlex.quote(name)} State=UP` on {host}"
        return (Finding("nodes-unavailable", text, fix),)
    states = "; ".join(f"{nodes} {state} since {since}: {reason}" for _, _, state, nodes, since, reason in mine)
    text = f"no node of partition {name} takes jobs ({states}): no #DW job starts, and no test job can prove the result"
    # Slurm marks a node that it no longer asks with a *; a reason that it gave itself says the same of one that is down
    silent = ",".join(nodes for _, _, state, nodes, _, why in mine if "*" in state or why == "Not responding")
    closed = ",".join(nodes for _, _, state, nodes, _, _ in mine if state.startswith(("down", "drain", "drng", "fail")))
    fix = f"run `scontrol show reservation` on {host}: nodes of a reservation take only its own jobs until it ends"
    resume = f"run `scontrol update NodeName={shlex.quote(closed)} State=RESUME` on {host}"
    if closed:
        fix = f"if nobody works on them, {resume}"
    if silent:
        fix = f"make sure that slurmd and munge run on these nodes, and munge on {host}: "
        fix += f"run `systemctl enable --now munge slurmd` on {silent}"
        fix += f"; then {resume}" if closed else ". Slurm then uses them again"
    return (Finding("nodes-unavailable", text, fix),)


def _takes_jobs(row: Row) -> bool:
    _, up, state, *_ = row
    return up == "up" and "*" not in state and state.rstrip("~#!%$@+^-") in _TAKE_JOBS


CHECK = Check("nodes", "submitter", _look, lambda ctx, have: judge(ctx, have))
