"""Hosts to measure on: an sshd in a network namespace each, or one sshd that answers for many addresses.

All use one host key and one login key. Each sshd has its own mounts: root's login shell there is /bin/sh, with a home without
files, and what a host keeps (its folder of slurm.conf, this tool's records) is a folder of the bench.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dws_on_csm.model.actions import STATE
from tests.ssh.server import HANG, SSHD, free_port, keygen, processes_below

SLURM = Path("/var/lib/dws-on-csm-bench")
"""The folder of slurm.conf on the hosts."""
SPACE = "dwsbench"
"""The network namespace with the bridge; a host's is this with its number behind it."""
NETWORK = "10.79"
START = 60.0  # seconds until an sshd answers
PAUSE = 0.002  # seconds between two tries

# $1: root's passwd; $2, $3: the host's folder of slurm.conf and of records; then sshd's command. Nothing is made on this machine.
_INSIDE = (
    f'mount --bind "$1" /etc/passwd && mount -t tmpfs tmpfs /var/lib && mkdir {SLURM} {STATE} && '
    f'mount --bind "$2" {SLURM} && mount --bind "$3" {STATE} && shift 3 && exec "$@"'
)

_SSHD = """\
Port {port}
ListenAddress 0.0.0.0
HostKey {folder}/host
AuthorizedKeysFile {folder}/id.pub
SetEnv HOME={folder}/home
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
PidFile none
LogLevel ERROR
Subsystem sftp internal-sftp
MaxStartups 10000
MaxSessions 100
"""

_CLIENT = """\
Host {pattern}
  User root
  Port {port}
  IdentityFile {folder}/id
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {known}
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  ControlMaster no
"""


@dataclass(frozen=True)
class Fleet:
    """Hosts that answer. `confs`: the slurm.conf of each as a file here; one for all where one sshd answers for all."""

    folder: Path
    port: int
    hosts: tuple[str, ...]
    confs: tuple[Path, ...]
    records: tuple[Path, ...]

    @property
    def key(self) -> Path:
        """The private key that logs in as root."""
        return self.folder / "id"

    @property
    def known_hosts(self) -> Path:
        """A known_hosts with a line for each host."""
        return self.folder / "known_hosts"

    @property
    def config(self) -> Path:
        """The ssh_config for these hosts."""
        return self.folder / "ssh_config"

    def reset(self, text: str) -> None:
        """Give each host this slurm.conf, and no records of earlier runs."""
        for conf in self.confs:
            conf.write_text(text)
        for folder in self.records:
            for item in folder.iterdir():
                shutil.rmtree(item) if item.is_dir() else item.unlink()

    def differing(self, text: str) -> int:
        """How many hosts have another slurm.conf than this."""
        return sum(conf.read_text() != text for conf in self.confs)


@contextmanager
def namespaces(folder: Path, count: int) -> Iterator[Fleet]:
    """`count` hosts, each an sshd in a network namespace of its own, while the `with` lasts."""
    hosts = tuple(f"{NETWORK}.{1 + number // 250}.{1 + number % 250}" for number in range(count))
    with ExitStack() as stack:
        _prepare(folder, 22, hosts, f"{NETWORK}.*")
        stack.enter_context(_network(hosts))
        for number in range(count):
            stack.enter_context(_sshd(folder, number, ("ip", "netns", "exec", f"{SPACE}{number}")))
        fleet = _fleet(folder, 22, hosts, count)
        for host in hosts:
            _await(host, 22)
        yield fleet


@contextmanager
def loopback(folder: Path, count: int) -> Iterator[Fleet]:
    """`count` addresses of the loopback network, for all of which one sshd answers, while the `with` lasts."""
    hosts = tuple(f"127.0.{1 + number // 250}.{1 + number % 250}" for number in range(count))
    port = free_port()
    with ExitStack() as stack:
        _prepare(folder, port, hosts, "127.0.*")
        stack.enter_context(_sshd(folder, 0, ("unshare", "--mount")))
        _await(hosts[0], port)
        yield _fleet(folder, port, hosts, 1)


