"""The one question of a run: what it will remove and restart, on a terminal and without --yes.

Without a terminal a removal needs --yes. A restart does not: it is announced, since nothing is lost by it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dws_on_csm.config.site import is_count
from dws_on_csm.display import console, select
from dws_on_csm.display.progress import fold
from dws_on_csm.engine.pending import Pending, Restarting
from dws_on_csm.engine.state import Run
from dws_on_csm.runner.options import Options

NOT_CONFIRMED = "Nothing was removed. Confirm at the prompt, or pass --yes."
NOT_RESTARTED = "Nothing was restarted. Confirm at the prompt, or pass --yes."


def confirmed_by_yes(typed: str, options: Options) -> bool:
    """Whether --yes confirms all that the run may remove and restart. Not where persistent storage was `typed` by its number
    alone, and a person can answer: they see first which storage that is."""
    return options.yes and not (is_count(typed) and sys.stdin.isatty())


def confirm_early(run: Run, display: select.Display, pending: Pending) -> bool:
    """As `confirm`. Where the first stages will tell more, a person who can answer is asked after them."""
    return bool(pending.before and sys.stdin.isatty()) or confirm(run, display, pending)


def confirm(run: Run, display: select.Display, pending: Pending) -> bool:
    """Ask for confirmation of what will be removed and restarted, if anything; a yes confirms what these words stand for.

    Without a terminal, restarts are announced on standard error, and count as confirmed.
    """
    if not pending.removes and not pending.restarts:
        return True
    with display.paused():
        _show(pending, "also " if run.confirmed else "")
        yes = _yes(run) if sys.stdin.isatty() else not pending.removes
    run.confirmed |= pending.things if yes else set()
    return yes


def not_confirmed(run: Run, pending: Pending) -> str:
    """Why the run was refused, after an answer that is not yes; "" where it was stopped."""
    if run.stopping.is_set():
        return ""
    return NOT_CONFIRMED if pending.removes else NOT_RESTARTED


def _show(pending: Pending, more: str) -> None:
    if pending.removes:
        console.note(f"This run will {more}remove:", *(f"  {text}" for text in pending.removes))
    if pending.restarts:
        console.note(f"This run will {more}restart:", *(f"  {text}" for text in restart_texts(pending.restarts)))
        console.note(*dict.fromkeys(restarting.restart.effect for restarting in pending.restarts))
    if pending.side_effects and not more:
        console.note("Other effects on these hosts:", *(f"  {text}" for text in pending.side_effects))


def restart_texts(restarts: Sequence[Restarting]) -> list[str]:
    """A line for each restart: "slurmctld on c[1-2]: 1.2 s at its last restart"."""
    return [_restart_text(restarting) for restarting in restarts]


def _restart_text(restarting: Restarting) -> str:
    times = {1: "", 2: ", twice"}.get(restarting.times, f", {restarting.times} times")
    perhaps = "" if restarting.sure else ", if that proves necessary"
    return (
        f"{restarting.restart.service} on {fold(list(restarting.hosts))}{times}{perhaps}: {restarting.restart.detail}"
    )


def _yes(run: Run) -> bool:
    try:
        run.asking = True
        return console.ask("Continue? [y/N] ").strip().lower() in ("y", "yes")
    except KeyboardInterrupt:  # Ctrl-C has stopped the run
        return False
    finally:
        run.asking = False
