"""A real sshd on the loopback interface with throwaway keys, and the ssh_config for it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

SSHD = Path("/usr/sbin/sshd")  # sshd insists on being called by its full path
START = 60.0
HANG = 60.0
"""Seconds for work that takes a moment on an idle machine."""
_given: set[int] = set()


@dataclass(frozen=True)
class Server:
    """A running sshd. The private key `key` may log in as root."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def key(self) -> Path:
        """The private key that may log in."""
        return self.folder / "id"

    @property
    def host_key(self) -> str:
        """The public host key: type and base64."""
        return " ".join((self.folder / "host.pub").read_text().split()[:2])

    def known_hosts(self, name: str = "") -> Path:
        """A known_hosts file with this server's key, under `name` if given."""
        file = self.folder / f"known_hosts-{name}"
        file.write_text(f"{name or f'[127.0.0.1]:{self.port}'} {self.host_key}\n")
        return file

    def config(self, *lines: str, name: str = "host") -> str:
        """A section of ssh_config for this server; `lines` come first, so they outrank the others."""
        rest = (
            "HostName 127.0.0.1",
            f"Port {self.port}",
            f"IdentityFile {self.key}",
            "IdentityAgent none",
            f"UserKnownHostsFile {self.known_hosts()}",
            "GlobalKnownHostsFile /dev/null",
        )
        return "\n  ".join((f"Host {name}", *lines, *rest)) + "\n"

    def kill(self) -> None:
        """Kill sshd and the processes of its connections, like a crash."""
        for pid in (self.process.pid, *(line[-1] for line in processes_below(self.process.pid))):
            with suppress(ProcessLookupError):  # it has ended already
                os.kill(pid, signal.SIGKILL)
        self.process.wait(HANG)


def keygen(file: Path, *words: str, passphrase: str = "") -> Path:
    """A new key pair FILE and FILE.pub."""
    options = words or ("-t", "ed25519")
    subprocess.run(
        ["ssh-keygen", "-q", *options, "-N", passphrase, "-C", file.name, "-f", file], check=True, timeout=HANG
    )
    return file


def free_port() -> int:
    """A free TCP port of the loopback interface, a new one at each call: the last may not be in use yet."""
    while True:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port: int = listener.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port


@contextmanager
def running(folder: Path, *options: str, inside: Sequence[str] = ()) -> Iterator[Server]:
    """An sshd while the `with` lasts. `options` are lines of sshd_config, `inside` are words before its command."""
    folder.mkdir(parents=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    (folder / "home").mkdir()
    keygen(folder / "host")
    keygen(folder / "id")
    (folder / "authorized_keys").write_bytes((folder / "id.pub").read_bytes())
    port = free_port()
    lines = (
        *options,
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {folder / 'host'}",
        f"AuthorizedKeysFile {folder / 'authorized_keys'}",
        f"SetEnv HOME={folder / 'home'}",  # not the real one, whose .bashrc could change the tests
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "StrictModes no",
        "UsePAM no",
        "PidFile none",
        "MaxStartups 100",
    )
    (folder / "sshd_config").write_text("\n".join(lines) + "\n")
    with (folder / "log").open("wb") as log:
        command = [*inside, str(SSHD), "-D", "-e", "-f", str(folder / "sshd_config")]
        process = subprocess.Popen(command, stderr=log)
    server = Server(folder, port, process)
    try:
        _await(server)
        yield server
    finally:
        if process.poll() is None:
            server.kill()


def _await(server: Server) -> None:
    ends = time.monotonic() + START
    while True:
        try:
            with socket.create_connection(("127.0.0.1", server.port), timeout=2) as link:
                assert link.recv(4) == b"SSH-"
                return
        except OSError:
            log = (server.folder / "log").read_text()
            assert server.process.poll() is None and time.monotonic() < ends, log
            time.sleep(0.02)  # no event says when sshd listens


def processes_below(pid: int) -> list[list[int]]:
    """Each process that `pid` has started, and theirs: the processes from there to it."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, timeout=HANG, check=False)
    children = [int(child) for child in found.stdout.split()]
    return [line for child in children for line in ([child], *([child, *rest] for rest in processes_below(child)))]
