"""What a controller or a node needs besides Slurm: a clock that is right, and file systems that can be written."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from typing import TypedDict

from dws_on_csm.model import render
from dws_on_csm.model.actions import STATE
from dws_on_csm.model.lines import lines
from dws_on_csm.model.step import Check, Finding, Look, ShellLook, StepContext
from dws_on_csm.stages import controller_library
from dws_on_csm.stages.pod import discover
from dws_on_csm.stages.preflight import clock

FULL = 10_000
"""Free kilobytes below which a disk counts as full: slurmctld's state and log need more within minutes."""

FEW = 20
"""Free inodes below which no more files can be made."""


class Disk(TypedDict):
    """The file system of a folder; kilobytes and inodes are None where that is unknown. `mode`: rw; ro; ro,bind, where only
    this mount of it is read-only."""

    folder: str
    mount: str
    kilobytes: int | None
    inodes: int | None
    mode: str


class HostState(TypedDict):
    """A host's clock, as `clock.skew` has it, and its file systems."""

    skew: float
    disks: list[Disk]


# --- controllers: their state and log are where slurm.conf says


def _look_controller(ctx: StepContext) -> Look:
    asked_at = time.time()
    script = render.script("host/file_systems.sh", "controller/file_systems.sh")
    return ShellLook(script, lambda out: parse(out, asked_at), controller_library.text(ctx))


# --- nodes


def _look_node(ctx: StepContext) -> Look:
    edited = any(
        host.name == ctx.host for group in ctx.site.computes if group.slurm_conf == "edit" for host in group.hosts
    )
    folders = shlex.join([ctx.site.slurm.folder, STATE.rpartition("/")[0]] if edited else [])
    asked_at = time.time()
    return ShellLook(
        f"{render.script('host/file_systems.sh')}\nfile_systems {folders}\n", lambda out: parse(out, asked_at)
    )


def parse(out: bytes, asked_at: float) -> HostState:
    """Parse the look's lines. Raises ValueError."""
    return {"skew": clock.skew(out, asked_at, time.time()), "disks": list(_disks(out))}


def _disks(out: bytes) -> Iterator[Disk]:
    for line in lines(out, "surrogateescape"):
        word, _, rest = line.partition(" ")
        if word == "disk":
            kilobytes, inodes, mode, where = rest.split(" ", 3)
            mount, _, folder = where.partition("\t")
            yield {
                "folder": folder,
                "mount": mount,
                "kilobytes": None if kilobytes == "-" else int(kilobytes),
                "inodes": None if inodes == "-" else int(inodes),
                "mode": mode,
            }


def judge(ctx: StepContext, have: HostState) -> Sequence[Finding]:
    """The findings of a host: its clock, each full file system, each that cannot be written."""
    return [
        *clock.judge(ctx.host, have["skew"]),
        *_full(ctx, have["disks"]),
        *([] if discover.pod_of(ctx) else _closed(ctx, have["disks"])),
    ]


def _full(ctx: StepContext, disks: Sequence[Disk]) -> Iterator[Finding]:
    by_mount: dict[tuple[str, bool], list[str]] = {}
    for disk in disks:
        if disk["kilobytes"] is not None and disk["kilobytes"] < FULL:
            by_mount.setdefault((disk["mount"], False), []).append(disk["folder"])
        elif disk["inodes"] is not None and disk["inodes"] < FEW:
            by_mount.setdefault((disk["mount"], True), []).append(disk["folder"])
    for (mount, of_files), folders in by_mount.items():
        lacks = "no more files (inodes)" if of_files else f"less than {FULL // 1000} MB"
        text = f"the disk of {', '.join(folders)} on {ctx.host} is full: {lacks} are free in {mount}. "
        text += "Slurm may lose its state or its log, and a run cannot save before-images there"
        what = "du --inodes -x" if of_files else "du -xm"
        find = f"{what} --max-depth=3 {shlex.quote(mount)} 2>/dev/null | sort -n | tail -n 15"
        yield Finding("disk-full", text, f"free space: `{find}` on {ctx.host} shows what takes it")


def _closed(ctx: StepContext, disks: Sequence[Disk]) -> Iterator[Finding]:
    by_mount: dict[tuple[str, str], list[str]] = {}
    for disk in disks:
        if disk["mode"] != "rw":
            by_mount.setdefault((disk["mount"], disk["mode"]), []).append(disk["folder"])
    for (mount, mode), folders in by_mount.items():
        text = f"{', '.join(folders)} on {ctx.host} cannot be written: {mount} is mounted read-only. "
        text += "The kernel mounts a file system read-only after an error of its disk"
        fix = f"run `mount -o remount,{mode.replace('ro', 'rw')} {shlex.quote(mount)}` on {ctx.host}; "
        fix += "where that is refused, `dmesg | tail -n 50` there has the error, and /etc/fstab says whether it is meant to be so"
        yield Finding("file-system-read-only", text, fix)


HOST = Check("host", "controller", _look_controller, judge)
NODE = Check("node", "compute", _look_node, judge)
