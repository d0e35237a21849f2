"""An SSH connection that ends where a server sends more than it may: Paramiko would keep all of it in memory."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

from paramiko import Channel, Message, SSHException, Transport
from paramiko.common import MSG_CHANNEL_DATA, MSG_CHANNEL_EXTENDED_DATA
from paramiko.kex_curve25519 import KexCurve25519
from paramiko.packet import Packetizer
from paramiko.ssh_exception import IncompatiblePeer

PACKET = 1 << 20
"""Bytes of the largest packet. RFC 4253 requires 35000, and OpenSSH takes four times as many."""

IDLE = 5.0
"""Seconds after which Paramiko's thread of a connection that is quiet looks whether anything else is to be done: a keep-alive, or
new keys. Its own 0.1 s are ten wake-ups a second for each of thousands of connections."""

ENDS = 1.0  # seconds in which Paramiko's thread ends once its socket has


def _fed(channel: Channel, message: Message) -> None:
    Channel._feed(channel, message)  # type: ignore[attr-defined]
    _within(channel)


def _fed_extended(channel: Channel, message: Message) -> None:
    Channel._feed_extended(channel, message)  # type: ignore[attr-defined]
    _within(channel)


def _within(channel: Channel) -> None:
    """Ends the connection where more bytes wait to be read than the window allows.

    sshd keeps to the window. A server that does not could fill this machine's memory through each channel that is not read.
    """
    if len(channel.in_buffer) + len(channel.in_stderr_buffer) > channel.in_window_size:
        raise SSHException("the server sent more data than the window allows")


class _Packets(Packetizer):
    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        """Paramiko's own, for packets of a real size: a server can announce 4 GB before it has shown its key."""
        if n > PACKET:
            raise SSHException("the server announced a packet that is too large")
        read: bytes = super().read_all(n, check_rekey)
        return read


class Limited(Transport):
    """A client's transport that ends where the server sends more than it may."""

    _channel_handler_table: ClassVar[dict[int, Callable[[Channel, Message], object]]] = {
        **Transport._channel_handler_table,  # type: ignore[attr-defined]
        MSG_CHANNEL_DATA: _fed,
        MSG_CHANNEL_EXTENDED_DATA: _fed_extended,
    }

    # the name that RFC 8731 gave to libssh's key exchange: some hosts, and some ssh_configs, know only that
    _kex_info: ClassVar[dict[str, type]] = {**Transport._kex_info, "curve25519-sha256": KexCurve25519}  # type: ignore[attr-defined]
    _preferred_kex: ClassVar[tuple[str, ...]] = ("curve25519-sha256", *Transport._preferred_kex)  # type: ignore[attr-defined]

    def __init__(self, sock: Any, **more: Any) -> None:
        super().__init__(sock, packetizer_class=_Packets, **more)
        self.farewell = ""
        """The server's words as it disconnected."""

    def poll_slowly(self) -> None:
        """After the login, whose deadline needs Paramiko's short waits: let its thread wake every IDLE seconds alone."""
        self.sock.settimeout(IDLE)

    def close(self) -> None:
        """Paramiko's own leaves its thread waiting at the socket. This ends the thread first, so that nobody uses the socket's
        number any more, which the next connection may get."""
        if self.active:  # type: ignore[attr-defined]
            with suppress(OSError):  # the host has closed it already
                # the end of a channel through a jump host wakes its reader, a shutdown does not
                self.sock.close() if isinstance(self.sock, Channel) else self.sock.shutdown(socket.SHUT_RDWR)
            if self is not threading.current_thread():
                self.join(ENDS)
        super().close()

    def _parse_kex_init(self, m: Message) -> None:
        """Paramiko's own, whose error says what is not in common, but not what either side has."""
        theirs: dict[str, list[str]] = self._really_parse_kex_init(Message(m.get_remainder()))  # type: ignore[attr-defined]
        try:
            super()._parse_kex_init(m)  # type: ignore[misc]
        except IncompatiblePeer as error:
            ours = self.get_security_options()
            pairs = {
                "key exchange": (theirs["kex_algo_list"], ours.kex),
                "kind of host key": (theirs["server_key_algo_list"], ours.key_types),
                "cipher": (theirs["server_encrypt_algo_list"], ours.ciphers),
                "MAC": (theirs["server_mac_algo_list"], ours.digests),
            }
            lacking = [
                f"no {what} in common: the host offers {', '.join(offered)}; this tool has {', '.join(own)}"
                for what, (offered, own) in pairs.items()
                if not set(offered) & set(own)
            ]
            raise IncompatiblePeer(". ".join(lacking)[:2000] or str(error)) from error

    def _parse_disconnect(self, message: Message) -> None:
        """Paramiko's own only writes them to a log."""
        message.get_int()
        self.farewell = message.get_string()[:200].decode(errors="replace")

    def run(self) -> None:
        """Paramiko's thread of this connection. An error in it ends the connection, whose users get it.

        Paramiko's own handler of an OSError fails for one without a number, such as a time-out: Python would write a
        traceback to stderr, and the users of the connection would wait for its end in vain.
        """
        try:
            super().run()
        except Exception as error:  # noqa: BLE001  # any error ends the connection, and its users get it
            self.saved_exception = error
            self.close()
