"""A run from its first connection to its exit code: what an install, a plan and a repair have in common."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from fabfile import before as images
from fabfile import engine, page, report, trail
from fabfile.api import ClusterError
from fabfile.cluster import preload
from fabfile.connect import Sessions, connect_all
from fabfile.engine import Run
from fabfile.events import OUTCOMES, Done, Event, Failure, Opened, Outcome, Summary
from fabfile.faults import DeadlineExceeded, Lost, Unreachable
from fabfile.inventory import Site
from fabfile.journal import Journal
from fabfile.judging import Pending
from fabfile.lock import Locked, hold
from fabfile.perform import Reach
from fabfile.running import at_work
from fabfile.session import Session
from fabfile.stages.verify import FORGET
from fabfile.step import Stage

CONVERGED, FAILED, SITE_FILE, REFUSED, CHANGES, UNPROVEN = 0, 1, 2, 3, 4, 5
"""Exit codes: nothing left to do; failed; the site file has errors; refused; a plan has changes; installed, not proven."""

TROUBLE: tuple[type[Exception], ...] = (Unreachable, Lost, DeadlineExceeded, ClusterError)
"""What can go wrong on the way to a host or in the cluster."""


@dataclass(frozen=True)
class Options:
    """How a run is made: `plan` only shows; `yes` answers what is asked; `verify` proves even if nothing was changed.

    flags   the task's further words, for the command that goes on from here (" --slurm")
    again   that command, where it isn't `invoke TASK`
    reads   stages that are only looked at, for what the own ones need to know
    done    what a run that changed something has done, in words
    right   what there is to say where nothing was to be done
    undoes  the run before which everything is put back, where that is what this one does
    work    what is done, if the first stage's checks hold, in place of the stages' steps: by the only run at work there
    """

    task: str = "install"
    plan: bool = False
    yes: bool = False
    verify: bool = False
    json: bool = False
    flags: str = ""
    again: str = ""
    reads: Sequence[Stage] = ()
    done: str = "Installed and proven."
    right: str = "Everything is as it should be."
    undoes: str = ""
    work: Callable[[Run], None] | None = None


def roles(site: Site) -> dict[str, tuple[str, ...]]:
    """Role -> hosts; the submitter is the controller on which the test job is submitted, a pod one of the controllers."""
    every = {
        "master": (site.master.host.name,),
        "controller": tuple(host.name for host in site.controllers),
        "pod": tuple(host.name for host in site.controllers if host.pod),
        "submitter": (site.controllers[0].name,),
        "compute": tuple(host.name for host in site.hosts("compute")),
    }
    return {role: hosts for role, hosts in every.items() if hosts}


def run(site: Site, stages: Sequence[Stage], options: Options) -> int:
    """Make a run and show it. The exit code says how it went."""
    terminal = report.is_terminal(sys.stdout)
    with report.consumer(_shown(options), json=options.json, terminal=terminal) as display:
        return _run(site, stages, options, display)


def _shown(options: Options) -> str:
    """The task as displays and the journal have it: the plan of any task is a plan."""
    return "plan" if options.plan else options.task


def _run(site: Site, stages: Sequence[Stage], options: Options, display: report.Display) -> int:
    began = time.time()
    journal = Journal(identifier(began), site.keep_runs)
    emit = _both(journal, display)
    hosts = roles(site)
    emit(Opened(journal.run, _shown(options), hosts, at_work(stages, hosts), began, str(site.path.absolute())))
    threading.Thread(target=preload, daemon=True).start()
    sessions = connect_all(site, site.hosts())
    if isinstance(master := sessions[site.master.host.name], Session):
        master.warm()
    try:
        reached, down = answering(site, hosts, sessions, emit)
        made = Run(journal.run, site, stages, reach(site, sessions), emit, reached, TROUBLE, yes=options.yes)
        with interruptible(made, sessions):
            refused = _safely(made, options, display, down)
        code = _code(made, options, refused, down)
        end = _summary(made, sessions, code, began, options, refused, journal)
        journal(end)
        if made.changing:
            with suppress(*TROUBLE):  # the run itself has ended, and says how; a host that is gone keeps no line of it
                changed = _lasting(site, trail.changed(made.outcomes))
                trail.leave(made.reach, made.id, options.task, changed, journal.text(), site.keep_runs)
        display(end)
        journal.report(page.render)
        return code
    finally:
        sessions.close()
        journal.close()


def _lasting(site: Site, changed: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """What was changed by host; what was changed of pods is left on the master, for nothing lasts in a pod."""
    pods = {host.name for host in site.controllers if host.pod}
    inside = [f"{host}: {step}" for host in pods & changed.keys() for step in changed[host]]
    hosts = {host: steps for host, steps in changed.items() if host not in pods}
    master = site.master.host.name
    return hosts | ({master: [*hosts.get(master, ()), *inside]} if inside else {})


def _both(journal: Journal, display: report.Display) -> Callable[[Event], None]:
    def emit(event: Event) -> None:
        journal(event)
        display(event)

    return emit


def _safely(made: Run, options: Options, display: report.Display, down: Sequence[str]) -> str:
    """Do the work; what breaks outside of any step is told like a step of its own."""
    began = time.time()
    try:
        return _work(made, options, display, down)
    except TROUBLE as error:
        made.done(getattr(error, "host", "-"), "run.work", "failed", began, failures=(Failure(meaning=str(error)),))
        return ""


@contextmanager
def interruptible(made: Run, sessions: Sessions) -> Iterator[None]:
    """Ctrl-C begins nothing more and ends what runs on the hosts; an activation goes on by itself. Twice: leave at once."""

    def stop(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, before)
        made.stopping.set()
        for session in sessions.open():
            threading.Thread(target=_stop, args=(session,), daemon=True).start()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _stop(session: Session) -> None:
    with suppress(*TROUBLE):  # a host that is gone has nothing left to end
        session.stop()


def reach(site: Site, sessions: Sessions) -> Reach:
    """How a run's hosts are reached through these connections."""

    def session(host: str) -> Session:
        found = sessions[host]
        if isinstance(found, Unreachable):
            raise found
        return found

    return Reach(session, lambda: session(site.master.host.name).cluster(), lambda role: roles(site)[role][0])


