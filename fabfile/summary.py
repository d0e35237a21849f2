"""How a run ended: its exit code, and what there is to say at the end."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from fabfile.connect import Sessions
from fabfile.events import OUTCOMES, Outcome, Summary
from fabfile.options import Options
from fabfile.running import TROUBLE, Run
from fabfile.theme import plural

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
    counts: dict[str, int] = {one: sum(1 for outcome in made.outcomes.values() if outcome == one) for one in OUTCOMES}
    return Summary(
        made.id,
        code,
        counts,
        hosts=len(sessions),
        execs=sessions.execs,
        connections=sessions.connections,
        seconds=time.time() - began,
        message=refused or _message(options, code, counts, made.stopping.is_set()),
        next=(options.again or f"invoke {options.task}{options.flags} --hosts {made.site.path}") if again else "",
        report=os.path.relpath(page),
    )


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
        return CHANGES if seen & {"change", "unknown"} else CONVERGED
    return FAILED if "unknown" in seen else CONVERGED


def _unproven(made: Run) -> bool:
    """Whether everything is installed, and the test job never got resources (its script's exit code says so)."""
    troubled = {stage for (stage, _, _), outcome in made.outcomes.items() if outcome in TROUBLE}
    return troubled in ({"verify"}, {"cancel"}) and made.codes == {UNPROVEN}


def _message(options: Options, code: int, counts: Mapping[str, int], stopped: bool) -> str:
    if code == FAILED and not stopped and counts["unknown"] and not counts["failed"] and not counts["skipped"]:
        unknown = plural(counts["unknown"], "thing")
        return (
            f"{unknown} could not be looked at, so nobody knows whether all is right. Running it again looks once more."
        )
    said = {
        FAILED: f"{'Stopped' if stopped else 'Failed'}. Running it again goes on from here.",
        REFUSED: "Refused: nothing that stands in the way was touched.",
        CHANGES: "",
        UNPROVEN: "Installed, but not proven.",
    }
    return said.get(code, options.done if counts["fixed"] else options.right)
