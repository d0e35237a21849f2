"""One host's SSH connection: it stays open, and each script has an exec channel. The only importer of fabric.Connection."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dws_on_csm.model.errors import Lost, SudoRefused, Unreachable
from dws_on_csm.transport import sudo
from dws_on_csm.transport.remote_shell import RemoteShell, remote_command
from dws_on_csm.transport.sudo import Rights

if TYPE_CHECKING:
    from paramiko import Channel

    from dws_on_csm.transport.channel import Exchange
    from dws_on_csm.transport.connect import Jumps
    from dws_on_csm.transport.ssh_config import Destination

FREED = 5.0  # seconds within which sshd has noticed that a session ended, and allows another one

logging.getLogger("paramiko").addHandler(logging.NullHandler())  # our errors report its errors, once


class Session(RemoteShell):
    """The connection to the host `to`.

    Create it in the main thread: Fabric's configurations can't be created in several threads at once.
    """

    def __init__(
        self,
        to: Destination,
        environment: Mapping[str, str],
        password: sudo.Password | None,
        jumps: Jumps,
    ) -> None:
        from fabric import Config, Connection
        from paramiko import SSHConfig

        super().__init__(to.name, environment, password)
        self.connects = 1
        self._to = to
        self._jumps = jumps
        empty = Config(lazy=True, ssh_config=SSHConfig())  # `ssh -G` has read ssh_config, better than Fabric does
        self._connection = Connection(
            to.hostname, user=to.user, port=to.port, config=empty, gateway=False, forward_agent=to.forward_agent
        )

    def open(self, seconds: float) -> None:
        from dws_on_csm.transport import connect
        from dws_on_csm.transport.known_hosts import HostKeys

        def login(how: dict[str, Any]) -> None:
            self._connection.connect_kwargs = how
            self._connection.open()
            self._connection.transport.set_keepalive(connect.KEEPALIVE)

        self._connection.client.set_missing_host_key_policy(HostKeys(self._to))
        try:
            connect.connect(self._to, time.monotonic() + seconds, self._jumps, login)
        except BaseException:
            self._connection.client.close()  # Fabric's own close() does nothing for a connection that failed
            raise

    def close(self) -> None:
        self._connection.close()

    def channel(self) -> Channel:
        deadline_at = time.monotonic() + FREED
        while (channel := self._opened(deadline_at)) is None:
            time.sleep(0.02)  # no event says that sshd has noticed the end of another session
        with self._lock:
            self.commands += 1
        return channel

    def _opened(self, deadline_at: float) -> Channel | None:
        """A new session channel; None where sshd refuses one before `deadline_at` (of time.monotonic)."""
        from paramiko import SSHException

        try:
            channel: Channel = self._connection.create_session()
        except (SSHException, OSError, EOFError) as error:
            if isinstance(error, SSHException) and self._connection.is_connected and time.monotonic() < deadline_at:
                return None
            raise self._unopened(error) from error
        return channel

    def _unopened(self, error: Exception) -> Lost | Unreachable:
        from paramiko import ChannelException

        if not isinstance(error, ChannelException):
            return Lost(self.host, f"the connection broke: {error}")
        fix = "raise MaxSessions in the host's sshd_config (the default is 10)"
        return Unreachable(self.host, f"sshd refused another session on the connection: {error}", fix)

    def _command(self, rights: Rights, size: int, seconds: float, token: str) -> str:
        return remote_command(size, seconds, token, rights.words)

    def _unstarted(self, exchange: Exchange) -> Unreachable:
        if self.password:
            fix = f"make `sudo sh` work for this user on {self.host}, or log in as root (ssh.user)"
            return SudoRefused(self.host, f"sudo refused: {exchange.login_text()}", fix)
        fix = (
            f"run `ssh {self.host} sh -c true` and correct its error; the login needs sh, head and timeout on its PATH"
        )
        return Unreachable(self.host, f"scripts can't start (exit code {exchange.code}): {exchange.login_text()}", fix)
