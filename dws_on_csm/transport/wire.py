"""What SSH runs over: a TCP connection that answers at once, or a ProxyCommand."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time

from dws_on_csm.transport.destination import Destination
from dws_on_csm.transport.output import tail

UNACKNOWLEDGED = 30_000  # milliseconds; a way that is cut without a word is noticed by what is not acknowledged


class QuickSocket(socket.socket):
    """A socket that acknowledges at once. The kernel's habit of waiting 40 ms for company rules the time of short
    exchanges otherwise; it falls back into it, so it is told again after each receive."""

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        data = super().recv(size, flags)
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return data


class CommandSocket(socket.socket):
    """The near end of a ProxyCommand, which has the far end as its stdin and stdout. It ends with the socket."""

    def __init__(self, command: str) -> None:
        near, far = socket.socketpair()
        super().__init__(near.family, near.type, near.proto, fileno=near.detach())
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - it is read when the command has failed
        with far:
            self._process = subprocess.Popen(
                ["sh", "-c", f"exec {command}"], stdin=far.fileno(), stdout=far.fileno(), stderr=self._errors
            )

    def said(self) -> str:
        """The last of what it wrote to stderr."""
        self._errors.seek(0)
        return " ".join(tail(self._errors.read(), lines=3))

    def close(self) -> None:
        super().close()
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def left(ends: float) -> float:
    """Seconds until `ends` (of time.monotonic); TimeoutError when there are none."""
    seconds = ends - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("the deadline has passed")
    return seconds


def tcp(to: Destination, ends: float) -> socket.socket:
    """A connection to the first of the host's addresses that takes one; raises OSError, TimeoutError after `ends`."""
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
