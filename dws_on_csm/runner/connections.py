"""Connections to all hosts of a run, opened side by side."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from dws_on_csm.display import console
from dws_on_csm.kube.master_session import MasterSession
from dws_on_csm.model.errors import Crowded, SudoRefused, Unreachable
from dws_on_csm.transport import open_files, sudo
from dws_on_csm.transport.destination import Destination
from dws_on_csm.transport.session import Session
from dws_on_csm.transport.ssh_config import Asked, resolve

if TYPE_CHECKING:
    from dws_on_csm.config.site import Host, Site
    from dws_on_csm.transport.connect import Jumps

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are looked for on hosts other than the master, which has a key for it in the site file."""


def ask_terminal(host: str) -> str:
    """Asks on the terminal. Without one it raises SudoRefused."""
    if not sys.stdin.isatty():
        fix = "run this on a terminal, or give the user NOPASSWD in sudoers, or log in as root (ssh.user)"
        raise SudoRefused(host, "sudo asks for a password and there is no terminal to ask on", fix)
    return console.password(f"sudo password on {host} (for all hosts of this run): ")


class Sessions(dict[str, Session | Unreachable]):
    """The hosts of a run by name: a connection, or why there is none."""

    def __init__(self, jumps: Jumps) -> None:
        super().__init__()
        self.jumps = jumps

    def master(self, name: str) -> MasterSession:
        """The master's connection; raises why there is none."""
        found = self[name]
        if isinstance(found, Unreachable):
            raise found
        assert isinstance(found, MasterSession)
        return found

    def open(self) -> list[Session]:
        """Those that are connected."""
        return [one for one in self.values() if isinstance(one, Session)]

    @property
    def commands(self) -> int:
        """Exec channels opened so far."""
        return sum(session.commands for session in self.open())

    @property
    def connections(self) -> int:
        """Connections opened, those to jump hosts included."""
        return sum(session.connects for session in self.open()) + len(self.jumps)

    def close(self) -> None:
        """Closes all connections."""
        for session in self.open():
            session.close()
        self.jumps.close()


def connect_all(site: Site, hosts: Sequence[Host], ask: sudo.AskPassword = ask_terminal) -> Sessions:
    """Connects to `hosts`, so many at once as the site allows, each within the site's deadline; to as many as this process
    may have connections to, the first ones: the others are told with the numbers.

    `ask` is called at most once, when a host's sudo wants a password.
    """
    seconds = site.deadlines.connect
    jumps: dict[Asked, Destination] = {}

    def lead(host: Host) -> Destination:
        return resolve(Asked(host.name, site.ssh.config, host.user), seconds, jumps)

    def connected(made: Session | Unreachable) -> Session:
        if isinstance(made, Unreachable):
            raise made
        made.open(seconds)
        return made

    every, hosts = hosts, [host for host in hosts if not host.pod]
    limit = open_files.raised()
    connecting = open_files.at_once(limit, site.ssh.connections)
    with ThreadPoolExecutor(connecting, thread_name_prefix="connect") as pool:
        leads = [pool.submit(lead, host) for host in hosts]
        from dws_on_csm.transport.connect import Jumps  # slow to import, and meanwhile ssh -G is at work

        sessions = Sessions(Jumps())
        ways = _fitting(hosts, [_either(one.result) for one in leads], limit, connecting)
        make = _maker(site, sudo.Password(ask), sessions.jumps)
        made = [make(host, way) for host, way in zip(hosts, ways, strict=True)]
        opened = [pool.submit(connected, one) for one in made]
        sessions.update((host.name, _either(one.result)) for host, one in zip(hosts, opened, strict=True))
    sessions.update((host.name, _either(partial(_pod, site, host, sessions))) for host in every if host.pod)
    return sessions


def _pod(site: Site, host: Host, sessions: Sessions) -> Session:
    """The container of a pod, through the master. Raises Unreachable."""
    from dws_on_csm.kube.pod_session import PodSession

    try:
        master = sessions.master(site.master.host.name)
    except Unreachable as why:
        raise Unreachable(host.name, f"it is reached through {why.host}, which can't be reached", why.fix) from why
    assert host.pod is not None
    outer = _environment(site, site.master.host)
    made = PodSession(host.name, host.pod, master, _environment(site, host), outer, site.master.context)
    made.open(site.deadlines.connect)
    return made


def _fitting(
    hosts: Sequence[Host], ways: Sequence[Destination | Unreachable], limit: int, connecting: int
) -> list[Destination | Unreachable]:
    """The ways, as far as this process can have connections open, in order; where it can't, why not."""
    room, needed = open_files.room(limit, connecting), 0
    fits: list[bool] = []
    jumps: set[Destination] = set()
    for way in ways:
        needed += _files(way, jumps)
        fits.append(isinstance(way, Unreachable) or needed <= room)
    text = f"{len(ways)} hosts need {needed} open files for their connections, and this process may open {room} (of {limit} in all)"
    fix = f"run `ulimit -n {open_files.enough(needed, connecting)}` in this shell, and then the same command again; "
    fix += "where that is refused, raise nofile in limits.conf for this user, or narrow `computes` in the site file"
    crowded = (Crowded(host.name, text, fix) for host in hosts)
    return [way if fit else one for way, fit, one in zip(ways, fits, crowded, strict=True)]


def _files(way: Destination | Unreachable, jumps: set[Destination]) -> int:
    """How many files a connection keeps open: itself, or what leads to it, unless another one has that open already."""
    if isinstance(way, Unreachable):
        return 0
    if not way.jump:
        return 2 if way.command else 1  # what a ProxyCommand complains about goes to a file
    if way.jump in jumps:
        return 0
    jumps.add(way.jump)
    return _files(way.jump, jumps)


Made = TypeVar("Made")


def _either(attempt: Callable[[], Made]) -> Made | Unreachable:
    try:
        return attempt()
    except Unreachable as error:
        return error


def _maker(
    site: Site, password: sudo.Password, jumps: Jumps
) -> Callable[[Host, Destination | Unreachable], Session | Unreachable]:
    def make(host: Host, to: Destination | Unreachable) -> Session | Unreachable:
        if isinstance(to, Unreachable):
            return to
        given = to, _environment(site, host), password if host.sudo else None, jumps
        return MasterSession(*given, site.master.context) if host.role == "master" else Session(*given)

    return make


def _environment(site: Site, host: Host) -> dict[str, str]:
    if host.role != "master":
        return {"LC_ALL": "C", "PATH": PATH}
    return {"LC_ALL": "C", "PATH": site.master.path, "KUBECONFIG": site.master.kubeconfig}
