"""How a run ended: its exit code, and the last words of its summary."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dws_on_csm.config.site import Site
from dws_on_csm.display.progress import fold
from dws_on_csm.display.style import plural
from dws_on_csm.engine.pending import pending
from dws_on_csm.engine.site_lock import LEASE_SECONDS
from dws_on_csm.engine.state import NOT_OK_OUTCOMES, Run
from dws_on_csm.model.events import OUTCOMES, Outcome, Summary
from dws_on_csm.model.exit_codes import CHANGES, CONVERGED, DEGRADED, FAILED, REFUSED, UNPROVEN
from dws_on_csm.model.printable import first_few
from dws_on_csm.model.step import Step
from dws_on_csm.runner import commands_to_paste
from dws_on_csm.runner.confirmation import restart_texts
from dws_on_csm.runner.connections import Sessions
from dws_on_csm.runner.options import Options

ALREADY_CHANGED = "Already changed by this run: "

NAMED = 8
"""So many changed steps are named in the summary; of more, only the number is given."""


def summary(
    run: Run,
    options: Options,
    refused: str,
    down: Sequence[str],
    sessions: Sessions,
    began: float,
    page: Path,
) -> Summary:
    """The end of a run. `refused` says why it was refused as a whole, or ""; `down` are hosts that should have answered."""
    code = _code(run, options, refused, down)
    counts = _counts(run.outcomes)
    changed = _changed(run)
    left = code in (CONVERGED, DEGRADED) and bool(counts["deferred"]) and not options.plan
    if refused:
        message = f"{refused} {ALREADY_CHANGED}{changed}." if changed else refused
    elif left:
        message = f"Prepared. {' '.join(_left(run))}"
    else:
        message = result_message(options, code, counts, run.stopping.is_set(), changed)
    # a step without an outcome had nothing to restore: the run was refused before
    message = " ".join([message, *_last_steps_not_done(run, NOT_OK_OUTCOMES)])
    if code == DEGRADED:
        message = f"{message} Degraded: {'; '.join(sorted(run.degraded)).rstrip('.')}."
    return Summary(
        run.id,
        code,
        counts,
        hosts=len(sessions),
        commands=sessions.commands,
        connections=sessions.connections,
        seconds=time.time() - began,
        message=message,
        next=_next(options, run.site, code, left),
        report=os.path.relpath(page),
    )


def _next(options: Options, site: Site, code: int, left: bool) -> str:
    """The command to continue with: the same again, or what was prepared; "" where nothing is left."""
    if left:
        return commands_to_paste.again(replace(options, prepare=False), site)
    return commands_to_paste.again(options, site) if code in (FAILED, REFUSED, UNPROVEN) else ""


def _left(run: Run) -> Iterator[str]:
    """What a run that only prepared leaves for the change window, in sentences."""
    hosts_by_step: dict[str, list[str]] = {}
    for (stage, step, host), outcome in run.outcomes.items():
        if outcome == "deferred":
            hosts_by_step.setdefault(f"{stage}.{step}", []).append(host)
    steps = [f"{step} ({fold(hosts)})" for step, hosts in hosts_by_step.items()]
    yield f"Left for the change window: {first_few(steps, NAMED, ', ', 'steps')}."
    later = pending(run).later
    if later:
        yield f"It will restart {'; '.join(restart_texts(later))}."
    yield from dict.fromkeys(restarting.restart.effect for restarting in later)


def summary_at_once(
    site: Site,
    options: Options,
    watched: tuple[Run, Sessions] | None,
    running: Sequence[str],
    run_id: str,
    began: float,
    page: Path,
) -> Summary:
    """The end of a run that does not wait for what is still `running` on hosts; `watched` is None if it has started nothing."""
    run, sessions = watched or (None, None)
    return Summary(
        run_id,
        FAILED,
        _counts(run.outcomes if run else {}),
        hosts=len(sessions or site.hosts()),
        commands=sessions.commands if sessions else 0,
        connections=sessions.connections if sessions else 0,
        seconds=time.time() - began,
        message=" ".join(_sentences_at_once(run, running)),
        next=commands_to_paste.again(options, site),
        report=os.path.relpath(page),
    )


def _sentences_at_once(run: Run | None, running: Sequence[str]) -> Iterator[str]:
    if run is None:
        yield "Stopped before anything was started. Nothing was changed."
        return
    yield "Stopped without waiting."
    if running:
        yield f"Still running: {'; '.join(running)}."
        yield "It continues until it finishes or reaches its deadline."
    if run.holding:
        yield f"This run's lock expires within {LEASE_SECONDS} s; a new run from this machine does not have to wait for it."
        yield "Run the same command again to continue; it waits for what is still running."
        yield from _last_steps_not_done(run, {None, "unknown", *NOT_OK_OUTCOMES}) if run.changing else ()
    else:
        yield "Nothing was changed."


def _last_steps_not_done(run: Run, wanted: Collection[Outcome | None]) -> Iterator[str]:
    """The steps of stages that come last (`Stage.ends`) with one of these outcomes, each with what that means."""
    for stage in run.stages:
        for item in stage.steps if stage.ends else ():
            outcomes = {run.outcomes.get((stage.name, item.name, host)) for host in run.hosts.get(item.role, ())}
            if isinstance(item, Step) and item.change and outcomes & {*wanted}:
                yield f"{stage.name}.{item.name} was not done: {item.hint}."


def _changed(run: Run) -> str:
    """What this run has changed, in words: "slurm.conf (slurmctl[1-2])"; without what it has taken back itself."""
    ends = [stage for stage in run.stages if stage.ends and not run.troubled(stage.name)]
    taken_back = {stage.name for stage in ends} | {
        stage.name for stage in run.stages if stage.around and stage.name in {end.ends for end in ends}
    }
    hosts_by_step: dict[str, list[str]] = {}
    for (stage, step, host), outcome in run.outcomes.items():
        if outcome == "changed" and stage not in taken_back:
            hosts_by_step.setdefault(f"{stage}.{step}", []).append(host)
    texts = [f"{step} ({fold(hosts)})" for step, hosts in hosts_by_step.items()]
    return first_few(texts, NAMED, ", ", "steps")


def _counts(outcomes: Mapping[tuple[str, str, str], Outcome]) -> dict[str, int]:
    values = list(outcomes.values())  # a copy: stages add outcomes meanwhile
    return {outcome: values.count(outcome) for outcome in OUTCOMES}


def _code(run: Run, options: Options, refused: str, down: Sequence[str]) -> int:
    if refused:
        return REFUSED
    code = FAILED if down or run.stopping.is_set() else exit_code(run.outcomes, options.plan, _unproven(run))
    return DEGRADED if code == CONVERGED and run.degraded and not options.plan else code


def exit_code(outcomes: Mapping[tuple[str, str, str], Outcome], plan: bool, unproven: bool) -> int:
    """The exit code of a run with these outcomes.

    FAILED where something is still unknown at the end: the site may not be as wanted, and a script that checks for 0 must not
    continue. The same command, run again, checks again, as after any other failure.
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


