"""One run: what is asked for, what is known and what became of it so far; and how its hosts are looked at."""

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
from dws_on_csm.engine.context import Reach
from dws_on_csm.engine.looks import Board, Item, LookFailed
from dws_on_csm.engine.perform import refresh
from dws_on_csm.model.errors import RemoteError
from dws_on_csm.model.events import Done, Event, Failure, Outcome
from dws_on_csm.model.lines import lines
from dws_on_csm.model.step import Check, Facts, Finding, Removal, Stage, Step

NOT_OK_OUTCOMES: tuple[Outcome, ...] = ("failed", "refused", "skipped")

DEFECT = "a defect of dws-on-csm"
REPORT = (
    "run the same command again to continue; please report this, with the journal in the folder of this run's report"
)


@dataclass
class Run:
    """One run: what is asked for, and what became of it so far.

    yes     whatever it takes away was agreed to beforehand
    agreed  the things ("STAGE.STEP", host, thing) of which somebody was told that they are taken away, and agreed
    stirred set when a step or a stage is through: another stage may begin
    over    the work is through: how it ended is all that is left to say
    holding it has the site's lock: it may have begun to change something
    looked  when the first looks began, by site_lock.clock()
    said    how it ended has been shown
    asking  somebody is asked on the terminal just now
    stops   what ends on the hosts what this run has begun there, since it was stopped
    ending  all is through but the stages that come last: those are taken to their end, also by a run that was stopped
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
    codes: set[int] = field(default_factory=set)
    reported: set[tuple[str, str]] = field(default_factory=set)
    changing: bool = False
    over: bool = False
    asking: bool = False
    holding: bool = False
    looked: float = 0.0
    shown: bool = False
    yes: bool = False
    confirmed: set[tuple[str, str, str]] = field(default_factory=set)
    progressed: threading.Event = field(default_factory=threading.Event)
    stoppers: list[threading.Thread] = field(default_factory=list)
    ending: bool = False

    @property
    def stopped(self) -> bool:
        """Whether nothing more is to begin, and what waits goes on waiting no longer."""
        return self.stopping.is_set() and not self.ending

    def __post_init__(self) -> None:
        self.board = Board(self.site)

    def done(
        self, host: str, key: str, outcome: Outcome, began: float, failures: tuple[Failure, ...] = (), **more: object
    ) -> None:
        """A step is through on a host: remember it and say so. Of a host that this run leaves alone only what stands in the way."""
        stage, _, step = key.partition(".")
        if outcome not in NOT_OK_OUTCOMES and not self.site.active(host):
            return
        self.outcomes[stage, step, host] = outcome
        self.progressed.set()
        self.codes.update({one.code for one in failures if one.code is not None})
        self.emit(Done(host, stage, step, outcome, began, time.time() - began, failures=failures, **more))  # type: ignore[arg-type]

    def troubled(self, need: str, host: str | None = None) -> tuple[str, ...]:
        """Hosts on which a stage ("STAGE"), or one step of it ("STAGE.STEP"), didn't get through."""
        outcomes = list(self.outcomes.items())  # in one go: other stages add to them meanwhile
        bad = {h for (s, t, h), outcome in outcomes if need in (s, f"{s}.{t}") and outcome in NOT_OK_OUTCOMES}
        return tuple(sorted(h for h in bad if host in (None, h)))


