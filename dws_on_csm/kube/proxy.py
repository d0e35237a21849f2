"""HTTP to the API server through the master's SSH connection: `kubectl proxy` there, and channels that lead to it."""

from __future__ import annotations

import io
import shlex
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import urllib3

from dws_on_csm.model.actions import STATE
from dws_on_csm.transport.remote_shell import RemoteShell

if TYPE_CHECKING:
    from paramiko import Channel

PROGRAM = (Path(__file__).parent / "api_relay.py").read_text()
START = 20.0  # seconds for kubectl proxy to be there
END = 5.0  # seconds that it has to go, with its folder
WHOLE = 300.0  # seconds within which a whole answer comes, where no single pause in it may be longer
LIFETIME = 6 * 3600.0  # seconds after which what was forgotten on the master ends by itself


class Proxy:
    """`kubectl proxy` on the master, started with the first channel and gone with it; `command` (for sh) starts it.

    One exec brings both the proxy and the way for the first requests; further channels are only ways.
    """

    def __init__(self, session: RemoteShell, command: str) -> None:
        self._session = session
        self._command = command
        self._lock = threading.Lock()
        self._keeper: Channel | None = None
        self._socket = ""

    def channel(self) -> Channel:
        """A new way to the API server. Raises what RemoteShell.pipe raises."""
        with self._lock:
            if self._keeper is None or self._keeper.closed or self._keeper.eof_received:
                self._keeper, self._socket = self._pipe(f"serve {STATE} {self._command}")
                return self._keeper
        return self._pipe(f"join {STATE} {shlex.quote(self._socket)}")[0]

    def release(self, channel: Channel) -> None:
        """Closes a way, unless the proxy lives by it."""
        if channel is not self._keeper:
            channel.close()

    def close(self) -> None:
        """Ends the proxy, and with it all ways to it; where the master still answers, nothing of it is left there then."""
        with self._lock:
            if self._keeper and not self._keeper.closed:
                self._keeper.shutdown_write()
                self._keeper.status_event.wait(END)
                self._keeper.close()

    def _pipe(self, words: str) -> tuple[Channel, str]:
        script = f"exec python3 -c {shlex.quote(PROGRAM)} {words}"
        return self._session.pipe(script, "ready ", deadline=START, lifetime=LIFETIME)


class _Bytes(io.RawIOBase):
    """What comes through a channel, as a file; `closed_by` is called once it is read no more.

    A read takes `pause` seconds at most, and all of them together end in time: one that sends a byte now and then is cut off.
    """

    def __init__(self, channel: Channel, pause: float, closed_by: Callable[[], None]) -> None:
        self._channel = channel
        self._pause = pause
        self._ends = time.monotonic() + max(WHOLE, pause)
        self._closed_by = closed_by

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._closed_by()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("the whole of it did not come in time")
        self._channel.settimeout(min(self._pause, left))
        data = self._channel.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class ChannelSocket:
    """As much of a socket as http.client needs. Like a true one it is open as long as a file made from it is."""

    def __init__(self, channel: Channel, release: Callable[[Channel], None]) -> None:
        self._channel = channel
        self._release = release
        self._pause = WHOLE
        self._holders = 1

    def sendall(self, data: Any) -> None:
        """Sends all of it."""
        self._channel.sendall(bytes(data))

    def makefile(self, mode: str, *_args: Any, **_more: Any) -> io.BufferedReader:
        """What comes back."""
        assert mode == "rb"
        self._holders += 1
        return io.BufferedReader(_Bytes(self._channel, self._pause, self.close), 1 << 16)

    def settimeout(self, seconds: float | None) -> None:
        """How long a read or write may take."""
        self._pause = WHOLE if seconds is None else seconds
        self._channel.settimeout(self._pause)

    def close(self) -> None:
        """One holder less; the last gives the way back."""
        self._holders -= 1
        if self._holders == 0:
            self._release(self._channel)

    def usable(self) -> bool:
        """Whether a further request can be sent."""
        return not (self._channel.closed or self._channel.eof_received or self._channel.recv_ready())


def pool(proxy: Proxy, connections: int) -> urllib3.PoolManager:
    """A pool manager whose connections are channels to `proxy`: at most so many; who finds none waits for one."""

    class ProxyConnection(urllib3.connection.HTTPConnection):
        def connect(self) -> None:
            self.sock = ChannelSocket(proxy.channel(), proxy.release)

        @property
        def is_connected(self) -> bool:
            return isinstance(self.sock, ChannelSocket) and self.sock.usable()

    class ProxyPool(urllib3.HTTPConnectionPool):
        ConnectionCls = ProxyConnection

    # No retries: whether a request that got no answer was carried out is for the caller to find out by looking.
    manager = urllib3.PoolManager(num_pools=1, maxsize=connections, block=True, retries=False)
    manager.pool_classes_by_scheme = {"http": ProxyPool}
    return manager
