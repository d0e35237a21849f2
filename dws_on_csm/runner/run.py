"""A run from its first connection to its exit code: what an install, a plan and a repair have in common."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

from dws_on_csm.config.site import Site
from dws_on_csm.display import select
from dws_on_csm.display.html import page
from dws_on_csm.engine.site_lock import LEASE_SECONDS
from dws_on_csm.engine.state import Run, at_work, lasting
from dws_on_csm.model.events import Event, Opened, Summary
from dws_on_csm.model.step import Stage
from dws_on_csm.redaction.events import unsaid
from dws_on_csm.runner import run_log
from dws_on_csm.runner.connections import Sessions
from dws_on_csm.runner.exit_codes import CONVERGED, ended, left
from dws_on_csm.runner.hosts import answering, connected, connections, roles
from dws_on_csm.runner.interrupt import Interrupts, interruptible, still_running
from dws_on_csm.runner.journal import Journal, identifier
from dws_on_csm.runner.options import Options
from dws_on_csm.runner.work import agreed, work

UNTOLD = (
    "It was left before all hosts had its line in their log of runs, and the master its journal. If it still had the site's "
    f"lock, that expires within {LEASE_SECONDS} s; the next run from this machine need not wait for that."
)


def run(site: Site, stages: Sequence[Stage], options: Options) -> int:
    """Make a run and show it. The exit code says how it went."""
    terminal = select.is_terminal(sys.stdout)
    with select.consumer(options.shown, json=options.json, terminal=terminal) as display:
        return _run(site, stages, options, display)


@dataclass(frozen=True)
class _Ordered:
    """A run as it was ordered, and where it is shown and kept; `began`: when, in seconds since 1970."""

    site: Site
    stages: Sequence[Stage]
    options: Options
    journal: Journal
    display: select.Display
    began: float


def _run(site: Site, stages: Sequence[Stage], options: Options, display: select.Display) -> int:
    began = time.time()
    ordered = _Ordered(site, stages, options, Journal(identifier(began), site.keep_runs), display, began)
    try:
        with interruptible(partial(_left, ordered)) as interrupts:
            return _connected(ordered, interrupts)
    finally:
        ordered.journal.close()


def _connected(ordered: _Ordered, interrupts: Interrupts) -> int:
    site, options, journal = ordered.site, ordered.options, ordered.journal
    emit = both(journal, ordered.display)
    every = roles(site)
    graph = at_work(ordered.stages, every)
    emit(Opened(journal.run, options.shown, every, graph, ordered.began, str(site.path.absolute())))
    sessions = connected(site, site.hosts())
    try:
        hosts, down = answering(site, every, sessions, emit)
        yes = agreed(site.deletes, options)
        made = Run(journal.run, site, ordered.stages, connections(site, sessions), emit, hosts, yes=yes)
        interrupts.watch(made, sessions)
        with ExitStack() as holding:
            refused = work(made, options, ordered.display, down, holding)
            made.over = True
            end = unsaid(ended(made, options, refused, down, sessions, ordered.began, journal.page))
            journal(end)
            _shown(ordered, made, end, holding)
        return end.exit
    finally:
        sessions.close()


def _shown(ordered: _Ordered, made: Run, end: Summary, holding: ExitStack) -> None:
    """Show how a run ended, with what could not be left for colleagues, whatever comes between. `holding` has the site's
    lock: what colleagues are left is left while no other run is at work, and nobody waits for the lock while this is read.
    """
    journal, told = ordered.journal, end
    try:
        with holding:
            told = unsaid(replace(end, lacking=tuple(_trail(made, ordered.options.task, journal, end))))
    finally:
        there = journal.report(
            lambda events: page.render([*(one for one in events if not isinstance(one, Summary)), told])
        )
        lacking = (*told.lacking, *journal.problems())
        ordered.display(unsaid(replace(told, lacking=lacking, report=end.report if there else "")))
        made.said = True


def _left(ordered: _Ordered, watched: tuple[Run, Sessions] | None) -> int:
    """Say where a run stands that ends without waiting for what it began: on the terminal, in its journal and report."""
    journal, display = ordered.journal, ordered.display
    over = [event for event in list(journal.events) if isinstance(event, Summary)]
    if over:  # it had ended already; its exit code stays
        end = replace(over[-1], lacking=(UNTOLD,))
    else:
        running = still_running(list(journal.events), watched[1] if watched else None)
        end = unsaid(left(ordered.site, ordered.options, watched, running, journal.run, ordered.began, journal.page))
        journal(end)
    if not (watched and watched[0].said):
        display(end)
    display.leave()
    journal.report(page.render)
    return end.exit


def _trail(made: Run, task: str, journal: Journal, end: Summary) -> list[str]:
    """For colleagues, on the hosts: what was changed there, and the journal. What of it could not be done.

    Old runs go where this one ended well: what a run that did not was to bring back, or to change, may still be needed.
    """
    if not made.changing:
        return []
    changed, site = _lasting(made.site, run_log.changed(made.outcomes)), made.site
    lacking = run_log.leave(made.reach, made.id, task, changed, journal.text())
    if end.exit == CONVERGED:
        lacking += run_log.prune(made.reach, made.id, lasting(made), site.keep_runs, site.ssh.connections)
    return list(dict.fromkeys(lacking))


def _lasting(site: Site, changed: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """What was changed by host; what was changed of pods is left on the master, for nothing lasts in a pod."""
    pods = {host.name for host in site.controllers if host.pod}
    inside = [f"{host}: {step}" for host in pods & changed.keys() for step in changed[host]]
    hosts = {host: steps for host, steps in changed.items() if host not in pods}
    master = site.master.host.name
    return hosts | ({master: [*hosts.get(master, ()), *inside]} if inside else {})


def both(keep: Callable[[Event], None], show: Callable[[Event], None]) -> Callable[[Event], None]:
    """Whatever happens comes by here, and is kept and shown without the secrets in its words."""

    def emit(event: Event) -> None:
        told = unsaid(event)
        keep(told)
        show(told)

    return emit
