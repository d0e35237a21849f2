"""Channels on a connection that a process of OpenSSH holds: the protocol of its control socket, as PROTOCOL.mux defines it.

`ssh -S SOCKET` speaks it too. Speaking it here costs no process for each command, says exactly why a channel was refused, and
never falls back to a login, as that program does.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
from contextlib import suppress
from pathlib import Path

VERSION = 4
HELLO, NEW_SESSION, ALIVE_CHECK = 0x00000001, 0x10000002, 0x10000004
FAILURES = (0x80000002, 0x80000003)  # permission denied, failure
EXIT_MESSAGE, ALIVE, SESSION_OPENED = 0x80000004, 0x80000005, 0x80000006
NO_ESCAPE = 0xFFFFFFFF
LONGEST = 1 << 18
"""Bytes of the longest message; OpenSSH's own are far shorter."""


class Refused(Exception):
    """The master process, or sshd behind it, refused a channel; the text says why."""


def alive(path: Path, seconds: float) -> int:
    """The id of the master process behind the control socket. Raises OSError (TimeoutError) where none answers."""
    deadline_at = time.monotonic() + seconds
    with _connected(path, deadline_at) as control:
        _send(control, ALIVE_CHECK, _number(0))
        kind, body = _receive(control, deadline_at)
        if kind != ALIVE:
            raise ConnectionError("its control socket answers in another protocol")
        return _numbers(body, 2)[1]


class MuxChannel:
    """A command on the host, in the form of link.Channel.

    The master process has the far ends of three pairs of sockets, for input and outputs. It reports the exit code on the
    control connection, and ends the command where that is closed.
    """

    def __init__(self, path: Path, command: str, seconds: float, agent: bool = False) -> None:
        """Starts the command. Raises Refused, and OSError (TimeoutError) where the master does not answer within `seconds`."""
        self._sockets: list[socket.socket] = []  # freed with this object
        deadline_at = time.monotonic() + seconds
        self._control = _connected(path, deadline_at)
        self._sockets.append(self._control)
        self._code: int | None = None
        self._parting = False  # the control connection has ended, here or there
        self._lock = threading.Lock()
        self._rest = b""
        self._timeout: float | None = None
        pairs = [socket.socketpair() for _ in range(3)]
        self._in, self._out, self._err = (near for near, _ in pairs)
        self._sockets += (self._in, self._out, self._err)
        self._ended: set[socket.socket] = set()
        try:
            flags = _number(0) + _number(0) + _number(agent) + _number(0)  # tty, X11, agent, subsystem
            request = _number(1) + _string(b"") + flags + _number(NO_ESCAPE) + _string(b"")
            _send(self._control, NEW_SESSION, request + _string(command.encode()))
            for _, far in pairs:
                socket.send_fds(self._control, [b"\0"], [far.fileno()])
            kind, body = _receive(self._control, deadline_at)
            if kind in FAILURES:
                raise Refused(body[8:].decode(errors="replace"))
            if kind != SESSION_OPENED:
                raise ConnectionError("its control socket answers in another protocol")
        finally:
            for _, far in pairs:
                far.close()
        self._control.setblocking(False)

    @property
    def closed(self) -> bool:
        """Whether the channel has ended, here or there."""
        self._hear()
        return self._parting

    @property
    def eof_received(self) -> bool:
        """Whether all output has been read."""
        return len(self._ended) == 2

    def start(self) -> None:
        """The command has started."""

    def sendall(self, data: bytes) -> None:
        """Sends input; blocks while the host takes none. Raises OSError. A command that takes no more input loses it."""
        self._in.settimeout(self._timeout)
        try:
            self._in.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            if self.closed:
                raise

    def end_input(self) -> None:
        """Sends the end of the input, unless the channel has ended."""
        if not self.closed:
            _shut(self._in, socket.SHUT_WR)

    def settimeout(self, seconds: float | None) -> None:
        """Limits each later recv(), recv_stderr() and sendall()."""
        self._timeout = seconds

    def recv(self, size: int) -> bytes:
        """At most `size` bytes of standard output, as soon as there are any; b"" at its end."""
        return self._read(self._out, size)

    def recv_stderr(self, size: int) -> bytes:
        """The same for standard error."""
        return self._read(self._err, size)

    def recv_ready(self) -> bool:
        """Whether standard output, or its end, can be read at once."""
        return self._out not in self._ended and _readable(0, self._out)

    def recv_stderr_ready(self) -> bool:
        """Whether standard error, or its end, can be read at once."""
        return self._err not in self._ended and _readable(0, self._err)

    def wait(self, seconds: float) -> bool:
        """Waits until there is output, its end, an exit code, or the end of the connection. False after `seconds` without any."""
        open_ends = [end for end in (self._out, self._err) if end not in self._ended]
        if not open_ends or self._parting:
            return True
        came = _readable(seconds, self._control, *open_ends)
        self._hear()
        return came

    def exit_status_ready(self) -> bool:
        """Whether the command has ended, or the connection."""
        self._hear()
        return self._code is not None or self._parting

    def exit_code(self, seconds: float) -> int | None:
        """The exit code, for which this waits so long; None without one."""
        deadline_at = time.monotonic() + seconds
        while not self.exit_status_ready() and (left := deadline_at - time.monotonic()) > 0:
            _readable(left, self._control)
        return self._code

    def close(self) -> None:
        """Ends the channel. Its sockets are freed with this object: another thread may still wait for them."""
        self._parting = True
        for end in self._sockets:
            _shut(end)

    def __del__(self) -> None:
        for end in self._sockets:
            end.close()

    def _read(self, end: socket.socket, size: int) -> bytes:
        if end in self._ended:
            return b""
        if not _readable(self._timeout, end):
            raise TimeoutError("no output came in time")
        try:
            data = end.recv(size)
        except ConnectionResetError:  # the master process has died with our input unread
            data = b""
        if not data:
            self._ended.add(end)
        return data

    def _hear(self) -> None:
        """Reads the messages that the master process has sent."""
        with self._lock:
            while not self._parting:
                try:
                    data = self._control.recv(LONGEST)
                except BlockingIOError:
                    return
                except OSError:
                    data = b""
                self._parting = not data
                self._rest += data
                self._take()

    def _take(self) -> None:
        while len(self._rest) >= 4 and len(self._rest) - 4 >= (size := _numbers(self._rest, 1)[0]):
            message, self._rest = self._rest[4 : 4 + size], self._rest[4 + size :]
            if _numbers(message, 1)[0] == EXIT_MESSAGE:
                self._code = _numbers(message, 3)[2]
        if len(self._rest) > LONGEST:
            self._parting = True


