"""What a machine needs for a lab: packages are installed, everything else is reported together, each with its fix."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from lab import cache, cgroups, go_builds
from lab.model import Lab

Announce = Callable[[str], None]
PACKAGES = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "nft": "nftables",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "git": "git",
    "unshare": "util-linux",
    "update-ca-certificates": "ca-certificates",
}
INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
INSTANCES_WANTED = 1024
CONTROLLERS_V1 = {"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "pids", "name=systemd"}
CONTROLLERS_V2 = {"cpu", "cpuset", "memory", "pids"}
GIB = 1 << 30
# A worker's store and its snapshot come to half a gigabyte; the cache is mostly roots and Go's build cache.
DISK_STATE, DISK_CACHE, MEMORY = 5 * GIB, 8 * GIB, 4 * GIB


class NeedsError(RuntimeError):
    """This machine lacks something: a line for each problem, with what to do."""


def programs_of_packages(announce: Announce) -> None:
    """Install the packages of missing programs; finding a lab needs some, too. NeedsError if that fails."""
    if problems := list(_install(_missing(), announce)):
        raise _lacking(problems)


def meet(lab: Lab, announce: Announce) -> None:
    """Install missing packages and raise the limit of inotify instances. NeedsError lists what is still missing."""
    if os.geteuid() != 0:
        raise NeedsError("a lab needs root: run this as root")
    problems = list(_install(_missing(), announce))
    problems += [problem for check in (why_few_inotify, _overlay, _cgroups, _go) if (problem := check())]
    problems += _network() + _upper(lab) + _room(lab) + _path(lab)
    if problems:
        raise _lacking(problems)


def _lacking(problems: list[str]) -> NeedsError:
    return NeedsError("this machine can't carry a lab yet:\n" + "\n".join(f"  - {problem}" for problem in problems))


def _missing() -> list[str]:
    return sorted({package for program, package in PACKAGES.items() if not shutil.which(program)})


def _install(packages: list[str], announce: Announce) -> Iterable[str]:
    if not packages:
        return
    if not shutil.which("apt-get"):
        yield f"missing: {', '.join(packages)}; install them (this machine has no apt-get: the lab is made for Debian 12)"
        return
    announce(f"installing {', '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    for command in (["apt-get", "update"], install):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        yield f"apt-get could not install {' '.join(packages)}: {done.stderr.strip()}"


def why_few_inotify() -> str:
    """Why the kernel allows too few inotify instances, and could not be told to allow more; "" where it allows enough."""
    # At the kernel's 128 only a part of the hosts boots, and no error says so.
    if int(INSTANCES.read_text()) >= INSTANCES_WANTED:
        return ""
    try:
        INSTANCES.write_text(str(INSTANCES_WANTED))
    except OSError as error:
        return f"fs.inotify.max_user_instances is too low ({error}): sysctl -w {INSTANCES_WANTED}"
    return ""


def _overlay() -> str:
    if "\toverlay\n" not in Path("/proc/filesystems").read_text() and shutil.which("modprobe"):
        subprocess.run(["modprobe", "overlay"], capture_output=True, check=False, timeout=30)
    known = "\toverlay\n" in Path("/proc/filesystems").read_text()
    return (
        "" if known else "the kernel has no overlay file system: modprobe overlay, or a kernel with CONFIG_OVERLAY_FS"
    )


def _cgroups() -> str:
    if cgroups.unified():
        lacking = CONTROLLERS_V2 - set((cgroups.ROOT / "cgroup.controllers").read_text().split())
        fix = "boot the kernel without cgroup_disable="
    else:
        lacking = CONTROLLERS_V1 - cgroups.mounted()
        fix = f"mount each below {cgroups.ROOT} (mount -t cgroup -o CONTROLLER cgroup FOLDER), or use version 2"
    return f"control groups lack {', '.join(sorted(lacking))}: {fix}" if lacking else ""


def _go() -> str:
    try:
        go_builds.go_version()
    except go_builds.BuildError as error:
        return str(error)
    return ""


def _network() -> list[str]:
    """Tries, in namespaces that end with the trial, what hosts and pods will do."""
    trials = {
        "network namespaces, veth, bridges": "ip link add v1 type veth peer name v2; ip link add b1 type bridge",
        "nftables": "nft add table ip lab; nft add chain ip lab nat '{ type nat hook postrouting priority 100; }'",
    }
    if not all(shutil.which(program) for program in ("unshare", "ip", "nft")):
        return []
    return [f"no {need} ({error}): {KERNEL}" for need, script in trials.items() if (error := _trial(script))]


def _upper(lab: Lab) -> list[str]:
    """Tries an overlay in the lab's folder, with a deletion, which not every file system can note down."""
    with tempfile.TemporaryDirectory(dir=lab.state) as folder:
        script = (
            "cd $0; mkdir l u w m; touch l/file; mount -t overlay x -o lowerdir=l,upperdir=u,workdir=w m; rm m/file"
        )
        error = _trial(script, folder)
    return [f"{lab.state} can't hold overlays ({error}): move the checkout to ext4 or xfs"] if error else []


KERNEL = "a kernel with these modules is needed, and a machine (not a container) where root may use them"


def _trial(script: str, *arguments: str) -> str:
    alone = ["unshare", "--net", "--mount", "--pid", "--fork", "--uts", "--ipc", "--cgroup"]
    done = subprocess.run(
        [*alone, "sh", "-ec", script, *arguments], capture_output=True, text=True, check=False, timeout=30
    )
    return done.stderr.strip() or f"exit {done.returncode}" if done.returncode else ""


def _room(lab: Lab) -> list[str]:
    problems = []
    for need, path, wanted in (("the lab", lab.state, DISK_STATE), ("the cache", cache.folder(), DISK_CACHE)):
        place = next(folder for folder in (path, *path.parents) if folder.exists())
        free = shutil.disk_usage(place).free
        # What is there already needs no room: a lab that has its snapshot, a cache with its roots.
        if free < wanted and not any(path.glob("pristine*")) and not any(path.glob("containerd-*")):
            problems.append(f"{free / GIB:.1f} GiB free in {place}, {need} needs {wanted / GIB:.0f}: make room there")
    available = int(Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0]) * 1024
    if available < MEMORY and not (lab.state / "pristine").exists():
        problems.append(f"{available / GIB:.1f} GiB of memory available, a lab needs {MEMORY / GIB:.0f}: end something")
    return problems


def _path(lab: Lab) -> list[str]:
    odd = sorted({character for character in str(lab.state) if character in ":,\\ \"'"})
    return [f"{lab.state} has {' '.join(odd)} in its name, which mounts can't take: move the checkout"] if odd else []
