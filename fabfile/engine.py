"""The one engine: look, decide, change, prove; stages side by side where they don't need each other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

from fabfile import look
from fabfile.diff import difference
from fabfile.events import Awaiting, Done, Event, Failure, Outcome
from fabfile.inventory import Site
from fabfile.look import Board, Item, LookFailed
from fabfile.perform import ActionFailed, At, Reach, perform, refresh
from fabfile.step import Api, Check, ClusterError, Finding, Refused, Stage, Step, Unknown

TROUBLE: tuple[Outcome, ...] = ("failed", "refused", "skipped")


@dataclass
class Run:
    """One run: what is asked for, and what became of it so far. `down` are hosts that can't be reached, with the reason."""

    id: str
    site: Site
    stages: Sequence[Stage]
    reach: Reach
    emit: Callable[[Event], None]
    hosts: Mapping[str, tuple[str, ...]]
    trouble: tuple[type[Exception], ...]
    board: Board = field(init=False)
    outcomes: dict[tuple[str, str, str], Outcome] = field(default_factory=dict)
    stopping: threading.Event = field(default_factory=threading.Event)
    through: set[str] = field(default_factory=set)
    codes: set[int] = field(default_factory=set)
    told: set[tuple[str, str]] = field(default_factory=set)
    changing: bool = False

    def __post_init__(self) -> None:
        self.board = Board(self.site)
        self.trouble = (LookFailed, *self.trouble)

    def done(
        self, host: str, key: str, outcome: Outcome, began: float, failures: tuple[Failure, ...] = (), **more: object
    ) -> None:
        """A step is through on a host: remember it and say so."""
        stage, _, step = key.partition(".")
        self.outcomes[stage, step, host] = outcome
        self.codes |= {one.code for one in failures if one.code is not None}
        self.emit(Done(host, stage, step, outcome, began, time.time() - began, failures=failures, **more))  # type: ignore[arg-type]

    def troubled(self, stage: str, host: str | None = None) -> tuple[str, ...]:
        """Hosts on which `stage` didn't get through."""
        bad = {h for (s, _, h), outcome in self.outcomes.items() if s == stage and outcome in TROUBLE}
        return tuple(sorted(h for h in bad if host in (None, h)))


def needs(stages: Sequence[Stage], name: str) -> frozenset[str]:
    """The names of all stages that `name` builds on, directly or not."""
    direct = {stage.name: stage.needs for stage in stages}
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

    Looks that need to know what these find are made after them, as long as there are any.
    """
    items = look.keyed(run.stages)
    every = dict.fromkeys(host for some in run.hosts.values() for host in some)
    mine = {h: {key: item for key, item in items.items() if h in run.hosts.get(item.role, ())} for h in every}
    _on_all(run, [("", host) for host in every], lambda _, host: _look_again(run, host, mine[host]))
    for _ in run.stages:  # what one finds lets the next be made: there is an end to that
        late = {host: found for host in every if (found := look.ready(run.board, mine[host], host))}
        _on_all(run, [("", host) for host in late], partial(_look_late, run, late))


def _look_late(run: Run, late: Mapping[str, Mapping[str, Item]], role: str, host: str) -> None:
    _look_again(run, host, late[host])


def _on_all(run: Run, places: Sequence[tuple[str, str]], work: Callable[[str, str], None]) -> None:
    if not places:
        return
    with ThreadPoolExecutor(max_workers=min(len(places), run.site.ssh.connections)) as pool:
        for future in [pool.submit(work, *place) for place in places]:
            future.result()


# --- judging what was seen, without touching anything


def findings(run: Run, stage: Stage) -> bool:
    """Judge every check of `stage` on every host, all of it at once; False if something stands in the way.

    A check that couldn't be made before the others had said something is made now: one more exec on its host.
    """
    checks = [(key, item, host) for key, item, host in _places(run, stage) if isinstance(item, Check)]
    late = [(key, item, host) for key, item, host in checks if _early(run, key, item, host) is None]
    hosts = dict.fromkeys(host for _, _, host in late)
    _on_all(
        run,
        [("", host) for host in hosts],
        lambda _, host: _look_again(run, host, {key: item for key, item, at in late if at == host}),
    )
    for key, item, host in checks:
        judge(run, key, item, host)
    return not any(run.outcomes[stage.name, item.name, host] in TROUBLE for _, item, host in checks)


def _early(run: Run, key: str, check: Check, host: str) -> Sequence[Finding] | None:
    """What a check finds with what is known so far; None if it can't say yet."""
    try:
        return check.judge(run.board.place(host), run.board.have(key, host))
    except Unknown:
        return None
    except LookFailed:
        return ()


