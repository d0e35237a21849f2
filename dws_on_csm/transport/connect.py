"""The way to a host: TCP, a ProxyCommand or jump hosts, and the algorithms that SSH may use on it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from paramiko import Channel, SSHClient, SSHException, Transport
from paramiko.ssh_exception import IncompatiblePeer

from dws_on_csm.model.errors import NoLogin, Unreachable
from dws_on_csm.transport.askpass_server import Waiting
from dws_on_csm.transport.auth import Login
from dws_on_csm.transport.known_hosts import HostKeys
from dws_on_csm.transport.output import tail
from dws_on_csm.transport.ssh_config import Destination
from dws_on_csm.transport.ssh_limits import Limited
from dws_on_csm.transport.tried_once import TriedOnce

KEEPALIVE = 15  # seconds
UNACKNOWLEDGED = 30_000  # milliseconds after which a connection without acknowledgements has broken

ByteStream = socket.socket | Channel

ERRORS = (Unreachable, SSHException, OSError, EOFError)
"""What connecting may raise; _explained() turns it into an Unreachable."""


Connect = Callable[[dict[str, Any]], object]
"""Connects and logs in with these arguments of paramiko.SSHClient.connect."""


class QuickSocket(socket.socket):
    """A socket that acknowledges at once.

    The kernel else delays an acknowledgement by 40 ms, most of the time of a short exchange. It returns to that, so the option
    is set again after each receive.
    """

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        data = super().recv(size, flags)
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return data


class CommandSocket(socket.socket):
    """The near end of a ProxyCommand, whose stdin and stdout are the far end. The command ends with the socket."""

    def __init__(self, command: str) -> None:
        near, far = socket.socketpair()
        super().__init__(near.family, near.type, near.proto, fileno=near.detach())
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - read when the command has failed
        with far:
            self._process = subprocess.Popen(
                [os.environ.get("SHELL") or "/bin/sh", "-c", f"exec {command}"],
                stdin=far.fileno(),
                stdout=far.fileno(),
                stderr=self._errors,
                start_new_session=True,  # Ctrl-C, and the end of the terminal, end the run in order, which needs the connection
            )

    def error_lines(self) -> str:
        """The last lines that the command wrote to stderr."""
        self._errors.seek(0)
        return " ".join(tail(self._errors.read(), lines=3))

    def close(self) -> None:
        super().close()
        if self._process.poll() is None:
            self._signal(signal.SIGTERM)
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
                self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.killpg(self._process.pid, number)


def left(deadline_at: float) -> float:
    """The seconds until `deadline_at` (of time.monotonic). Raises TimeoutError when it has passed."""
    seconds = deadline_at - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("the deadline has passed")
    return seconds


def tcp(to: Destination, deadline_at: float) -> socket.socket:
    """A connection to the first of the host's addresses that accepts one. Raises OSError, TimeoutError after `deadline_at`."""
    failure: OSError = OSError(f"{to.hostname} has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(to.hostname, to.port, to.family, socket.SOCK_STREAM):
        link = QuickSocket(family, kind, protocol)
        try:
            link.settimeout(left(deadline_at))
            if to.bind:
                link.bind((to.bind, 0))
            link.connect(address)
        except OSError as error:
            link.close()
            failure = error
            continue
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED)
        return link
    raise failure


class Jumps:
    """Connections to jump hosts. Each jump host is tried once, however many hosts are behind it.

    `waiting` tells a person when a connection, also one to another host, waits for that person.
    """

    def __init__(self, waiting: Waiting = lambda host, words, seconds: None) -> None:
        self.waiting = waiting
        self._tried = TriedOnce[Destination, SSHClient | Unreachable]()

    def channel(self, to: Destination, via: Destination, deadline_at: float) -> Channel:
        """A channel through `via` to the port of `to`. Raises Unreachable, SSHException, TimeoutError."""
        client = self._tried.get(via, lambda: self._connect(via, deadline_at), left(deadline_at))
        if isinstance(client, Unreachable):
            raise client
        transport = client.get_transport()
        assert transport
        return transport.open_channel("direct-tcpip", (to.hostname, to.port), ("", 0), timeout=left(deadline_at))

    def _connect(self, via: Destination, deadline_at: float) -> SSHClient | Unreachable:
        client = SSHClient()
        client.set_missing_host_key_policy(HostKeys(via))
        try:
            connect(via, deadline_at, self, lambda how: client.connect(via.hostname, via.port, via.user, **how))
        except Unreachable as error:
            client.close()
            return error
        if transport := client.get_transport():
            assert isinstance(transport, Limited)
            transport.set_keepalive(KEEPALIVE)
            transport.poll_slowly()
        return client

    def __len__(self) -> int:
        return len(self.clients())

    def clients(self) -> list[SSHClient]:
        """The connections that are open."""
        return [client for client in self._tried.results() if isinstance(client, SSHClient)]

    def close(self) -> None:
        """Closes all connections."""
        for client in self.clients():
            client.close()


