"""One run, from its first connection to its exit code: what an install, a plan, a repair and a rollback have in common.

run_procedure      open the journal and handle Ctrl-C
_connect_and_work  connect to all hosts
work               read all hosts; plan, or: preflight, confirm what will be removed and restarted, take the site's lock
                   (locked.py), change, verify
_finish            leave the run's record on the hosts (run_log.py), release the lock, write the report, show how the run ended
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

from dws_on_csm.config.site import Site
from dws_on_csm.display import select
from dws_on_csm.display.html import page
from dws_on_csm.display.progress import fold
from dws_on_csm.engine import apply, before_images
from dws_on_csm.engine import pending as engine_pending
from dws_on_csm.engine import plan as engine_plan
from dws_on_csm.engine.host_script import fenced
from dws_on_csm.engine.looks import keyed
from dws_on_csm.engine.reach import ClusterLease
from dws_on_csm.engine.site_lock import LEASE_SECONDS
from dws_on_csm.engine.state import Run, defect, stage_graph, unchanged_hosts
from dws_on_csm.model.errors import RemoteError
from dws_on_csm.model.events import Awaiting, Event, Failure, Opened, Summary
from dws_on_csm.model.stage_names import CONNECT
from dws_on_csm.model.step import Stage, Step
from dws_on_csm.redaction.events import redact_event
from dws_on_csm.runner import commands_to_paste, locked, masters, run_log
from dws_on_csm.runner.confirmation import confirm, confirm_early, confirmed_by_yes, not_confirmed
from dws_on_csm.runner.connections import (
    Sessions,
    announce,
    connect,
    mark_absent,
    reach_through,
    report_connections,
    roles,
)
from dws_on_csm.runner.interrupt import Interrupts, interruptible, still_running
from dws_on_csm.runner.journal import Journal, identifier
from dws_on_csm.runner.options import Options
from dws_on_csm.runner.result import summary, summary_at_once

UNRECORDED = (
    "This process ended before the run's record was on all hosts and its journal on the master. If the run still held the "
    f"site's lock, the lock expires within {LEASE_SECONDS} s; a new run from this machine does not have to wait for it."
)


def run(site: Site, stages: Sequence[Stage], options: Options) -> int:
    """Make a run and show it. Returns its exit code."""
    terminal = select.is_terminal(sys.stdout)
    with select.consumer(
        options.shown, json=options.json, terminal=terminal, diff=options.diff, verbose=options.verbose
    ) as display:
        return run_procedure(site, stages, options, display)


@dataclass(frozen=True)
class _Request:
    """What a run was asked to do, and where it is shown and recorded; `began`: when, in seconds since 1970."""

    site: Site
    stages: Sequence[Stage]
    options: Options
    journal: Journal
    display: select.Display
    began: float


def run_procedure(site: Site, stages: Sequence[Stage], options: Options, display: select.Display) -> int:
    """Run `stages` on the site, from the first connection to the summary; returns the exit code."""
    began = time.time()
    request = _Request(
        site,
        stages,
        options,
        Journal(identifier(began), site.keep_runs, site=str(site.path.absolute())),
        display,
        began,
    )
    try:
        with interruptible(partial(_last_words, request)) as interrupts:
            return _connect_and_work(request, interrupts)
    finally:
        request.journal.close()


def _connect_and_work(request: _Request, interrupts: Interrupts) -> int:
    site, options, journal = request.site, request.options, request.journal
    emit = commands_to_paste.completing(site, redacting(journal, request.display))
    hosts_by_role = roles(site)
    graph = stage_graph(request.stages, hosts_by_role)
    emit(Opened(journal.run, options.shown, hosts_by_role, graph, request.began, str(site.path.absolute())))

    # not sys.stdout, which a live screen replaces; without one a plan shows its end alone
    silent = options.plan and not select.is_terminal(sys.__stdout__ or sys.stdout)

    def waiting(host: str, words: str, seconds: float) -> None:
        emit(Awaiting(host, CONNECT, "ssh", words, seconds, time.time()))
        if silent:
            announce(host, words, seconds)

    sessions = connect(site, site.hosts(), waiting, request.display.paused)
    try:
        site = mark_absent(site, sessions)
        hosts, down = report_connections(site, roles(site), sessions, emit)
        yes = confirmed_by_yes(site.deletes, options)
        run = Run(journal.run, site, request.stages, reach_through(site, sessions), emit, hosts, yes=yes)
        run.prepare = options.prepare
        if site.absent and _changes_controllers(request.stages):
            run.degraded.add(_unfinished(sorted(site.absent), options))
        interrupts.watch(run, sessions)
        with ExitStack() as holding:
            refused = work(run, options, request.display, down, holding)
            run.over = True
            end = redact_event(summary(run, options, refused, down, sessions, request.began, journal.page))
            journal(end)
            _finish(request, run, end, holding)
        return end.exit
    finally:
        sessions.close()


def _changes_controllers(stages: Sequence[Stage]) -> bool:
    items = (item for stage in stages for item in stage.steps)
    return any(isinstance(item, Step) and item.role in ("controller", "pod") for item in items)


def _unfinished(absent: Sequence[str], options: Options) -> str:
    """That controllers were left as they are, and how to continue."""
    next_step = "run the same command again" if options.undoes else "`invoke install` completes the rest"
    return f"{fold(absent)} did not respond, so nothing was done there; once it responds, {next_step}"


def redacting(keep: Callable[[Event], None], show: Callable[[Event], None]) -> Callable[[Event], None]:
    """The consumer of all events of a run: keeps and shows each one, without the secrets in its words."""

    def emit(event: Event) -> None:
        redacted = redact_event(event)
        keep(redacted)
        show(redacted)

    return emit


# --- the work: read, decide, confirm, change


def work(run: Run, options: Options, display: select.Display, down: Sequence[str], holding: ExitStack) -> str:
    """Do the work of a run; `down` are hosts that should have answered. Returns why the run was refused as a whole, or "".

    The site's lock, once taken, is held until `holding` ends: the run's record is left on the hosts while no other run works.
    An error outside of any step is reported as a failed step "run.work", and so is a defect: how a run ended is always shown.
    """
    began = time.time()
    try:
        locked.look(run, options)
        return _decide(run, options, display, down, holding)
    except RemoteError as error:
        failure = Failure(meaning=str(error), fix=error.fix)
        run.done(error.host or "-", "run.work", "failed", began, failures=(failure,))
        return ""
    except Exception as error:  # noqa: BLE001  # a defect of ours must not keep the run from showing how it ended
        run.done("-", "run.work", "failed", began, failures=(defect(error),))
        return ""


def _decide(run: Run, options: Options, display: select.Display, down: Sequence[str], holding: ExitStack) -> str:
    """Plan, or judge the preflight and change what differs. Returns why the run was refused as a whole, or ""."""
    if options.plan:
        engine_plan.plan(run)
        return ""
    if not engine_plan.findings(run, run.stages[0]) or down:
        return ""
    if options.work:
        return locked.with_lock(run, options, partial(_instead, options.work, run), holding)
    pending = engine_pending.pending(run)
    if pending.changes or options.verify:
        if why := locked.why_records_elsewhere(run, options):
            return why
        if not confirm_early(run, display, pending):
            return not_confirmed(run, pending)
        return locked.with_lock(run, options, partial(change_site, run, options, display), holding)
    apply.install(run)
    apply.finish(run)
    return ""


def _instead(other: Callable[[Run], None], run: Run, lease: ClusterLease) -> str:
    other(run)
    return ""


def change_site(run: Run, options: Options, display: select.Display, lease: ClusterLease) -> str:
    """Change what differs, holding the lock. Returns why nothing was changed, if something was not confirmed; else "".

    What will be removed or restarted by the state that was read with the lock, and was not shown before, is confirmed as well.
    """
    pending = engine_pending.pending(run)
    if not confirm_early(run, display, pending):
        return not_confirmed(run, pending)
    run.changing = True
    if not options.proves:
        lease.keep_records(masters.controllers(run.site))
    installed = before_images.installed_before(keyed((*options.reads, *run.stages)), run.board.facts)
    controllers = [host.name for host in run.site.controllers]
    before_images.record_begin(
        run.reach, run.id, options.task, options.undoes, installed, unchanged_hosts(run), controllers
    )
    _forget_proof(run)
    try:
        if pending.before:
            apply.install(run, pending.before)
            pending = engine_pending.pending(run)
            if not confirm(run, display, pending):
                return not_confirmed(run, pending)
        apply.install(run)
    finally:
        apply.finish(run)
    return ""


_FORGET = 'if [ -e "$STATE/proof.json" ]; then rm -f "$STATE/proof.json" && sync "$STATE"; fi\n'


def _forget_proof(run: Run) -> None:
    """Remove the previous proof: it does not hold for what this run changes. Raises Unreachable where it can't be removed."""
    undone = "nothing was changed: the previous proof could not be removed: "
    for host in run.hosts["submitter"]:
        run.reach.run_fenced(host, fenced(run.id, _FORGET), deadline=30.0, undone=undone)
        for key in keyed(stage for stage in run.stages if stage.proves):
            run.board.forget(key, host)


