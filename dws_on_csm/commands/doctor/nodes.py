"""Whether any node takes the jobs of the test job's partition: after a pause of munge Slurm may leave all of them down."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import NamedTuple

from dws_on_csm.model import render
from dws_on_csm.model.lines import lines
from dws_on_csm.model.step import Check, Finding, ShellLook, StepContext
from dws_on_csm.stages import controller_library


class Row(NamedTuple):
    """What Slurm says of the nodes of one partition in one state; `takes`: whether they take jobs."""

    takes: bool
    partition: str
    up: str
    state: str
    nodes: str
    since: str
    reason: str


def _look(ctx: StepContext) -> ShellLook:
    script = render.script("controller/nodes.sh", partition=ctx.site.test_job.partition)
    return ShellLook(script, parse, controller_library.with_slurmctld(ctx))


def parse(out: bytes) -> list[Row]:
    """Parse the lines of templates/controller/nodes.sh."""
    rows = (line.split("|", 6) for line in lines(out, "replace"))
    return [Row(row[0] == "yes", *row[1:]) for row in rows if len(row) == 7]


def judge(ctx: StepContext, rows: list[Row]) -> Sequence[Finding]:
    """The partition of the test job without any node that takes jobs."""
    asked = ctx.site.test_job.partition
    mine = [
        row for row in rows if row.partition.removesuffix("*") == asked or (not asked and row.partition.endswith("*"))
    ]
    if not mine or any(row.takes for row in mine):
        return ()
    name, host = mine[0].partition.removesuffix("*"), ctx.host
    if mine[0].up != "up":
        text = f"partition {name} is {mine[0].up}: its jobs stay pending, and the test job cannot run"
        fix = "find out whether somebody closed it on purpose; if not, run "
        fix += f"`scontrol update PartitionName={shlex.quote(name)} State=UP` on {host}"
        return (Finding("nodes-unavailable", text, fix),)
    states = "; ".join(f"{row.nodes} {row.state} since {row.since}: {row.reason}" for row in mine)
    text = (
        f"all nodes of partition {name} are unavailable ({states}): #DW jobs stay pending, and the test job cannot run"
    )
    # Slurm marks a node that it no longer asks with a *; a reason that it gave itself says the same of one that is down
    silent = ",".join(row.nodes for row in mine if "*" in row.state or row.reason == "Not responding")
    closed = ",".join(row.nodes for row in mine if row.state.startswith(("down", "drain", "drng", "fail")))
    fix = f"run `scontrol show reservation` on {host}: nodes of a reservation take only its own jobs until it ends"
    resume = f"run `scontrol update NodeName={shlex.quote(closed)} State=RESUME` on {host}"
    if closed:
        fix = f"make sure that nobody works on them; then {resume}"
    if silent:
        fix = f"make sure that slurmd and munge run on these nodes, and munge on {host}: "
        fix += f"run `systemctl enable --now munge slurmd` on {silent}"
        fix += f"; then {resume}" if closed else ". Slurm then uses them again"
    return (Finding("nodes-unavailable", text, fix),)


CHECK = Check("nodes", "submitter", _look, lambda ctx, have: judge(ctx, have))
