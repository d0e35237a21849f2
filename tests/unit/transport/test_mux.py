"""A control socket whose other end is no master process of ssh, or a broken one: no answer of it costs more than the deadline."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from dws_on_csm.transport import mux

HANG = 30.0
HELLO = struct.pack(">III", 8, mux.HELLO, mux.VERSION)
OPENED = struct.pack(">IIII", 12, mux.SESSION_OPENED, 1, 7)

Serve = Callable[..., Path]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts an other end that says these bytes, hears all `until` some, and then waits, or ends its connection."""
    with ExitStack() as stack:

        def started(*words: bytes, stays: bool = True, until: bytes = b"") -> Path:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(tmp_path / "s"))
            listener.listen()
            over = threading.Event()
            stack.callback(over.set)

            def answer() -> None:
                with suppress(OSError), listener.accept()[0] as link:
                    link.sendall(b"".join(words))
                    heard = b""
                    while until and not heard.endswith(until):
                        heard += link.recv(100)
                    if stays:
                        over.wait(HANG)

            threading.Thread(target=answer, daemon=True).start()
            return tmp_path / "s"

        yield started


NONSENSE = {
    "nothing": (),
    "text": (b"HTTP/1.1 400 Bad Request\r\n\r\n" * 20,),
    "another version": (struct.pack(">III", 8, mux.HELLO, 5),),
    "a message without end": (struct.pack(">I", 0xFFFFFFFF), b"x" * 10_000),
    "an empty message": (struct.pack(">I", 0),),
    "a short hello": (struct.pack(">II", 4, mux.HELLO),),
    "hello, then nothing": (HELLO,),
    "hello, then a short answer": (HELLO, struct.pack(">II", 4, mux.ALIVE)),
    "hello, then another kind": (HELLO, struct.pack(">III", 8, 0x99, 0)),
}


@pytest.mark.parametrize("stays", [True, False])
@pytest.mark.parametrize("words", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_no_connection(serve: Serve, words: tuple[bytes, ...], stays: bool) -> None:
    """An other end that speaks another protocol, or none, is an error of the socket, within the deadline."""
    path = serve(*words, stays=stays)
    began = time.monotonic()
    with pytest.raises(OSError):
        mux.alive(path, 0.5)
    assert time.monotonic() - began < HANG


@pytest.mark.parametrize("kind", mux.FAILURES)
def test_a_refusal_has_its_reason(serve: Serve, kind: int) -> None:
    """A channel that the master refuses, or sshd, is refused in its words."""
    reason = b"Session open refused by peer"
    path = serve(HELLO, struct.pack(">IIII", 12 + len(reason), kind, 1, len(reason)) + reason)
    with pytest.raises(mux.Refused, match="refused by peer"):
        mux.MuxChannel(path, "true", HANG)


def test_a_channel_has_the_code_that_the_master_tells(serve: Serve) -> None:
    """The exit code comes with its message, in whatever pieces; the end of the connection alone is none."""
    told = struct.pack(">IIII", 12, mux.EXIT_MESSAGE, 7, 3)
    channel = mux.MuxChannel(serve(HELLO, OPENED, told[:5], told[5:]), "true", HANG)
    assert channel.exit_code(HANG) == 3
    assert not channel.closed


def test_a_master_that_ends_has_told_no_code(serve: Serve) -> None:
    """Without a message there is no exit code, and nothing waits for it."""
    with closing(mux.MuxChannel(serve(HELLO, OPENED, stays=False, until=b"true\0\0\0"), "true", HANG)) as channel:
        assert channel.exit_code(HANG) is None
        assert channel.closed
        assert channel.wait(HANG)
        with pytest.raises(OSError):
            for _ in range(1000):
                channel.sendall(b"x" * 10_000)


def test_a_channel_that_nobody_answers_keeps_to_its_time_limit(serve: Serve) -> None:
    """A read without data ends after the time that was set."""
    with closing(mux.MuxChannel(serve(HELLO, OPENED), "true", HANG)) as channel:
        channel.settimeout(0.05)
        # the far ends of the other sockets were passed on, and wait in the control socket
        with pytest.raises(TimeoutError):
            channel.recv(10)
        assert not channel.wait(0.01)
        assert channel.exit_code(0.01) is None


def test_a_reader_sees_that_the_channel_was_closed(serve: Serve) -> None:
    """Another thread that waits for output returns when the channel is closed."""
    channel = mux.MuxChannel(serve(HELLO, OPENED), "true", HANG)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(channel.recv(10)))
    reader.start()
    channel.close()
    reader.join(HANG)
    assert read == [b""]


def test_a_control_socket_of_another_user_is_not_used() -> None:
    """In a folder like /tmp somebody could put a socket in the place of a master connection that has ended."""
    listen = (
        "import os, socket, sys; os.setuid(65534); s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()"
    )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        command = [sys.executable, "-c", f"{listen}; print('ready', flush=True); s.accept()", f"{folder}/control"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
            try:
                assert other.stdout and other.stdout.readline() == b"ready\n"
                with pytest.raises(PermissionError, match="of another user"):
                    mux.alive(Path(folder, "control"), 5)
            finally:
                other.kill()
