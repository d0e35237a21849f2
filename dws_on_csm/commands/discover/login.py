"""How hosts are logged in to: as root, or as somebody whose sudo gives root's rights; and sites that exist in memory alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from dws_on_csm.config.load import load
from dws_on_csm.config.site import Host, Role, Site
from dws_on_csm.model.errors import RemoteError, Unreachable
from dws_on_csm.model.lines import first_values, parse_pairs
from dws_on_csm.runner.connections import Sessions, connect_all
from dws_on_csm.transport.remote_shell import RemoteShell

_WHO = 'printf "uid=%s\\nname=%s\\n" "$(id -u)" "$(id -un)"'


@dataclass(frozen=True)
class Login:
    """ssh.config, ssh.user ("": that of ssh_config, or one's own name) and ssh.sudo of the site file."""

    config: str = ""
    user: str = ""
    sudo: bool = False

    def keys(self) -> dict[str, Any]:
        """The section `ssh` of a site file."""
        return {
            **({"config": self.config} if self.config else {}),
            **({"user": self.user} if self.user else {}),
            **({"sudo": True} if self.sudo else {}),
        }


@dataclass(frozen=True)
class Reached:
    """A host with root's rights: how, whose login it was ("": unknown), and the connection."""

    host: str
    login: Login
    account: str
    sessions: Sessions

    @property
    def session(self) -> RemoteShell:
        """The connection."""
        return self.sessions.session(self.host)


def provisional(path: Path, login: Login, master: str, kubeconfig: str = "", **more: Any) -> Site:
    """A site of this master that no file has. SiteError. `path`: where its file will be. `kubeconfig`: where not the usual one."""
    own = {"host": master, **({"kubeconfig": kubeconfig} if kubeconfig else {})}
    data = {"master": own, "controllers": [{"pod": {}}], "ssh": login.keys(), **more}
    return load(path, text=yaml.safe_dump(data))


def reach(path: Path, master: str, host: str, role: Role, given: Login, kubeconfig: str = "") -> Reached:
    """A connection to `host` with root's rights, in the first way that works; nothing is changed there. Raises RemoteError with
    what the first way met.

    given       as the command line, or the login on the master, has it
    kubeconfig  the master's, where it is not the usual one
    """
    first: RemoteError | None = None
    unreachable = set[str]()
    account = given.user
    for login in _ways(given):
        if login.user in unreachable:
            continue  # sudo does not matter where the login fails
        site = provisional(path, login, master, kubeconfig)
        sessions = connect_all(site, [Host(host, role, login.user, login.sudo)])
        try:
            session = sessions.session(host)
        except Unreachable as error:
            unreachable.add(login.user)
            first = first or error
            sessions.close()
            continue
        try:
            who = first_values(parse_pairs(session.run(_WHO, deadline=site.deadlines.command).out, "replace"))
        except RemoteError as error:
            first = first or error
        else:
            account = account if login.sudo else who.get("name", "")
            if who.get("uid") == "0":
                return Reached(host, login, account, sessions)
        sessions.close()
    text = "the login has no root's rights, and sudo gives none"
    raise first or Unreachable(host, text, "add --user root, or --user USER of somebody whose sudo may run everything")


def _ways(given: Login) -> Iterator[Login]:
    """As it is given; with sudo; and as root, where no user was given."""
    yield given
    if not given.sudo:
        yield replace(given, sudo=True)
    if not given.user:
        yield replace(given, user="root", sudo=False)