def _places(run: Run, stage: Stage) -> Iterator[tuple[str, Item, str]]:
    for item in stage.steps:
        for host in filter(run.site.active, run.hosts.get(item.role, ())):
            yield f"{stage.name}.{item.name}", item, host


def judge(run: Run, key: str, check: Check, host: str) -> None:
    """One check on one host; findings that the site accepts by name are only noted."""
    began = time.time()
    try:
        found = check.judge(run.board.place(host), run.board.have(key, host))
    except Unknown as unknown:
        run.done(host, key, "unknown", began, note=str(unknown))
        return
    except Refused as refusal:
        found = refusal.findings
    except LookFailed as error:
        _unseen(run, key, host, began, error)
        return
    refused = [one for one in found if one.name not in run.site.accept]
    note = "; ".join(f"accepted: {one.name} ({one.text})" for one in found if one not in refused)
    run.done(host, key, "refused" if refused else "ok", began, note=note, failures=_failures(refused))


def _unseen(run: Run, key: str, host: str, began: float, error: LookFailed) -> None:
    """A look that failed is told once, however many looks failed with it for the same reason."""
    if (host, str(error)) in run.told:
        run.done(host, key, "skipped", began, note="could not be looked at for the same reason")
    else:
        run.told.add((host, str(error)))
        run.done(host, key, "failed", began, failures=(Failure(meaning=str(error)),))


def _failures(found: Sequence[Finding]) -> tuple[Failure, ...]:
    return tuple(Failure(command=one.name, meaning=one.text, fix=one.fix) for one in found)


@dataclass(frozen=True)
class Preview:
    """What a step would do: its outcome if nothing else changed, the difference, titles of its actions."""

    outcome: Outcome
    diff: tuple[str, ...] = ()
    note: str = ""
    takes: str = ""
    failures: tuple[Failure, ...] = ()


def preview(run: Run, key: str, step: Step, host: str) -> Preview:
    """What `step` would do on `host`, as far as can be known now; changes nothing."""
    place = run.board.place(host)
    try:
        have = _have(run, key, step, host)
        want = step.want(place)
        if have == want:
            return Preview("ok", note=step.why(have) if step.why else "")
        if step.change is not None:
            step.change(place, have, want)
        takes = step.takes(place, have, want) if step.takes else ""
        return Preview("change", difference(have, want), takes=takes)
    except Unknown as unknown:
        return Preview("unknown", note=str(unknown))
    except Refused as refused:
        return Preview("refused", failures=_failures(refused.findings))
    except LookFailed as error:
        return Preview("failed", failures=(Failure(meaning=str(error)),))


def _have(run: Run, key: str, step: Step, host: str) -> object:
    found = run.board.have(key, host)
    return step.read(run.board.place(host), found) if step.read else found


def plan(run: Run) -> None:
    """Say what an install would do on each host. Nothing that changes anything is reached from here."""
    for stage in run.stages:
        findings(run, stage)
        for key, item, host in _places(run, stage):
            if isinstance(item, Step):
                began = time.time()
                seen = preview(run, key, item, host)
                note = seen.note or seen.takes
                run.done(host, key, seen.outcome, began, diff=seen.diff, note=note, failures=seen.failures)


