"""Controllers that slurm.conf names and the site file does not list: they would have no burst buffer.

slurmctld starts on a host whose own name is in slurm.conf: so the names that the hosts give themselves decide, and not their
spelling in the site file.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import replace

from dws_on_csm.model.step import Check, Constant, Finding, StepContext, Value
from dws_on_csm.stages.facts import CONTROLLER, Controller
from dws_on_csm.stages.slurm import controller, slurmctld
from dws_on_csm.stages.slurm.slurmctld_hosts import Entry, entries

# --- which host an entry is


def _own(state: Controller) -> set[str]:
    """The names that a host gives itself."""
    names = {state["host"], state["host"].partition(".")[0], state["fqdn"]}
    return {name.lower() for name in names if name}


def _is(state: Controller, entry: Entry) -> bool:
    """Whether an entry is this host, which `localhost` is wherever it is read."""
    return bool({name.lower() for name in entry.names} & {*_own(state), "localhost"})


def _reached(state: Controller, entry: Entry) -> bool:
    """Whether an entry's address, or an address in place of its name, is this host's."""
    where = {word.lower() for word in (entry.address, *entry.names)}
    return bool(where & {*state["addresses"].lower().split(), *_own(state)})


def _spelled(name: str, entry: Entry) -> bool:
    """Whether the site file's name of a host that was not seen may mean an entry."""
    mine = {name.lower(), name.lower().partition(".")[0]}
    theirs = {word.lower() for word in (*entry.names, entry.address)}
    return bool(mine & (theirs | {word.partition(".")[0] for word in theirs if not _numeric(word)}))


def _numeric(word: str) -> bool:
    return re.fullmatch(r"[0-9a-f.:]+", word) is not None


def unlisted_entries(ctx: StepContext) -> tuple[list[Entry], list[Entry]]:
    """The entries of this controller's slurm.conf that the site file certainly lacks, and those that it may lack.

    Raises NotYetKnown where no controller was looked at.
    """
    seen = {host: state for host, state in ctx.facts.all(CONTROLLER).items() if state["host"]}
    mine = _named(ctx, ctx.host, controller.state(ctx))
    foreign = [entry for entry in mine if not any(_is(state, entry) for state in seen.values())]
    unseen = [host.name for host in ctx.site.controllers if host.name not in seen]
    foreign = [entry for entry in foreign if not any(_spelled(name, entry) for name in unseen)]
    if any(not any(_spelled(name, entry) for entry in mine) for name in unseen):
        return [], []  # a host that did not respond may be any of them; that alone is reported, and ends the run
    # a controller that none of these entries names may be one of the others under another name
    unclear = any(not any(_is(state, entry) for entry in mine) for state in seen.values())
    doubted = [entry for entry in foreign if unclear or any(_reached(state, entry) for state in seen.values())]
    return [entry for entry in foreign if entry not in doubted], doubted


def _named(ctx: StepContext, host: str, state: Controller) -> list[Entry]:
    running = ctx.facts.known(slurmctld.FACT).get(host)
    return entries(ctx.site, state["files"], [names for names, _ in running["named"]] if running else ())


# --- the findings


def check(takes: bool, effect: str = "") -> Check:
    """The check `controllers`.

    takes   the burst buffer, and its files, are removed from the controllers of the site file
    effect  what it means for a controller that the site file lacks; "": as for an install
    """

    def judge(ctx: StepContext, have: Value) -> Sequence[Finding]:
        renamed = {host.name: twin for host in ctx.site.controllers if (twin := _renamed(ctx, host.name))}
        known = _before(ctx) | {entry for entry, _ in renamed.values()}
        sure, unsure = ([entry for entry in unlisted if entry not in known] for unlisted in unlisted_entries(ctx))
        return [
            *([_name_differs(ctx, *renamed[ctx.host])] if ctx.host in renamed else ()),
            *(_taken(ctx, entry) if takes else _missed(ctx, entry, effect) for entry in sure),
            *(_unclear(ctx, entry, takes, effect) for entry in unsure),
        ]

    return Check("controllers", "controller", lambda ctx: Constant(None), judge)


