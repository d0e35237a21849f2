"""The hosts of a run: their roles, the connections to all of them in parallel, and which of them answered."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dws_on_csm.config.site import ComputeGroup, ControllerGroup, Host, Site
from dws_on_csm.display import console
from dws_on_csm.engine import cluster_lease
from dws_on_csm.engine.reach import Reach
from dws_on_csm.engine.state import DEFECT
from dws_on_csm.kube.client import Cluster, preload
from dws_on_csm.kube.master_session import MasterSession
from dws_on_csm.model.errors import Crowded, RemoteError, SudoRefused, Unreachable
from dws_on_csm.model.events import Done, Event, Failure, Outcome
from dws_on_csm.model.stage_names import CONNECT
from dws_on_csm.runner import sudo_password
from dws_on_csm.transport import open_files, openssh, ssh_answers, sudo
from dws_on_csm.transport.askpass_server import Ask
from dws_on_csm.transport.fabric_link import FabricLink
from dws_on_csm.transport.openssh import OpenSshJumps, OpenSshLink
from dws_on_csm.transport.remote_shell import RemoteShell
from dws_on_csm.transport.route import Route, choose_route
from dws_on_csm.transport.session import Links, Session
from dws_on_csm.transport.ssh_config import Destination, Query

if TYPE_CHECKING:
    from dws_on_csm.kube.pod_session import PodSession
    from dws_on_csm.transport.askpass_server import Waiting
    from dws_on_csm.transport.connect import Jumps

Paused = Callable[[], AbstractContextManager[None]]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""PATH on hosts other than the master, whose PATH is a key of the site file."""


def roles(site: Site) -> dict[str, tuple[str, ...]]:
    """Role -> hosts. A pod is one of the controllers. The submitter is the controller that follows the test job, and submits the
    jobs of `verify --cancel`; login is the host where the test job's user submits it."""
    hosts_by_role = {
        "master": (site.master.host.name,),
        "controller": tuple(host.name for host in site.controllers),
        "pod": tuple(host.name for host in site.controllers if host.pod),
        "submitter": (site.first_controller.name,),
        "login": (site.test_job.host.name if site.test_job.host else site.first_controller.name,),
        "compute": tuple(host.name for host in site.hosts("compute")),
    }
    return {role: hosts for role, hosts in hosts_by_role.items() if hosts}


# --- connect


class Sessions(dict[str, RemoteShell | Unreachable]):
    """The hosts of a run by name: a connection, or why there is none."""

    def __init__(self, jumps: Jumps, answers: Ask | None = None) -> None:
        super().__init__()
        self.jumps = jumps
        self.openssh_jumps = OpenSshJumps(answers, jumps.waiting)
        self.waited: set[str] = set()
        """The hosts and jump hosts for which a wait for a person was shown."""
        self.notes: dict[str, list[str]] = {}
        """What a person should know of connections that were made, by host and jump host."""

    def session(self, host: str) -> RemoteShell:
        """The connection to a host. Raises Unreachable where there is none."""
        session = self[host]
        if isinstance(session, Unreachable):
            raise session
        return session

    def master(self, name: str) -> MasterSession:
        """The connection to the master. Raises Unreachable where there is none."""
        session = self.session(name)
        assert isinstance(session, MasterSession)
        return session

    def open(self) -> list[RemoteShell]:
        """The connections that there are."""
        return [session for session in self.values() if isinstance(session, RemoteShell)]

    @property
    def unreachable(self) -> dict[str, Unreachable]:
        """The hosts without a connection, and why."""
        return {host: error for host, error in self.items() if isinstance(error, Unreachable)}

    @property
    def commands(self) -> int:
        """Exec channels opened so far."""
        return sum(session.commands for session in self.open())

    @property
    def connections(self) -> int:
        """Connections opened, those to jump hosts included."""
        return sum(session.connects for session in self.open()) + len(self.jumps) + len(self.openssh_jumps)

    def close(self) -> None:
        """Closes all connections."""
        for session in self.open():
            session.close()
        self.jumps.close()
        self.openssh_jumps.close()


