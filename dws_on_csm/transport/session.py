"""One host's SSH connection: it stays open, and each script has a channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dws_on_csm.model.errors import NoLogin, Unreachable
from dws_on_csm.transport import login_shell, remote_shell, sudo
from dws_on_csm.transport.link import Channel, Link
from dws_on_csm.transport.remote_shell import RemoteShell
from dws_on_csm.transport.sudo import Rights

if TYPE_CHECKING:
    from dws_on_csm.transport.channel import Exchange


@dataclass(frozen=True)
class Links:
    """How a session connects: by `first`; `second` where that can't log in. `note`: why `first` is not the usual one, or ""."""

    first: Link
    second: Link | None = None
    note: str = ""


class Session(RemoteShell):
    """A connection to a host. `note` says why it is not by the usual transport, "" where it is."""

    def __init__(self, host: str, links: Links, environment: Mapping[str, str], password: sudo.Password | None) -> None:
        super().__init__(host, environment, password)
        self.connects = 1
        self.link = links.first
        self.note = links.note
        self._second = links.second

    def open(self, seconds: float) -> None:
        try:
            self.link.open(seconds)
        except Unreachable as error:
            if self._second and isinstance(error, NoLogin):
                self._open_second(self._second, seconds, error)
            elif self.note:
                raise Unreachable(self.host, f"{error.text} (ssh was used: {self.note})", error.fix) from error
            else:
                raise

    def _open_second(self, second: Link, seconds: float, why: NoLogin) -> None:
        try:
            second.open(seconds)
        except Unreachable as error:
            fixes = [why.fix] if why.other_key or not isinstance(error, NoLogin) else []
            fixes += [error.fix] if isinstance(error, NoLogin) else []
            raise Unreachable(self.host, f"{why.text}; {error.text}", "; or ".join(fixes)) from error
        self.link, self.note = second, why.short

    def close(self) -> None:
        self.link.close()

    def channel(self, command: str) -> Channel:
        channel = self.link.channel(command)
        with self._lock:
            self.commands += 1
        return channel

    def _command(self, rights: Rights, seconds: float, token: str, stays: bool) -> str:
        code = login_shell.script_code(seconds, remote_shell.GRACE, token, stays)
        return login_shell.login_command(token, code, rights)

    def _unstarted(self, exchange: Exchange) -> Unreachable:
        words = exchange.login_text() or "they wrote nothing"
        fix = "install sh, env, timeout, head and cksum there"
        if exchange.reached == "rights":
            fix += "; where they are there, remove NOEXEC for this user from sudoers"
        return Unreachable(self.host, f"scripts can't start (exit code {exchange.code}): {words}", fix)
