"""How a run ended: its exit code, and what there is to say at the end."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dws_on_csm.config.site import Site
from dws_on_csm.display.progress import fold
from dws_on_csm.display.style import plural
from dws_on_csm.engine.site_lock import LEASE_SECONDS
from dws_on_csm.engine.state import NOT_OK_OUTCOMES, Run
from dws_on_csm.model.events import OUTCOMES, Outcome, Summary
from dws_on_csm.model.step import Step
from dws_on_csm.runner.connections import Sessions
from dws_on_csm.runner.options import Options

CONVERGED, FAILED, SITE_FILE, REFUSED, CHANGES, UNPROVEN = 0, 1, 2, 3, 4, 5
"""Exit codes: nothing left to do; failed; the site file has errors; refused; a plan has changes; installed, not proven."""


def ended(
    made: Run,
    options: Options,
    refused: str,
    down: Sequence[str],
    sessions: Sessions,
    began: float,
    page: Path,
) -> Summary:
    """The end of a run. `refused` says why it was as a whole, or ""; `down` are hosts that should have answered."""
    code = _code(made, options, refused, down)
    again = code in (FAILED, REFUSED, UNPROVEN)
    counts = _counts(made.outcomes)
    changed = _changed(made)
    return Summary(
        made.id,
        code,
        counts,
        hosts=len(sessions),
        commands=sessions.commands,
        connections=sessions.connections,
        seconds=time.time() - began,
        message=f"{refused}{changed and f' {HAS_CHANGED}{changed}.'}"
        if refused
        else _message(options, code, counts, made.stopping.is_set(), changed),
        next=_again(options, made.site) if again else "",
        report=os.path.relpath(page),
    )


def left(
    site: Site,
    options: Options,
    watched: tuple[Run, Sessions] | None,
    running: Sequence[str],
    run: str,
    began: float,
    page: Path,
) -> Summary:
    """The end of a run that does not wait for what is still `running` on hosts; None `watched`: it has begun nothing yet."""
    made, sessions = watched or (None, None)
    return Summary(
        run,
        FAILED,
        _counts(made.outcomes if made else {}),
        hosts=len(sessions or site.hosts()),
        commands=sessions.commands if sessions else 0,
        connections=sessions.connections if sessions else 0,
        seconds=time.time() - began,
        message=" ".join(_leaving(made, running)),
        next=_again(options, site),
        report=os.path.relpath(page),
    )


def _leaving(made: Run | None, running: Sequence[str]) -> Iterator[str]:
    if made is None:
        yield "Stopped before anything was begun. Nothing was changed."
        return
    yield "Left at once."
    if running:
        yield f"Still running: {'; '.join(running)}."
        yield "What still runs there goes on until it ends, at the latest at its deadline."
    if made.holding:
        yield f"This run's lock expires within {LEASE_SECONDS} s; the next run from this machine need not wait for that."
        yield "Run the same command again to continue: it waits for what still runs."
        yield from _undone(made)
    else:
        yield "Nothing was changed."


def _undone(made: Run) -> Iterator[str]:
    """What comes last and was not done, with what that means."""
    for stage in made.stages if made.changing else ():
        for item in stage.steps if stage.ends else ():
            there = {made.outcomes.get((stage.name, item.name, host)) for host in made.hosts.get(item.role, ())}
            if isinstance(item, Step) and item.change and not there <= {"ok", "changed"}:
                yield f"{stage.name}.{item.name} was not done: {item.hint}."


NAMED = 8
"""Steps that are named one by one in the last words of a run; of more than these the number is told."""


def _changed(made: Run) -> str:
    """What this run has changed, in words: "slurm.conf (slurmctl[1-2])"; not what it has taken back itself."""
    ends = [stage for stage in made.stages if stage.ends and not made.troubled(stage.name)]
    again = {stage.name for stage in ends} | {
        one.name for one in made.stages if one.around and one.name in {stage.ends for stage in ends}
    }
    found: dict[str, list[str]] = {}
    for (stage, step, host), outcome in made.outcomes.items():
        if outcome == "changed" and stage not in again:
            found.setdefault(f"{stage}.{step}", []).append(host)
    told = [f"{step} ({fold(hosts)})" for step, hosts in found.items()]
    more = [f"and {len(told) - NAMED} steps more"] if len(told) > NAMED else []
    return ", ".join([*told[:NAMED], *more])


def _again(options: Options, site: Site) -> str:
    return options.again or f"invoke {options.task}{options.flags} --hosts {site.path}"


def _counts(outcomes: Mapping[tuple[str, str, str], Outcome]) -> dict[str, int]:
    seen = list(outcomes.values())  # in one go: stages add to them meanwhile
    return {one: seen.count(one) for one in OUTCOMES}


def _code(made: Run, options: Options, refused: str, down: Sequence[str]) -> int:
    if refused:
        return REFUSED
    return FAILED if down or made.stopping.is_set() else exit_code(made.outcomes, options.plan, _unproven(made))


def exit_code(outcomes: Mapping[tuple[str, str, str], Outcome], plan: bool, unproven: bool) -> int:
    """The exit code of a run with these outcomes.

    FAILED where something is still not known at the end: nobody can say that the site is as wanted, and a script that asks
    for 0 must not go on. Running it again looks once more, as after any other failure.
    """
    seen = set(outcomes.values())
    if "failed" in seen:
        return UNPROVEN if unproven else FAILED
    if "refused" in seen:
        return REFUSED
    if "skipped" in seen:
        return FAILED
    if plan:
        return CHANGES if seen & {"would change", "unknown"} else CONVERGED
    return FAILED if "unknown" in seen else CONVERGED


def _unproven(made: Run) -> bool:
    """Whether everything is installed, and the test job never got resources (its script's exit code says so)."""
    troubled = {stage for (stage, _, _), outcome in made.outcomes.items() if outcome in NOT_OK_OUTCOMES}
    proofs = {stage.name for stage in made.stages if stage.proves}
    return bool(troubled) and troubled <= proofs and made.codes == {UNPROVEN}


HAS_CHANGED = "Before that this run has changed: "


def _message(options: Options, code: int, counts: Mapping[str, int], stopped: bool, changed: str = "") -> str:
    if code == FAILED and not stopped and counts["unknown"] and not counts["failed"] and not counts["skipped"]:
        unknown = plural(counts["unknown"], "thing")
        return (
            f"{unknown} could not be looked at, so nobody knows whether all is right. Running it again looks once more."
        )
    before = f" {HAS_CHANGED}{changed}." if changed and counts["refused"] else ""
    touched = f"what was refused was not done.{before}" if before else "nothing that stands in the way was touched."
    said = {
        FAILED: f"{'Stopped' if stopped else 'Failed'}. Running it again goes on from here.{before}",
        REFUSED: f"Refused: {touched}",
        CHANGES: "",
        UNPROVEN: "Installed, but not proven.",
    }
    return said.get(code, options.done if counts["changed"] else options.right)