def answering(
    site: Site, hosts: Mapping[str, tuple[str, ...]], sessions: Sessions, emit: Callable[[Event], None]
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """The hosts that answered by role, and those that should have. Each that didn't is told with what to do."""
    silent = {host: found for host, found in sessions.items() if isinstance(found, Unreachable)}
    spared = _spared(site, silent)
    for host, found in silent.items():
        failure = Failure(command=f"ssh {host}", meaning=found.text, fix=found.fix)
        note = "may be down, as the site file says" if host in spared else ""
        outcome: Outcome = "skipped" if host in spared else "failed"
        emit(Done(host, "connect", "ssh", outcome, time.time(), 0.0, note=note, failures=(failure,)))
    reached = {role: tuple(host for host in some if host not in silent) for role, some in hosts.items()}
    return reached, tuple(host for host in silent if host not in spared)


def _spared(site: Site, silent: Collection[str]) -> set[str]:
    """Unreachable compute nodes whose group may have so many of them down."""
    groups = [({host.name for host in group.hosts} & set(silent), group.may_be_down) for group in site.computes]
    return {host for down, allowed in groups if len(down) <= allowed for host in down}


def _work(made: Run, options: Options, display: report.Display, down: Sequence[str]) -> str:
    """Look, judge, and change what is to be changed. Why nothing was changed, if it was refused as a whole; else ""."""
    made.stages, own = (*options.reads, *made.stages), made.stages
    engine.first_looks(made)
    made.stages = own
    if options.plan:
        engine.plan(made)
        return ""
    if not engine.findings(made, made.stages[0]) or down:
        return ""
    if options.work:
        return _alone(made, options.work)
    pending = engine.pending(made)
    if not pending.changes and not options.verify:
        engine.install(made)
        return ""
    asks = bool(pending.takes) and not options.yes
    if asks and not (pending.before and sys.stdin.isatty()) and not _agreed(made, pending, display):
        return NOBODY_AGREED
    return _change(made, options, display, pending.before if asks else frozenset())


def _alone(made: Run, work: Callable[[Run], None]) -> str:
    """Do `work` as the only run there. Why not, if another one is at work."""
    try:
        with hold(made.reach.session(made.site.master.host.name), made.id, TROUBLE):
            work(made)
    except Locked as locked:
        return str(locked)
    return ""


NOBODY_AGREED = "Nothing was taken away: it has to be agreed to, by an answer or by --yes."


def _change(made: Run, options: Options, display: report.Display, before: frozenset[str]) -> str:
    """Change what is to be changed, as the only run that does. Why not, if another one is at work or nobody agreed.

    before   the stages to take through before asking, so that everything can be told; none: nothing to ask
    """
    master = made.reach.session(made.site.master.host.name)
    try:
        with hold(master, made.id, TROUBLE):
            made.changing = True
            images.opened(made.reach, made.id, options.task, options.undoes, made.board)
            for host in made.hosts["submitter"]:
                made.reach.session(host).run(FORGET, deadline=30.0)
                made.board.forget("verify.job", host)
            if before:
                engine.install(made, before)
                if (pending := engine.pending(made)).takes and not _agreed(made, pending, display):
                    return NOBODY_AGREED
            engine.install(made)
    except Locked as locked:
        return str(locked)
    return ""


def _code(made: Run, options: Options, refused: str, down: Sequence[str]) -> int:
    if refused:
        return REFUSED
    return FAILED if down or made.stopping.is_set() else exit_code(made.outcomes, options.plan, _unproven(made))


def _agreed(made: Run, pending: Pending, display: report.Display) -> bool:
    """Ask whether what is told may be taken away; the steps that do it are then agreed to."""
    with display.paused():
        print("This takes something away:", *(f"  {one}" for one in pending.takes), sep="\n", file=sys.stderr)  # noqa: T201
        yes = sys.stdin.isatty() and input("Go on? [y/N] ").strip().lower() in ("y", "yes")
    made.agreed |= pending.taking if yes else set()
    return yes


def _unproven(made: Run) -> bool:
    """Whether everything is installed, and the test job never got resources (its script's exit code says so)."""
    troubled = {stage for (stage, _, _), outcome in made.outcomes.items() if outcome in engine.TROUBLE}
    return troubled in ({"verify"}, {"cancel"}) and made.codes == {UNPROVEN}


def _summary(
    made: Run, sessions: Sessions, code: int, began: float, options: Options, refused: str, journal: Journal
) -> Summary:
    again = code in (FAILED, REFUSED, UNPROVEN)
    counts: dict[str, int] = {one: sum(1 for outcome in made.outcomes.values() if outcome == one) for one in OUTCOMES}
    return Summary(
        made.id,
        code,
        counts,
        hosts=len(sessions),
        execs=sessions.execs,
        connections=sessions.connections,
        seconds=time.time() - began,
        message=refused or _message(options, code, counts, made.stopping.is_set()),
        next=(options.again or f"invoke {options.task}{options.flags} --hosts {made.site.path}") if again else "",
        report=os.path.relpath(journal.page),
    )


def _message(options: Options, code: int, counts: Mapping[str, int], stopped: bool) -> str:
    said = {
        FAILED: "Stopped. Running it again goes on from here."
        if stopped
        else "Failed. Running it again goes on from here.",
        REFUSED: "Refused: nothing that stands in the way was touched.",
        CHANGES: "",
        UNPROVEN: "Installed, but not proven.",
    }
    return said.get(code, options.done if counts["fixed"] else options.right)


def identifier(at: float) -> str:
    """A run's id: when it began, in UTC, and four random digits: `20260131T120000Z-1f3a`."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at)) + "-" + secrets.token_hex(2)


def exit_code(outcomes: Mapping[tuple[str, str, str], Outcome], plan: bool, unproven: bool) -> int:
    """The exit code of a run with these outcomes."""
    seen = set(outcomes.values())
    if "failed" in seen:
        return UNPROVEN if unproven else FAILED
    if "refused" in seen:
        return REFUSED
    if "skipped" in seen:
        return FAILED
    return CHANGES if plan and seen & {"change", "unknown"} else CONVERGED
