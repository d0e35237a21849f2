"""The state of one run: what it was asked to do, what is known, the outcomes so far; and how its hosts are read."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial

from dws_on_csm.config.site import Site
from dws_on_csm.engine import looks
from dws_on_csm.engine.looks import Board, Item, LookFailed
from dws_on_csm.engine.reach import Reach
from dws_on_csm.model.cluster_api import ClusterError
from dws_on_csm.model.errors import RemoteError
from dws_on_csm.model.events import Done, Event, Failure, Outcome
from dws_on_csm.model.lines import lines
from dws_on_csm.model.step import Check, Facts, Finding, Removal, Stage, Step

NOT_OK_OUTCOMES: tuple[Outcome, ...] = ("failed", "refused", "skipped")

DEFECT = "a defect of dws-on-csm"
REPORT = "run the same command again to continue; please report this defect with the journal, which is beside this run's report"


@dataclass
class Run:
    """One run: what it was asked to do, and its state.

    yes         all removals and restarts were confirmed beforehand
    confirmed   the things ("STAGE.STEP", host, thing) whose removal or restart a person has confirmed
    prepare     it leaves what belongs into the change window (Step.window), and what builds on that
    started     the stages that were started
    progressed  set when a step or a stage is complete: another stage may begin
    reported    (host, reason) of looks that failed
    unusable    host -> the text of a finding (`Finding.explains_others`): its other checks and steps are reported as skipped
    codes       exit codes of scripts that failed
    degraded    what works with less than it should have, as the site accepts, in words
    looked      when the first looks began, by site_lock.clock()
    holding     it has the site's lock: it may have begun to change something
    changing    it has begun to change something
    asking      a person is being asked on the terminal
    stopping    set when the run is stopped, as by Ctrl-C
    stoppers    threads of a stopped run that end what it has started on the hosts, and one that says so
    ending      only the stages that come last remain: they are completed, also by a run that was stopped
    over        the work is done: all that remains is to show how the run ended
    shown       how it ended has been shown
    """

    id: str
    site: Site
    stages: Sequence[Stage]
    reach: Reach
    emit: Callable[[Event], None]
    hosts: Mapping[str, tuple[str, ...]]
    board: Board = field(init=False)
    outcomes: dict[tuple[str, str, str], Outcome] = field(default_factory=dict)
    stopping: threading.Event = field(default_factory=threading.Event)
    started: set[str] = field(default_factory=set)
    yes: bool = False
    prepare: bool = False
    confirmed: set[tuple[str, str, str]] = field(default_factory=set)
    progressed: threading.Event = field(default_factory=threading.Event)
    reported: set[tuple[str, str]] = field(default_factory=set)
    unusable: dict[str, str] = field(default_factory=dict)
    codes: set[int] = field(default_factory=set)
    degraded: set[str] = field(default_factory=set)
    looked: float = 0.0
    holding: bool = False
    changing: bool = False
    asking: bool = False
    stoppers: list[threading.Thread] = field(default_factory=list)
    ending: bool = False
    over: bool = False
    shown: bool = False

    @property
    def stopped(self) -> bool:
        """Whether nothing more may begin, and waits end."""
        return self.stopping.is_set() and not self.ending

    def __post_init__(self) -> None:
        self.board = Board(self.site)

    def done(
        self, host: str, key: str, outcome: Outcome, began: float, failures: tuple[Failure, ...] = (), **more: object
    ) -> None:
        """Record and report that a step is complete on a host. Of hosts outside the limit, only what stands in the way."""
        stage, _, step = key.partition(".")
        if outcome not in NOT_OK_OUTCOMES and not self.site.active(host):
            return
        self.outcomes[stage, step, host] = outcome
        self.progressed.set()
        self.codes.update({failure.code for failure in failures if failure.code is not None})
        explained = tuple(failure.with_cause() for failure in failures)
        self.emit(Done(host, stage, step, outcome, began, time.time() - began, failures=explained, **more))  # type: ignore[arg-type]

    def troubled(self, need: str, host: str | None = None) -> tuple[str, ...]:
        """Hosts on which a stage ("STAGE"), or one step of it ("STAGE.STEP"), did not complete."""
        outcomes = list(self.outcomes.items())  # a copy: other stages add to them meanwhile
        bad = {h for (s, t, h), outcome in outcomes if need in (s, f"{s}.{t}") and outcome in NOT_OK_OUTCOMES}
        return tuple(sorted(h for h in bad if host in (None, h)))


def stage_graph(stages: Sequence[Stage], hosts: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Stage -> the stages that it builds on; without stages for whose roles this site has no host."""
    idle = {stage.name for stage in stages if stage.steps and not hosts.keys() & {item.role for item in stage.steps}}
    shown = [stage for stage in stages if stage.name not in idle]
    return {stage.name: tuple(name for name in stage.builds_on if name not in idle) for stage in shown}


