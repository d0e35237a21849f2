"""A connection that is quiet costs nothing, and nothing of it is left after its end."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from paramiko import Transport

from dws_on_csm.transport.connect import QuickSocket
from dws_on_csm.transport.session import Session
from tests.ssh.conftest import Connect, One
from tests.ssh.server import HANG, Server

pytestmark = pytest.mark.slow


def transports() -> set[threading.Thread]:
    """The threads of connections that run now."""
    return {thread for thread in threading.enumerate() if isinstance(thread, Transport)}


def test_a_quiet_connection_wakes_up_nobody(server: Server, one: One, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a host is silent, nothing here looks ten times a second whether it has said something."""
    session = one(server.config())
    waits: list[None] = []
    receive = QuickSocket.recv

    def counted(self: QuickSocket, size: int, flags: int = 0, /) -> bytes:
        try:
            return receive(self, size, flags)
        except TimeoutError:
            waits.append(None)
            raise

    session.run("exit 0", deadline=HANG)
    monkeypatch.setattr(QuickSocket, "recv", counted)
    session.run("sleep 3", deadline=HANG)
    assert len(waits) < 10


@pytest.mark.parametrize("way", ["direct", "jump"])
def test_the_end_leaves_no_thread(server: Server, connect: Connect, tmp_path: Path, way: str) -> None:
    """When a connection has been closed its thread has ended: no other connection's socket can take its place in that."""
    before = transports()
    jump = ("ProxyJump via",) if way == "jump" else ()
    config = server.config(*jump) + server.config(name="via")
    sessions = connect(config, "host")
    (session,) = sessions.values()
    assert isinstance(session, Session), session
    assert session.run("echo in", deadline=HANG).out == b"in\n"
    mine = transports() - before
    assert len(mine) == (2 if way == "jump" else 1)
    sessions.close()
    assert not any(thread.is_alive() for thread in mine)