def _fleet(folder: Path, port: int, hosts: tuple[str, ...], kept: int) -> Fleet:
    own = [folder / "hosts" / str(number) for number in range(kept)]
    confs, records = (path / "slurm" / "slurm.conf" for path in own), (path / "records" for path in own)
    return Fleet(folder, port, hosts, tuple(confs), tuple(records))


def _prepare(folder: Path, port: int, hosts: Sequence[str], pattern: str) -> None:
    """Write the keys, and the files for sshd and for its clients."""
    Path("/run/sshd").mkdir(exist_ok=True)
    (folder / "home").mkdir(parents=True)
    keygen(folder / "host")
    keygen(folder / "id")
    (folder / "sshd_config").write_text(_SSHD.format(port=port, folder=folder))
    users = Path("/etc/passwd").read_text().splitlines()
    root = f"root:x:0:0:root:{folder}/home:/bin/sh"
    (folder / "passwd").write_text("\n".join([root, *(line for line in users if not line.startswith("root:"))]) + "\n")
    configure(folder, port, hosts, pattern)


def configure(folder: Path, port: int, hosts: Sequence[str], pattern: str) -> None:
    """Write the files for ssh's clients."""
    known = folder / "known_hosts"
    (folder / "ssh_config").write_text(_CLIENT.format(port=port, folder=folder, pattern=pattern, known=known))
    key = " ".join((folder / "host.pub").read_text().split()[:2])
    names = (host if port == 22 else f"[{host}]:{port}" for host in hosts)
    known.write_text("".join(f"{name} {key}\n" for name in names))


@contextmanager
def _sshd(folder: Path, number: int, inside: Sequence[str]) -> Iterator[None]:
    own = folder / "hosts" / str(number)
    kept = (own / "slurm", own / "records")
    for path in kept:
        path.mkdir(parents=True)
    command = [*inside, "sh", "-c", _INSIDE, "sh", str(folder / "passwd"), *map(str, kept)]
    with (own / "log").open("wb") as log:
        command += [str(SSHD), "-D", "-e", "-f", str(folder / "sshd_config")]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log)
    try:
        yield
    finally:
        for pid in (process.pid, *(line[-1] for line in processes_below(process.pid))):
            with suppress(ProcessLookupError):  # it has ended already
                os.kill(pid, signal.SIGKILL)
        process.wait(HANG)


def _await(host: str, port: int) -> None:
    deadline_at = time.monotonic() + START
    while True:
        try:
            with socket.create_connection((host, port), timeout=START) as link:
                if link.recv(4) == b"SSH-":
                    return
        except OSError:
            if time.monotonic() > deadline_at:
                raise
        time.sleep(PAUSE)  # no event says when sshd listens


@contextmanager
def _network(hosts: Sequence[str]) -> Iterator[None]:
    """A bridge in a namespace of its own, a device to it on this machine, and one in the namespace of each host."""
    try:
        _ip(f"netns add {SPACE}", f"link add {SPACE} type veth peer name machine netns {SPACE}")
        _ip("link add bench type bridge", "link set machine master bench up", "link set bench up", within=SPACE)
        _ip(f"addr add {NETWORK}.0.1/16 dev {SPACE}", f"link set {SPACE} up")
        for number, host in enumerate(hosts):
            own = f"{SPACE}{number}"
            _ip(f"netns add {own}")
            _ip(
                f"link add h{number} type veth peer name eth0 netns {own}",
                f"link set h{number} master bench up",
                within=SPACE,
            )
            _ip(f"addr add {host}/16 dev eth0", "link set eth0 up", "link set lo up", within=own)
        yield
    finally:
        for name in (*(f"{SPACE}{number}" for number in range(len(hosts))), SPACE):
            if Path("/run/netns", name).exists():
                _ip(f"netns del {name}")


def _ip(*lines: str, within: str = "") -> None:
    command = ["ip", *(("-n", within) if within else ()), "-batch", "-"]
    done = subprocess.run(
        command, input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=HANG, check=False
    )
    if done.returncode:
        sys.exit(
            f"bench: {' '.join(command)}: {done.stderr.strip()}; is another bench running, or did one end by force?"
        )