def announce(host: str, words: str, seconds: float) -> None:
    """Say on standard error that a connection waits for a person."""
    console.note(f"{host}: {words} (up to {seconds:.0f} s)")


class Person:
    """A person on the terminal, who answers what ssh asks: one question at a time, while `paused()` frees the terminal.

    An empty answer is none, and nothing more is asked in this run.
    """

    def __init__(self, paused: Paused = nullcontext) -> None:
        self._paused = paused
        self._lock = threading.Lock()
        self._gone = False

    def __call__(self, host: str, prompt: str) -> str | None:
        """The answer to a question of ssh for `host`."""
        with self._lock:
            if self._gone:
                return None
            with self._paused():
                try:
                    answer = console.password(f"{host}: {prompt.strip()} ")
                except (EOFError, KeyboardInterrupt):
                    answer = ""
            self._gone = not answer
            return answer or None


def connect(
    site: Site, hosts: Sequence[Host], waiting: Waiting | None = None, paused: Paused = nullcontext
) -> Sessions:
    """Connections to these hosts, the master among them; its way to the Kubernetes API is prepared in the background."""
    threading.Thread(target=preload, daemon=True).start()
    sessions = connect_all(site, hosts, waiting=waiting, paused=paused)
    if isinstance(master := sessions[site.master.host.name], MasterSession):
        master.warm()
    return sessions


def connect_all(
    site: Site,
    hosts: Sequence[Host],
    ask: sudo.AskPassword | None = None,
    waiting: Waiting | None = None,
    paused: Paused = nullcontext,
) -> Sessions:
    """Connections to `hosts`, opened in parallel, each within the site's deadline. Where this process may not open enough files
    for all, the first hosts get theirs, and the others the reason, with the numbers.

    `ask` answers what a host's sudo asks: without it the site's command does, or a person (sudo_password.py). `waiting` (else
    announce()) is called when a connection waits for a person. On a terminal ssh may ask for a code or a passphrase; `paused` frees
    the terminal for that.
    """
    seconds = site.deadlines.connect
    answers = Person(paused) if sys.stdin.isatty() else None
    jumps: dict[Query, Destination] = {}

    def asked(host: Host) -> Query:
        return Query(host.name, site.ssh.config, host.user)

    answers_of_ssh = ssh_answers.Answers(asked(host) for host in hosts if not host.pod)

    def resolved(host: Host) -> Route:
        route = choose_route(asked(host), seconds, jumps, site.ssh.transport, answers_of_ssh.read)
        # git on the master may need them; root on any other host could log in with them wherever the person can
        return route if host.role == "master" else route.without_forwarding()

    def opened(session: Session | Unreachable) -> Session:
        if isinstance(session, Unreachable):
            raise session
        session.open(seconds)
        return session

    all_hosts, hosts = hosts, [host for host in hosts if not host.pod]
    limit = open_files.raised()
    connecting = open_files.at_once(limit, site.ssh.connections)
    with ThreadPoolExecutor(connecting, thread_name_prefix="connect") as pool:
        resolving = [pool.submit(resolved, host) for host in hosts]
        from dws_on_csm.transport.connect import Jumps  # slow to import: done while ssh -G runs

        def tell(host: str, words: str, seconds: float) -> None:
            sessions.waited.add(host)
            (waiting or announce)(host, words, seconds)

        sessions = Sessions(Jumps(tell), answers)
        resolved_routes = [
            _either(host, partial(_awaited, future)) for host, future in zip(hosts, resolving, strict=True)
        ]
        routes = _within_limit(hosts, resolved_routes, limit, connecting)
        password = sudo.Password(ask) if ask else sudo_password.password(site.ssh.sudo_password_command, paused)
        unopened = [
            _either(host, partial(session_of, site, host, route, password, sessions))
            for host, route in zip(hosts, routes, strict=True)
        ]
        opening = [pool.submit(opened, session) for session in unopened]
        sessions.update(
            (host.name, _either(host, partial(_awaited, future))) for host, future in zip(hosts, opening, strict=True)
        )
    sessions.notes = _notes(sessions, routes)
    if not waiting:
        console.note(*(f"{host}: {note}" for host, notes in sessions.notes.items() for note in notes))
    sessions.update(
        (host.name, _either(host, partial(pod_session, site, host, sessions))) for host in all_hosts if host.pod
    )
    return sessions


