"""The one engine: look -> plan -> apply -> prove, for each step on each host of its role.

    look   read all hosts in one exec each and the cluster through its API: state.first_looks, looks.py
    plan   have != want? The plan of a run asks no more than that: plan.py
    apply  a step's actions, in one exec together with the look that proves them: perform.py, host_script.py
    prove  the step is done when a new look returns what it wants, at once or within the step's settle_seconds

Stages that do not need each other run side by side. A host is read again where a stage that a step builds on has changed
something since the last look. The engine knows no stage by name, no connection and no screen: it is given them (state.Run).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import groupby
from typing import Any

from dws_on_csm.engine import looks, site_lock
from dws_on_csm.engine.looks import Item, LookFailed
from dws_on_csm.engine.perform import ActionFailed, perform
from dws_on_csm.engine.plan import deferred, due, idle, judge, not_provided, preview
from dws_on_csm.engine.reach import StepReporter
from dws_on_csm.engine.state import (
    Run,
    accepted,
    defect,
    failures_of,
    have_of,
    look_again,
    on_all,
    status_text,
    unconfirmed,
)
from dws_on_csm.model.cluster_api import ClusterError
from dws_on_csm.model.errors import RemoteError
from dws_on_csm.model.events import Awaiting, Failure
from dws_on_csm.model.step import ApiLook, Check, Finding, NotYetKnown, Refused, Removal, Stage, Step, all_needs
from dws_on_csm.redaction.diff import difference

STOPPED = "the run was stopped while this was running"
STOPPED_BY = "the run was stopped while this was running; {} says why"
CONTINUE = "run the same command again to continue"


def install(run: Run, only: frozenset[str] = frozenset()) -> None:
    """Run every stage, or `only` these, each as soon as the stages that it needs are complete. No stage runs twice, and those
    that come last (`Stage.ends`) are left to finish()."""
    due = [stage for stage in run.stages if stage.name not in run.started and not stage.ends]
    waiting = {stage.name: stage for stage in due if not only or stage.name in only}
    names = set(waiting)
    running: dict[Future[None], str] = {}
    run.started |= names
    with ThreadPoolExecutor(max_workers=max(1, len(names))) as pool:
        while waiting or running:
            busy = waiting.keys() | set(running.values())
            ready = [stage for stage in waiting.values() if not any(_awaited(run, need, busy) for need in stage.needs)]
            for stage in ready:
                future = pool.submit(_stage, run, waiting.pop(stage.name))
                running[future] = stage.name
                future.add_done_callback(lambda _: run.progressed.set())
            # with a timeout: a signal may reach another thread, and only a main thread that wakes up handles it
            run.progressed.wait(0.5)
            run.progressed.clear()
            for future in [future for future in running if future.done()]:
                running.pop(future)
                future.result()


def finish(run: Run) -> None:
    """Run the stages that come last, whatever the outcome of the others, and whether or not the run was stopped."""
    # from here on a signal ends nothing on the hosts; threads that are ending something have finished first
    run.ending = True
    for thread in run.stoppers:
        thread.join()
    for stage in [stage for stage in run.stages if stage.ends and stage.name not in run.started]:
        run.started.add(stage.name)
        _stage(run, stage)


def _awaited(run: Run, need: str, busy: Set[str]) -> bool:
    """Whether something that a stage needs is not complete: a stage, or one step of it on all its hosts."""
    name, _, step = need.partition(".")
    if name not in busy or not step:
        return name in busy
    hosts = run.hosts.get(looks.keyed(run.stages)[need].role, ())
    return any((name, step, host) not in run.outcomes for host in hosts)


def _stage(run: Run, stage: Stage) -> None:
    for role, group in groupby(stage.steps, key=lambda item: item.role):
        items = {f"{stage.name}.{item.name}": item for item in group}
        hosts = run.hosts.get(role, ())
        if stage.order:
            hosts = stage.order(run.board.facts, hosts)
        first = hosts[:1] if stage.serial else hosts
        for batch in (first, hosts[len(first) :]):
            blocked = _blocked(run, stage)
            work = _skip(run, items, blocked) if blocked else _advance(run, stage, items)
            on_all(run, [(role, host) for host in batch], work)


def _blocked(run: Run, stage: Stage) -> str:
    """Why `stage` can't continue, or "": something that it needs, or an earlier part of it, did not complete on all hosts."""
    for need in () if stage.ends else stage.needs:
        if bad := run.troubled(need):
            return f"needs {need}, which did not complete on {', '.join(bad)}"
    if bad := run.troubled(stage.name):
        return f"{stage.name} did not complete on {', '.join(bad)}"
    return "stopped" if run.stopped else ""


