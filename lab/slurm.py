"""The Slurm hosts of a lab: their Debian root, and the layers of controllers and compute nodes."""

import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from lab import cache, keys, roots, ssh
from lab.layer import FILES, Layer, fill
from lab.model import Host, Lab

SUITE = "trixie"
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "openssh-server", "sudo", "procps", "less", "vim-tiny"),
    *("iproute2", "iputils-ping", "ca-certificates", "curl", "git", "python3-minimal"),
    *("munge", "slurmctld", "slurmd", "slurm-client", "slurm-wlm-basic-plugins", "lua5.4", "liblua5.4-0"),
)
# More units that a container does not need: half of the time of a boot.
MASKED = (
    *("sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-kernel-config.mount", "sys-fs-fuse-connections.mount"),
    *("dev-hugepages.mount", "dev-mqueue.mount", "systemd-sysusers.service", "systemd-journal-flush.service"),
    *("ldconfig.service", "systemd-journal-catalog-update.service", "systemd-update-done.service"),
)
# After failed logins, Debian 13's sshd rejects an address for a while; tests on a lab try such logins.
SSHD_OPTIONS = 'SSHD_OPTS="-o PerSourcePenalties=no"\n'
DAEMONS = {"controller": ("slurmctld",), "compute": ("slurmd",), "slurm": ("slurmctld", "slurmd")}
REBUILD = FILES / "rebuild-burst-buffer-lua"
REBUILD_DEADLINE = 900.0  # seconds; it takes 30 on two cores


def root(announce: Callable[[str], None] = lambda text: None) -> Path:
    """The root of controllers and compute nodes, from the cache or made now (about 90 s): Slurm with Lua 5.4.

    Debian links burst_buffer_lua.so with Lua 5.1, in which DWS's plugin can't read the exit code of its commands: that
    one file is built again. RuntimeError ends with the build's output.
    """

    def make(folder: Path) -> None:
        roots.bootstrap(folder / "root", SUITE, PACKAGES)
        announce("  Slurm's root is unpacked; burst_buffer_lua.so is built with Lua 5.4")
        _rebuild_plugin(folder / "root", folder / "scratch")
        roots.trim(folder / "root")
        for unit in MASKED:
            (folder / "root/etc/systemd/system" / unit).symlink_to("/dev/null")
        (folder / "root/etc/default/ssh").write_text(SSHD_OPTIONS)

    inputs = (SUITE, *PACKAGES, *roots.MASKED, *MASKED, SSHD_OPTIONS, REBUILD)
    return cache.entry("slurm", inputs, make, announce, expect="90 s") / "root"


def _rebuild_plugin(into: Path, scratch: Path) -> None:
    command = ["nice", "-n", "5", "unshare", "--mount", "--propagation", "private", str(REBUILD), str(into)]
    run = subprocess.run([*command, str(scratch)], capture_output=True, text=True, timeout=REBUILD_DEADLINE)
    if run.returncode:
        output = "\n".join((run.stdout + run.stderr).splitlines()[-30:])
        raise RuntimeError(f"{REBUILD.name} exited {run.returncode}\n{output}")
    shutil.rmtree(scratch)


def write_layer(lab: Lab, host: Host, folder: Path) -> None:
    """Writes into its layer what makes `host` a controller or a compute node: configuration, munge key, units enabled.

    slurm.conf, nodes.conf and the munge key are the same on all hosts of a Slurm cluster. The root may be another than root()'s:
    owners are looked up in its passwd, and LookupError says which account it lacks; what it has in /etc/slurm itself stays.
    """
    layer = Layer(folder, lab.options.slurm_root or root())
    second = host.role == "slurm"
    layer.tree("slurm", _second_values(host) if second else _values(lab))
    _leave_to_root(layer, configuration(lab))
    if lab.options.csm and host.role == "compute":
        _fetched(lab, layer)
    if host in lab.role("controller")[1:]:
        layer.tree("slurm-backup", {})
    key = munge_key(lab, "munge2.key") if second else munge_key(lab)
    layer.put("/etc/munge/munge.key", key, 0o400, account(layer, "munge"))
    layer.enable("munge.service", *(f"{daemon}.service" for daemon in DAEMONS[host.role]))


def _leave_to_root(layer: Layer, names: Iterable[str]) -> None:
    """Another Slurm may need other settings: a file of the given root replaces ours."""
    for path in (f"/etc/slurm/{name}" for name in names):
        if (layer.root / path.lstrip("/")).exists():
            layer.at(path).unlink()


