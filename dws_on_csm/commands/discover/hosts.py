"""Slurm whose slurmctld runs on hosts: which hosts, how they are logged in to, and what only they know."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from dws_on_csm.commands.discover import slurm
from dws_on_csm.commands.discover.login import Login, Reached, provisional, reach
from dws_on_csm.commands.discover.slurm import Configuration, Users
from dws_on_csm.config.nodeset import is_host
from dws_on_csm.config.site import Site
from dws_on_csm.model.errors import READ_ERRORS, error_text
from dws_on_csm.model.lines import all_values, first_values, parse_pairs
from dws_on_csm.model.step import Refused
from dws_on_csm.stages.facts import Controller
from dws_on_csm.stages.slurm.slurmctld_hosts import Entry

MOST = 8
"""Hosts that are tried for their name alone."""

# The unit of slurmctld: of its process, as the service manager has put it there, else the only unit of such a name.
_UNIT = r"""
for process in $(pgrep -x 'slurmctld.*'); do
    sed -n 's|.*/system\.slice/\([^/]*\)\.service$|unit=\1|p' "/proc/$process/cgroup" 2>/dev/null
done
systemctl list-unit-files --no-legend 'slurmctld*.service' 2>/dev/null | sed -n 's/\.service .*//;s/^/file=/p'
"""


@dataclass(frozen=True)
class SlurmHost:
    """A host on which slurmctld runs, or that slurm.conf names.

    name    as ssh takes it
    login   how it was logged in to; None where that failed
    why     why it could not be looked at; "" where it was
    source  how its name was found
    state   as the preflight's look returns it
    unit, folder   slurmctld's systemd unit, and the folder of the slurm.conf that it reads
    """

    name: str
    source: str
    login: Login | None = None
    why: str = ""
    state: Controller | None = None
    unit: str = "slurmctld"
    folder: str = "/etc/slurm"

    def names(self) -> set[str]:
        """The names and addresses by which slurm.conf may mean this host."""
        own = {self.name, self.name.partition(".")[0]}
        if self.state:
            host = self.state["host"]
            own |= {host, host.partition(".")[0], self.state["fqdn"], *self.state["addresses"].split()}
        return {word.lower() for word in own if word}


@dataclass(frozen=True)
class HostSlurm:
    """A Slurm cluster whose slurmctlds run on hosts, in the order in which they take over.

    name     what --cluster takes
    source   the host whose slurm.conf this is, and that knows the users
    """

    name: str
    source: str
    controllers: tuple[SlurmHost, ...]
    configuration: Configuration
    users: Users


@dataclass
class Search:
    """The search from a master. `names`: hosts that may run slurmctld, each with how that was found."""

    path: Path
    master: str
    login: Login
    names: dict[str, str]
    say: Callable[[str], None]
    silent: list[SlurmHost] = field(default_factory=list)
    """Hosts that were tried for their name, and could not be looked at."""

    def slurms(self) -> list[HostSlurm]:
        """Each Slurm that has one of these hosts as its controller."""
        found: list[HostSlurm] = []
        for name, source in list(self.names.items())[:MOST]:
            if any(name.lower() in host.names() for one in found for host in one.controllers):
                continue
            host, users = self._look(name, source, with_users=True)
            if host.state is None:
                self.silent.append(host)
            elif host.state["program"] and host.state["files"]:
                found.append(self._slurm(host, users))
        return found

    def _slurm(self, first: SlurmHost, users: Users) -> HostSlurm:
        """The Slurm of this controller, with all controllers that its slurm.conf names."""
        assert first.state
        conf = slurm.configuration(self._site(first), first.state["files"])
        controllers = [self._of_entry(entry, first) for entry in conf.entries] or [first]
        return HostSlurm(conf.cluster or first.name, first.name, tuple(controllers), conf, users)

    def _of_entry(self, entry: Entry, first: SlurmHost) -> SlurmHost:
        words = {word.lower() for word in (*entry.names, entry.address)} - {""}
        if words & {*first.names(), "localhost"}:
            return first
        listed = next((name for name in self.names if name.lower() in words), entry.names[0])
        source = f"SlurmctldHost in slurm.conf of {first.name}"
        host, _ = self._look(listed, source)
        if host.why and entry.address and is_host(entry.address):
            by_address, _ = self._look(entry.address, f"{source}: {entry.names[0]}({entry.address})")
            host = host if by_address.why else by_address
        return host

    def _site(self, host: SlurmHost) -> Site:
        return provisional(self.path, self.login, self.master, slurm={"folder": host.folder, "service": host.unit})

    def _look(self, name: str, source: str, with_users: bool = False) -> tuple[SlurmHost, Users]:
        """A host as its slurmctld has it; one that cannot be looked at has the cause."""
        host = SlurmHost(name, source)
        if not is_host(name):
            return SlurmHost(name, source, why="this is no host's name"), Users()
        self.say(name)
        try:
            with self._reached(name) as reached:
                host = self._placed(host, reached)
                return host, slurm.users_or_none(reached.session, self._site(host)) if with_users else Users()
        except Refused as error:
            return SlurmHost(name, source, why=refusal_text(error)), Users()
        except READ_ERRORS as error:
            return SlurmHost(name, source, host.login, error_text(error).removeprefix(f"{name}: ")), Users()

    @contextmanager
    def _reached(self, name: str) -> Iterator[Reached]:
        reached = reach(self.path, self.master, name, "controller", self.login)
        try:
            yield reached
        finally:
            reached.sessions.close()

    def _placed(self, host: SlurmHost, reached: Reached) -> SlurmHost:
        """The host with the unit and the folder of its slurmctld: where that reads another slurm.conf, it is looked at again."""
        session, deadline = reached.session, 60.0
        unit = unit_of(session.run(_UNIT, deadline=deadline).out)
        host = SlurmHost(host.name, host.source, reached.login, unit=unit)
        state = slurm.look(session, self._site(host), host.name)
        if folder := folder_of(state):
            host = SlurmHost(host.name, host.source, reached.login, unit=unit, folder=folder)
            state = slurm.look(session, self._site(host), host.name)
        return SlurmHost(host.name, host.source, reached.login, "", state, unit, host.folder)


def refusal_text(error: Refused) -> str:
    """Why slurm.conf was not read, in a sentence."""
    return "; ".join(finding.text for finding in error.findings)


def unit_of(out: bytes) -> str:
    """The unit of slurmctld: that of its process, else the only one of such a name; "slurmctld" where that is unclear."""
    pairs = parse_pairs(out, "replace")
    running, files = first_values(pairs).get("unit", ""), all_values(pairs, "file")
    unit = running or (files[0] if len(files) == 1 else "")
    return unit if re.fullmatch(r"[0-9A-Za-z_][0-9A-Za-z:_.@-]{0,254}", unit) else "slurmctld"


def folder_of(state: Controller) -> str:
    """The folder of the slurm.conf that slurmctld reads, where that is another one than was assumed; else ""."""
    named: Sequence[str] = state.get("elsewhere", [])
    paths = {PurePosixPath(name.rpartition(" (")[0]) for name in named}
    path = paths.pop() if len(paths) == 1 else PurePosixPath("")
    folder = str(path.parent)
    valid = path.name == "slurm.conf" and re.fullmatch(r"(?!.*/\.\.?(/|$))(/[0-9A-Za-z._+@-]+)+", folder)
    return folder if valid else ""
