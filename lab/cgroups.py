"""Control groups of a lab's hosts: one group a host in every hierarchy (version 1), or in the one tree (version 2)."""

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from lab.model import Host, Lab

ROOT = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpuset", "cpu", "io", "memory", "pids")


def unified() -> bool:
    """Whether this machine has control groups of version 2 alone."""
    return (ROOT / "cgroup.controllers").exists()


def mounted() -> set[str]:
    """The controllers of version 1 whose hierarchies are mounted ("name=systemd" is one)."""
    options = [_controllers(options) for _, kind, options in _mounts() if kind == "cgroup"]
    return {name for names in options for name in names.split(",")}


def hierarchies() -> list[Path]:
    """Below which folders groups are made: this process's own groups (version 1), the root of the tree (version 2).

    In the tree, a group with processes can have no children with controllers: our own group won't do there.
    """
    if unified():
        return [ROOT]
    mounts = {_controllers(options): Path(point) for point, kind, options in _mounts() if kind == "cgroup"}
    own = dict(_own())
    folders = [point / own[name].lstrip("/") for name, point in mounts.items() if name in own]
    return folders + [Path(point) / own[""].lstrip("/") for point, kind, _ in _mounts() if kind == "cgroup2"][:1]


def make(lab: Lab, host: Host) -> list[Path]:
    """Makes the host's groups and returns them; a process is moved by writing its id to each one's cgroup.procs."""
    groups = []
    for hierarchy in hierarchies():
        for group in (hierarchy / lab.tag, hierarchy / lab.tag / host.name):
            if unified():
                _hand_down(group.parent)
            group.mkdir(exist_ok=True)
            _copy_cpuset(group)
        groups.append(hierarchy / lab.tag / host.name)
    return groups


def groups(lab: Lab, host: Host) -> list[Path]:
    """The host's groups that are there, wherever they were made: `up` may have run in another group than we do."""
    return [group / host.name for group in _lab_groups(lab) if (group / host.name).is_dir()]


def processes(groups: Iterable[Path]) -> set[int]:
    """The ids of all processes in `groups` and below: a host's own and its supervisor."""
    return {pid for group in groups for pid in _processes(group)}


def freeze(groups: Iterable[Path], on: bool) -> None:
    """Stops all processes in `groups`, or lets them go on; returns when it is so."""
    for group in groups:
        if (group / "freezer.state").exists():
            (group / "freezer.state").write_text("FROZEN" if on else "THAWED")
            _await(group / "freezer.state", "FROZEN" if on else "THAWED")
        elif unified():
            (group / "cgroup.freeze").write_text("1" if on else "0")
            _await(group / "cgroup.events", f"frozen {int(on)}")


def kill(groups: Iterable[Path], deadline: float = 60) -> None:
    """End all processes in `groups` and remove the groups; TimeoutError after `deadline` seconds."""
    until = time.monotonic() + deadline
    while left := processes(groups):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > until:
            raise TimeoutError(f"processes {sorted(left)} did not end within {deadline:.0f} s")
        time.sleep(0.02)
    for group in groups:
        _remove(group, until)


def remove(lab: Lab) -> None:
    """Remove the groups that contained the hosts' groups."""
    for group in _lab_groups(lab):
        _remove(group, time.monotonic() + 30)


def _lab_groups(lab: Lab) -> list[Path]:
    """The lab's group in every hierarchy, at most three levels down: no tool runs our commands in a deeper one."""
    tops = [ROOT] if unified() else [Path(point) for point, kind, _ in _mounts() if kind.startswith("cgroup")]
    return [Path(folder) for top in tops for folder in _walk(str(top), 4) if folder.endswith(f"/{lab.tag}")]


def _walk(folder: str, levels: int) -> Iterable[str]:
    # Groups come and go while we look: one that has just gone is no error.
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if levels and entry.is_dir(follow_symlinks=False):
                yield entry.path
                yield from _walk(entry.path, levels - 1)


def _remove(group: Path, until: float) -> None:
    # A process that has just ended holds its group for a moment longer.
    while group.is_dir():
        for folder, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()
        if group.is_dir() and time.monotonic() > until:
            raise TimeoutError(f"control group {group} can't be removed: processes {sorted(_processes(group))}")
        time.sleep(0.01)


def _processes(group: Path) -> set[int]:
    processes: set[int] = set()
    for folder, _, files in os.walk(group):
        if "cgroup.procs" in files:
            with contextlib.suppress(FileNotFoundError, OSError):
                processes |= {int(line) for line in (Path(folder) / "cgroup.procs").read_text().split()}
    return processes


def _await(file: Path, text: str, deadline: float = 60) -> None:
    # What waits for a disk stands still only when that has answered.
    until = time.monotonic() + deadline
    while text not in file.read_text():
        if time.monotonic() > until:
            raise TimeoutError(f"{file} did not show {text} within {deadline:.0f} s")
        time.sleep(0.005)


def _hand_down(group: Path) -> None:
    """Gives the children of `group` the controllers that it has itself (version 2)."""
    available = (group / "cgroup.controllers").read_text().split()
    wanted = " ".join(f"+{name}" for name in CONTROLLERS if name in available)
    (group / "cgroup.subtree_control").write_text(wanted)


def _copy_cpuset(group: Path) -> None:
    """A new group of version 1 has no processors and no memory until it is given its parent's."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not unified() and (group / name).exists():
            (group / name).write_text((group.parent / name).read_text())


def _own() -> list[tuple[str, str]]:
    """(controllers, path) of each group that this process is in; "" is version 2's."""
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    return [(controllers, path) for _, controllers, path in lines]


def _mounts() -> list[tuple[str, str, str]]:
    """(mount point, kind, options) of all mounts."""
    rows = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [(row[1], row[2], row[3]) for row in rows]


def _controllers(options: str) -> str:
    """The controllers among a mount's options, in the form of /proc/self/cgroup."""
    known = {name for name, _ in _own()}
    parts = [option for option in options.split(",") if any(option in name.split(",") for name in known)]
    return ",".join(parts)