@dataclass(frozen=True)
class Pending:
    """What is to be done: in which stages, what of it takes something away, in words, and what to run before asking."""

    changes: frozenset[str]
    takes: tuple[str, ...]
    before: frozenset[str]


def pending(run: Run) -> Pending:
    """What there is to do, as far as it is known. Says nothing to anybody."""
    seen = [
        (stage.name, item, preview(run, key, item, host))
        for stage in run.stages
        for key, item, host in _places(run, stage)
        if isinstance(item, Step)
    ]
    changes = frozenset(stage for stage, _, one in seen if one.outcome != "ok")
    after = [item.after for _, item, one in seen if one.takes and item.after in changes]
    before = frozenset().union(*({stage} | needs(run.stages, stage) for stage in after))
    return Pending(changes, tuple(dict.fromkeys(one.takes for _, _, one in seen if one.takes)), before)


# --- changing


def install(run: Run, only: frozenset[str] = frozenset()) -> None:
    """Take every stage as far as it goes, or `only` these, each as soon as what it needs is through; none twice."""
    waiting = {s.name: s for s in run.stages if s.name not in run.through and (not only or s.name in only)}
    names = set(waiting)
    running: dict[Future[None], str] = {}
    run.through |= names
    with ThreadPoolExecutor(max_workers=max(1, len(names))) as pool:
        while waiting or running:
            busy = set(waiting) | set(running.values())
            for stage in [s for s in waiting.values() if not busy & (set(s.needs) & names)]:
                running[pool.submit(_stage, run, waiting.pop(stage.name))] = stage.name
            through, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in through:
                running.pop(future)
                future.result()


def _stage(run: Run, stage: Stage) -> None:
    for role, group in groupby(stage.steps, key=lambda item: item.role):
        items = {f"{stage.name}.{item.name}": item for item in group}
        hosts = run.hosts.get(role, ())
        first = hosts[:1] if stage.serial else hosts
        for batch in (first, hosts[len(first) :]):
            blocked = _blocked(run, stage)
            work = _skip(run, items, blocked) if blocked else _advance(run, stage, items)
            _on_all(run, [(role, host) for host in batch], work)


def _skip(run: Run, items: Mapping[str, Item], why: str) -> Callable[[str, str], None]:
    def work(role: str, host: str) -> None:
        for key in items if run.site.active(host) else ():
            run.done(host, key, "skipped", time.time(), note=why)

    return work


def _advance(run: Run, stage: Stage, items: Mapping[str, Item]) -> Callable[[str, str], None]:
    builds_on = needs(run.stages, stage.name) | ({stage.name} if stage.serial else set())

    def work(role: str, host: str) -> None:
        if look.stale(run.board, list(items), host, builds_on) or _differs(run, items, host):
            _look_again(run, host, items)
        if not run.site.active(host):
            return
        left = dict(items)
        for key, item in items.items():
            _one(run, stage, key, item, host, left)
            left.pop(key)

    return work


def _one(run: Run, stage: Stage, key: str, item: Item, host: str, left: Mapping[str, Item]) -> None:
    why = "stopped" if run.stopping.is_set() else "an earlier step failed" if run.troubled(stage.name, host) else ""
    if why:
        run.done(host, key, "skipped", time.time(), note=why)
    elif isinstance(item, Check):
        if run.outcomes.get((stage.name, item.name, host)) != "ok":  # judged before anything was touched
            judge(run, key, item, host)
    else:
        _bring(run, key, item, host, left)


def _blocked(run: Run, stage: Stage) -> str:
    """Why `stage` can't go on: a stage that it needs isn't through everywhere, or what came first in it failed."""
    for need in stage.needs:
        if bad := run.troubled(need):
            return f"needs {need}, which did not get through on {', '.join(bad)}"
    if bad := run.troubled(stage.name):
        return f"{stage.name} did not get through on {', '.join(bad)}"
    return "stopped" if run.stopping.is_set() else ""