def _skip(run: Run, items: Mapping[str, Item], why: str) -> Callable[[str, str], None]:
    def work(role: str, host: str) -> None:
        for key in items if run.site.active(host) else ():
            run.done(host, key, "skipped", time.time(), note=why)

    return work


def _advance(run: Run, stage: Stage, items: Mapping[str, Item]) -> Callable[[str, str], None]:
    """What runs these items of a stage on one host, in order."""
    builds_on = all_needs(run.stages, stage.name) | ({stage.name} if stage.serial else set())

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
                _item(run, stage, key, item, host, left)
            left.pop(key)

    return work


def _look_ahead(run: Run, stage: Stage, role: str, host: str, items: Mapping[str, Item]) -> None:
    """Look at `items` that need the fact of a later step of their stage, which could not be read before this stage began."""
    all_items = {f"{stage.name}.{item.name}": item for item in stage.steps if item.role == role}
    look_again(run, host, {key: item for key, item in all_items.items() if key not in items})
    look_again(run, host, items)


def _differs(run: Run, items: Mapping[str, Item], host: str) -> bool:
    steps = {key: item for key, item in items.items() if isinstance(item, Step)}
    return any(preview(run, key, step, host).outcome != "ok" for key, step in steps.items())


def _item(run: Run, stage: Stage, key: str, item: Item, host: str, left: Mapping[str, Item]) -> None:
    """One step or check on one host; `left` are the items whose looks are repeated with it."""
    why = "stopped" if run.stopped else "an earlier step failed" if run.troubled(stage.name, host) else ""
    if why:
        run.done(host, key, "skipped", time.time(), note=why)
    elif isinstance(item, Check):
        if run.outcomes.get((stage.name, item.name, host)) != "ok":  # it is ok if it was judged before the first change
            judge(run, key, item, host, last=all_needs(run.stages, stage.name) | {stage.name})
    elif not _deferred(run, stage, key, item, host):
        _step(run, key, item, host, left)


def _deferred(run: Run, stage: Stage, key: str, step: Step, host: str) -> bool:
    """Whether a run that only prepares leaves this step for the change window; reports it then."""
    if not run.prepare:
        return False
    began = time.time()
    left = [place for place, outcome in list(run.outcomes.items()) if outcome == "deferred"]
    seen = deferred(run, stage, step, host, preview(run, key, step, host), left)
    if seen.outcome == "deferred":
        run.done(host, key, "deferred", began, diff=seen.diff, note=seen.note)
    return seen.outcome == "deferred"


def _step(run: Run, key: str, step: Step, host: str, proof: Mapping[str, Item]) -> None:
    """Make one step on one host as it wants to be, prove it, and report its outcome, whatever is raised."""
    began = time.time()
    try:
        ctx = run.board.context(host)
        have, want = have_of(run, key, step, host), step.want(ctx)
        if have == want or idle(run, key):
            run.done(host, key, "ok", began, **_note_and_table(run, key, step, host))
        elif text := accepted(run, step, host, have, want):
            _accept(run, key, step, host, text, began)
        else:
            _change(run, key, step, host, proof, began)
    except NotYetKnown as unknown:
        run.done(host, key, "failed", began, failures=(not_provided(unknown),))
    except Refused as refused:
        run.done(host, key, "refused", began, failures=failures_of(refused.findings))
    except ActionFailed as failed:
        failure = failed.failure
        meaning, fix = failure.meaning, failure.fix or step.hint
        if run.stopped:  # the failure says nothing about the site, and the step's own hint would mislead
            meaning, fix = meaning or _why_stopped(run), CONTINUE
        failure = Failure(failure.command, failure.code, failure.tail, meaning, fix)
        run.done(host, key, "failed", began, failures=(failure,))
    except LookFailed as error:
        run.done(host, key, "failed", began, failures=(Failure(meaning=str(error), fix=error.fix or step.hint),))
    except RemoteError as error:
        run.done(host, key, "failed", began, failures=(Failure(meaning=str(error), fix=_fix(step, host, error)),))
    except Exception as error:  # noqa: BLE001  # unexpected output of one host must fail that host's step alone
        run.done(host, key, "failed", began, failures=(defect(error, key),))


def _fix(step: Step, host: str, error: RemoteError) -> str:
    """What to do: the step's own hint is about its host, and would mislead where an action of it failed on another one."""
    if error.fix or error.host in ("", host):
        return error.fix or step.hint
    return f"see on {error.host} what does not end there, as with `ssh {error.host} ps -ef`; then run the same command again"


