"""Judging what was read, without changing anything: findings, a plan, what remains to be done and to be confirmed."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from dws_on_csm.engine.looks import LookFailed
from dws_on_csm.engine.state import (
    NOT_OK_OUTCOMES,
    Run,
    accepted,
    defect,
    failures_of,
    have_of,
    look_again,
    needs,
    on_all,
    places,
    status_text,
    unconfirmed,
)
from dws_on_csm.model.errors import RemoteError
from dws_on_csm.model.events import Failure, Outcome
from dws_on_csm.model.step import Check, Finding, NotYetKnown, Refused, Removal, Stage, Step
from dws_on_csm.redaction.diff import difference


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
    """
    began = time.time()
    try:
        ctx, have = run.board.context(host), run.board.have(key, host)
        findings = check.judge(ctx, have)
        own = check.note(ctx, have) if check.note else ""
    except NotYetKnown as unknown:
        if unknown.stage in last:
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
    refused = [finding for finding in findings if finding.name not in run.site.accept]
    accepted_texts = [f"accepted: {finding.name} ({finding.text})" for finding in findings if finding not in refused]
    note = "; ".join(filter(None, [own, *accepted_texts]))
    run.done(host, key, "refused" if refused else "ok", began, note=note, failures=failures_of(refused))


def not_provided(unknown: NotYetKnown) -> Failure:
    """That a step needs a fact of a stage that ran and did not provide it."""
    return Failure(meaning=f"depends on stage {unknown.stage}, which did not provide it")


def _report_failed_look(run: Run, key: str, host: str, began: float, error: LookFailed) -> None:
    """A reason for which several looks failed on a host is reported once, the others as skipped."""
    why = str(error).replace(key, "")
    if (host, why) in run.reported:
        run.done(host, key, "skipped", began, note="could not be checked for the same reason")
    else:
        run.reported.add((host, why))
        run.done(host, key, "failed", began, failures=(Failure(meaning=str(error)),))


@dataclass(frozen=True)
class Preview:
    """What a step would do: its outcome if nothing else changed, the difference, a note, what it would remove."""

    outcome: Outcome
    diff: tuple[str, ...] = ()
    note: str = ""
    removes: tuple[Removal, ...] = ()
    failures: tuple[Failure, ...] = ()


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
    try:
        have = have_of(run, key, step, host)
        try:
            want = step.want(ctx)
        except NotYetKnown as unknown:  # what is there will be removed all the same, whatever replaces it
            return Preview("unknown", note=str(unknown), removes=step.removals(ctx, have, None) if have else ())
        if have == want or idle(run, key):
            return Preview("ok", note=status_text(step, have))
        if text := accepted(run, step, host, have, want):
            return Preview("ok", note=text)
        removes = step.removals(ctx, have, want)
        if step.change is not None:
            step.change(ctx, have, want)  # it may refuse
        effect = step.side_effect(ctx, have, want) if step.side_effect else ""
        return Preview("would change", difference(have, want), effect, removes)
    except NotYetKnown as unknown:  # of the change; what it removes may be known
        return Preview("unknown", note=str(unknown), removes=removes)
    except Refused as refused:
        return Preview("refused", failures=failures_of(refused.findings))
    except (LookFailed, RemoteError) as error:
        return Preview("failed", failures=(Failure(meaning=str(error), fix=error.fix),))
    except Exception as error:  # noqa: BLE001  # as with a check
        return Preview("failed", removes=removes, failures=(defect(error, key),))


def plan(run: Run) -> None:
    """Report what an install would do on each host. No code that changes anything is called from here."""
    changes: set[str] = set()
    for stage in run.stages:
        findings(run, stage)
        for key, item, host in places(run, stage):
            if isinstance(item, Step):
                began = time.time()
                seen = preview(run, key, item, host)
                if item.repeat_text and seen.outcome == "ok" and (stage.ends in changes if stage.ends else changes):
                    seen = Preview("would change", note=item.repeat_text)
                changes |= {stage.name} if seen.outcome in ("would change", "unknown") else set()
                note = "; ".join(text for text in (*(removal.words for removal in seen.removes), seen.note) if text)
                run.done(host, key, seen.outcome, began, diff=seen.diff, note=note, failures=seen.failures)


@dataclass(frozen=True)
class Pending:
    """What remains to be done.

    changes       the stages that have something to change
    removes       what they would remove that is not confirmed yet, in words
    before        the stages to run before asking for confirmation: they tell what else will be removed
    things        what `removes` stands for, by "STAGE.STEP" and host: what a yes confirms
    side_effects  what else the changes do, in words, shown with the question
    """

    changes: frozenset[str]
    removes: tuple[str, ...] = ()
    before: frozenset[str] = frozenset()
    things: frozenset[tuple[str, str, str]] = frozenset()
    side_effects: tuple[str, ...] = ()


def pending(run: Run) -> Pending:
    """What remains to be done, as far as it is known. Reports nothing."""
    previews = [
        (stage.name, item, (key, host), preview(run, key, item, host))
        for stage in run.stages
        for key, item, host in places(run, stage)
        if isinstance(item, Step)
    ]
    changes = frozenset(stage for stage, _, _, seen in previews if seen.outcome != "ok")
    to_confirm = [
        (item, where, removal)
        for _, item, where, seen in previews
        for removal in unconfirmed(run, *where, seen.removes)
    ]
    after = [item.confirm_after for item, _, _ in to_confirm if item.confirm_after in changes - run.started]
    before = frozenset().union(*({stage} | needs(run.stages, stage) for stage in after))
    words = tuple(dict.fromkeys(removal.words for _, _, removal in to_confirm))
    things = frozenset((*where, thing) for _, where, removal in to_confirm for thing in removal.things)
    effects = [
        f"{host}: {seen.note}" for _, _, (_, host), seen in previews if seen.outcome == "would change" and seen.note
    ]
    return Pending(changes, words, before, things, tuple(dict.fromkeys(effects)))