def _readable(seconds: float | None, *ends: socket.socket) -> bool:
    """Whether one of `ends` can be read, now or within `seconds`; poll(2) knows no largest descriptor, other than select(2)."""
    poll = select.poll()
    for end in ends:
        poll.register(end, select.POLLIN)
    return bool(poll.poll(None if seconds is None else max(seconds, 0) * 1000))


def _shut(end: socket.socket, how: int = socket.SHUT_RDWR) -> None:
    with suppress(OSError):  # its other end has gone
        end.shutdown(how)


def _connected(path: Path, deadline_at: float) -> socket.socket:
    """A control connection after both have said hello."""
    control = socket.socket(socket.AF_UNIX)
    try:
        control.settimeout(max(deadline_at - time.monotonic(), 0.01))
        control.connect(os.fspath(path))
        _, owner, _ = struct.unpack("3i", control.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if owner not in (0, os.getuid()):  # in a folder of others, a master that ended could have a successor of theirs
            raise PermissionError(f"the control socket {path} is of another user (uid {owner})")
        _send(control, HELLO, _number(VERSION))
        kind, body = _receive(control, deadline_at)
        if kind != HELLO or _numbers(body, 1)[0] != VERSION:
            raise ConnectionError("its control socket answers in another protocol")
    except BaseException:
        control.close()
        raise
    return control


def _send(control: socket.socket, kind: int, body: bytes) -> None:
    control.sendall(_string(_number(kind) + body))


def _receive(control: socket.socket, deadline_at: float) -> tuple[int, bytes]:
    """The next message: its kind and its body."""
    (size,) = _numbers(_exactly(control, 4, deadline_at), 1)
    if not 4 <= size <= LONGEST:
        raise ConnectionError("its control socket answers in another protocol")
    message = _exactly(control, size, deadline_at)
    return _numbers(message, 1)[0], message[4:]


def _exactly(control: socket.socket, size: int, deadline_at: float) -> bytes:
    data = b""
    while len(data) < size:
        control.settimeout(max(deadline_at - time.monotonic(), 0.01))
        piece = control.recv(size - len(data))
        if not piece:
            raise ConnectionError("its master process has ended")
        data += piece
    return data


def _number(value: int) -> bytes:
    return struct.pack(">I", value)


def _numbers(data: bytes, count: int) -> tuple[int, ...]:
    if len(data) < 4 * count:
        raise ConnectionError("its control socket answers in another protocol")
    return struct.unpack_from(f">{count}I", data)


def _string(data: bytes) -> bytes:
    return _number(len(data)) + data