def _why_stopped(run: Run) -> str:
    """That the run was stopped, by a person or because it lost its lock."""
    return STOPPED_BY.format(site_lock.STEP) if run.troubled(site_lock.STEP) else STOPPED


def _accept(run: Run, key: str, step: Step, host: str, text: str, began: float) -> None:
    """Report a step whose difference the site accepts, as `text` says."""
    if step.accepted_is_degraded:
        run.degraded.add(text.partition(": ")[2])
    run.done(host, key, "ok", began, note=text)


def _change(run: Run, key: str, step: Step, host: str, proof: Mapping[str, Item], began: float) -> None:
    stage = key.partition(".")[0]
    before, want = have_of(run, key, step, host), step.want(run.board.context(host))
    reporter = StepReporter(run.id, host, stage, step.name, run.emit)
    if step.change is not None:
        _refuse_unconfirmed(run, key, step, host)
        actions = step.change(run.board.context(host), before, want)
        perform(run.reach, run.board, reporter, actions, proof)
    have = _settled(run, key, step, host, proof, reporter)
    want = step.want(run.board.context(host))
    if have == want:
        texts = _note_and_table(run, key, step, host)
        texts["note"] = "; ".join(filter(None, (texts["note"], *reporter.notes)))
        run.done(host, key, "changed", began, diff=difference(before, have), **texts)
    elif text := accepted(run, step, host, have, want):
        _accept(run, key, step, host, text, began)
    elif run.stopped:
        why = status_text(step, have) or "not yet as wanted"
        run.done(host, key, "skipped", began, note=f"the run was stopped while it waited: {why}")
    else:
        why = status_text(step, have) or "changed, but the result is still not as expected"
        failure = Failure(meaning=why, fix=step.hint)
        run.done(host, key, "failed", began, diff=difference(have, want), failures=(failure,))


def _refuse_unconfirmed(run: Run, key: str, step: Step, host: str) -> None:
    """Raises Refused where a change removes what was not confirmed: it was unknown when the run asked, or is new."""
    ctx = run.board.context(host)
    new = unconfirmed(run, key, host, step.removals(ctx, have_of(run, key, step, host), step.want(ctx)))
    if new:
        names = "; ".join(_removal_text(removal) for removal in new)
        fix = "run the same command again and confirm at the prompt, or pass --yes"
        raise Refused(Finding("not-agreed", f"this step would remove what was not confirmed: {names}", fix))


def _removal_text(removal: Removal) -> str:
    """Its words, and those things that they stand for which were not confirmed."""
    if removal.things == {removal.words}:
        return removal.words
    return f"{removal.words} (new: {', '.join(sorted(removal.things))})"


def _note_and_table(run: Run, key: str, step: Step, host: str) -> dict[str, Any]:
    """The note and the table of a step that is as wanted."""
    note = status_text(step, have_of(run, key, step, host))
    return {"note": note, "table": step.table(run.board.have(key, host)) if step.table else ()}


def _settled(run: Run, key: str, step: Step, host: str, proof: Mapping[str, Item], reporter: StepReporter) -> object:
    """What the look returns once that is as wanted, or once the step's settle_seconds have passed."""
    end = time.monotonic() + (step.settle_seconds(run.site) if step.settle_seconds else 0.0)
    reported = ""
    while True:
        have = have_of(run, key, step, host)
        left = end - time.monotonic()
        want = step.want(run.board.context(host))
        if have == want or left <= 0 or run.stopped or accepted(run, step, host, have, want):
            return have
        why = status_text(step, have) or "not yet as wanted"
        if why != reported:
            run.emit(Awaiting(host, reporter.stage, reporter.step, why, left, time.time()))
            reported = why
        _pause(run, step, host, left)
        looks.refresh(run.reach, run.board, host, {key: step})


def _pause(run: Run, step: Step, host: str, left: float) -> None:
    """Wait until the API reports an event, where the look can name one; else for a moment: a host reports nothing on its own, and
    each look at it costs an exec."""
    look = step.look(run.board.context(host))
    if isinstance(look, ApiLook) and look.watch:
        with suppress(ClusterError):
            run.reach.cluster().await_event(look.watch, min(left, 2.0))
    else:
        seconds = min(left, 0.2 if isinstance(look, ApiLook) else 0.5)
        time.sleep(seconds) if run.ending else run.stopping.wait(seconds)
