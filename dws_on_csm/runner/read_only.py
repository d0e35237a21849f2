"""Reading a site without changing anything: what `fab look`, the doctor and a support archive have in common."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from dws_on_csm.config.site import Site
from dws_on_csm.display import console
from dws_on_csm.display.style import plural
from dws_on_csm.engine import state
from dws_on_csm.engine.state import Run
from dws_on_csm.model.errors import Unreachable
from dws_on_csm.model.events import Done, Event
from dws_on_csm.model.step import Stage
from dws_on_csm.runner import commands_to_paste, masters
from dws_on_csm.runner.connections import Sessions, connect, mark_absent, reach_through, report_connections, roles
from dws_on_csm.runner.interrupt import STOPPED, interruptible, still_running
from dws_on_csm.runner.journal import identifier


@dataclass(frozen=True)
class Reading:
    """What was read.

    run        a run that changed nothing; its board has what the looks returned
    sessions   the connections, open until looked() ends
    silent     hosts that can't be reached, each with the reason
    events     the outcome of each step, once it is judged
    """

    run: Run
    sessions: Sessions
    silent: Mapping[str, Unreachable]
    events: list[Event]

    def done(self) -> list[Done]:
        """The outcomes of the steps and checks that were judged."""
        return [event for event in self.events if isinstance(event, Done)]


@contextmanager
def looked(site: Site, stages: Sequence[Stage]) -> Iterator[Reading]:
    """Connect to all hosts of `site`, make all looks of `stages` that can be made, and close the connections at the end."""
    events: list[Event] = []
    emit = commands_to_paste.completing(site, events.append)
    with (
        _shown_on_terminal(f"checking {plural(len(site.hosts()), 'host')} ..."),
        interruptible(_last_words) as interrupts,
    ):
        sessions = connect(site, site.hosts())
        try:
            site = mark_absent(site, sessions)
            hosts, _ = report_connections(site, roles(site), sessions, emit)
            run = Run(identifier(time.time()), site, stages, reach_through(site, sessions), emit, hosts)
            interrupts.watch(run, sessions)
            state.first_looks(run)
            if run.stopping.is_set():
                console.note(STOPPED)
                raise KeyboardInterrupt  # an interrupted look says nothing about its host
        except BaseException:
            sessions.close()
            raise
    try:
        yield Reading(run, sessions, sessions.unreachable, events)
    finally:
        sessions.close()


def _last_words(watched: tuple[Run, Sessions] | None) -> None:
    """Say what is still running where this process ends at once."""
    running = still_running((), watched[1] if watched else None)
    console.note("", STOPPED, *(f"Still running: {work}; it ends at its deadline at the latest." for work in running))


def only(site: Site, name: str) -> Site:
    """The site for a run on one host: limited to it, without other compute nodes. Raises HostsError.

    Master and controllers stay: from them comes what is wanted, and who shares a folder with whom. A master that is named is
    the one that is used.
    """
    named = [host for host in site.master.listed if host.name == name]
    site = masters.using(site, named[0]) if named else masters.choose(site)
    host = site.host(name)
    groups = [replace(group, hosts=(host,), may_be_down=0) for group in site.computes if host in group.hosts]
    return replace(site, computes=tuple(groups), limit=frozenset({host.name}))


@contextmanager
def _shown_on_terminal(text: str) -> Iterator[None]:
    """Show on a terminal what is being waited for while the `with` lasts."""
    clear = console.waiting(text) if sys.stderr.isatty() else None
    try:
        yield
    finally:
        if clear:
            clear()