CHECK = check(takes=False)


def checks_for_reading(effect: str) -> tuple[Check, Check]:
    """The same for a command that changes nothing else there: the look at each controller, and the check."""
    return replace(controller.CHECK, judge=controller.judge_place), check(takes=False, effect=effect)


def _renamed(ctx: StepContext, host: str) -> tuple[Entry, str] | None:
    """What slurm.conf calls a host that gives itself the name of another controller, as one whose disk was cloned does; and that
    controller. None of any other host."""
    everywhere = ctx.facts.all(CONTROLLER)
    mine = next((entry for entry in _named(ctx, ctx.host, controller.state(ctx)) if _spelled(host, entry)), None)
    if mine is None or host not in everywhere or _is(state := everywhere[host], mine):
        return None
    twins = (other for other, seen in everywhere.items() if other != host and _is(seen, Entry((other,))))
    twin = next((other for other in twins if _is(state, Entry((other,)))), None)
    return (mine, twin) if twin else None


def _name_differs(ctx: StepContext, entry: Entry, twin: str) -> Finding:
    name = entry.names[0]
    text = (
        f"{ctx.host} gives itself the name of {twin}; slurm.conf calls it {name}. slurmctld takes itself for the other "
    )
    text += "controller when it starts again, and both would write one state"
    return Finding("host-name-differs", text, f"run `hostnamectl set-hostname {shlex.quote(name)}` on {ctx.host}")


_UNSTORED = "jobs with #DW lines would run there without storage"


def _before(ctx: StepContext) -> set[Entry]:
    """The entries that a controller before this one reports already: slurm.conf is mostly the same on all of them."""
    everywhere, entries_before = ctx.facts.all(CONTROLLER), set()
    for host in ctx.site.controllers:
        if host.name == ctx.host:
            break
        entries_before |= set(_named(ctx, host.name, everywhere[host.name])) if host.name in everywhere else set()
    return entries_before


def _entry_text(ctx: StepContext, entry: Entry) -> str:
    running = ctx.facts.known(slurmctld.FACT).get(ctx.host)
    named = running["named"] if running else ()
    state = next(
        (f" (`scontrol ping`: {state})" for names, state in named if set(names.split(",")) & {*entry.names}),
        "",
    )
    return f"slurm.conf on {ctx.host} names {','.join(entry.names)} as a controller{state}"


def _add(ctx: StepContext, entry: Entry) -> str:
    return f"add `- host: {entry.names[0]}` under controllers in {ctx.site.path.name}"


def _missed(ctx: StepContext, entry: Entry, effect: str) -> Finding:
    effect = effect or "when its slurmctld takes over, jobs with #DW lines run without their storage"
    fix = f"{_add(ctx, entry)}; if its slurmctld is never used again, remove it from slurm.conf, or accept: [controller-unlisted]"
    return Finding(
        "controller-unlisted", f"{_entry_text(ctx, entry)}, but the site file does not list it: {effect}", fix
    )


def _taken(ctx: StepContext, entry: Entry) -> Finding:
    text = f"{_entry_text(ctx, entry)}, but the site file does not list it: its slurmctld "
    fix = f"{_add(ctx, entry)}; if its slurmctld is never used again, remove it from slurm.conf"
    return Finding("controllers-left-out", f"{text}{controller.KEEPS_FILES}, and might not start again", fix)


def _unclear(ctx: StepContext, entry: Entry, takes: bool, effect: str) -> Finding:
    effect_text = "its slurmctld would lose files that it uses" if takes else effect or _UNSTORED
    text = f"{_entry_text(ctx, entry)}, but no controller of the site file has this name; it may still be one of them"
    fix = f"if it is another host, {_add(ctx, entry)}; if it is one of them, accept: [controllers-unclear]"
    return Finding("controllers-unclear", f"{text}; if it is another host, {effect_text}", fix)
