"""The state of slurmctld on its own host: whether it responds, and whether it has read the present text of its files."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, NotRequired, TypedDict

from dws_on_csm.config.site import Site
from dws_on_csm.domain import names, slurm_conf
from dws_on_csm.model import render
from dws_on_csm.model.lines import all_values, first_values, parse_pairs
from dws_on_csm.model.step import Fact, ShellLook, StepContext
from dws_on_csm.redaction import redact
from dws_on_csm.stages import controller_library


class Daemon(TypedDict):
    """slurmctld's process, what it has read and how it responds. Times are seconds of the host's clock, with two decimals.

    main, started   the process ("" if none) and when it began
    loaded          whether it has burst_buffer_lua.so in its memory
    changed         path -> when slurm.conf, what it includes and burst_buffer.conf were changed
    named           [names, "UP" or "DOWN"] of each SlurmctldHost, as `scontrol ping` has it: several names have commas between
    pings           ["here" or "there", "UP" or "DOWN"] of each SlurmctldHost, in the order in which they take over
    type            BurstBufferType of the slurmctld that is in charge
    was, now        path -> text of slurm.conf, which is the first, and of what it includes: as this process read them, and as
                    they are now; both empty where that isn't known, or where it is the same (`same`)
    activated       the checksum of the slurm.conf with which an activation of ours saw this slurmctld answer; "" if none did
    outside         the process of a slurmctld that its unit does not know: somebody has started it by hand
    ended           of one that does not run: how it ended, where not well, and its limits of memory, in systemd's words
                    ("Result=oom-kill MemoryMax=67108864")
    said            its last errors, where it does not run or respond; without secrets
    added           when activations of ours added the burst buffer, since it was last removed by us ("2026-11-30 12:00:00")
    """

    main: str
    started: float
    loaded: bool
    changed: dict[str, float]
    named: list[list[str]]
    pings: list[list[str]]
    type: str
    was: dict[str, str]
    now: dict[str, str]
    same: bool
    activated: str
    added: NotRequired[list[str]]
    outside: NotRequired[str]
    ended: NotRequired[str]
    said: NotRequired[list[str]]


FACT: Fact[Daemon] = Fact("slurm", "daemon")
"""The result of `look`."""

TYPE = "burst_buffer/lua"


def is_lua(type_: str) -> bool:
    """Whether a BurstBufferType is burst_buffer/lua, in any spelling that means the same to Slurm (`lua`)."""
    return slurm_conf.burst_buffers(type_) == (TYPE,)


def look(ctx: StepContext) -> ShellLook:
    """The look of the step `daemon`; `parse` says what it returns."""
    return FACT.shell(render.read("controller/daemon.sh"), parse, controller_library.with_slurmctld(ctx))


def parse(out: bytes) -> Daemon:
    """Parse the look's lines. Raises ValueError."""
    pairs = parse_pairs(out, "replace")
    single = first_values(pairs)
    changed = [text.split(" ", 1) for text in all_values(pairs, "changed")]
    return {
        "main": single.get("main", ""),
        "started": float(single.get("started") or 0),
        "loaded": single.get("loaded") == "yes",
        "changed": {path: float(at) for at, path in changed},
        "named": [text.split(" ") for text in all_values(pairs, "named")],
        "pings": [text.split(" ") for text in all_values(pairs, "ping")],
        "type": single.get("type", ""),
        "was": _texts(all_values(pairs, "was")),
        "now": _texts(all_values(pairs, "is")),
        "same": single.get("same") == "yes",
        "activated": single.get("activated", ""),
        "added": all_values(pairs, "added"),
        "outside": single.get("outside", ""),
        "ended": single.get("ended", ""),
        "said": [redact.text(line) for line in all_values(pairs, "said")],
    }


def _texts(lines: Iterable[str]) -> dict[str, str]:
    parts = (line.rsplit(" ", 1) for line in lines)
    return {path: slurm_conf.decoded(base64.b64decode(content)) for path, content in parts}


def state(ctx: StepContext) -> Daemon:
    """The result of `look` on this controller. Raises NotYetKnown before it was made."""
    return ctx.facts.on(FACT, ctx.host)


def in_charge(daemon: Daemon) -> bool:
    """Whether this slurmctld is in charge: the first that responds. The others stand by."""
    answering = [where for where, state in daemon["pings"] if state == "UP"]
    return answering[:1] == ["here"]


def position(daemon: Daemon) -> int:
    """The place of this slurmctld among those of slurm.conf: 0 for the primary, then its backups; -1 where it is unknown."""
    return next((number for number, (where, _) in enumerate(daemon["pings"]) if where == "here"), -1)


def answers(daemon: Daemon) -> bool:
    """Whether this host's own slurmctld responds, in charge or standing by."""
    return bool(daemon["main"]) and ["here", "UP"] in daemon["pings"]


def differing(daemon: Daemon) -> tuple[str, ...] | None:
    """The keys that slurm.conf and its includes set to other values than this slurmctld has read; None where that is unknown."""
    if daemon.get("same"):
        return ()
    if not daemon.get("was"):
        return None
    before, after = ((next(iter(files.values()), ""), files) for files in (daemon["was"], daemon["now"]))
    return slurm_conf.differing(before, after, next(iter(daemon["was"])).rpartition("/")[0])


def changed_since_start(site: Site, daemon: Daemon) -> list[str]:
    """The paths of slurm.conf and its includes that changed after this slurmctld started; none where their meaning is the
    same as what it has read."""
    if differing(daemon) == ():
        return []
    conf = burst_buffer_conf(site)
    return [p for p, at in daemon["changed"].items() if p != conf and daemon["main"] and at > daemon["started"]]


class Reason(NamedTuple):
    """Why a slurmctld needs a restart. `text`: a sentence.

    changed       a file that it has read was changed since
    conf-missing  there is no burst_buffer.conf
    other-type    it runs with another BurstBufferType, or with none
    not-loaded    it has not loaded burst_buffer_lua.so
    """

    code: Literal["changed", "conf-missing", "other-type", "not-loaded"]
    text: str


def restart_reasons(site: Site, daemon: Daemon) -> list[Reason]:
    """The reasons why this slurmctld needs a restart; none if it is current."""
    if not daemon["main"]:
        return []
    why = [changed_file(path) for path in changed_since_start(site, daemon)]
    if (conf := burst_buffer_conf(site)) not in daemon["changed"]:
        why.append(Reason("conf-missing", f"{conf} is missing: jobs would run without their Workflows"))
    elif daemon["changed"][conf] > daemon["started"]:
        why.append(changed_file(conf))
    return [*why, *plugin_lacks(daemon)]


def changed_file(path: str) -> Reason:
    """The reason of a file that slurmctld has read, and that was changed since."""
    return Reason("changed", f"{path} changed after slurmctld read it")


def plugin_lacks(daemon: Daemon) -> Sequence[Reason]:
    """How the slurmctld in charge lacks the plugin; none if it has the plugin or stands by."""
    if not in_charge(daemon):
        return ()
    if not daemon["type"] and daemon["pings"][0][0] == "there":
        return ()  # the controllers before it do not respond, and it has not taken over yet
    if daemon["type"] and not is_lua(daemon["type"]):
        return (Reason("other-type", f"BurstBufferType is {daemon['type']}"),)
    return () if daemon["loaded"] else (Reason("not-loaded", "burst_buffer_lua.so is not loaded"),)


def burst_buffer_conf(site: Site) -> str:
    """The path of the plugin's burst_buffer.conf."""
    return f"{site.slurm.folder}/{names.PLUGIN_CONF}"