def connect(to: Destination, deadline_at: float, jumps: Jumps, login: Connect) -> None:
    """Opens the way to a host and has `login` use it, both before `deadline_at` (of time.monotonic). Raises Unreachable."""
    began, stream = time.monotonic(), None
    deadline_at = min(deadline_at, began + to.timeout) if to.timeout is not None else deadline_at
    try:
        stream = _stream(to, deadline_at, jumps)
        login(_arguments(to, stream, left(deadline_at), jumps.waiting))
    except ERRORS as error:
        command_error = stream.error_lines() if isinstance(stream, CommandSocket) else ""
        if stream:
            stream.close()
        timeout = deadline_at - began if time.monotonic() >= deadline_at else None
        raise _explained(to, error, timeout, command_error) from error
    except BaseException:
        if stream:
            stream.close()
        raise


def _stream(to: Destination, deadline_at: float, jumps: Jumps) -> ByteStream:
    if to.jump:
        return jumps.channel(to, to.jump, deadline_at)
    if to.command:
        return CommandSocket(to.command)
    return tcp(to, deadline_at)


def _arguments(to: Destination, stream: ByteStream, seconds: float, waiting: Waiting) -> dict[str, Any]:
    waits = ("timeout", "banner_timeout", "auth_timeout", "channel_timeout")
    fixed = {"sock": stream, "auth_strategy": Login(to, seconds, waiting), "transport_factory": transport_for(to)}
    return fixed | dict.fromkeys(waits, seconds)


def transport_for(to: Destination) -> Callable[..., Transport]:
    """Makes transports that use the algorithms of ssh_config, and prefer host keys of known_hosts."""

    def make(sock: ByteStream, **more: Any) -> Transport:
        transport = Limited(sock, **more)
        options = transport.get_security_options()
        options.kex = _both(to, "kexalgorithms", options.kex)
        options.ciphers = _both(to, "ciphers", options.ciphers)
        options.digests = _both(to, "macs", options.digests)
        options.key_types = HostKeys(to).first(_both(to, "hostkeyalgorithms", options.key_types))
        return transport

    return make


def _both(to: Destination, keyword: str, ours: Sequence[str]) -> tuple[str, ...]:
    """The algorithms of `ours` that ssh_config allows, in our order: the fast ones first."""
    allowed = to.algorithms.get(keyword, ours)
    both = tuple(name for name in ours if name in allowed)
    if not both:
        text = f"this tool supports none of the {keyword} that ssh_config allows ({','.join(allowed)})"
        fix = f"allow one of these in ssh_config: {', '.join(ours)}"
        raise NoLogin(to.name, text, fix, f"only ssh has the {keyword} of ssh_config")
    return both


def _explained(to: Destination, error: Exception, timeout: float | None, command_error: str) -> Unreachable:
    """The cause and the fix of an error. `timeout`: all of these seconds have passed."""
    if isinstance(error, Unreachable):
        if error.host == to.name:
            return error
        text = f"through jump host {error.host}: {error.text}"
        if isinstance(error, NoLogin):
            return NoLogin(to.name, text, error.fix, f"jump host {error.host}: {error.short}", error.other_key)
        return Unreachable(to.name, text, error.fix)
    if isinstance(error, socket.gaierror):
        text = f"{to.hostname} has no address: {error.strerror}"
        return Unreachable(
            to.name, text, "check this name in the site file and in ssh_config (HostName, ProxyJump), and DNS"
        )
    through = f" through jump host {to.jump.name}" if to.jump else f" by `{to.command}`" if to.command else ""
    where = f"{to.hostname} port {to.port}{through}"
    if timeout is not None:
        fix = f"check whether `ssh {to.name}` works; for more time, raise deadlines.connect in the site file"
        return Unreachable(to.name, f"the connection to {where} timed out after {timeout:.0f} s", fix)
    if isinstance(error, OSError) and error.errno and not error.filename:  # else it is no error of the network
        text = f"the connection to {where} failed: {os.strerror(error.errno)}"
        return Unreachable(to.name, text, f"check whether sshd runs there, and whether `ssh {to.name}` works")
    if isinstance(error, IncompatiblePeer):
        fix = f"allow one of the tool's in the host's sshd_config and in ssh_config (`ssh -G {to.name}` shows what that allows), "
        fix += "or leave ssh.transport in the site file at auto"
        return NoLogin(to.name, f"SSH to {where} failed: {error}", fix, str(error).partition(":")[0])
    text = f"SSH to {where} failed: {command_error or str(error) or type(error).__name__}"
    return Unreachable(to.name, text, f"run `ssh -v {to.name}` to see the cause")