# --- the end


def _finish(request: _Request, run: Run, end: Summary, holding: ExitStack) -> None:
    """Leave the run's record on the hosts, release the lock, write the report, and show how the run ended, even if one of these
    fails. The record is left while `holding` holds the site's lock, so while no other run works."""
    journal, shown = request.journal, end
    try:
        with holding:
            shown = redact_event(replace(end, lacking=tuple(run_log.write_record(run, request.options, journal, end))))
    finally:
        written = journal.report(
            lambda events: page.render([*(event for event in events if not isinstance(event, Summary)), shown])
        )
        lacking = (*shown.lacking, *journal.problems())
        request.display(redact_event(replace(shown, lacking=lacking, report=end.report if written else "")))
        run.shown = True


def _last_words(request: _Request, watched: tuple[Run, Sessions] | None) -> int:
    """Show, journal and report where a run stands that ends without waiting for what it started. Returns its exit code."""
    journal, display = request.journal, request.display
    over = [event for event in list(journal.events) if isinstance(event, Summary)]
    if over:  # it had ended already; its exit code stays
        end = replace(over[-1], lacking=(UNRECORDED,))
    else:
        running = still_running(list(journal.events), watched[1] if watched else None)
        end = redact_event(
            summary_at_once(request.site, request.options, watched, running, journal.run, request.began, journal.page)
        )
        journal(end)
    if not (watched and watched[0].shown):
        display(end)
    display.finish()
    journal.report(page.render)
    return end.exit
