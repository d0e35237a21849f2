"""One host's SSH connection: it stays open, and each script has a channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dws_on_csm.model.errors import Unreachable
from dws_on_csm.transport import login_shell, remote_shell, sudo
from dws_on_csm.transport.link import Channel, Link
from dws_on_csm.transport.remote_shell import RemoteShell
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

    def _command(self, rights: Rights, seconds: float, token: str, marked: bool) -> str:
        code = login_shell.script_code(seconds, remote_shell.GRACE, token, marked)
        return login_shell.login_command(token, code, rights)

    def _unstarted(self, exchange: Exchange) -> Unreachable:
        words = exchange.login_text() or "nothing was written"
        fix = "install sh, env, timeout, head and cksum there"
        if exchange.reached == "rights":
            fix += "; where they are there, remove NOEXEC for this user from sudoers"
        return Unreachable(self.host, f"scripts can't start (exit code {exchange.code}): {words}", fix)
