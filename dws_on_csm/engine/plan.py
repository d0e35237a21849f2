"""Judging what was read, without changing anything: findings, what each step would do, a plan."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from dws_on_csm.engine.looks import LookFailed, keyed
from dws_on_csm.engine.state import (
    NOT_OK_OUTCOMES,
    Run,
    accepted,
    defect,
    failures_of,
    have_of,
    look_again,
    on_all,
    places,
    status_text,
)
from dws_on_csm.model.errors import RemoteError
from dws_on_csm.model.events import Failure, Outcome
from dws_on_csm.model.step import (
    Check,
    Finding,
    NotYetKnown,
    Refused,
    Removal,
    Restart,
    Stage,
    Step,
    StepContext,
    Value,
)
from dws_on_csm.redaction.diff import difference

SAME = "could not be checked for the same reason"
"""The note of a skipped step whose reason to fail was reported for another step of the host."""


def findings(run: Run, stage: Stage) -> bool:
    """Judge every check of `stage` on every host, and report all findings; False if one stands in the way.

    A check that needed facts of the other checks is read again first: one more exec on its host.
    """
    checks = [(key, item, host) for key, item, host in places(run, stage) if isinstance(item, Check)]
    late = [(key, item, host) for key, item, host in checks if _early(run, key, item, host) is None]
    hosts = dict.fromkeys(host for _, _, host in late)
    on_all(
        run,
        [("", host) for host in hosts],
        lambda _, host: look_again(run, host, {key: item for key, item, at in late if at == host}),
    )
    for key, item, host in checks:
        judge(run, key, item, host)
    return not any(run.outcomes.get((stage.name, item.name, host)) in NOT_OK_OUTCOMES for _, item, host in checks)


def _early(run: Run, key: str, check: Check, host: str) -> Sequence[Finding] | None:
    """What a check finds by the facts known so far; None if they do not suffice."""
    try:
        return check.judge(run.board.context(host), run.board.have(key, host))
    except NotYetKnown:
        return None
    except Exception:  # noqa: BLE001  # it is judged again, and that reports the error
        return ()


def judge(run: Run, key: str, check: Check, host: str, last: Collection[str] = ()) -> None:
    """Judge one check on one host and report its outcome; findings that the site accepts by name are only noted.

    last   the stages that must have provided by now what the check needs: if they did not, it fails

    A run that only prepares continues where a check guards the change window alone, and says what it found.
    """
    began = time.time()
    later = run.prepare and check.window
    if host in run.unusable:
        run.done(host, key, "skipped", began, note=_unusable_text(run, host))
        return
    try:
        ctx, have = run.board.context(host), run.board.have(key, host)
        findings = check.judge(ctx, have)
        own = check.note(ctx, have) if check.note else ""
    except NotYetKnown as unknown:
        if later:
            run.done(host, key, "ok", began)  # the change window judges it
        elif unknown.stage in last:
            run.done(host, key, "failed", began, failures=(not_provided(unknown),))
        else:
            run.done(host, key, "unknown", began, note=str(unknown))
        return
    except LookFailed as error:
        _report_failed_look(run, key, host, began, error)
        return
    except Exception as error:  # noqa: BLE001  # unexpected output of one host must fail that host's check alone
        run.done(host, key, "failed", began, failures=(defect(error, key),))
        return
    objections = [finding for finding in findings if finding.name not in run.site.accept]
    texts = [f"accepted: {finding.name} ({finding.text})" for finding in findings if finding not in objections]
    if later:
        texts += [f"would stop the change window now: {finding.name} ({finding.text})" for finding in objections]
    refused = [] if later else objections
    if alone := next((finding for finding in refused if finding.explains_others), None):
        run.unusable[host] = alone.text
    note = "; ".join(filter(None, [own, *texts]))
    run.done(host, key, "refused" if refused else "ok", began, note=note, failures=failures_of(refused))


def _unusable_text(run: Run, host: str) -> str:
    return f"not checked: {run.unusable[host]}"


def not_provided(unknown: NotYetKnown) -> Failure:
    """That a step needs a fact of a stage that ran and did not provide it."""
    return Failure(meaning=f"depends on stage {unknown.stage}, which did not provide it")


def _report_failed_look(run: Run, key: str, host: str, began: float, error: LookFailed) -> None:
    """A reason for which several looks failed on a host is reported once, the others as skipped."""
    if _reported_before(run, key, host, str(error)):
        run.done(host, key, "skipped", began, note=SAME)
    else:
        run.done(host, key, "failed", began, failures=(Failure(meaning=str(error), fix=error.fix),))


def _reported_before(run: Run, key: str, host: str, why: str) -> bool:
    """Whether this reason was reported for another step of the host; otherwise `key` reports it now."""
    reason = (host, why.replace(key, ""))
    before = reason in run.reported
    run.reported.add(reason)
    return before


@dataclass(frozen=True)
class Preview:
    """What a step would do: its outcome if nothing else changed, the difference, a note, what it would remove and restart.

    window  its change belongs into the change window
    """

    outcome: Outcome
    diff: tuple[str, ...] = ()
    note: str = ""
    removes: tuple[Removal, ...] = ()
    failures: tuple[Failure, ...] = ()
    restart: Restart | None = None
    window: bool = False


def due(run: Run, stage: Stage) -> bool:
    """Whether a step of the stage has something to change, on any host."""
    steps = [(key, item, host) for key, item, host in places(run, stage) if isinstance(item, Step)]
    return any(preview(run, key, step, host).outcome != "ok" for key, step, host in steps)


def idle(run: Run, key: str) -> bool:
    """Whether the step's stage makes way for other stages (`Stage.around`), and none of them has anything to do."""
    stages = {stage.name: stage for stage in run.stages}
    around = stages[key.partition(".")[0]].around
    return bool(around) and not any(due(run, stages[name]) for name in around)


