"""The way to a host: a TCP connection of our own, a ProxyCommand or jump hosts, and what SSH may use on it."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from paramiko import Channel, SSHClient, SSHException, Transport

from dws_on_csm.model.errors import Unreachable
from dws_on_csm.transport.auth import Login
from dws_on_csm.transport.destination import Destination
from dws_on_csm.transport.known_hosts import HostKeys
from dws_on_csm.transport.ssh_limits import Limited
from dws_on_csm.transport.wire import CommandSocket, left, tcp

KEEPALIVE = 15  # seconds
PUBKEYS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
RSA = ("rsa-sha2-512", "rsa-sha2-256", "ssh-rsa")

Link = socket.socket | Channel

ERRORS = (Unreachable, SSHException, OSError, EOFError)
"""What connecting may raise, for explain()."""


Connect = Callable[[dict[str, Any]], object]
"""Connects and logs in with these arguments of paramiko.SSHClient.connect."""


class Jumps:
    """Connections to jump hosts: each is tried once, however many hosts lie behind it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[Destination, threading.Lock] = {}
        self._tried: dict[Destination, SSHClient | Unreachable] = {}

    def channel(self, to: Destination, via: Destination, ends: float) -> Channel:
        """A channel through `via` to the port of `to`; raises Unreachable, SSHException, TimeoutError."""
        with self._lock:
            lock = self._locks.setdefault(via, threading.Lock())
        if not lock.acquire(timeout=left(ends)):
            raise TimeoutError("the jump host is still being connected to")
        try:
            if via not in self._tried:
                self._tried[via] = self._connect(via, ends)
            client = self._tried[via]
        finally:
            lock.release()
        if isinstance(client, Unreachable):
            raise client
        transport = client.get_transport()
        assert transport
        return transport.open_channel("direct-tcpip", (to.hostname, to.port), ("", 0), timeout=left(ends))

    def _connect(self, via: Destination, ends: float) -> SSHClient | Unreachable:
        client = SSHClient()
        client.set_missing_host_key_policy(HostKeys(via))
        try:
            connect(via, ends, self, lambda how: client.connect(via.hostname, via.port, via.user, **how))
        except Unreachable as error:
            client.close()
            return error
        if transport := client.get_transport():
            transport.set_keepalive(KEEPALIVE)
        return client

    def __len__(self) -> int:
        return len(self.clients())

    def clients(self) -> list[SSHClient]:
        """The connections there are."""
        return [client for client in self._tried.values() if isinstance(client, SSHClient)]

    def close(self) -> None:
        """Closes them all."""
        for client in self.clients():
            client.close()


def connect(to: Destination, ends: float, jumps: Jumps, login: Connect) -> None:
    """Opens the way to a host and has `login` use it, all until `ends` (of time.monotonic); raises Unreachable."""
    began, way = time.monotonic(), None
    ends = min(ends, began + to.timeout) if to.timeout is not None else ends
    try:
        way = _way(to, ends, jumps)
        login(_arguments(to, way, left(ends)))
    except ERRORS as error:
        said = way.said() if isinstance(way, CommandSocket) else ""
        if way:
            way.close()
        late = ends - began if time.monotonic() >= ends else None
        raise _explained(to, error, late, said) from error


def _way(to: Destination, ends: float, jumps: Jumps) -> Link:
    if to.jump:
        return jumps.channel(to, to.jump, ends)
    if to.command:
        return CommandSocket(to.command)
    return tcp(to, ends)


def _arguments(to: Destination, way: Link, seconds: float) -> dict[str, Any]:
    waits = ("timeout", "banner_timeout", "auth_timeout", "channel_timeout")
    fixed = {"sock": way, "auth_strategy": Login(to), "transport_factory": _transport(to)}
    return fixed | dict.fromkeys(waits, seconds)


def _transport(to: Destination) -> Callable[..., Transport]:
    """Makes transports that use what ssh_config allows, and prefer the host keys that are known."""

    def make(sock: Link, **more: Any) -> Transport:
        allowed = to.algorithms.get("pubkeyacceptedalgorithms", (*PUBKEYS, *RSA))
        more["disabled_algorithms"] = {"pubkeys": [one for one in (*PUBKEYS, *RSA) if one not in allowed]}
        transport = Limited(sock, **more)
        options = transport.get_security_options()
        options.kex = _both(to, "kexalgorithms", options.kex)
        options.ciphers = _both(to, "ciphers", options.ciphers)
        options.digests = _both(to, "macs", options.digests)
        options.key_types = HostKeys(to).first(_both(to, "hostkeyalgorithms", options.key_types))
        return transport

    return make


def _both(to: Destination, keyword: str, ours: Sequence[str]) -> tuple[str, ...]:
    """Of `ours` those that ssh_config allows, in our order: fast ones come first there."""
    allowed = to.algorithms.get(keyword, ours)
    both = tuple(one for one in ours if one in allowed)
    if not both:
        text = f"of ssh_config's {keyword} ({','.join(allowed)}) none is known here"
        raise Unreachable(to.name, text, f"allow one of {', '.join(ours)}")
    return both


def _explained(to: Destination, error: Exception, late: float | None, said: str) -> Unreachable:
    """What an error means to the one who has to mend it. `late`: so many seconds were all there were."""
    if isinstance(error, Unreachable):
        if error.host == to.name:
            return error
        return Unreachable(to.name, f"through jump host {error.host}: {error.text}", error.fix)
    if isinstance(error, socket.gaierror):
        text = f"no address for {to.hostname}: {error.strerror}"
        return Unreachable(to.name, text, "see HostName in ssh_config, or DNS")
    through = f" through jump host {to.jump.name}" if to.jump else f" by `{to.command}`" if to.command else ""
    where = f"{to.hostname} port {to.port}{through}"
    if late is not None:
        fix = f"see whether `ssh {to.name}` works; more time: deadlines.connect of the site file"
        return Unreachable(to.name, f"no answer from {where} within {late:.0f} s", fix)
    if isinstance(error, OSError) and error.errno:
        text = f"no connection to {where}: {os.strerror(error.errno)}"
        return Unreachable(to.name, text, f"see whether sshd runs there, and whether `ssh {to.name}` works")
    text = f"no SSH with {where}: {said or str(error) or type(error).__name__}"
    return Unreachable(to.name, text, f"see what `ssh -v {to.name}` says")
