"""What a run does only while it holds the site's lock, and what it has to know of other runs for that."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

from dws_on_csm.engine import plan as engine_plan
from dws_on_csm.engine import site_lock, state
from dws_on_csm.engine.host_script import fenced
from dws_on_csm.engine.reach import ClusterLease
from dws_on_csm.engine.site_lock import Locked, clock, hold
from dws_on_csm.engine.state import Run, on_all, recording_hosts
from dws_on_csm.model.actions import STATE
from dws_on_csm.model.errors import Unreachable
from dws_on_csm.model.events import Failure, Renamed
from dws_on_csm.model.printable import plain_line
from dws_on_csm.model.step import Check, ShellLook, Stage, StepContext
from dws_on_csm.runner import masters
from dws_on_csm.runner.options import Options

AFTER_THE_OTHER_RUN = "run the same command again when no other run is running; it continues from there"

_LAST = f"""
last=
[ ! -e {STATE}/busy ] || IFS= read -r last <{STATE}/busy || :
printf '%s\\n' "$last"
"""

ROLES = ("master", "controller", "compute", "login")
"""The roles of all hosts; where a run changes something it leaves its id (templates/lib/fence.sh)."""


def _last(role: str) -> Check:
    """A check without findings: it reads which run was the last to work on the hosts of `role`."""

    def look(ctx: StepContext) -> ShellLook:
        return ShellLook(_LAST, lambda out: out.decode(errors="replace").strip())

    return Check(role, role, look, lambda ctx, have: ())


LAST = Stage("last-run", (), tuple(_last(role) for role in ROLES))


def look(run: Run, options: Options) -> None:
    """Make the first looks of this run's stages, of those that it only reads, and of LAST. Raises SudoRefused where nothing can be
    read on the master: each step would say the same."""
    run.looked = clock()
    run.stages, own = (LAST, *options.reads, *run.stages), run.stages
    state.first_looks(run)
    run.stages = own
    if refused := run.reach.refused(run.site.master.host.name):
        raise refused


def with_lock(run: Run, options: Options, do: Callable[[ClusterLease], str], holding: ExitStack) -> str:
    """Take the site's lock and return what `do` returns; where another run holds the lock, return that.

    With the lock the run gets its final id, and before each change it checks that it still holds the lock. If another run may
    have worked since the first looks, all hosts are read again: decisions are made by how things are now.
    """
    master = run.site.master.host.name

    def lost(why: str) -> None:
        if run.over:  # the work is done and the exit code known: what can't be recorded any more is reported with it
            return
        run.done(
            master, site_lock.STEP, "failed", time.time(), failures=(Failure(meaning=why, fix=AFTER_THE_OTHER_RUN),)
        )
        run.stopping.set()

    try:
        lock = holding.enter_context(hold(run.reach.session(master), run.id, lost))
        if lock.run != run.id:
            run.id = lock.run
            run.emit(Renamed(run.id, time.time()))
        if why := _later_run(run):
            return why
        run.reach, run.holding = replace(run.reach, guard=lock.check, outrun=lock.lose), True
        run.reach.fence(lock.run)
        lease = holding.enter_context(run.reach.lease(run.id, lost))
        lock.check_lease = lease.check

        def guard() -> None:
            lock.check()
            lease.check()

        run.reach = replace(run.reach, guard=guard)
        if why := why_records_elsewhere(run, options):  # another run may have moved them
            return why
        if lock.former or lease.former:
            _shut_out(run)
        if lock.former or lease.elsewhere or lock.before >= run.looked:
            look(run, options)
            if not engine_plan.findings(run, run.stages[0]):
                return ""
        return do(lease)
    except Locked as locked:
        return str(locked)
    except Unreachable:
        if run.holding or not run.stopping.is_set():
            raise
        return ""  # Ctrl-C ended the script that takes the lock


def why_records_elsewhere(run: Run, options: Options) -> str:
    """Why this run may not work through its master, or "": see masters.records_elsewhere()."""
    if options.proves or not run.site.master.several:
        return ""
    session = run.reach.session(run.site.master.host.name)
    why = masters.records_elsewhere(run.site, run.reach.cluster(), session)
    return f"Nothing was changed. {why}" if why else ""


def _later_run(run: Run) -> str:
    """Why nothing may begin where a host knows a run with a later id, or "": its fence would reject this run, and all next ones
    too. The master orders runs by their ids, and does not know that run."""
    by_role = [run.board.facts.found.get(f"{LAST.name}.{role}", {}) for role in ROLES]
    last = {host: name for names in by_role for host, name in names.items()}
    later = [host for host in recording_hosts(run) if last.get(host, "") > run.id]
    if not later:
        return ""
    known = "; ".join(f"on {host}, {plain_line(last[host][:40])}" for host in later)
    remove = "; ".join(f"`ssh {host} rm {STATE}/busy`" for host in later)
    return (
        f"A run with a later id than this one, {run.id}, has worked {known}. Ids come from the clock of the master "
        f"{run.site.master.host.name}, which does not know that run: its clock was ahead, {STATE} was lost there, or another "
        f"master was used. If no other run is running, remove the file that names it and run the same command again: {remove}."
    )


def _shut_out(run: Run) -> None:
    """Tell each host that this run comes after the former one, which did not release the lock and may still send scripts. This
    waits until scripts that the former run started there have ended."""

    def tell(role: str, host: str) -> None:
        run.reach.run_fenced(host, fenced(run.id), deadline=30.0)

    on_all(run, [("", host) for host in recording_hosts(run)], tell)
