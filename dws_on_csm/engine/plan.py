"""What was seen, judged without touching anything: findings, a plan, what there is to do."""

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
    have_of,
    look_again,
    needs,
    on_all,
    places,
    told_of,
    unconfirmed,
)
from dws_on_csm.model.errors import RemoteError
from dws_on_csm.model.events import Failure, Outcome
from dws_on_csm.model.step import Check, Finding, NotYetKnown, Refused, Removal, Stage, Step
from dws_on_csm.redaction.diff import difference


def findings(run: Run, stage: Stage) -> bool:
    """Judge every check of `stage` on every host, all of it at once; False if something stands in the way.

    A check that couldn't be made before the others had said something is made now: one more exec on its host.
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
    """What a check finds with what is known so far; None if it can't say yet."""
    try:
        return check.judge(run.board.context(host), run.board.have(key, host))
    except NotYetKnown:
        return None
    except Exception:  # noqa: BLE001  # it is judged again, and that says what is wrong
        return ()


def judge(run: Run, key: str, check: Check, host: str, last: Collection[str] = ()) -> None:
    """One check on one host; findings that the site accepts by name are only noted.

    last   the stages that had to say by now what it asks for: what is not known then does not pass
    """
    began = time.time()
    try:
        found = check.judge(run.board.context(host), run.board.have(key, host))
    except NotYetKnown as unknown:
        if unknown.stage in last:
            run.done(host, key, "failed", began, failures=(Failure(meaning=f"{unknown}, and that did not say"),))
        else:
            run.done(host, key, "unknown", began, note=str(unknown))
        return
    except Refused as refusal:
        found = refusal.findings
    except LookFailed as error:
        _unseen(run, key, host, began, error)
        return
    except Exception as error:  # noqa: BLE001  # whatever a host's words make of it, it is that host's check alone that fails
        run.done(host, key, "failed", began, failures=(defect(error, key),))
        return
    refused = [one for one in found if one.name not in run.site.accept]
    note = "; ".join(f"accepted: {one.name} ({one.text})" for one in found if one not in refused)
    run.done(host, key, "refused" if refused else "ok", began, note=note, failures=told_of(refused))


def _unseen(run: Run, key: str, host: str, began: float, error: LookFailed) -> None:
    """A look that failed is told once, however many looks failed with it for the same reason."""
    why = str(error).replace(key, "")
    if (host, why) in run.reported:
        run.done(host, key, "skipped", began, note="could not be looked at for the same reason")
    else:
        run.reported.add((host, why))
        run.done(host, key, "failed", began, failures=(Failure(meaning=str(error)),))


@dataclass(frozen=True)
class Preview:
    """What a step would do: its outcome if nothing else changed, the difference, titles of its actions."""

    outcome: Outcome
    diff: tuple[str, ...] = ()
    note: str = ""
    removes: tuple[Removal, ...] = ()
    failures: tuple[Failure, ...] = ()


def due(run: Run, stage: Stage) -> bool:
    """Whether a step of the stage has something to change, wherever."""
    steps = [(key, item, host) for key, item, host in places(run, stage) if isinstance(item, Step)]
    return any(preview(run, key, step, host).outcome != "ok" for key, step, host in steps)


def idle(run: Run, key: str) -> bool:
    """Whether the stage of a step makes way for others (`around`), and none of them has anything to do."""
    stages = {stage.name: stage for stage in run.stages}
    around = stages[key.partition(".")[0]].around
    return bool(around) and not any(due(run, stages[name]) for name in around)


def preview(run: Run, key: str, step: Step, host: str) -> Preview:
    """What `step` would do on `host`, as far as can be known now; changes nothing."""
    ctx = run.board.context(host)
    removes: tuple[Removal, ...] = ()
    try:
        have = have_of(run, key, step, host)
        try:
            want = step.want(ctx)
        except NotYetKnown as unknown:  # what lies there goes all the same, whatever comes in its place
            return Preview("unknown", note=str(unknown), removes=step.removals(ctx, have, None) if have else ())
        if have == want or idle(run, key):
            return Preview("ok", note=step.status_text(have) if step.status_text else "")
        if left := accepted(run, step, host, have, want):
            return Preview("ok", note=left)
        removes = step.removals(ctx, have, want)
        if step.change is not None:
            step.change(ctx, have, want)
        means = step.side_effect(ctx, have, want) if step.side_effect else ""
        return Preview("would change", difference(have, want), means, removes)
    except NotYetKnown as unknown:
        # how it is done may not be known yet, where what it removes is
        return Preview("unknown", note=str(unknown), removes=removes)
    except Refused as refused:
        return Preview("refused", failures=told_of(refused.findings))
    except (LookFailed, RemoteError) as error:
        return Preview("failed", failures=(Failure(meaning=str(error), fix=error.fix),))
    except Exception as error:  # noqa: BLE001  # as with a check
        return Preview("failed", removes=removes, failures=(defect(error, key),))


def plan(run: Run) -> None:
    """Say what an install would do on each host. Nothing that changes anything is reached from here."""
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
                note = "; ".join(text for text in (*(one.words for one in seen.removes), seen.note) if text)
                run.done(host, key, seen.outcome, began, diff=seen.diff, note=note, failures=seen.failures)


@dataclass(frozen=True)
class Pending:
    """What is to be done: in which stages, what of it takes away what nobody agreed to so far, and what to run before asking.

    removes  that, in words
    things   what these words stand for, by "STAGE.STEP" and host: what a yes confirms
    side_effects  what else the changes do, in words, shown with the question
    """

    changes: frozenset[str]
    removes: tuple[str, ...] = ()
    before: frozenset[str] = frozenset()
    things: frozenset[tuple[str, str, str]] = frozenset()
    side_effects: tuple[str, ...] = ()


def pending(run: Run) -> Pending:
    """What there is to do, as far as it is known. Says nothing to anybody."""
    seen = [
        (stage.name, item, (key, host), preview(run, key, item, host))
        for stage in run.stages
        for key, item, host in places(run, stage)
        if isinstance(item, Step)
    ]
    changes = frozenset(stage for stage, _, _, one in seen if one.outcome != "ok")
    asked = [(item, where, taken) for _, item, where, one in seen for taken in unconfirmed(run, *where, one.removes)]
    after = [
        item.confirm_after
        for item, _, _ in asked
        if item.confirm_after in changes and item.confirm_after not in run.started
    ]
    before = frozenset().union(*({stage} | needs(run.stages, stage) for stage in after))
    told = tuple(dict.fromkeys(taken.words for _, _, taken in asked))
    things = frozenset((*where, thing) for _, where, taken in asked for thing in taken.things)
    side_effects = tuple(
        dict.fromkeys(
            f"{where[1]}: {one.note}" for _, _, where, one in seen if one.outcome == "would change" and one.note
        )
    )
    return Pending(changes, told, before, things, side_effects)
