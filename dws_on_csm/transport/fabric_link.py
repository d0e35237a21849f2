"""A connection by Fabric and Paramiko, in this process. The only importer of fabric.Connection."""

from __future__ import annotations

import errno
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from dws_on_csm.model.errors import Lost, Unreachable

if TYPE_CHECKING:
    import paramiko

    from dws_on_csm.transport.connect import Jumps
    from dws_on_csm.transport.ssh_config import Destination

FREED = 5.0  # seconds within which sshd has noticed that a session ended, and allows another one

logging.getLogger("paramiko").addHandler(logging.NullHandler())  # our errors report its errors, once


class FabricLink:
    """The connection to the host `to`.

    Create it in the main thread: Fabric's configurations can't be created in several threads at once.
    """

    def __init__(self, to: Destination, jumps: Jumps) -> None:
        from fabric import Config, Connection
        from paramiko import SSHConfig

        self._to = to
        self._jumps = jumps
        empty = Config(lazy=True, ssh_config=SSHConfig())  # `ssh -G` has read ssh_config, better than Fabric does
        self.connection = Connection(
            to.hostname, user=to.user, port=to.port, config=empty, gateway=False, forward_agent=to.forward_agent
        )

    def open(self, seconds: float) -> None:
        """Connects and logs in within `seconds`. Raises Unreachable."""
        from dws_on_csm.transport import connect
        from dws_on_csm.transport.known_hosts import HostKeys

        def login(how: dict[str, Any]) -> None:
            self.connection.connect_kwargs = how
            self.connection.open()
            self.connection.transport.set_keepalive(connect.KEEPALIVE)
            self.connection.transport.poll_slowly()

        self.connection.client.set_missing_host_key_policy(HostKeys(self._to))
        try:
            connect.connect(self._to, time.monotonic() + seconds, self._jumps, login)
        except BaseException:
            self.connection.client.close()  # Fabric's own close() does nothing for a connection that failed
            raise

    def close(self) -> None:
        """Closes the connection and all its channels."""
        self.connection.close()

    def channel(self, command: str) -> FabricChannel:
        """A new channel for `command`. Raises Lost or Unreachable."""
        deadline_at = time.monotonic() + FREED
        while (channel := self._opened(deadline_at)) is None:
            time.sleep(0.02)  # no event says that sshd has noticed the end of another session
        return FabricChannel(channel, command)

    def _opened(self, deadline_at: float) -> paramiko.Channel | None:
        """A new session channel; None where sshd refuses one before `deadline_at` (of time.monotonic)."""
        from paramiko import SSHException

        try:
            channel: paramiko.Channel = self.connection.create_session()
        except (SSHException, OSError, EOFError) as error:
            if isinstance(error, SSHException) and self.connection.is_connected and time.monotonic() < deadline_at:
                return None
            raise self._unopened(error) from error
        return channel

    def _unopened(self, error: Exception) -> Lost | Unreachable:
        from paramiko import ChannelException

        if isinstance(error, ChannelException):
            return too_many_sessions(self._to.name, str(error))
        # Paramiko has closed its socket by then; the error is about that, and says nothing of the cause
        closed = isinstance(error, EOFError) or (isinstance(error, OSError) and error.errno == errno.EBADF)
        why = "the host, or a firewall or proxy on the way, closed it" if closed else error
        return Lost(self._to.name, f"the connection broke: {why}")


def too_many_sessions(host: str, error: str) -> Unreachable:
    """The error where sshd refuses another session on a connection."""
    fix = "raise MaxSessions in the host's sshd_config (the default is 10)"
    return Unreachable(host, f"sshd refused another session on the connection: {error}", fix)


class _Wake(threading.Event):
    """The event that Paramiko's two buffers set when data has come.

    Each buffer would also clear the event when it is empty, and lose the news of the other buffer; Channel.fileno() has that fault.
    """

    def clear(self) -> None:
        pass

    def reset(self) -> None:
        """From now on only new data counts."""
        super().clear()


class FabricChannel:
    """A channel of Paramiko in the form of link.Channel."""

    def __init__(self, channel: paramiko.Channel, command: str) -> None:
        self.paramiko = channel
        self._command = command
        self._wake = _Wake()
        channel.in_buffer.set_event(self._wake)
        channel.in_stderr_buffer.set_event(self._wake)
        self.sendall, self.settimeout = channel.sendall, channel.settimeout
        self.recv, self.recv_ready = channel.recv, channel.recv_ready
        self.recv_stderr, self.recv_stderr_ready = channel.recv_stderr, channel.recv_stderr_ready
        self.exit_status_ready, self.close = channel.exit_status_ready, channel.close

    @property
    def closed(self) -> bool:
        """Whether the channel has ended, here or there."""
        return bool(self.paramiko.closed)

    @property
    def eof_received(self) -> bool:
        """Whether all output has been received; it may still have to be read."""
        return bool(self.paramiko.eof_received)

    def start(self) -> None:
        """Starts the command. Blocks until the host has accepted it."""
        from paramiko import SSHException

        try:
            self.paramiko.exec_command(self._command)
        except SSHException as error:
            raise ConnectionError(str(error)) from error

    def end_input(self) -> None:
        """Sends the end of the input, unless the channel has ended.

        Channel.shutdown_write() makes that message under the channel's lock and sends it after releasing the lock. When the remote
        side closes the channel in between, Paramiko's own thread may send its close first, and sshd ends the whole connection
        over an end of input on a closed channel. So this sends it under the lock, too; except during a key exchange, when
        Paramiko's thread needs the lock and must not wait.
        """
        channel: Any = self.paramiko
        if not channel.transport.clear_to_send.is_set():
            channel.shutdown_write()
            return
        with channel.lock:
            message = None if channel.closed else channel._send_eof()
            if message is not None:
                channel.transport._send_user_message(message)

    def wait(self, seconds: float) -> bool:
        """Waits until output or its end came since the last call. False after `seconds` without any."""
        came = self._wake.wait(seconds)
        self._wake.reset()
        return came

    def exit_code(self, seconds: float) -> int | None:
        """The exit code, for which this waits so long; None without one."""
        channel = self.paramiko
        return channel.exit_status if channel.status_event.wait(seconds) and channel.exit_status >= 0 else None
