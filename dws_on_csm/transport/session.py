"""One host's connection: kept open, one exec channel for each script. The only importer of fabric.Connection."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dws_on_csm.model.errors import Lost, Unreachable
from dws_on_csm.transport import sudo
from dws_on_csm.transport.remote_shell import RemoteShell

if TYPE_CHECKING:
    from paramiko import Channel

    from dws_on_csm.transport.connect import Jumps
    from dws_on_csm.transport.destination import Destination

FREED = 5.0  # seconds within which sshd gives the place of a session that has ended to another one

logging.getLogger("paramiko").addHandler(logging.NullHandler())  # its errors reach people through ours, once


class Session(RemoteShell):
    """One host's connection to `to`. `environment` is what every script sees; with a `password` they run under sudo.

    `commands` counts the exec channels that were opened, `connects` the connections of its own. To be made in the main
    thread: Fabric's configurations can't be made in several at once.
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
        self.commands = 0
        self.connects = 1
        self._to = to
        self._jumps = jumps
        empty = Config(lazy=True, ssh_config=SSHConfig())  # what Fabric would read itself, ssh -G has read better
        self._connection = Connection(
            to.hostname, user=to.user, port=to.port, config=empty, gateway=False, forward_agent=to.forward_agent
        )

    def open(self, seconds: float) -> None:
        """Connects and logs in within `seconds`, or raises Unreachable."""
        from dws_on_csm.transport import connect
        from dws_on_csm.transport.known_hosts import HostKeys

        def login(how: dict[str, Any]) -> None:
            self._connection.connect_kwargs = how
            self._connection.open()
            self._connection.transport.set_keepalive(connect.KEEPALIVE)

        self._connection.client.set_missing_host_key_policy(HostKeys(self._to))
        try:
            connect.connect(self._to, time.monotonic() + seconds, self._jumps, login)
        except Unreachable:
            self._connection.client.close()  # Fabric's own close() does nothing for a connection that failed
            raise

    def close(self) -> None:
        """Closes the connection. What still runs on the host ends at its deadline."""
        self._connection.close()

    def channel(self) -> Channel:
        """A new session channel; raises Lost or Unreachable."""
        ends = time.monotonic() + FREED
        while (channel := self._opened(ends)) is None:
            time.sleep(0.02)  # nothing tells when sshd has seen to the end of another session
        with self._lock:
            self.commands += 1
        return channel

    def _opened(self, ends: float) -> Channel | None:
        """A new session channel; None where sshd refuses one and `ends` (of time.monotonic) is still to come."""
        from paramiko import SSHException

        try:
            channel: Channel = self._connection.create_session()
        except (SSHException, OSError, EOFError) as error:
            if isinstance(error, SSHException) and self._connection.is_connected and time.monotonic() < ends:
                return None
            raise self._unopened(error) from error
        return channel

    def _unopened(self, error: Exception) -> Lost | Unreachable:
        from paramiko import ChannelException

        if not isinstance(error, ChannelException):
            return Lost(self.host, f"the connection broke: {error}")
        fix = "raise MaxSessions in the host's sshd_config (10 is its default)"
        return Unreachable(self.host, f"sshd opens no further session: {error}", fix)