def preview(run: Run, key: str, step: Step, host: str) -> Preview:
    """What `step` would do on `host`, as far as it is known now; changes nothing."""
    ctx = run.board.context(host)
    removes: tuple[Removal, ...] = ()
    window = False
    try:
        have = have_of(run, key, step, host)
        try:
            want = step.want(ctx)
        except NotYetKnown as unknown:  # what is there will be removed all the same, whatever replaces it
            removes = step.removals(ctx, have, None) if have else ()
            return Preview("unknown", note=str(unknown), removes=removes, window=_in_window(step, ctx, have, None))
        if idle(run, key):
            return Preview("ok", note=status_text(step, have))
        if have == want:
            return Preview("ok", note=status_text(step, have), restart=_restart(step, ctx, have, want))
        if text := accepted(run, step, host, have, want):
            return Preview("ok", note=text)
        window = _in_window(step, ctx, have, want)
        removes = step.removals(ctx, have, want)
        if step.change is not None:
            step.change(ctx, have, want)  # it may refuse
        effect = step.side_effect(ctx, have, want) if step.side_effect else ""
        restart = _restart(step, ctx, have, want)
        return Preview("would change", difference(have, want), effect, removes, restart=restart, window=window)
    except NotYetKnown as unknown:  # of the change; what it removes may be known
        return Preview("unknown", note=str(unknown), removes=removes, window=window)
    except Refused as refused:
        return Preview("refused", failures=failures_of(refused.findings))
    except (LookFailed, RemoteError) as error:
        return Preview("failed", failures=(Failure(meaning=str(error), fix=error.fix),))
    except Exception as error:  # noqa: BLE001  # as with a check
        return Preview("failed", removes=removes, failures=(defect(error, key),))


def _in_window(step: Step, ctx: StepContext, have: Value, want: Value) -> bool:
    return bool(step.window and step.window(ctx, have, want))


def _restart(step: Step, ctx: StepContext, have: Value, want: Value) -> Restart | None:
    return step.restarts(ctx, have, want) if step.restarts else None


def deferred(run: Run, stage: Stage, item: Step, host: str, seen: Preview, left: Collection[StepOnHost]) -> Preview:
    """`seen` with the outcome "deferred" where a run that only prepares leaves the change for the change window: it belongs
    there, or builds on one of the steps that are `left` for it."""
    if not run.prepare or seen.outcome not in ("would change", "unknown"):
        return seen
    roles = {name: other.role for name, other in keyed(run.stages).items()}

    def comes_after(other: StepOnHost) -> bool:
        name, step, at = other
        if name == stage.name:  # in the same stage: earlier steps of this host, and those of an earlier role
            return host == at or roles.get(f"{name}.{step}") != item.role
        return name in stage.builds_on

    return replace(seen, outcome="deferred") if seen.window or any(map(comes_after, left)) else seen


StepOnHost = tuple[str, str, str]
"""A step on a host: (stage, step, host)."""


def previews(run: Run) -> Iterator[tuple[Stage, str, Step, str, Preview]]:
    """What every step would do on each of its hosts, in the order of the stages."""
    left: set[StepOnHost] = set()
    for stage in run.stages:
        for key, item, host in places(run, stage):
            if isinstance(item, Step):
                seen = deferred(run, stage, item, host, preview(run, key, item, host), left)
                left |= {(stage.name, item.name, host)} if seen.outcome == "deferred" else set()
                yield stage, key, item, host, seen


def _once(run: Run, key: str, host: str, seen: Preview) -> Preview:
    """`seen`; or "skipped": on a host that is unusable, and where its only reason to fail was reported for that host before."""
    if host in run.unusable:
        return Preview("skipped", note=_unusable_text(run, host))
    whys = [failure.meaning for failure in seen.failures]
    if seen.outcome == "failed" and len(whys) == 1 and _reported_before(run, key, host, whys[0]):
        return Preview("skipped", removes=seen.removes, note=SAME)
    return seen


def plan(run: Run) -> None:
    """Report what an install would do on each host. No code that changes anything is called from here."""
    changes: set[str] = set()
    left: set[StepOnHost] = set()
    for stage in run.stages:
        findings(run, stage)
        for key, item, host in places(run, stage):
            if isinstance(item, Step):
                began = time.time()
                seen = _once(run, key, host, preview(run, key, item, host))
                if item.repeat_text and seen.outcome == "ok" and (stage.ends in changes if stage.ends else changes):
                    seen = Preview("would change", note=item.repeat_text)
                seen = deferred(run, stage, item, host, seen, left)
                left |= {(stage.name, item.name, host)} if seen.outcome == "deferred" else set()
                changes |= {stage.name} if seen.outcome in ("would change", "unknown", "deferred") else set()
                note = "; ".join(text for text in (*(removal.words for removal in seen.removes), seen.note) if text)
                run.done(host, key, seen.outcome, began, diff=seen.diff, note=note, failures=seen.failures)
