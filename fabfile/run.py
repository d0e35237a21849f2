"""A run from its first connection to its exit code: what an install, a plan and a repair have in common."""

from __future__ import annotations

import secrets
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fabfile import engine, page, report
from fabfile.engine import Run
from fabfile.events import OUTCOMES, Done, Event, Failure, Opened, Outcome, Summary
from fabfile.faults import DeadlineExceeded, Lost, Unreachable
from fabfile.inventory import Site
from fabfile.journal import Journal
from fabfile.lock import Locked, hold
from fabfile.perform import Reach
from fabfile.cluster import Cluster, preload
from fabfile.connect import Sessions, connect_all
from fabfile.session import Session
from fabfile.stages.verify import FORGET
from fabfile.step import ClusterError, Stage

CONVERGED, FAILED, SITE_FILE, REFUSED, CHANGES, UNPROVEN = 0, 1, 2, 3, 4, 5
"""Exit codes: nothing left to do; failed; the site file has errors; refused; a plan has changes; installed, not proven."""

TROUBLE = (Unreachable, Lost, DeadlineExceeded, ClusterError)


@dataclass(frozen=True)
class Options:
    """How a run is made: `plan` only shows; `yes` answers what is asked; `verify` proves even if nothing was changed."""

    task: str = "install"
    plan: bool = False
    yes: bool = False
    verify: bool = False
    json: bool = False


def roles(site: Site) -> dict[str, tuple[str, ...]]:
    """Role -> hosts; the submitter is the controller on which the test job is submitted."""
    every = {
        "master": (site.master.host.name,),
        "controller": tuple(host.name for host in site.controllers),
        "submitter": (site.controllers[0].name,),
        "compute": tuple(host.name for host in site.hosts("compute")),
    }
    return {role: hosts for role, hosts in every.items() if hosts}


def run(site: Site, stages: Sequence[Stage], options: Options) -> int:
    """Make a run and show it. The exit code says how it went."""
    terminal = report.is_terminal(sys.stdout)
    with report.consumer(options.task, json=options.json, terminal=terminal) as display:
        return _run(site, stages, options, display)


def _run(site: Site, stages: Sequence[Stage], options: Options, display: report.Display) -> int:
    began = time.time()
    name = identifier(began)
    journal = Journal(name)

    def emit(event: Event) -> None:
        journal(event)
        display(event)

    hosts = roles(site)
    emit(Opened(name, options.task, hosts, {stage.name: stage.needs for stage in stages}, began))
    threading.Thread(target=preload, daemon=True).start()
    sessions = connect_all(site, site.hosts())
    try:
        made = Run(name, site, stages, _reach(site, sessions), emit, _reached(hosts, sessions, emit), TROUBLE)
        refused = "" if len(made.hosts) < len(hosts) else _work(made, options, display)
        unreached = any(isinstance(found, Unreachable) for found in sessions.values())
        code = FAILED if unreached else exit_code(made.outcomes, options.plan, _unproven(made))
        code = REFUSED if refused else code
        emit(_summary(made, sessions, code, began, options, refused))
        journal.report(page.render)
        return code
    finally:
        sessions.close()
        journal.close()


def _reach(site: Site, sessions: Sessions) -> Reach:
    made: list[Cluster] = []
    lock = threading.Lock()

    def session(host: str) -> Session:
        found = sessions[host]
        if isinstance(found, Unreachable):
            raise found
        return found

    def cluster() -> Cluster:
        with lock:
            if not made:
                made.append(Cluster(session(site.master.host.name), site.master.context))
        return made[0]

    return Reach(session, cluster, lambda role: roles(site)[role][0])


def _reached(
    hosts: Mapping[str, tuple[str, ...]], sessions: Sessions, emit: Callable[[Event], None]
) -> dict[str, tuple[str, ...]]:
    """The hosts that answered; each that didn't is told with what to do."""
    for host in dict.fromkeys(host for some in hosts.values() for host in some):
        found = sessions[host]
        if isinstance(found, Unreachable):
            failure = Failure(command=f"ssh {host}", meaning=found.text, fix=found.fix)
            emit(Done(host, "connect", "ssh", "failed", time.time(), 0.0, failures=(failure,)))
    return {
        role: tuple(host for host in some if not isinstance(sessions[host], Unreachable))
        for role, some in hosts.items()
    }


def _work(made: Run, options: Options, display: report.Display) -> str:
    """Look, judge, and change what is to be changed. Why nothing was changed, if it was refused as a whole; else ""."""
    engine.first_looks(made)
    if options.plan:
        engine.plan(made)
        return ""
    if not engine.findings(made, made.stages[0]):
        return ""
    changes, takes = engine.pending(made)
    if not changes and not options.verify:
        engine.install(made)
        return ""
    if takes and not (options.yes or _agreed(takes, display)):
        return "Nothing was changed: this would take something away, and nobody agreed (--yes does)."
    return _change(made)


def _change(made: Run) -> str:
    """Change what is to be changed, as the only run that does. Why not, if another one is at work."""
    master = made.reach.session(made.site.master.host.name)
    try:
        with hold(master, made.id):
            for host in made.hosts["submitter"]:
                made.reach.session(host).run(FORGET, deadline=30.0)
                made.board.forget("verify.job", host)
            engine.install(made)
    except Locked as locked:
        return str(locked)
    return ""


def _agreed(takes: Sequence[str], display: report.Display) -> bool:
    with display.paused():
        print("This takes something away:", *(f"  {one}" for one in takes), sep="\n", file=sys.stderr)  # noqa: T201
        return sys.stdin.isatty() and input("Go on? [y/N] ").strip().lower() in ("y", "yes")


def _unproven(made: Run) -> bool:
    return {stage for (stage, _, _), outcome in made.outcomes.items() if outcome in engine.TROUBLE} == {"verify"}


def _summary(made: Run, sessions: Sessions, code: int, began: float, options: Options, refused: str) -> Summary:
    counts: dict[str, int] = {one: sum(1 for outcome in made.outcomes.values() if outcome == one) for one in OUTCOMES}
    return Summary(
        made.id,
        code,
        counts,
        hosts=len(sessions),
        execs=sessions.execs,
        connections=sessions.connections,
        seconds=time.time() - began,
        message=refused or _message(code, counts),
        next=f"invoke {options.task} --hosts {made.site.path}" if code in (FAILED, REFUSED, UNPROVEN) else "",
    )


def _message(code: int, counts: Mapping[str, int]) -> str:
    said = {
        FAILED: "Failed. Running it again goes on from here.",
        REFUSED: "Refused: nothing that stands in the way was touched.",
        CHANGES: "",
        UNPROVEN: "Installed, but not proven.",
    }
    return said.get(code, "Installed and proven." if counts["fixed"] else "Everything is as it should be.")


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