def _notes(sessions: Sessions, routes: Sequence[Route | Unreachable]) -> dict[str, list[str]]:
    """What a person should know of these connections, by host and jump host."""
    tried = [route.destination for route in routes if isinstance(route, Route) and route.destination]
    opened = (to for to in tried if not isinstance(sessions[to.name], Unreachable))
    notes = {to.name: [*to.notes] for destination in opened for to in destination.hops() if to.notes}
    for host, session in sessions.items():
        if isinstance(session, Session) and session.note:
            notes.setdefault(host, []).append(f"through the system's ssh: {session.note}")
    return notes


def session_of(
    site: Site, host: Host, route: Route | Unreachable, password: sudo.Password, sessions: Sessions
) -> Session:
    """The session of `host` over `route`. Raises Unreachable where there is none."""
    if isinstance(route, Unreachable):
        raise route
    links, environment, password_ = _links(route, sessions), _environment(site, host), password if host.sudo else None
    if host.role == "master":
        return MasterSession(host.name, links, environment, password_, site.master.context)
    return Session(host.name, links, environment, password_)


def _links(route: Route, sessions: Sessions) -> Links:
    second = OpenSshLink(route.target, sessions.openssh_jumps) if route.target else None
    if route.destination:
        return Links(FabricLink(route.destination, sessions.jumps), second)
    assert second
    return Links(second, note=route.why)


def pod_session(site: Site, host: Host, sessions: Sessions) -> PodSession:
    """The container of a pod, through the master. Raises Unreachable."""
    from dws_on_csm.kube.pod_session import PodSession

    try:
        master = sessions.master(site.master.host.name)
    except Unreachable as why:
        raise Unreachable(host.name, f"it is reached through {why.host}, which can't be reached", why.fix) from why
    assert host.pod is not None
    outer = _environment(site, site.master.host)
    session = PodSession(host.name, host.pod, master, _environment(site, host), outer, site.master.context)
    session.open(site.deadlines.connect)
    return session


def _environment(site: Site, host: Host) -> dict[str, str]:
    if host.role != "master":
        return {"LC_ALL": "C", "PATH": PATH}
    return {"LC_ALL": "C", "PATH": site.master.path, "KUBECONFIG": site.master.kubeconfig}


T = TypeVar("T")
PIECE = 0.5  # seconds


def _awaited(future: Future[T]) -> T:
    """The result of `future`, waited for in pieces: Python handles a signal that comes right before a wait only after it."""
    while not future.done():
        wait((future,), PIECE)
    return future.result()


def _either(host: Host, attempt: Callable[[], T]) -> T | Unreachable:
    """What the attempt returns, or why there is no connection to `host`.

    The one place where any other error becomes that host's: nothing that happens while connecting ends the run for all hosts.
    """
    try:
        return attempt()
    except Unreachable as error:
        return error
    except RemoteError as error:
        return Unreachable(host.name, str(error), error.fix)
    except OSError as error:
        text = f"connecting failed: {error}"
        return Unreachable(host.name, text, f"check whether `ssh {host.name}` works as this user")
    except Exception as error:  # noqa: BLE001  # a defect of ours, or of a library, with what this host sent
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}, line {place.lineno}"
        text = f"connecting failed: {DEFECT}, {type(error).__name__}: {error} ({where})"
        return Unreachable(host.name, text, f"check whether `ssh {host.name}` works; please report this defect")


