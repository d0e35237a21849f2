"""Whether slurmctld's disks are full: a check of the doctor, which an install has none of."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from dws_on_csm.model.actions import STATE
from dws_on_csm.model.lines import lines
from dws_on_csm.model.step import Check, Finding, ShellLook, StepContext, Value
from dws_on_csm.stages.slurm import controller

FULL = 10_000
"""Kilobytes below which a disk counts as full: slurmctld's state and log need more within minutes."""

_LOOK = """for one in {folders}; do
    [ ! -d "$one" ] || df -Pk -- "$one" | awk -v at="$one" 'NR == 2 {{print $4, at}}'
done"""


def _look(ctx: StepContext) -> ShellLook:
    folders = dict.fromkeys(one for one in _folders(ctx) if one.startswith("/"))
    return ShellLook(_LOOK.format(folders=shlex.join(folders)), _parse)


def _folders(ctx: StepContext) -> Iterator[str]:
    """Where slurmctld has its files, its state and its log, and where an install keeps what was there before."""
    yield from (ctx.site.slurm.folder, STATE)
    for key, whole in (("StateSaveLocation", True), ("SlurmctldLogFile", False)):
        if said := controller.setting(controller.found(ctx), ctx.site, key):
            yield said.value if whole else str(PurePosixPath(said.value).parent)


def _parse(out: bytes) -> Value:
    """Folder -> kilobytes that are free."""
    rows = [line.split(" ", 1) for line in lines(out, "replace")]
    return {where: int(free) for free, where in rows}


def _judge(ctx: StepContext, found: Value) -> Sequence[Finding]:
    full = [where for where, free in found.items() if free < FULL]
    if not full:
        return ()
    text = f"less than {FULL // 1000} MB are free on {ctx.host} for {', '.join(full)}"
    text += ": what slurmctld or an install writes there is lost"
    fix = f"make room: `df -h {shlex.join(full)}` there shows on which disk"
    return (Finding("disk-full", text, fix),)


CHECK = Check("room", "controller", _look, _judge)
