"""HTTP to the API server through the master's SSH connection: `kubectl proxy` on the master, and channels to it."""

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
    from dws_on_csm.transport.link import Channel

PROGRAM = (Path(__file__).parent / "api_relay.py").read_text()
START = 20.0  # seconds in which kubectl proxy starts
END = 5.0  # seconds in which it ends and removes its folder
WHOLE = 300.0  # seconds for a complete answer, and the longest pause in it
LIFETIME = 6 * 3600.0  # seconds after which an abandoned proxy on the master ends


class Proxy:
    """`kubectl proxy` on the master; `command` (for sh) starts it. It starts and ends with the first channel.

    That channel starts the proxy and carries requests; further channels only carry requests.
    """

    def __init__(self, session: RemoteShell, command: str) -> None:
        self._session = session
        self._command = command
        self._lock = threading.Lock()
        self._keeper: Channel | None = None
        self._socket = ""

    def channel(self) -> Channel:
        """A new channel to the API server. Raises what RemoteShell.pipe raises."""
        with self._lock:
            if self._keeper is None or self._keeper.closed or self._keeper.eof_received:
                self._keeper, self._socket = self._pipe(f"serve {STATE} {self._command}")
                return self._keeper
        return self._pipe(f"join {STATE} {shlex.quote(self._socket)}")[0]

    def release(self, channel: Channel) -> None:
        """Close a channel, unless the proxy would end with it."""
        if channel is not self._keeper:
            channel.close()

    def ended(self, channel: Channel) -> None:
        """Note that the far end closed a channel. If it was the first, the proxy is gone, and the next channel starts another."""
        with self._lock:
            if channel is self._keeper:
                self._keeper = None

    def close(self) -> None:
        """End the proxy and all its channels. If the master responds, it then has removed all its files."""
        with self._lock:
            if self._keeper and not self._keeper.closed:
                self._keeper.end_input()
                self._keeper.exit_code(END)
                self._keeper.close()

    def _pipe(self, words: str) -> tuple[Channel, str]:
        script = f"exec python3 -c {shlex.quote(PROGRAM)} {words}"
        return self._session.pipe(script, "ready ", deadline=START, lifetime=LIFETIME)


class _Bytes(io.RawIOBase):
    """A channel's data as a file; closing it calls `closed_by`.

    A read takes `pause` seconds at most, and all reads together WHOLE: a server can't keep a reader by sending a byte now and
    then. The end of the data is reported to `ended`.
    """

    def __init__(
        self, channel: Channel, pause: float, closed_by: Callable[[], None], ended: Callable[[], None]
    ) -> None:
        self._ended = ended
        self._channel = channel
        self._pause = pause
        self._deadline_at = time.monotonic() + max(WHOLE, pause)
        self._closed_by = closed_by

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._closed_by()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._deadline_at - time.monotonic()
        if left <= 0:
            raise TimeoutError("it did not arrive in time")
        self._channel.settimeout(min(self._pause, left))
        data = self._channel.recv(len(buffer))
        if not data:
            self._ended()
        buffer[: len(data)] = data
        return len(data)


class ChannelSocket:
    """The parts of a socket that http.client needs. As with a real one, it stays open as long as a file made from it."""

    def __init__(
        self,
        channel: Channel,
        release: Callable[[Channel], None],
        ended: Callable[[Channel], None] = lambda channel: None,
    ) -> None:
        self._channel = channel
        self._release = release
        self._ended = ended
        self._over = False
        self._pause = WHOLE
        self._holders = 1

    def sendall(self, data: Any) -> None:
        """Send all of `data`."""
        self._channel.sendall(bytes(data))

    def makefile(self, mode: str, *_args: Any, **_more: Any) -> io.BufferedReader:
        """The answer's data as a file."""
        assert mode == "rb"
        self._holders += 1
        return io.BufferedReader(_Bytes(self._channel, self._pause, self.close, self._end), 1 << 16)

    def _end(self) -> None:
        self._over = True
        self._ended(self._channel)

    def settimeout(self, seconds: float | None) -> None:
        """Limit the time of a read or write."""
        self._pause = WHOLE if seconds is None else seconds
        self._channel.settimeout(self._pause)

    def close(self) -> None:
        """Close one user's part; the last one releases the channel."""
        self._holders -= 1
        if self._holders == 0:
            self._release(self._channel)

    def usable(self) -> bool:
        """Whether another request can be sent."""
        return not (self._over or self._channel.closed or self._channel.eof_received or self._channel.recv_ready())


def pool(proxy: Proxy, connections: int) -> urllib3.PoolManager:
    """A pool manager with at most `connections` channels to `proxy` as its connections; a request waits for a free one."""

    class ProxyConnection(urllib3.connection.HTTPConnection):
        def connect(self) -> None:
            self.sock = ChannelSocket(proxy.channel(), proxy.release, proxy.ended)

        @property
        def is_connected(self) -> bool:
            return isinstance(self.sock, ChannelSocket) and self.sock.usable()

    class ProxyPool(urllib3.HTTPConnectionPool):
        ConnectionCls = ProxyConnection

    # No retries: the caller checks whether a request without an answer was carried out.
    manager = urllib3.PoolManager(num_pools=1, maxsize=connections, block=True, retries=False)
    manager.pool_classes_by_scheme = {"http": ProxyPool}
    return manager