def _within_limit(
    hosts: Sequence[Host], routes: Sequence[Route | Unreachable], limit: int, connecting: int
) -> list[Route | Unreachable]:
    """The routes in order, as long as this process may open files for them; then the reason why not."""
    room, needed = open_files.room(limit, connecting), 0
    fits: list[bool] = []
    jumps: set[Destination] = set()
    for route in routes:
        if isinstance(route, Route):
            needed += _files(route.destination, jumps) if route.destination else openssh.FILES
        fits.append(isinstance(route, Unreachable) or needed <= room)
    text = f"{len(hosts)} hosts need {needed} open files for their connections; this process may open {room} (of {limit} in all)"
    fix = f"run `ulimit -n {open_files.enough(needed, connecting)}` in this shell, and then the same command again; "
    fix += "where that is refused, raise nofile in limits.conf for this user, or narrow `computes` in the site file"
    crowded = (Crowded(host.name, text, fix) for host in hosts)
    return [route if fit else why for route, fit, why in zip(routes, fits, crowded, strict=True)]


def _files(destination: Destination, jumps: set[Destination]) -> int:
    """How many files a connection keeps open: its own, or those of its jump host unless another connection has opened it."""
    if not destination.jump:
        return 2 if destination.command else 1  # a ProxyCommand's complaints go to a file
    if destination.jump in jumps:
        return 0
    jumps.add(destination.jump)
    return _files(destination.jump, jumps)


# --- use


def reach_through(site: Site, sessions: Sessions) -> Reach:
    """How a run reaches its hosts and the cluster through these connections."""

    def cluster() -> Cluster:
        return sessions.master(site.master.host.name).cluster()

    def refused(host: str) -> SudoRefused | None:
        session = sessions.get(host)
        return session.sudo_refused if isinstance(session, RemoteShell) else None

    first = {role: hosts[0] for role, hosts in roles(site).items()}
    return Reach(
        sessions.session,
        cluster,
        first.__getitem__,
        fence=lambda run: cluster().fence(run),
        refused=refused,
        lease=lambda run, tell: cluster_lease.hold(sessions.session(site.master.host.name), cluster(), run, tell),
    )


def mark_absent(site: Site, sessions: Sessions) -> Site:
    """The site with `absent`: its controllers that may be down and do not respond; none where no other one responds."""
    silent = _silent(sessions)
    absent = _spared(site.controller_groups, silent.keys() - (site.limit or ()))
    if all(host.name in silent for host in site.controllers):
        return site
    return replace(site, absent=frozenset(absent))


def report_connections(
    site: Site, hosts: Mapping[str, tuple[str, ...]], sessions: Sessions, emit: Callable[[Event], None]
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Report how each connection went, with what to do; return the hosts that answered, by role, and those that should have."""
    silent = sessions.unreachable
    spared = _spared(site.computes, _silent(sessions)) | site.absent
    for host, error in silent.items():
        failure = Failure(command=f"ssh {host}", meaning=error.text, fix=error.fix)
        note = "may be down, as the site file says" if host in spared else ""
        outcome: Outcome = "skipped" if host in spared else "failed"
        emit(Done(host, CONNECT, "ssh", outcome, time.time(), 0.0, note=note, failures=(failure,)))
    for host in sorted((sessions.waited | sessions.notes.keys()) - silent.keys()):
        note = "; ".join(sessions.notes.get(host, ()))
        emit(Done(host, CONNECT, "ssh", "ok", time.time(), 0.0, note=note))
    answered = {role: tuple(host for host in names if host not in silent) for role, names in hosts.items()}
    return answered, tuple(host for host in silent if host not in spared)


def _silent(sessions: Sessions) -> dict[str, Unreachable]:
    """The hosts that did not respond, without those for which this machine has no open files."""
    return {host: error for host, error in sessions.unreachable.items() if not isinstance(error, Crowded)}


def _spared(groups: Sequence[ComputeGroup | ControllerGroup], silent: Collection[str]) -> set[str]:
    """The hosts of `silent` whose group may have so many of them down."""
    down = [({host.name for host in group.hosts} & {*silent}, group.may_be_down) for group in groups]
    return {host for hosts, allowed in down if len(hosts) <= allowed for host in hosts}
