"""Controllers whose slurmctlds do not hear each other: each of them may take charge, and both would write one state."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Iterator, Sequence

from dws_on_csm.commands.doctor.diagnosis import copy_command, repair_fix
from dws_on_csm.model import render
from dws_on_csm.model.lines import first_values, parse_pairs
from dws_on_csm.model.step import Check, Constant, Fact, Finding, ShellLook, StepContext
from dws_on_csm.stages.facts import CONTROLLER
from dws_on_csm.stages.slurm import slurmctld, start
from dws_on_csm.stages.slurm.slurmctld_hosts import Entry, entries

KEYS = {"auth/munge": "/etc/munge/munge.key", "auth/slurm": "slurm.key"}
"""AuthType -> the file with the key that all hosts of a cluster share; a name alone is that of a file beside slurm.conf."""

_SALT = secrets.token_hex(16)
"""A digest of a key leaves its host, and only together with this, which is another one in each process of this tool: it says
whether two keys are the same, and nothing else."""

_KEY: Fact[dict[str, str]] = Fact("doctor", "key")
"""AuthType -> a digest of its key on this host; without those that it does not have."""

_RESOLVED: Fact[dict[str, str]] = Fact("doctor", "addresses")
"""SlurmctldHost, or its address where slurm.conf has one -> the addresses that this host finds for it, with blanks between."""


def _look(ctx: StepContext) -> ShellLook:
    files = {name: _file(ctx, f"auth/{name}") for name in ("munge", "slurm")}
    script = render.script("lib/as.sh", "controller/auth_keys.sh", salt=_SALT, **files)
    return _KEY.shell(script, lambda out: first_values(parse_pairs(out, "replace")))


def _file(ctx: StepContext, auth: str) -> str:
    return KEYS[auth] if KEYS[auth].startswith("/") else f"{ctx.site.slurm.folder}/{KEYS[auth]}"


def judge_key(ctx: StepContext, have: dict[str, str]) -> Iterator[Finding]:
    """A controller whose key is not the first controller's: no program of Slurm there can talk to the others."""
    first, auth = ctx.site.first_controller.name, _auth(ctx)
    theirs = ctx.facts.known(_KEY).get(first, {})
    if ctx.host == first or auth not in have or auth not in theirs or have[auth] == theirs[auth]:
        return
    file = _file(ctx, auth)
    text = f"{file} on {ctx.host} is not the same as on {first}: Slurm on each of these hosts rejects what comes from the other "
    text += "(Invalid credential). A backup that does not hear the primary takes charge, and both write one state"
    copy = copy_command(ctx.site, first, ctx.host, file)
    fix = f"copy the cluster's key to {ctx.host} (from {first}, if its key is right{f': `{copy}`' if copy else ''})"
    if auth == "auth/munge":
        fix += f"; then run `systemctl restart munge` on {ctx.host}"
    yield Finding("auth-key-differs", text, f"{fix}; then {repair_fix(ctx, 'slurm')}")


def _auth(ctx: StepContext) -> str:
    known = ctx.facts.known(start.START).get(ctx.host)
    named = known["auth"] if known else ""
    return "auth/slurm" if named.endswith("slurm") else "auth/munge"


def _look_up(ctx: StepContext) -> ShellLook:
    """Ask the host for the addresses of all controllers in its slurm.conf, as slurmctld does."""
    words = (shlex.quote(_asked(entry)) for entry in _entries(ctx))
    script = f"for name in {' '.join(words)}; do\n{_LOOK_UP}done\n"
    return _RESOLVED.shell(script, lambda out: first_values(parse_pairs(out, "replace")))


_LOOK_UP = """    found=$(timeout -k 1 5 getent ahosts -- "$name" </dev/null 2>/dev/null | awk '!seen[$1]++ { printf " %s", $1 }')
    printf '%s=%s\n' "$name" "${found# }"
"""


def _entries(ctx: StepContext) -> Sequence[Entry]:
    return entries(ctx.site, ctx.facts.all(CONTROLLER)[ctx.host]["files"])


def _asked(entry: Entry) -> str:
    """What slurmctld looks up to reach a controller."""
    return entry.address or entry.names[0]


def judge_divided(ctx: StepContext) -> Iterator[Finding]:
    """Another controller whose slurmctld responds on its own host, and from this one does not."""
    daemons = ctx.facts.known(slurmctld.FACT)
    mine = daemons.get(ctx.host)
    if not mine or not slurmctld.answers(mine):
        return
    down = {name for names, state in mine["named"] if state == "DOWN" for name in names.split(",")}
    for host, theirs in daemons.items():
        if host != ctx.host and slurmctld.answers(theirs) and down & _names(ctx, host):
            text = f"slurmctld on {host} responds there, and does not respond to `scontrol ping` on {ctx.host}: the two do not "
            text += "hear each other. A backup that does not hear the primary takes charge, and both write one state"
            if wrong := _wrong_address(ctx, host):
                name, found = wrong
                has = ctx.facts.known(CONTROLLER)[host]["addresses"]
                text += f". {ctx.host} resolves {name} to {found}, but {host} has the addresses {has}"
                fix = f"correct {name} in /etc/hosts on {ctx.host}, or in the name service that it asks; "
                yield Finding("controllers-divided", text, f"{fix}`getent hosts {name}` shows the result")
                continue
            fix = f"look at the end of slurmctld's log on {host}: an authentication error means that keys or clocks differ; "
            fix += "where it has none, a firewall between the two blocks slurmctld's port (SlurmctldPort, 6817)"
            yield Finding("controllers-divided", text, fix)


def _wrong_address(ctx: StepContext, other: str) -> tuple[str, str] | None:
    """The name by which this host looks for another controller, and what it finds, where that is no address of the other."""
    has, found = ctx.facts.known(CONTROLLER).get(other), ctx.facts.known(_RESOLVED).get(ctx.host, {})
    for entry in _entries(ctx) if has and has["addresses"] else ():
        at = found.get(_asked(entry), "")
        if has and at and set(entry.names) & _names(ctx, other) and not set(at.split()) & set(has["addresses"].split()):
            return _asked(entry), at
    return None


def _names(ctx: StepContext, host: str) -> set[str]:
    """What slurm.conf may call a controller."""
    known = ctx.facts.known(CONTROLLER).get(host)
    names = {host, *((known["host"], known["fqdn"]) if known else ())}
    return {*names, *(name.partition(".")[0] for name in names)} - {""}


CHECKS = (
    Check(_KEY.step, "controller", _look, lambda ctx, have: tuple(judge_key(ctx, have))),
    Check(_RESOLVED.step, "controller", _look_up, lambda ctx, have: ()),
    Check("divided", "controller", lambda ctx: Constant(None), lambda ctx, have: tuple(judge_divided(ctx))),
)
