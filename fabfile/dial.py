"""The way to a host: a TCP connection of our own, a ProxyCommand or jump hosts, and what SSH may use on it."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from paramiko import Channel, ProxyCommand, SSHClient, Transport

from fabfile.faults import Unreachable
from fabfile.hostkeys import HostKeys
from fabfile.login import Login
from fabfile.sshconfig import Destination

KEEPALIVE = 15  # seconds; a way that is cut without a word is noticed by what is not acknowledged
UNACKNOWLEDGED = 30_000  # milliseconds
PUBKEYS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
RSA = ("rsa-sha2-512", "rsa-sha2-256", "ssh-rsa")

Way = socket.socket | ProxyCommand | Channel


class QuickSocket(socket.socket):
    """A socket that acknowledges at once. The kernel's habit of waiting 40 ms for company rules the time of short
    exchanges otherwise; it falls back into it, so it is told again after each receive."""

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        data = super().recv(size, flags)
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return data


class Jumps:
    """Connections to jump hosts, each opened once however many hosts lie behind it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[Destination, threading.Lock] = {}
        self._open: dict[Destination, SSHClient] = {}

    def channel(self, to: Destination, via: Destination, ends: float) -> Channel:
        """A channel through `via` to the port of `to`; raises Unreachable, SSHException."""
        with self._lock:
            lock = self._locks.setdefault(via, threading.Lock())
        with lock:
            if via not in self._open:
                self._open[via] = self._connect(via, ends)
        transport = self._open[via].get_transport()
        assert transport
        return transport.open_channel("direct-tcpip", (to.hostname, to.port), ("", 0), timeout=left(ends))

    def _connect(self, via: Destination, ends: float) -> SSHClient:
        client = SSHClient()
        client.set_missing_host_key_policy(HostKeys(via))
        client.connect(via.hostname, via.port, via.user, **settings(via, ends, self))
        if transport := client.get_transport():
            transport.set_keepalive(KEEPALIVE)
        return client

    def __len__(self) -> int:
        return len(self._open)

    def close(self) -> None:
        """Closes them all."""
        for client in self._open.values():
            client.close()


def left(ends: float) -> float:
    """Seconds until `ends` (of time.monotonic); TimeoutError when there are none."""
    seconds = ends - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("the deadline has passed")
    return seconds


def settings(to: Destination, ends: float, jumps: Jumps) -> dict[str, Any]:
    """What paramiko.SSHClient.connect takes for this way, which is opened already. Raises what explain() explains."""
    if to.timeout is not None:
        ends = min(ends, time.monotonic() + to.timeout)
    way = _way(to, ends, jumps)
    seconds = left(ends)
    return {
        "sock": way,
        "auth_strategy": Login(to),
        "transport_factory": _transport(to),
        "timeout": seconds,
        "banner_timeout": seconds,
        "auth_timeout": seconds,
        "channel_timeout": seconds,
    }


def _way(to: Destination, ends: float, jumps: Jumps) -> Way:
    if to.jump:
        return jumps.channel(to, to.jump, ends)
    if to.command:
        return ProxyCommand(to.command)
    return _tcp(to, ends)


def _tcp(to: Destination, ends: float) -> socket.socket:
    """A connection to the first of the host's addresses that takes one."""
    failure: OSError = OSError(f"{to.hostname} has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(to.hostname, to.port, to.family, socket.SOCK_STREAM):
        link = QuickSocket(family, kind, protocol)
        try:
            link.settimeout(left(ends))
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


def _transport(to: Destination) -> Callable[..., Transport]:
    """Makes transports that use what ssh_config allows, and prefer the host keys that are known."""

    def make(sock: Way, **more: Any) -> Transport:
        allowed = to.algorithms.get("pubkeyacceptedalgorithms", (*PUBKEYS, *RSA))
        more["disabled_algorithms"] = {"pubkeys": [one for one in (*PUBKEYS, *RSA) if one not in allowed]}
        transport = Transport(sock, **more)
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


def explain(to: Destination, error: Exception, seconds: float, late: bool) -> Unreachable:
    """What an error while connecting means to the one who has to mend it; `late`: its `seconds` were over."""
    if isinstance(error, Unreachable):
        if error.host == to.name:
            return error
        return Unreachable(to.name, f"through jump host {error.host}: {error.text}", error.fix)
    if isinstance(error, socket.gaierror):
        text = f"no address for {to.hostname}: {error.strerror}"
        return Unreachable(to.name, text, "see HostName in ssh_config, or DNS")
    where = f"{to.hostname} port {to.port}" + (f" through jump host {to.jump.name}" if to.jump else "")
    if late or isinstance(error, TimeoutError):
        fix = f"see whether `ssh {to.name}` works; more time: deadlines.connect of the site file"
        return Unreachable(to.name, f"no answer from {where} within {seconds:.0f} s", fix)
    if isinstance(error, OSError) and error.errno:
        text = f"no connection to {where}: {os.strerror(error.errno)}"
        return Unreachable(to.name, text, f"see whether sshd runs there, and whether `ssh {to.name}` works")
    text = f"no SSH with {where}: {str(error) or type(error).__name__}"
    return Unreachable(to.name, text, f"see what `ssh -v {to.name}` says")
