"""The one engine: look, decide, change, prove; stages side by side where they don't need each other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import groupby
from typing import Any

from dws_on_csm.engine import looks
from dws_on_csm.engine.context import StepReporter
from dws_on_csm.engine.looks import Item, LookFailed
from dws_on_csm.engine.perform import ActionFailed, perform, refresh
from dws_on_csm.engine.plan import due, findings, idle, judge, pending, plan, preview
from dws_on_csm.engine.state import (
    NOT_OK_OUTCOMES,
    Run,
    accepted,
    defect,
    first_looks,
    have_of,
    look_again,
    needs,
    on_all,
    told_of,
    unconfirmed,
)
from dws_on_csm.model.cluster_api import ClusterError
from dws_on_csm.model.errors import RemoteError
from dws_on_csm.model.events import Awaiting, Failure
from dws_on_csm.model.step import ApiLook, Check, Finding, NotYetKnown, Refused, Removal, Stage, Step
from dws_on_csm.redaction.diff import difference

__all__ = ["NOT_OK_OUTCOMES", "Run", "findings", "finish", "first_looks", "install", "pending", "plan"]


STOPPED = "the run was stopped, and this with it"
AGAIN = "run it again to continue"


def install(run: Run, only: frozenset[str] = frozenset()) -> None:
    """Take every stage as far as it goes, or `only` these, each as soon as what it needs is through; none twice, and none of
    those that come last (see finish)."""
    due = [one for one in run.stages if one.name not in run.started and not one.ends]
    waiting = {one.name: one for one in due if not only or one.name in only}
    names = set(waiting)
    running: dict[Future[None], str] = {}
    run.started |= names
    with ThreadPoolExecutor(max_workers=max(1, len(names))) as pool:
        while waiting or running:
            busy = waiting.keys() | set(running.values())
            for stage in [s for s in waiting.values() if not any(_awaited(run, need, busy) for need in s.needs)]:
                future = pool.submit(_stage, run, waiting.pop(stage.name))
                running[future] = stage.name
                future.add_done_callback(lambda _: run.progressed.set())
            # a signal may reach another thread: only a main thread that wakes up by itself sees to it
            run.progressed.wait(0.5)
            run.progressed.clear()
            for future in [one for one in running if one.done()]:
                running.pop(future)
                future.result()


def finish(run: Run) -> None:
    """Take the stages that come last, whatever became of the others, and whether or not the run was stopped."""
    # from here on a signal ends nothing on the hosts; what is about to end something has done so first
    run.ending = True
    for thread in run.stoppers:
        thread.join()
    for stage in [one for one in run.stages if one.ends and one.name not in run.started]:
        run.started.add(stage.name)
        _stage(run, stage)


def _awaited(run: Run, need: str, busy: Set[str]) -> bool:
    """Whether what a stage needs isn't through yet: a stage, or one step of it on all its hosts."""
    name, _, step = need.partition(".")
    if name not in busy or not step:
        return name in busy
    hosts = run.hosts.get(looks.keyed(run.stages)[need].role, ())
    return any((name, step, host) not in run.outcomes for host in hosts)


def _stage(run: Run, stage: Stage) -> None:
    for role, group in groupby(stage.steps, key=lambda item: item.role):
        items = {f"{stage.name}.{item.name}": item for item in group}
        hosts = run.hosts.get(role, ())
        first = hosts[:1] if stage.serial else hosts
        for batch in (first, hosts[len(first) :]):
            blocked = _blocked(run, stage)
            work = _skip(run, items, blocked) if blocked else _advance(run, stage, items)
            on_all(run, [(role, host) for host in batch], work)


def _skip(run: Run, items: Mapping[str, Item], why: str) -> Callable[[str, str], None]:
    def work(role: str, host: str) -> None:
        for key in items if run.site.active(host) else ():
            run.done(host, key, "skipped", time.time(), note=why)

    return work


def _advance(run: Run, stage: Stage, items: Mapping[str, Item]) -> Callable[[str, str], None]:
    builds_on = needs(run.stages, stage.name) | ({stage.name} if stage.serial else set())

    checks = any(isinstance(item, Check) for item in items.values())
    # a step that failed may have changed something all the same
    again = (stage.ends and run.changing) or (checks and due(run, stage))

    def work(role: str, host: str) -> None:
        if again or looks.stale(run.board, list(items), host, builds_on) or _differs(run, items, host):
            look_again(run, host, items)
            if not all(run.board.looked(key, host) for key in items):
                _look_ahead(run, stage, role, host, items)
        left = dict(items)
        for key, item in items.items():
            if isinstance(item, Check) or run.site.active(host):
                _one(run, stage, key, item, host, left)
            left.pop(key)

    return work


def _look_ahead(run: Run, stage: Stage, role: str, host: str, items: Mapping[str, Item]) -> None:
    """Look at `items` that need what a later step of their stage finds, which nobody could look at before this stage began."""
    every = {f"{stage.name}.{item.name}": item for item in stage.steps if item.role == role}
    look_again(run, host, {key: item for key, item in every.items() if key not in items})
    look_again(run, host, items)


def _one(run: Run, stage: Stage, key: str, item: Item, host: str, left: Mapping[str, Item]) -> None:
    why = "stopped" if run.stopped else "an earlier step failed" if run.troubled(stage.name, host) else ""
    if why:
        run.done(host, key, "skipped", time.time(), note=why)
    elif isinstance(item, Check):
        if run.outcomes.get((stage.name, item.name, host)) != "ok":  # judged before anything was touched
            judge(run, key, item, host, last=needs(run.stages, stage.name) | {stage.name})
    else:
        _bring(run, key, item, host, left)