def _unproven(run: Run) -> bool:
    """Whether everything is installed, and only the test job never got resources (the exit code of its script says so)."""
    troubled = {stage for (stage, _, _), outcome in run.outcomes.items() if outcome in NOT_OK_OUTCOMES}
    proofs = {stage.name for stage in run.stages if stage.proves}
    return bool(troubled) and troubled <= proofs and run.codes == {UNPROVEN}


def result_message(options: Options, code: int, counts: Mapping[str, int], stopped: bool, changed: str = "") -> str:
    """The last words of a run with exit code `code`."""
    if code == FAILED and not stopped and counts["unknown"] and not counts["failed"] and not counts["skipped"]:
        unknown = plural(counts["unknown"], "step")
        return (
            f"The state of {unknown} is unknown, so the site may not be as wanted. Run the same command again to check."
        )
    already = f"{ALREADY_CHANGED}{changed}." if changed and counts["refused"] else ""
    messages = {
        FAILED: f"{'Stopped' if stopped else 'Failed'}. Run the same command again to continue. {already}".rstrip(),
        REFUSED: f"Refused. {already or 'Nothing was changed.'}",
        CHANGES: "",
        UNPROVEN: "Installed, but not verified. Do what the last lines of the test job's output say.",
    }
    if options.proves and not stopped:  # there is nothing to continue: the cause is what has to change
        messages[FAILED] = "Not verified. Do what the fix says; `invoke doctor` looks for more causes."
    return messages.get(code, options.changed_text if counts["changed"] else options.unchanged_text)
