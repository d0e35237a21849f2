"""A server that sends more than it may: Paramiko's own, without its limits, at the other end of a pair of sockets."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from paramiko import Channel, ECDSAKey, Message, ServerInterface, SSHException, Transport
from paramiko.common import (
    AUTH_SUCCESSFUL,
    OPEN_SUCCEEDED,
    cMSG_CHANNEL_DATA,
    cMSG_CHANNEL_EOF,
    cMSG_CHANNEL_EXTENDED_DATA,
)

from dws_on_csm.transport import channel as transport_channel
from dws_on_csm.transport.channel import Exchange, ExecRequest
from dws_on_csm.transport.connect import transport_for
from dws_on_csm.transport.fabric_link import FabricChannel
from dws_on_csm.transport.output import Stream
from dws_on_csm.transport.ssh_config import Destination

HANG = 60.0
MOST = 60_000_000
"""Bytes after which the server stops, since the client did not stop it."""
PIECE = b"x" * 30_000

TO = Destination(
    name="host", hostname="host", user="root", port=22, identities=(), certificates=(), identities_only=False, agent="",
    forward_agent=False, key_names=("host",), known_hosts=(Path("/nonexistent"),), strict="ask", hash_names=False,
    rsa_bits=1024, algorithms={}, timeout=None, family=0, bind="", command="", jump=None, unsupported=(),
)  # fmt: skip


class Flooding(ServerInterface):
    """Accepts every login, and sends without regard to the window."""

    def __init__(self, before: Callable[[Channel], None], data: Callable[[Channel], Message]) -> None:
        self.before, self.data = before, data
        self.sent = 0
        self.over = threading.Event()

    def check_auth_none(self, username: str) -> int:
        return AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: Channel, command: bytes) -> bool:
        threading.Thread(target=self._flood, args=(channel,), daemon=True).start()
        return True

    def _flood(self, channel: Channel) -> None:
        transport: Any = channel.get_transport()
        with suppress(OSError, EOFError, SSHException):
            self.before(channel)
            while self.sent < MOST and transport.is_active():
                transport._send_user_message(self.data(channel))
                self.sent += len(PIECE)
        self.over.set()


def out(channel: Any) -> Message:
    """A piece of standard output."""
    message = Message()
    message.add_byte(cMSG_CHANNEL_DATA)
    message.add_int(channel.remote_chanid)
    message.add_string(PIECE)
    return message


def err(channel: Any) -> Message:
    """A piece of standard error."""
    message = Message()
    message.add_byte(cMSG_CHANNEL_EXTENDED_DATA)
    message.add_int(channel.remote_chanid)
    message.add_int(1)
    message.add_string(PIECE)
    return message


def ended(channel: Any) -> None:
    """Send the token on both streams, and the end of the output, after which no data may follow."""
    channel.sendall(b"token 7\n")
    channel.sendall_stderr(b"token 7\n")
    message = Message()
    message.add_byte(cMSG_CHANNEL_EOF)
    message.add_int(channel.remote_chanid)
    channel.get_transport()._send_user_message(message)


@contextmanager
def connected(server: Flooding) -> Iterator[Channel]:
    """A session channel to the server, on a connection like ours."""
    ours, theirs = socket.socketpair()
    there, here = Transport(theirs), transport_for(TO)(ours)
    try:
        there.add_server_key(ECDSAKey.generate())
        there.start_server(threading.Event(), server)
        here.start_client(timeout=HANG)
        here.auth_none("root")
        yield here.open_session(timeout=HANG)
    finally:
        here.close()
        there.close()


@pytest.mark.parametrize("data", [out, err])
def test_an_unread_channel_fills_no_memory(data: Callable[[Channel], Message]) -> None:
    """The connection to a server that ignores the window ends, and its readers see that."""
    server = Flooding(lambda channel: None, data)
    with connected(server) as channel:
        with suppress(SSHException):  # the flood may end the connection before this thread has seen the reply
            channel.exec_command("x")
        assert server.over.wait(HANG)
        channel.get_transport().join(HANG)  # it tells its channels after the server has seen the end
        assert server.sent < MOST and channel.closed
        assert len(channel.in_buffer) + len(channel.in_stderr_buffer) <= channel.in_window_size + len(PIECE)


@pytest.mark.parametrize("data", [out, err])
def test_what_comes_behind_the_end_of_the_output(data: Callable[[Channel], Message]) -> None:
    """Nothing is read while the client waits for the exit code: endless data then ends the exchange without a code."""
    server = Flooding(ended, data)
    talk = Exchange(Stream("token", "key", None), Stream("token", "key", None))
    with connected(server) as channel:
        transport_channel.converse(FabricChannel(channel, "x"), ExecRequest("token", "x", b"", None), talk, HANG)
        assert server.over.wait(HANG)
        assert server.sent < MOST and talk.code is None


@pytest.mark.parametrize("length", [(1 << 21) + 4, (1 << 31) + 4, (1 << 32) - 4])
def test_a_packet_of_any_size_is_not_awaited(length: int) -> None:
    """A machine in between could announce 4 GB before a key is shown: the connection ends there."""
    ours, theirs = socket.socketpair()
    client = transport_for(TO)(ours)
    with theirs:
        theirs.sendall(b"SSH-2.0-x\r\n" + struct.pack(">I", length) + b"\0" * 60)
        with pytest.raises(SSHException, match="too large"):
            client.start_client(timeout=HANG)


def test_output_within_the_window_arrives_complete() -> None:
    """The data of a server that keeps to the window arrives complete."""
    size = 10_000_000

    class Fair(Flooding):
        def _flood(self, channel: Channel) -> None:
            channel.sendall(b"o" * size)
            channel.sendall_stderr(b"e" * 1_000_000)
            channel.close()

    with connected(Fair(ended, out)) as channel:
        channel.exec_command("x")
        channel.settimeout(HANG)
        told = b"".join(iter(lambda: channel.recv(70_000), b""))
        assert (len(told), len(channel.recv_stderr(2_000_000))) == (size, 1_000_000)