def first_looks(run: Run) -> None:
    """Read everything that can be read before the first change: one exec a host, all hosts in parallel.

    Looks that need facts of these are made after them, as long as there are any. Former facts are dropped: a look that needs
    one waits for the look that is made now.
    """
    run.board.facts = Facts(first=run.board.facts.first)
    items = looks.keyed(run.stages)
    hosts = _answered(run)
    mine = {h: {key: item for key, item in items.items() if h in run.hosts.get(item.role, ())} for h in hosts}
    on_all(run, [("", host) for host in hosts], lambda _, host: look_again(run, host, mine[host]))
    for _ in run.stages:  # each round can only enable looks of later stages
        late = {host: ready for host in hosts if (ready := looks.ready(run.board, mine[host], host))}
        on_all(run, [("", host) for host in late], partial(_look_late, run, late))


def _look_late(run: Run, late: Mapping[str, Mapping[str, Item]], role: str, host: str) -> None:
    look_again(run, host, late[host])


def on_all(run: Run, places: Sequence[tuple[str, str]], work: Callable[[str, str], None]) -> None:
    """Call `work` for each (role, host), in parallel. Raises what it raises."""
    if not places:
        return
    with ThreadPoolExecutor(max_workers=min(len(places), run.site.ssh.connections)) as pool:
        futures = [pool.submit(work, *place) for place in places]
        while wait(futures, timeout=0.5).not_done:  # a main thread that wakes up handles Ctrl-C
            pass
        for future in futures:
            future.result()


def look_again(run: Run, host: str, items: Mapping[str, Item]) -> None:
    """Make the looks of `items` on `host` again; where the host or the cluster fails, each of them has failed."""
    for key in items:
        run.board.forget(key, host)
    try:
        looks.refresh(run.reach, run.board, host, items)
    except (LookFailed, RemoteError) as error:
        for key in items:
            if not run.board.looked(key, host):
                run.board.fail(key, host, str(error), error.fix, cluster=isinstance(error, ClusterError))


def unchanged_hosts(run: Run) -> list[str]:
    """The hosts of the site on which this run changes nothing: a limit leaves them out, or they did not answer."""
    answered = _answered(run)
    return [host.name for host in run.site.hosts() if host.name not in answered or not run.site.active(host)]


def _answered(run: Run) -> dict[str, None]:
    return dict.fromkeys(host for hosts in run.hosts.values() for host in hosts)


def recording_hosts(run: Run) -> list[str]:
    """The hosts that answered and on which runs leave records: the master, and those that this run may change; no pods."""
    master, pods = run.site.master.host.name, {host.name for host in run.site.controllers if host.pod}
    return [host for host in _answered(run) if host not in pods and (host == master or run.site.active(host))]


def places(run: Run, stage: Stage) -> Iterator[tuple[str, Item, str]]:
    """The steps of a stage on the hosts that the run may change, and its checks on all hosts.

    Hosts outside the limit are read too: a job that needs DWS stands in the way of a run on the master alone as well.
    """
    for item in stage.steps:
        for host in run.hosts.get(item.role, ()):
            if isinstance(item, Check) or run.site.active(host):
                yield f"{stage.name}.{item.name}", item, host


def have_of(run: Run, key: str, step: Step, host: str) -> object:
    """What the step's look returned, in the terms of what it wants. Raises NotYetKnown, LookFailed."""
    return step.have(run.board.context(host), run.board.have(key, host))


def status_text(step: Step, have: object) -> str:
    """What is so on the host, in words, where the step can say it; else ""."""
    return step.status_text(have) if step.status_text else ""


def accepted(run: Run, step: Step, host: str, have: object, want: object) -> str:
    """The note of a step that changes nothing because the site accepts the difference; else ""."""
    name = step.accepted_as(run.board.context(host), have, want) if step.accepted_as and have and have != want else ""
    if name not in run.site.accept:
        return ""
    if step.accepted_is_degraded:
        return f"degraded, accepted as {name}: {status_text(step, have)}"
    return f"accepted: {name}; not changed"


def unconfirmed(run: Run, key: str, host: str, removals: Sequence[Removal]) -> list[Removal]:
    """Of what a step removes on a host, what is not confirmed; the things of each Removal are those alone."""
    if run.yes:
        return []
    new = [Removal(removal.words, _new(run, key, host, removal)) for removal in removals]
    return [removal for removal in new if removal.things]


def _new(run: Run, key: str, host: str, removal: Removal) -> frozenset[str]:
    return frozenset(thing for thing in removal.confirmed if (key, host, thing) not in run.confirmed)


def defect(error: Exception, key: str = "") -> Failure:
    """A mistake in our code as a failure, with its traceback; `key` is the step or check in which it was raised."""
    where = f"{DEFECT}, in {key}" if key else DEFECT
    traceback_lines = tuple(lines("".join(traceback.format_exception(error))))
    return Failure(tail=traceback_lines, meaning=f"{where}: {type(error).__name__}: {error}", fix=REPORT)


def failures_of(findings: Sequence[Finding]) -> tuple[Failure, ...]:
    """Findings that refuse a step, as failures."""
    return tuple(Failure(command=finding.name, meaning=finding.text, fix=finding.fix) for finding in findings)
