"""The sending half of an exec channel: the command and what its script reads, from a thread of their own."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paramiko import Channel

PIECE = 1 << 15  # what fits into one SSH packet


class InputFeeder:
    """Sends from a thread of its own: the remote command first, then whatever `send` is given, in that order.

    A thread, because both the command's acceptance and a full window block, and neither may keep us from reading or
    from the deadline.
    """

    def __init__(self, channel: Channel, command: str, stay: bool) -> None:
        self._channel = channel
        self._stay = stay
        self._pieces: SimpleQueue[bytes | None] = SimpleQueue()
        threading.Thread(target=self._work, args=(command,), daemon=True, name="ssh-writer").start()

    def send(self, *pieces: bytes) -> None:
        """Queues `pieces`."""
        for piece in pieces:
            self._pieces.put(piece)

    def end(self) -> None:
        """Nothing more will be queued: ends the thread."""
        self._pieces.put(None)

    def _work(self, command: str) -> None:
        from paramiko import SSHException

        try:
            self._channel.exec_command(command)
            while (piece := self._pieces.get()) is not None:
                view = memoryview(piece)
                for begin in range(0, len(view), PIECE):
                    self._channel.sendall(bytes(view[begin : begin + PIECE]))
            if not self._stay:
                _end_of_input(self._channel)
        except (SSHException, OSError, EOFError):
            self._channel.close()  # the reader sees that end and judges by the exit code: a script need not read all


def _end_of_input(channel: Any) -> None:
    """Tells the remote side that nothing more comes, unless the channel has ended.

    Channel.shutdown_write() makes that message under the channel's lock and sends it behind it. When the remote side closes
    the channel at that moment, Paramiko's own thread may send its close before it, and sshd ends the whole connection over an
    end of input on a channel that is no more. So it is sent under the lock, too; but while keys are exchanged, when the thread
    that needs this lock must not be kept waiting.
    """
    if not channel.transport.clear_to_send.is_set():
        channel.shutdown_write()
        return
    with channel.lock:
        message = None if channel.closed else channel._send_eof()
        if message is not None:
            channel.transport._send_user_message(message)