def _differs(run: Run, items: Mapping[str, Item], host: str) -> bool:
    steps = {key: item for key, item in items.items() if isinstance(item, Step)}
    return any(preview(run, key, step, host).outcome != "ok" for key, step in steps.items())


def _look_again(run: Run, host: str, items: Mapping[str, Item]) -> None:
    for key in items:
        run.board.forget(key, host)
    try:
        refresh(run.reach, run.board, host, items)
    except run.trouble as error:
        for key in items:
            if not run.board.looked(key, host):
                run.board.fail(key, host, str(error))


def _bring(run: Run, key: str, step: Step, host: str, proof: Mapping[str, Item]) -> None:
    """Bring one step on one host to what is wanted, and prove it."""
    began = time.time()
    try:
        place = run.board.place(host)
        have, want = _have(run, key, step, host), step.want(place)
        if have == want:
            run.done(host, key, "ok", began, **_told(run, key, step, host))
        else:
            _mend(run, key, step, host, proof, began)
    except Unknown as unknown:
        run.done(host, key, "failed", began, failures=(Failure(meaning=f"{unknown}, and that did not say"),))
    except Refused as refused:
        run.done(host, key, "refused", began, failures=_failures(refused.findings))
    except ActionFailed as failed:
        told = failed.failure
        failure = Failure(told.command, told.code, told.tail, told.meaning or step.hint, told.fix)
        run.done(host, key, "failed", began, failures=(failure,))
    except run.trouble as error:
        run.done(host, key, "failed", began, failures=(Failure(meaning=str(error), fix=step.hint),))


def _mend(run: Run, key: str, step: Step, host: str, proof: Mapping[str, Item], began: float) -> None:
    stage = key.partition(".")[0]
    before, want = _have(run, key, step, host), step.want(run.board.place(host))
    at = At(run.id, host, stage, step.name, run.emit)
    if step.change is not None:
        actions = step.change(run.board.place(host), before, want)
        perform(run.reach, run.board, at, actions, proof)
    have = _settled(run, key, step, host, proof, at)
    want = step.want(run.board.place(host))
    if have == want:
        told = _told(run, key, step, host)
        told["note"] = "; ".join(filter(None, (told["note"], *at.notes)))
        run.done(host, key, "fixed", began, diff=difference(before, have), **told)
    else:
        why = (step.why(have) if step.why else "") or "it was changed, and still is not as it should be"
        run.done(
            host, key, "failed", began, diff=difference(have, want), failures=(Failure(meaning=why, fix=step.hint),)
        )


def _told(run: Run, key: str, step: Step, host: str) -> dict[str, Any]:
    """What there is to say of a step that is as wanted."""
    note = step.why(_have(run, key, step, host)) if step.why else ""
    return {"note": note, "table": step.table(run.board.have(key, host)) if step.table else ()}


def _settled(run: Run, key: str, step: Step, host: str, proof: Mapping[str, Item], at: At) -> object:
    """What is there once it is as wanted, or once `settle` seconds have passed."""
    end = time.monotonic() + (step.settle(run.site) if step.settle else 0.0)
    said = ""
    while True:
        have = _have(run, key, step, host)
        left = end - time.monotonic()
        if have == step.want(run.board.place(host)) or left <= 0 or run.stopping.is_set():
            return have
        why = (step.why(have) if step.why else "") or "not yet as wanted"
        if why != said:
            run.emit(Awaiting(host, at.stage, at.step, why, left, time.time()))
            said = why
        _pause(run, step, host, left)
        refresh(run.reach, run.board, host, {key: step})


def _pause(run: Run, step: Step, host: str, left: float) -> None:
    """Until the API reports an event, where it can; else half a second: a host reports nothing by itself."""
    made = step.look(run.board.place(host))
    if isinstance(made, Api) and made.watch:
        with suppress(ClusterError):
            run.reach.cluster().await_event(made.watch, min(left, 2.0))
    else:
        run.stopping.wait(min(left, 0.5))