def at_work(stages: Sequence[Stage], hosts: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Stage -> the stages that it builds on; without those whose steps are all of roles that this site has no host for."""
    idle = {stage.name for stage in stages if stage.steps and not hosts.keys() & {item.role for item in stage.steps}}
    shown = [stage for stage in stages if stage.name not in idle]
    return {stage.name: tuple(one for one in stage.builds_on if one not in idle) for stage in shown}


def needs(stages: Sequence[Stage], name: str) -> frozenset[str]:
    """The names of all stages that `name` builds on, directly or not."""
    direct = {stage.name: stage.builds_on for stage in stages}
    found: set[str] = set()
    waiting = list(direct[name])
    while waiting:
        one = waiting.pop()
        if one not in found and one in direct:
            found.add(one)
            waiting.extend(direct[one])
    return frozenset(found)


def first_looks(run: Run) -> None:
    """Everything that can be seen before anything is done: one exec a host, all hosts at once.

    Looks that need to know what these find are made after them, as long as there are any. What was found before counts no
    more: a look that has to come after another one comes after the one that is made now.
    """
    run.board.facts = Facts(first=run.board.facts.first)
    items = looks.keyed(run.stages)
    every = dict.fromkeys(host for some in run.hosts.values() for host in some)
    mine = {h: {key: item for key, item in items.items() if h in run.hosts.get(item.role, ())} for h in every}
    on_all(run, [("", host) for host in every], lambda _, host: look_again(run, host, mine[host]))
    for _ in run.stages:  # what one finds lets the next be made: there is an end to that
        late = {host: found for host in every if (found := looks.ready(run.board, mine[host], host))}
        on_all(run, [("", host) for host in late], partial(_look_late, run, late))


def _look_late(run: Run, late: Mapping[str, Mapping[str, Item]], role: str, host: str) -> None:
    look_again(run, host, late[host])


def on_all(run: Run, places: Sequence[tuple[str, str]], work: Callable[[str, str], None]) -> None:
    if not places:
        return
    with ThreadPoolExecutor(max_workers=min(len(places), run.site.ssh.connections)) as pool:
        futures = [pool.submit(work, *ctx) for ctx in places]
        while wait(futures, timeout=0.5).not_done:  # a main thread that wakes up sees to Ctrl-C
            pass
        for future in futures:
            future.result()


def look_again(run: Run, host: str, items: Mapping[str, Item]) -> None:
    for key in items:
        run.board.forget(key, host)
    try:
        refresh(run.reach, run.board, host, items)
    except (LookFailed, RemoteError) as error:
        for key in items:
            if not run.board.looked(key, host):
                run.board.fail(key, host, str(error))


def left_out(run: Run) -> list[str]:
    """The hosts of the site on which this run changes nothing: a limit leaves them out, or they did not answer."""
    answered = {host for hosts in run.hosts.values() for host in hosts}
    return [host.name for host in run.site.hosts() if host.name not in answered or not run.site.active(host)]


def lasting(run: Run) -> list[str]:
    """The hosts on which runs leave something, of those that answered: the master, and what this run may change."""
    master, pods = run.site.master.host.name, {host.name for host in run.site.controllers if host.pod}
    answered = dict.fromkeys(host for hosts in run.hosts.values() for host in hosts)
    return [host for host in answered if host not in pods and (host == master or run.site.active(host))]


def places(run: Run, stage: Stage) -> Iterator[tuple[str, Item, str]]:
    """The steps of a stage by host: where the run may change something; checks wherever they were looked at.

    What a run may not change it reads all the same: a job that needs DWS stands in the way also of a run on the master alone.
    """
    for item in stage.steps:
        for host in run.hosts.get(item.role, ()):
            if isinstance(item, Check) or run.site.active(host):
                yield f"{stage.name}.{item.name}", item, host


def have_of(run: Run, key: str, step: Step, host: str) -> object:
    found = run.board.have(key, host)
    return step.read(run.board.context(host), found) if step.read else found


def accepted(run: Run, step: Step, host: str, have: object, want: object) -> str:
    """What to say of a step that is not as wanted and left so, since the site accepts the difference; else ""."""
    name = step.accepted_as(run.board.context(host), have, want) if step.accepted_as and have and have != want else ""
    return f"accepted: {name}, left as it is" if name in run.site.accept else ""


def unconfirmed(run: Run, key: str, host: str, taken: Sequence[Removal]) -> list[Removal]:
    """Of what a step takes away on a host what has something in it that nobody agreed to; that alone is among its things."""
    if run.yes:
        return []
    new = [Removal(one.words, _new(run, key, host, one)) for one in taken]
    return [one for one in new if one.things]


def _new(run: Run, key: str, host: str, one: Removal) -> frozenset[str]:
    return frozenset(thing for thing in one.agreed if (key, host, thing) not in run.confirmed)


def defect(error: Exception, key: str = "") -> Failure:
    """A mistake of ours, as it is told: of the step or check `key` where it is one's, and with where it came from."""
    whose = f"{DEFECT}, in {key}" if key else DEFECT
    told = tuple(lines("".join(traceback.format_exception(error))))
    return Failure(tail=told, meaning=f"{whose}: {type(error).__name__}: {error}", fix=REPORT)


def told_of(found: Sequence[Finding]) -> tuple[Failure, ...]:
    return tuple(Failure(command=one.name, meaning=one.text, fix=one.fix) for one in found)
