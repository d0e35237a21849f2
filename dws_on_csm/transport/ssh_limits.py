"""An SSH connection that holds what comes to what was allowed: Paramiko keeps whatever a server sends, however much it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from paramiko import Channel, Message, SSHException, Transport
from paramiko.common import MSG_CHANNEL_DATA, MSG_CHANNEL_EXTENDED_DATA
from paramiko.packet import Packetizer

PACKET = 1 << 20
"""Bytes of a packet: RFC 4253 has servers send 35000, OpenSSH takes four times as many."""


def _fed(channel: Channel, message: Message) -> None:
    Channel._feed(channel, message)  # type: ignore[attr-defined]
    _within(channel)


def _fed_extended(channel: Channel, message: Message) -> None:
    Channel._feed_extended(channel, message)  # type: ignore[attr-defined]
    _within(channel)


def _within(channel: Channel) -> None:
    """Ends the connection where more is waiting to be read than the window that the server was given allows at all.

    sshd keeps to it. One that doesn't would fill this machine's memory through each channel that is open and not read.
    """
    if len(channel.in_buffer) + len(channel.in_stderr_buffer) > channel.in_window_size:
        raise SSHException("the server sends more than it was asked for")


class _Packets(Packetizer):
    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        """As Paramiko has it, for packets of a size that there is: a server can name 4 GB, before it has shown its key."""
        if n > PACKET:
            raise SSHException("the server sends a packet that is too large")
        read: bytes = super().read_all(n, check_rekey)
        return read


class Limited(Transport):
    """A client's connection, which ends where the server sends more than it may."""

    _channel_handler_table: ClassVar[dict[int, Callable[[Channel, Message], object]]] = {
        **Transport._channel_handler_table,  # type: ignore[attr-defined]
        MSG_CHANNEL_DATA: _fed,
        MSG_CHANNEL_EXTENDED_DATA: _fed_extended,
    }

    def __init__(self, sock: Any, **more: Any) -> None:
        super().__init__(sock, packetizer_class=_Packets, **more)
