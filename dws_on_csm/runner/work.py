"""The work of a run, between its first looks and its last proof: judge, ask what has to be agreed to, change."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from dws_on_csm.config.site import is_count
from dws_on_csm.display import console, select
from dws_on_csm.engine import apply
from dws_on_csm.engine import before_images as images
from dws_on_csm.engine.host_script import fenced
from dws_on_csm.engine.looks import keyed
from dws_on_csm.engine.plan import Pending
from dws_on_csm.engine.site_lock import Locked, clock, hold
from dws_on_csm.engine.state import Run, defect, lasting, left_out, on_all
from dws_on_csm.model.actions import PROOF, STATE
from dws_on_csm.model.errors import RemoteError, Unreachable
from dws_on_csm.model.events import Failure, Renamed
from dws_on_csm.model.printable import output
from dws_on_csm.model.step import Check, ShellLook, Stage, StepContext
from dws_on_csm.runner.options import Options

AGAIN = "run the same command again, once no other run is at work: it continues from there"
NOBODY_AGREED = "Nothing was removed. Confirm at the prompt, or pass --yes."


def work(made: Run, options: Options, display: select.Display, down: Sequence[str], holding: ExitStack) -> str:
    """Do the work of a run, of whose hosts `down` should have answered. Why it was refused as a whole; else "".

    The site's lock, once it is taken, is held until `holding` ends: what is left of the run to be said on the hosts is said
    while no other run is at work.
    What breaks outside of any step is told like a step of its own, and so is a defect: how a run ended is said however it did.
    """
    began = time.time()
    try:
        _look(made, options)
        return _work(made, options, display, down, holding)
    except RemoteError as error:
        failure = Failure(meaning=str(error), fix=error.fix)
        made.done(error.host or "-", "run.work", "failed", began, failures=(failure,))
        return ""
    except Exception as error:  # noqa: BLE001  # whoever waits for this run is owed its end, whatever we did wrong
        made.done("-", "run.work", "failed", began, failures=(defect(error),))
        return ""


_LAST = f"""
last=
[ ! -e {STATE}/busy ] || IFS= read -r last <{STATE}/busy || :
printf '%s\\n' "$last"
"""

ROLES = ("master", "controller", "compute")
"""Of all hosts; where a run changes something it leaves its name (templates/lib/fence.sh)."""


def _last(role: str) -> Check:
    """A check that finds nothing, and looks which run was the last to be at work on the hosts of `role`."""

    def look(ctx: StepContext) -> ShellLook:
        return ShellLook(_LAST, lambda out: out.decode(errors="replace").strip())

    return Check(role, role, look, lambda ctx, have: ())


LAST = Stage("last-run", (), tuple(_last(role) for role in ROLES))


def _look(made: Run, options: Options) -> None:
    made.looked = clock()
    made.stages, own = (LAST, *options.reads, *made.stages), made.stages
    apply.first_looks(made)
    made.stages = own


def _work(made: Run, options: Options, display: select.Display, down: Sequence[str], holding: ExitStack) -> str:
    """Judge, and change what is to be changed. Why nothing was changed, if it was refused as a whole; else ""."""
    if options.plan:
        apply.plan(made)
        return ""
    if not apply.findings(made, made.stages[0]) or down:
        return ""
    if options.work:
        return _alone(made, options, partial(_instead, options.work, made), holding)
    pending = apply.pending(made)
    if pending.changes or options.verify:
        if not _agreed_before(made, display, pending):
            return _unagreed(made)
        return _alone(made, options, partial(_changed, made, options, display), holding)
    apply.install(made)
    apply.finish(made)
    return ""


def _alone(made: Run, options: Options, do: Callable[[], str], holding: ExitStack) -> str:
    """Do it as the only run there. Why not, if another one is at work; else what `do` returns.

    From then on the run has the id that it got with the lock, and each change asks first whether it is still held. What was
    seen while another run may have been at work is looked at again: what is to be done is decided by how things are now.
    """
    master = made.site.master.host.name

    def lost(why: str) -> None:
        if made.over:  # all is done, and how it ended is known: what it can't leave any more is told with that
            return
        made.done(master, "run.lock", "failed", time.time(), failures=(Failure(meaning=why, fix=AGAIN),))
        made.stopping.set()

    try:
        lock = holding.enter_context(hold(made.reach.session(master), made.id, lost))
        if lock.run != made.id:
            made.id = lock.run
            made.emit(Renamed(made.id, time.time()))
        if why := _named_before(made):
            return why
        made.reach, made.holding = replace(made.reach, guard=lock.check, outrun=lock.lose), True
        made.reach.fence(lock.run)
        if lock.former:
            _shut_out(made)
        if lock.former or lock.before >= made.looked:
            _look(made, options)
            if not apply.findings(made, made.stages[0]):
                return ""
        return do()
    except Locked as locked:
        return str(locked)
    except Unreachable:
        if made.holding or not made.stopping.is_set():
            raise
        return ""  # Ctrl-C ended the script that was to take the lock


def _named_before(made: Run) -> str:
    """Why nothing is begun where a host has known a run that is named after this one: its fence would let nothing of this run
    through, of the next runs neither. The master orders runs by their names, and knows nothing of that one."""
    found = [made.board.facts.found.get(f"{LAST.name}.{role}", {}) for role in ROLES]
    last = {host: run for some in found for host, run in some.items()}
    later = [host for host in lasting(made) if last.get(host, "") > made.id]
    if not later:
        return ""
    named = "; ".join(f"on {host}, {output(last[host][:40])}" for host in later)
    remove = "; ".join(f"`ssh {host} rm {STATE}/busy`" for host in later)
    return (
        f"A run that is named after this one, {made.id}, has been at work {named}. Runs are named by the clock of the master "
        f"{made.site.master.host.name}, which does not know of it: that clock was ahead, or {STATE} there was lost, or another "
        f"master was at work. If no other run is at work, remove the file that says so, and run the same command again: {remove}."
    )


def _shut_out(made: Run) -> None:
    """A run that did not give the lock up may be on its way to any host: each hears that this one comes after it, once what
    that one had begun there has ended.
    """

    def tell(role: str, host: str) -> None:
        made.reach.told(host, fenced(made.id), deadline=30.0)

    on_all(made, [("", host) for host in lasting(made)], tell)


def _instead(other: Callable[[Run], None], made: Run) -> str:
    other(made)
    return ""


def _changed(made: Run, options: Options, display: select.Display) -> str:
    """Change what is to be changed, as the only run that does. Why nothing was changed, if nobody agreed to it; else "".

    What this run takes away is asked before: what is there now, with the lock, and was not told before, is asked as well.
    """
    pending = apply.pending(made)
    if not _agreed_before(made, display, pending):
        return _unagreed(made)
    made.changing = True
    installed = images.recorded(keyed((*options.reads, *made.stages)), made.board.facts)
    images.opened(made.reach, made.id, options.task, options.undoes, installed, left_out(made))
    _forget_proof(made)
    try:
        if pending.before:
            apply.install(made, pending.before)
            if not _agreed(made, apply.pending(made), display):
                return _unagreed(made)
        apply.install(made)
    finally:
        apply.finish(made)
    return ""


def agreed(typed: str, options: Options) -> bool:
    """Whether all that a run may take away was agreed to beforehand. Where persistent storage was typed by its number alone,
    somebody who can answer sees first which is meant."""
    return options.yes and not (is_count(typed) and sys.stdin.isatty())


def _agreed_before(made: Run, display: select.Display, pending: Pending) -> bool:
    """Whether what is pending may be done as far as it has to be asked now: where more can be told of it after the first
    stages, somebody who can answer is asked behind those."""
    return bool(pending.before and sys.stdin.isatty()) or _agreed(made, pending, display)


_FORGET = f"if [ -e {PROOF} ]; then rm -f {PROOF} && sync {STATE}; fi\n"


def _forget_proof(made: Run) -> None:
    """What was proven before doesn't count any more once something is changed. Raises Unreachable where it would go on to."""
    undone = "nothing was changed: the proof of before could not be taken away: "
    for host in made.hosts["submitter"]:
        made.reach.told(host, fenced(made.id, _FORGET), deadline=30.0, undone=undone)
        for key in keyed(stage for stage in made.stages if stage.proves):
            made.board.forget(key, host)


def _agreed(made: Run, pending: Pending, display: select.Display) -> bool:
    """Ask whether what is told may be taken away, if anything; what these words stand for is then agreed to."""
    if not pending.removes:
        return True
    with display.paused():
        more = "also " if made.agreed else ""
        console.note(f"This run will {more}remove:", *(f"  {one}" for one in pending.removes))
        if pending.besides and not more:
            console.note(
                "Besides what it installs or changes, on these hosts:", *(f"  {one}" for one in pending.besides)
            )
        yes = sys.stdin.isatty() and _yes(made)
    made.agreed |= pending.taking if yes else set()
    return yes


def _yes(made: Run) -> bool:
    try:
        made.asking = True
        return console.ask("Continue? [y/N] ").strip().lower() in ("y", "yes")
    except KeyboardInterrupt:  # Ctrl-C has stopped the run
        return False
    finally:
        made.asking = False


def _unagreed(made: Run) -> str:
    return "" if made.stopping.is_set() else NOBODY_AGREED
