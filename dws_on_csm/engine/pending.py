"""What remains to be done in a run, and what a person has to confirm before it: removals and restarts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from dws_on_csm.engine.plan import Preview, previews
from dws_on_csm.engine.state import Run, unconfirmed
from dws_on_csm.model.events import Outcome
from dws_on_csm.model.step import Restart, Stage, Step, all_needs

Previews = Sequence[tuple[Stage, str, Step, str, Preview]]
"""(stage, "STAGE.STEP", step, host, what it would do there), in the order of the stages."""


@dataclass(frozen=True)
class Restarting:
    """A service that the changes of one run restart, on hosts where all of this is the same.

    times  how often: each of several stages may restart it
    sure   False where only an earlier step of the run will show whether it is necessary
    """

    restart: Restart
    hosts: tuple[str, ...]
    times: int = 1
    sure: bool = True


@dataclass(frozen=True)
class Pending:
    """What remains to be done.

    changes       the stages that have something to change
    removes       what they would remove that is not confirmed yet, in words
    before        the stages to run before asking for confirmation: they tell what else will be removed
    things        what `removes` and `restarts` stand for, by "STAGE.STEP" and host: what a yes confirms
    side_effects  what else the changes do, in words, shown with the question
    restarts      what they restart that is not confirmed yet
    later         what a run that only prepares leaves to be restarted in the change window
    """

    changes: frozenset[str]
    removes: tuple[str, ...] = ()
    before: frozenset[str] = frozenset()
    things: frozenset[tuple[str, str, str]] = frozenset()
    side_effects: tuple[str, ...] = ()
    restarts: tuple[Restarting, ...] = ()
    later: tuple[Restarting, ...] = ()


RESTART = "restart"
"""The thing that stands for a restart in what a person confirms."""


def pending(run: Run) -> Pending:
    """What remains to be done, as far as it is known. Reports nothing."""
    every = list(previews(run))
    due = [(stage, key, step, host, seen) for stage, key, step, host, seen in every if seen.outcome != "deferred"]
    changes = frozenset(stage.name for stage, _, _, _, seen in due if seen.outcome != "ok")
    to_confirm = [
        (step, (key, host), removal)
        for _, key, step, host, seen in due
        for removal in unconfirmed(run, key, host, seen.removes)
    ]
    after = [step.confirm_after for step, _, _ in to_confirm if step.confirm_after in changes - run.started]
    before = frozenset().union(*({stage} | all_needs(run.stages, stage) for stage in after))
    words = tuple(dict.fromkeys(removal.words for _, _, removal in to_confirm))
    things = frozenset((*where, thing) for _, where, removal in to_confirm for thing in removal.things)
    causes = dict(_causes(every))
    new = {
        place: outcome
        for place, outcome in causes.items()
        if outcome != "deferred" and not run.yes and (*place, RESTART) not in run.confirmed
    }
    effects = [
        f"{host}: {seen.note}"
        for _, key, _, host, seen in due
        if seen.outcome == "would change" and seen.note and (key, host) not in causes
    ]
    return Pending(
        changes,
        words,
        before,
        things | {(*place, RESTART) for place in new},
        tuple(dict.fromkeys(effects)),
        _grouped(every, new),
        _grouped(every, {place: outcome for place, outcome in causes.items() if outcome == "deferred"}),
    )


def _causes(every: Previews) -> Iterator[tuple[tuple[str, str], Outcome]]:
    """("STAGE.STEP", host) of each restart, and the outcome of what makes it necessary: of the step itself, or of the one that
    it comes after."""
    outcomes = {(key, host): seen.outcome for _, key, _, host, seen in every}
    for _, key, _, host, seen in every:
        if seen.restart:
            cause = outcomes.get((seen.restart.after, host), "ok") if seen.restart.after else seen.outcome
            if cause in ("would change", "unknown", "deferred"):
                yield (key, host), cause


def _grouped(every: Previews, chosen: Mapping[tuple[str, str], Outcome]) -> tuple[Restarting, ...]:
    """The chosen restarts, with hosts of the same service together. The steps of one stage share a restart."""
    by_host: dict[tuple[str, str], list[tuple[str, Restart, bool]]] = {}
    for stage, key, _, host, seen in every:
        if seen.restart and (key, host) in chosen:
            entry = (stage.name, replace(seen.restart, after=""), chosen[key, host] != "unknown")
            by_host.setdefault((seen.restart.service, host), []).append(entry)
    groups: dict[tuple[Restart, int, bool], list[str]] = {}
    for (_, host), entries in by_host.items():
        sure = [entry for entry in entries if entry[2]] or entries
        times = len({stage for stage, _, _ in sure})
        groups.setdefault((sure[0][1], times, sure[0][2]), []).append(host)
    return tuple(Restarting(restart, tuple(hosts), times, sure) for (restart, times, sure), hosts in groups.items())