def _blocked(run: Run, stage: Stage) -> str:
    """Why `stage` can't go on: something that it needs isn't through everywhere, or what came first in it failed."""
    for need in () if stage.ends else stage.needs:
        if bad := run.troubled(need):
            return f"needs {need}, which did not get through on {', '.join(bad)}"
    if bad := run.troubled(stage.name):
        return f"{stage.name} did not get through on {', '.join(bad)}"
    return "stopped" if run.stopped else ""


def _differs(run: Run, items: Mapping[str, Item], host: str) -> bool:
    steps = {key: item for key, item in items.items() if isinstance(item, Step)}
    return any(preview(run, key, step, host).outcome != "ok" for key, step in steps.items())


def _bring(run: Run, key: str, step: Step, host: str, proof: Mapping[str, Item]) -> None:
    """Bring one step on one host to what is wanted, and prove it."""
    began = time.time()
    try:
        ctx = run.board.context(host)
        have, want = have_of(run, key, step, host), step.want(ctx)
        if have == want or idle(run, key):
            run.done(host, key, "ok", began, **_told(run, key, step, host))
        elif left := accepted(run, step, host, have, want):
            run.done(host, key, "ok", began, note=left)
        else:
            _mend(run, key, step, host, proof, began)
    except NotYetKnown as unknown:
        run.done(host, key, "failed", began, failures=(Failure(meaning=f"{unknown}, and that did not say"),))
    except Refused as refused:
        run.done(host, key, "refused", began, failures=told_of(refused.findings))
    except ActionFailed as failed:
        told = failed.failure
        meaning, fix = told.meaning, told.fix or step.hint
        if run.stopped:  # what ended it says nothing about the site, and the step's own hint would lead astray
            meaning, fix = meaning or STOPPED, AGAIN
        failure = Failure(told.command, told.code, told.tail, meaning, fix)
        run.done(host, key, "failed", began, failures=(failure,))
    except (LookFailed, RemoteError) as error:
        run.done(host, key, "failed", began, failures=(Failure(meaning=str(error), fix=error.fix or step.hint),))
    except Exception as error:  # noqa: BLE001  # whatever a host's words make of it, it is that host's step alone that fails
        run.done(host, key, "failed", began, failures=(defect(error, key),))


def _mend(run: Run, key: str, step: Step, host: str, proof: Mapping[str, Item], began: float) -> None:
    stage = key.partition(".")[0]
    before, want = have_of(run, key, step, host), step.want(run.board.context(host))
    at = StepReporter(run.id, host, stage, step.name, run.emit)
    if step.change is not None:
        _agreed_to(run, key, step, host)
        actions = step.change(run.board.context(host), before, want)
        perform(run.reach, run.board, at, actions, proof)
    have = _settled(run, key, step, host, proof, at)
    want = step.want(run.board.context(host))
    if have == want:
        told = _told(run, key, step, host)
        told["note"] = "; ".join(filter(None, (told["note"], *at.notes)))
        run.done(host, key, "changed", began, diff=difference(before, have), **told)
    elif run.stopped:
        why = (step.status_text(have) if step.status_text else "") or "not yet as wanted"
        run.done(host, key, "skipped", began, note=f"the run was stopped while it waited: {why}")
    else:
        why = (step.status_text(have) if step.status_text else "") or "it was changed, and still is not as it should be"
        run.done(
            host, key, "failed", began, diff=difference(have, want), failures=(Failure(meaning=why, fix=step.hint),)
        )


def _agreed_to(run: Run, key: str, step: Step, host: str) -> None:
    """Raises Refused where a change takes away what nobody was asked about: it could not be told before, or came since."""
    ctx = run.board.context(host)
    new = unconfirmed(run, key, host, step.removals(ctx, have_of(run, key, step, host), step.want(ctx)))
    if new:
        told = "; ".join(_named(one) for one in new)
        fix = "run it again: it asks now that this is known; or give --yes"
        raise Refused(Finding("not-agreed", f"this would take away what nobody was asked about: {told}", fix))


def _named(one: Removal) -> str:
    """What is told of it, and which of the things that these words stand for nobody agreed to."""
    return one.words if one.things == {one.words} else f"{one.words} (new: {', '.join(sorted(one.things))})"


def _told(run: Run, key: str, step: Step, host: str) -> dict[str, Any]:
    """What there is to say of a step that is as wanted."""
    note = step.status_text(have_of(run, key, step, host)) if step.status_text else ""
    return {"note": note, "table": step.table(run.board.have(key, host)) if step.table else ()}


def _settled(run: Run, key: str, step: Step, host: str, proof: Mapping[str, Item], at: StepReporter) -> object:
    """What is there once it is as wanted, or once `settle` seconds have passed."""
    end = time.monotonic() + (step.settle_seconds(run.site) if step.settle_seconds else 0.0)
    said = ""
    while True:
        have = have_of(run, key, step, host)
        left = end - time.monotonic()
        if have == step.want(run.board.context(host)) or left <= 0 or run.stopped:
            return have
        why = (step.status_text(have) if step.status_text else "") or "not yet as wanted"
        if why != said:
            run.emit(Awaiting(host, at.stage, at.step, why, left, time.time()))
            said = why
        _pause(run, step, host, left)
        refresh(run.reach, run.board, host, {key: step})


def _pause(run: Run, step: Step, host: str, left: float) -> None:
    """Until the API reports an event, where it can; else for a while: a host reports nothing by itself, and costs an exec."""
    made = step.look(run.board.context(host))
    if isinstance(made, ApiLook) and made.watch:
        with suppress(ClusterError):
            run.reach.cluster().await_event(made.watch, min(left, 2.0))
    else:
        seconds = min(left, 0.2 if isinstance(made, ApiLook) else 0.5)
        time.sleep(seconds) if run.ending else run.stopping.wait(seconds)
