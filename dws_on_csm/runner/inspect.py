"""Looking at a site without changing anything: what a look, the doctor and a support archive have in common."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from dws_on_csm.config.load import DEFAULT
from dws_on_csm.config.site import Site
from dws_on_csm.display import console
from dws_on_csm.display.style import plural
from dws_on_csm.engine import state
from dws_on_csm.engine.state import Run
from dws_on_csm.model.errors import Unreachable
from dws_on_csm.model.events import Done, Event
from dws_on_csm.model.step import Stage
from dws_on_csm.runner.connections import Sessions, answering, connect, reach_through, roles
from dws_on_csm.runner.interrupt import STOPPED, interruptible, still_running
from dws_on_csm.runner.journal import identifier


@dataclass(frozen=True)
class Reading:
    """What was seen.

    run        its board has what every look found; nothing was changed
    sessions   the connections, open as long as the reading is
    silent     hosts that can't be reached, with the reason
    events     what became of each step, once somebody has judged them
    """

    run: Run
    sessions: Sessions
    silent: Mapping[str, Unreachable]
    events: list[Event]

    def done(self) -> list[Done]:
        """The steps and checks that were judged."""
        return [event for event in self.events if isinstance(event, Done)]


@contextmanager
def looked(site: Site, stages: Sequence[Stage]) -> Iterator[Reading]:
    """Connects to all hosts of `site`, makes all looks of `stages` that can be made, and ends the connections at last."""
    events: list[Event] = []
    with _told(f"looking at {plural(len(site.hosts()), 'host')} ..."), interruptible(_left) as interrupts:
        sessions = connect(site, site.hosts())
        try:
            hosts, _ = answering(site, roles(site), sessions, events.append)
            run = Run(identifier(time.time()), site, stages, reach_through(site, sessions), events.append, hosts)
            interrupts.watch(run, sessions)
            state.first_looks(run)
            if run.stopping.is_set():
                console.note(STOPPED)
                raise KeyboardInterrupt  # a look that was cut off says nothing about its host
        except BaseException:
            sessions.close()
            raise
    silent = {host: found for host, found in sessions.items() if isinstance(found, Unreachable)}
    try:
        yield Reading(run, sessions, silent, events)
    finally:
        sessions.close()


def _left(watched: tuple[Run, Sessions] | None) -> None:
    """What there is to say where a look ends without waiting for its scripts."""
    running = still_running((), watched[1] if watched else None)
    told = (f"Still running: {one}; each ends by itself, at the latest at its deadline." for one in running)
    console.note("", STOPPED, *told)


def only(site: Site, name: str) -> Site:
    """The site for a run on one host: limited to it, and without the nodes that this has nothing to do with.

    Master and controllers stay: they say what is wanted, and who shares a folder with whom. HostsError.
    """
    host = site.host(name)
    groups = [replace(group, hosts=(host,), may_be_down=0) for group in site.computes if host in group.hosts]
    return replace(site, computes=tuple(groups), limit=frozenset({host.name}))


def repair_command(site: Site, host: str, what: str) -> str:
    """The command that repairs a stage or step on one host, as it is typed."""
    path = "" if site.path == DEFAULT else f" --site {site.path}"
    return f"fab -H {host} repair {what}{path}"


@contextmanager
def _told(text: str) -> Iterator[None]:
    """Says on a terminal what is being waited for, and takes it away again."""
    away = console.waiting(text) if sys.stderr.isatty() else None
    try:
        yield
    finally:
        if away:
            away()
