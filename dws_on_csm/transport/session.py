"""One host's SSH connection: it stays open, and each script has a channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dws_on_csm.model.errors import SudoRefused, Unreachable
from dws_on_csm.transport import sudo
from dws_on_csm.transport.link import Channel, Link
from dws_on_csm.transport.remote_shell import RemoteShell, remote_command
from dws_on_csm.transport.sudo import Rights

if TYPE_CHECKING:
    from dws_on_csm.transport.channel import Exchange


class Session(RemoteShell):
    """The connection `link` to a host."""

    def __init__(self, host: str, link: Link, environment: Mapping[str, str], password: sudo.Password | None) -> None:
        super().__init__(host, environment, password)
        self.connects = 1
        self.link = link

    def open(self, seconds: float) -> None:
        self.link.open(seconds)

    def close(self) -> None:
        self.link.close()

    def channel(self, command: str) -> Channel:
        channel = self.link.channel(command)
        with self._lock:
            self.commands += 1
        return channel

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