def _fetched(lab: Lab, layer: Layer) -> None:
    """Makes a node configless: it has no configuration of its own and asks slurmctld for it."""
    for name in configuration(lab):
        layer.at(f"/etc/slurm/{name}").unlink()
    layer.tree("slurmd-configless", {"SERVERS": ",".join(host.name for host in lab.slurmctlds)})


def munge_key(lab: Lab, name: str = "munge.key") -> bytes:
    """The key by which the munge daemons of one of the lab's Slurm clusters trust each other."""
    return keys.kept(lab.state / "secrets" / name, lambda: secrets.token_bytes(128))


def configuration(lab: Lab) -> dict[str, str]:
    """The files in /etc/slurm, the same wherever Slurm runs: slurm.conf, nodes.conf, cgroup.conf."""
    return {path.name: fill(path.read_text(), _values(lab)) for path in sorted((FILES / "slurm/etc/slurm").iterdir())}


def _values(lab: Lab) -> dict[str, str]:
    """What slurm.conf has for slurmctld on hosts, or in a pod, which logs to its standard error."""
    nodes = CSM_NODES if lab.options.csm else HOST_NODES
    log = POD_LOG if lab.options.in_pods else HOST_LOG
    common = {"CLUSTER": "lab", "COMPUTES": "nid[000001-000002]", "LOG": log, "NODES": nodes}
    if lab.options.slurmctld_pod:
        return {"CONTROLLERS": POD_LINE.format(lab.slurmctlds[0].name), **common}
    primary, backup = lab.slurmctlds
    return {"CONTROLLERS": HOST_LINES.format(primary.name, backup.name), **common}


def _second_values(host: Host) -> dict[str, str]:
    """What slurm.conf of the second Slurm cluster has, which is all on one host."""
    line = f"SlurmctldHost={host.name}"
    return {"CLUSTER": "second", "COMPUTES": host.name, "CONTROLLERS": line, "LOG": HOST_LOG, "NODES": HOST_NODES}


HOST_LINES = """SlurmctldHost={}     # primary
SlurmctldHost={}     # backup: takes over SlurmctldTimeout after the last sign of life"""
NODES = "nodes.conf"
HOST_NODES = "# --- nodes and partitions have a file of their own\nInclude nodes.conf"
CSM_NODES = """# --- nodes fetch this file from slurmctld, and the Job that renders it knows them
SlurmctldParameters=enable_configless
{{ nodes }}"""
HOST_LOG = "SlurmctldLogFile = /var/log/slurm/slurmctld.log"
POD_LINE = "SlurmctldHost={}     # the worker whose network slurmctld's pod is in"
POD_LOG = "# slurmctld runs in the foreground of a pod and has no file: kubectl logs shows what it says."


def account(layer: Layer, name: str) -> tuple[int, int]:
    """The (uid, gid) of an account of the host; LookupError when it has none of that name."""
    for line in layer.read("/etc/passwd").splitlines():
        user, _, uid, gid, *_ = line.split(":")
        if user == name:
            return int(uid), int(gid)
    raise LookupError(f"no account {name} in {layer.root}/etc/passwd: is it a Debian root with Slurm and munge?")


def settle(lab: Lab, deadline: float = 180) -> None:
    """Return when every slurmctld answers and all nodes are idle. TimeoutError shows Slurm's answer.

    A backup answers about 6 seconds after it has started: slurmctld gives the primary 5 to set itself up.
    """
    until, nodes = time.monotonic() + deadline, lab.role("compute")
    _settle(lab, nodes[0], len(lab.slurmctlds), len(nodes), until)
    for host in lab.role("slurm"):
        _settle(lab, host, 1, 1, until)


def _settle(lab: Lab, asked: Host, slurmctlds: int, nodes: int, until: float) -> None:
    while not settled(answer := _state(lab, asked), slurmctlds, nodes):
        if time.monotonic() > until:
            raise TimeoutError(f"Slurm was not ready in time; on {asked.name} it says:\n{answer}")
        time.sleep(0.2)


def settled(answer: str, slurmctlds: int, nodes: int = 2) -> bool:
    """Whether what `scontrol ping; sinfo -h -N -o %t` printed is a ready site's: every slurmctld UP, all nodes idle."""
    return answer.count(" is UP") == slurmctlds and answer.splitlines()[-nodes:] == ["idle"] * nodes


def _state(lab: Lab, asked: Host) -> str:
    # Both try for a long time to reach a slurmctld that does not answer.
    return ssh.run(lab, asked.name, "{ timeout 20 scontrol ping; timeout 20 sinfo -h -N -o %t; } 2>&1 || true")
