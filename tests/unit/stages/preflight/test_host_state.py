"""The clock and the file systems of controllers and nodes, before a run changes anything."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.model import render
from dws_on_csm.model.step import Facts, ShellLook, StepContext
from dws_on_csm.stages.preflight import host_state
from dws_on_csm.stages.preflight.stage import STAGE
from tests.unit.hostile import needs_root
from tests.unit.small_disk import small_disk

pytestmark = pytest.mark.slow

SITE = load(DEFAULT)
HOST = SITE.controllers[0].name
CTX = StepContext(SITE, Facts(), HOST)


def looked(*folders: Path, shell: str = "sh") -> host_state.HostState:
    """What the script says of these folders of this machine."""
    script = f"{render.script('host/file_systems.sh')}\nfile_systems {shlex.join(map(str, folders))}\n"
    asked_at = time.time()
    done = subprocess.run([shell, "-c", script], capture_output=True, timeout=60, check=True)
    return host_state.parse(done.stdout, asked_at)


def names(state: host_state.HostState) -> list[str]:
    return [finding.name for finding in host_state.judge(CTX, state)]


def test_a_host_that_has_room_is_as_it_should_be(tmp_path: Path) -> None:
    """A clock that is right, and folders with room, also with blanks and quotes in their names; a missing one is left out."""
    folder = tmp_path / "it's a folder"
    folder.mkdir()
    state = looked(folder, tmp_path / "nowhere")
    assert [disk["folder"] for disk in state["disks"]] == [str(folder)]
    assert abs(state["skew"]) <= 1 and names(state) == []


@needs_root
def test_a_full_disk_and_one_without_inodes_are_named(tmp_path: Path) -> None:
    """No space, and no more files, each with the mount and a command that runs and shows what takes it."""
    with small_disk(tmp_path / "small") as disk:
        disk.leave(0)
        (finding,) = host_state.judge(CTX, looked(disk.folder))
        assert finding.name == "disk-full" and f"less than 10 MB are free in {disk.folder}" in finding.text
        command = finding.fix.split("`")[1]
        shown = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=True).stdout
        assert str(disk.folder) in shown
    few: host_state.Disk = {"folder": "/a", "mount": "/", "kilobytes": 10**7, "inodes": 3, "mode": "rw"}
    (finding,) = host_state.judge(CTX, {"skew": 0.0, "disks": [few]})
    assert finding.name == "disk-full" and "inodes" in finding.text and "du --inodes" in finding.fix


@needs_root
@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("bound", [False, True])
def test_a_file_system_that_is_read_only_is_named_and_the_fix_makes_it_writable(
    tmp_path: Path, shell: str, bound: bool
) -> None:
    """A folder below the mount counts, and the command of the fix is pasted as it stands."""
    folder = tmp_path / "a b" / "slurm"
    folder.mkdir(parents=True)
    options = "size=20m" if bound else "size=20m,ro"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder.parent], check=True)
    if bound:  # this mount alone, as of a container's folder
        subprocess.run(["mount", "-o", "remount,bind,ro", folder.parent], check=True)
    try:
        assert names(looked(folder.parent, shell=shell)) == ["file-system-read-only"]
        (finding,) = host_state.judge(CTX, looked(folder.parent, shell=shell))
        subprocess.run(["sh", "-c", finding.fix.split("`")[1]], timeout=60, check=True)
        assert names(looked(folder.parent, shell=shell)) == []
    finally:
        subprocess.run(["umount", folder.parent], check=True)


def test_a_clock_that_is_off_is_a_finding_on_every_host() -> None:
    """Controllers and nodes, not the master alone; the fix says what to run."""
    (finding,) = host_state.judge(CTX, host_state.parse(f"time {time.time() + 3600:.0f}\n".encode(), time.time()))
    assert finding.name == "clock-skew" and f"on {HOST}" in finding.fix and "`chronyc -a makestep`" in finding.fix
    roles = {item.role for item in STAGE.steps if item in (host_state.HOST, host_state.NODE)}
    assert roles == {"controller", "compute"}


def state_of(etc: Path) -> host_state.HostState:
    """What the look says of a controller whose slurm.conf is in this folder."""
    ctx = replace(CTX, site=replace(SITE, slurm=replace(SITE.slurm, folder=str(etc))))
    look = host_state.HOST.look(ctx)
    assert isinstance(look, ShellLook)
    done = subprocess.run(["sh", "-c", look.script], capture_output=True, timeout=60, check=True)
    state: host_state.HostState = look.parse(done.stdout)
    return state


def test_the_folders_of_slurm_conf_are_looked_at(tmp_path: Path) -> None:
    """StateSaveLocation and the log's folder, wherever slurm.conf puts them."""
    spool, log = tmp_path / "spool it's", tmp_path / "log"
    for folder in (spool, log):
        folder.mkdir()
    (tmp_path / "slurm.conf").write_text(f'StateSaveLocation="{spool}"\nSlurmctldLogFile={log}/slurmctld.log\n')
    folders = [disk["folder"] for disk in state_of(tmp_path)["disks"]]
    assert {str(tmp_path), str(spool), str(log)} <= set(folders)


@pytest.mark.parametrize("kind", ["fifo", "$(touch ran)", "link"])
def test_what_slurm_user_names_as_its_folder_is_neither_run_nor_opened(tmp_path: Path, kind: str) -> None:
    """SlurmUser may name anything: a fifo blocks nothing, a command is not run, and no program reads what lies in it."""
    etc, named = tmp_path / "etc", tmp_path / "named"
    etc.mkdir()
    if kind == "fifo":
        os.mkfifo(named)
    elif kind == "link":
        named.symlink_to("/root")
    path = f"{tmp_path}/{kind}" if "$" in kind else str(named)
    (etc / "slurm.conf").write_text(f'StateSaveLocation="{path}"\n')
    folders = [disk["folder"] for disk in state_of(etc)["disks"]]
    assert str(etc) in folders and (path in folders) == (kind == "link")
    assert not (tmp_path / "ran").exists() and not Path("ran").exists()
