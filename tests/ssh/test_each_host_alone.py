"""One host's trouble while connecting, of any kind, is that host's alone: the others are connected."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from paramiko import SSHException
from paramiko.pkey import UnknownKeyType

from dws_on_csm.config.site import Host
from dws_on_csm.model.errors import DeadlineExceeded, Lost, Unreachable
from dws_on_csm.runner import connections
from dws_on_csm.transport import ssh_config
from dws_on_csm.transport.auth import Login
from dws_on_csm.transport.known_hosts import HostKeys
from dws_on_csm.transport.route import choose_route
from tests.ssh.conftest import Connect, Deadlines
from tests.ssh.server import HANG, Server

pytestmark = pytest.mark.slow

ERRORS = (
    AttributeError("public_blob"),
    ValueError("You supplied the port via both shorthand and kwarg!"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    IndexError("tuple index out of range"),
    TypeError("not bytes"),
    MemoryError(),
    RecursionError("too deep"),
    AssertionError(),
    UnknownKeyType("ssh-new", b""),
    PermissionError(errno.EACCES, "Permission denied", "/etc/ssh/ssh_known_hosts"),
    OSError("without a number"),
    TimeoutError("timed out"),
    SSHException("strange"),
    EOFError(),
    Lost("host1", "the connection broke"),
    DeadlineExceeded("host1", 3.0, ()),
)


BAD = {f"host{number}": error for number, error in enumerate(ERRORS, 1)}
"""The host that gets each of these errors."""


def _resolve(patch: pytest.MonkeyPatch) -> None:
    find = choose_route

    def failing(query: ssh_config.Query, *more: object) -> object:
        if query.name in BAD:
            raise BAD[query.name]
        return find(query, *more)  # type: ignore[arg-type]

    patch.setattr(connections, "choose_route", failing)


def _session(patch: pytest.MonkeyPatch) -> None:
    make = connections.session_of

    def session(site: object, host: Host, *more: object) -> object:
        if host.name in BAD:
            raise BAD[host.name]
        return make(site, host, *more)  # type: ignore[arg-type]

    patch.setattr(connections, "session_of", session)


def _host_keys(patch: pytest.MonkeyPatch) -> None:
    check = HostKeys.missing_host_key

    def missing_host_key(self: HostKeys, *more: object) -> None:
        if self._to.name in BAD:
            raise BAD[self._to.name]
        check(self, *more)  # type: ignore[arg-type]

    patch.setattr(HostKeys, "missing_host_key", missing_host_key)


def _login(patch: pytest.MonkeyPatch) -> None:
    authenticate = Login.authenticate

    def fails(self: Login, transport: object) -> None:
        if self._to.name in BAD:
            raise BAD[self._to.name]
        authenticate(self, transport)  # type: ignore[arg-type]

    patch.setattr(Login, "authenticate", fails)


@pytest.mark.parametrize("place", [_resolve, _session, _host_keys, _login], ids=lambda place: place.__name__[1:])
def test_any_error_is_reported_for_its_host(
    server: Server,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    place: Callable[[pytest.MonkeyPatch], None],
) -> None:
    """Whatever is raised wherever while connecting to a host becomes that host's error, with its cause and a fix."""
    place(monkeypatch)
    sessions = connect(server.config(name="host*"), "host0", *BAD, "host99")
    for host, error in BAD.items():
        failed = sessions[host]
        assert isinstance(failed, Unreachable)
        assert failed.host == host
        assert str(error) in str(failed)
        assert str(error) or type(error).__name__ in failed.text
        assert failed.fix or isinstance(error, Lost | DeadlineExceeded)
    assert [session.run("echo in", deadline=HANG).out for session in sessions.open()] == [b"in\n", b"in\n"]
    assert "Traceback" not in capfd.readouterr().err


def _garbage(words: bytes, port: socket.socket) -> None:
    """Answers each connection with `words`."""
    while True:
        try:
            link, _ = port.accept()
        except OSError:
            return
        with link, suppress(OSError):  # the client has left
            link.recv(1)
            link.sendall(words)
            link.shutdown(socket.SHUT_WR)
            while link.recv(65536):
                pass


def _packet(payload: bytes) -> bytes:
    size = len(payload) + 1
    pad = 8 - (size + 4) % 8 + 8
    return (size + pad).to_bytes(4, "big") + bytes([pad]) + payload + bytes(pad)


@pytest.mark.parametrize(
    "words",
    [
        b"",
        b"\n" * 300,
        b"\xff\xfe\x00\n",
        b"SSH-1.5-old\r\n",
        b"SSH-\xff\xff-x\r\n",
        b"SSH-2.0-x\r\n" + b"\xff" * 64,
        b"SSH-2.0-x\r\n" + b"\x00" * 64,
        b"SSH-2.0-x\r\n" + _packet(b"\x14short"),
        b"SSH-2.0-x\r\n" + _packet(b"\x14" + b"\xff" * 400),
        b"SSH-2.0-x\r\n" + _packet(b"\x14" + bytes(16) + b"\x00\x00\x00\x02\xff\xff" * 10 + b"\x00" * 5),
        b"SSH-2.0-x\r\n" + _packet(b"\x01" + b"\x00" * 3),
        b"SSH-2.0-x\r\n" + _packet(b"\x01\x00\x00\x00\x02\x00\x00\x00\x02\xff\xfe\x00\x00\x00\x00"),
        b"SSH-2.0-x\r\n" + _packet(b"\xfe"),
        b"SSH-2.0-x\r\n" + _packet(b""),
    ],
    ids=range(14),
)
def test_whatever_a_host_says_only_that_host_fails(
    server: Server, connect: Connect, capfd: pytest.CaptureFixture[str], words: bytes
) -> None:
    """A host that speaks no SSH, or wrong SSH, fails with that cause; the others are connected, and no thread complains."""
    with socket.create_server(("127.0.0.1", 0)) as port:
        thread = threading.Thread(target=_garbage, args=(words, port))
        thread.start()
        strange = f"Host host1\n  Port {port.getsockname()[1]}\n"
        sessions = connect(
            strange + server.config(name="host*"), "host0", "host1", "host2", deadlines=Deadlines(connect=20)
        )
        port.shutdown(socket.SHUT_RDWR)
        thread.join(HANG)
    failed = sessions["host1"]
    assert isinstance(failed, Unreachable)
    assert failed.fix
    assert len(sessions.open()) == 2
    assert "Traceback" not in capfd.readouterr().err


def test_a_path_need_not_be_utf8(server: Server, connect: Connect, tmp_path: Path) -> None:
    """A path in ssh_config is read in whatever encoding it is in, as by ssh."""
    key = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9/id"))
    key.parent.mkdir()
    key.write_bytes(server.key.read_bytes())
    key.chmod(0o600)
    config = server.config().replace(str(server.key), str(key))
    file = tmp_path / "included"
    file.write_bytes(os.fsencode(config))
    (session,) = connect(f"Include {file}\n").values()
    assert not isinstance(session, Unreachable), session
