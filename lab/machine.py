"""One host as a container: systemd-nspawn over an overlay, in a network namespace and control groups made before."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab import cgroups, network
from lab.layer import FILES
from lab.model import Host, Lab

# What lies on the real file system: an overlay can't be the upper layer of another one, which container stores make;
# and etcd's log of 64 MB would be copied up as a whole at the first byte written.
STORES = {"master": ("containerd", "containers", "kubelet", "etcd"), "worker": ("containerd", "kubelet")}
PROPAGATE = Path("/run/systemd/nspawn/propagate")


def boot(lab: Lab, host: Host, lower: Sequence[Path]) -> subprocess.Popen[bytes]:
    """Starts a host that is not running on the layers `lower` (the topmost first) and returns its supervisor at once.

    The supervisor outlives this process; what the host's console says goes to STATE/consoles/HOST.
    """
    folder = lab.folder(host)
    for name in ("upper", "work", "root", *(f"data/{store}" for store in STORES.get(host.role, ()))):
        (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700 if name == "data/etcd" else 0o755)
    network.attach(lab, host)
    (folder / "cgroups").write_text("".join(f"{group}\n" for group in cgroups.make(lab, host)))
    console = lab.state / "consoles" / host.name
    console.parent.mkdir(exist_ok=True)
    with console.open("ab") as output:
        return _launch(_command(lab, host, lower), output.fileno())


def kill(lab: Lab, host: Host) -> None:
    """End a host at once and remove all traces of it from this machine; do nothing if it is not running."""
    groups = cgroups.groups(lab, host)
    cgroups.freeze(groups, on=False)
    _end_init(groups)
    cgroups.kill(groups)
    network.detach(lab, host)
    with contextlib.suppress(FileNotFoundError):
        (PROPAGATE / _name(lab, host)).rmdir()


def running(lab: Lab, host: Host) -> bool:
    """Whether the host has an init."""
    return init(lab, host) is not None


def init(lab: Lab, host: Host) -> int | None:
    """The process id, on this machine, of the host's init; None when it is not running."""
    return _init(cgroups.groups(lab, host))


def wait_for_ssh(lab: Lab, booted: Mapping[Host, subprocess.Popen[bytes]], deadline: float = 180) -> None:
    """Returns when sshd greets on all hosts of the lab, of which `booted` have just been started.

    RuntimeError shows the console of one that ended instead; TimeoutError names those that say nothing.
    """
    until, silent = time.monotonic() + deadline, list(lab.hosts)
    while silent := [host for host in silent if not greets(host)]:
        for host in silent:
            if host in booted and booted[host].poll() is not None:
                raise RuntimeError(f"{host.name} did not boot; its console says:\n{_console(lab, host)}")
        if time.monotonic() > until:
            raise TimeoutError(f"no sshd within {deadline:.0f} s on {', '.join(host.name for host in silent)}")
        time.sleep(0.05)


def greets(host: Host, patience: float = 10) -> bool:
    """Whether sshd on `host` says so, within `patience` seconds for the connection and as many for the greeting."""
    try:
        with socket.create_connection((host.address, 22), timeout=patience) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _launch(command: list[str], output: int) -> subprocess.Popen[bytes]:
    version = "1" if cgroups.unified() else "0"
    settings = {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": version, "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "yes"}
    return subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", *command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        cwd="/",
        env={"PATH": os.defpath + ":/usr/sbin:/sbin", **settings},
    )


def _command(lab: Lab, host: Host, lower: Sequence[Path]) -> list[str]:
    folder = lab.folder(host)
    binds = {folder / "data" / store: f"/var/lib/{store}" for store in STORES.get(host.role, ())}
    if host in lab.slurmctlds:
        binds[lab.state / "shared" / "slurm"] = "/var/lib/slurm/shared"
    nspawn = ["systemd-nspawn", "--quiet", "--boot", f"--directory={folder / 'root'}"]
    nspawn += [f"--machine={_name(lab, host)}", f"--hostname={host.name}", "--register=no", "--keep-unit"]
    nspawn += [f"--network-namespace-path=/run/netns/{network.namespace(lab, host)}"]
    # runc needs the three calls about keys, or says "unable to create session key".
    nspawn += ["--capability=all", "--system-call-filter=add_key keyctl request_key bpf"]
    nspawn += ["--console=pipe", "--link-journal=no", "--resolv-conf=off", "--timezone=off", "--settings=no"]
    nspawn += [f"--bind={source}:{target}" for source, target in binds.items()]
    return [str(FILES / "launch"), str(folder), ":".join(str(layer) for layer in lower), *nspawn]


def _console(lab: Lab, host: Host, lines: int = 15) -> str:
    console = (lab.state / "consoles" / host.name).read_text(errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in console[-lines:])


def _name(lab: Lab, host: Host) -> str:
    """The name that systemd-nspawn keeps its own files under."""
    return f"{lab.tag}-{host.name}".replace(".", "-")


def _init(groups: Sequence[Path]) -> int | None:
    """The id of a host's init: the child of its supervisor."""
    for pid in cgroups.processes(groups):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{pid}/comm").read_text() == "systemd-nspawn\n":
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
                return int(children[0]) if children else None
    return None


def _end_init(groups: Sequence[Path], deadline: float = 30) -> None:
    """Kills a host's init, with which all its processes end, and lets the supervisor clean up after itself."""
    init = _init(groups)
    if init is None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(init, signal.SIGKILL)
    until = time.monotonic() + deadline
    while cgroups.processes(groups) and time.monotonic() < until:
        time.sleep(0.02)


def forget(lab: Lab, host: Host) -> None:
    """Takes away what a host that is not running has written: its upper layer and its stores."""
    for name in ("upper", "work", "data"):
        if (lab.folder(host) / name).exists():
            shutil.rmtree(lab.folder(host) / name)
