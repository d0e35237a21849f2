"""The check `start`: what keeps slurmctld from starting, whatever burst buffer slurm.conf has.

A slurmctld that runs may work with an older text of slurm.conf, or may have come up before munge or its disk failed: it would not
survive a restart. So each of these is a finding before any restart, with its own cause.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Literal, TypedDict

from dws_on_csm.model import render
from dws_on_csm.model.lines import all_values, first_values, parse_pairs
from dws_on_csm.model.printable import first_few
from dws_on_csm.model.step import (
    Check,
    Fact,
    Finding,
    NotYetKnown,
    Refused,
    ShellLook,
    Stage,
    Step,
    StepContext,
    Value,
)
from dws_on_csm.stages import controller_library
from dws_on_csm.stages.facts import CONTROLLER
from dws_on_csm.stages.pod import discover
from dws_on_csm.stages.slurm import controller, slurmctld


class Start(TypedDict):
    """What a start of slurmctld depends on.

    unparsed       Slurm's own words where its programs cannot read slurm.conf; empty where they can
    closed_conf    what is closed to SlurmUser on the way to a file of slurm.conf: a folder that he may not enter, or a file that he
                   may not read; None where there is none
    auth           AuthType; `proof`: why SlurmUser cannot prove who he is by it, "" where he can
    state          StateSaveLocation, "" where it isn't set
    state_problem  why SlurmUser cannot write it: missing, closed, read-only, silent, or inside; "" where he can
    cluster        ClusterName as slurmctld takes it
    recorded       what its file `clustername` has instead: "has the name old"; "" where they fit, or that cannot be read
    holder         "PORT PROCESS NAME" of another process that has slurmctld's port, or ""
    user           SlurmUser's name
    """

    unparsed: list[str]
    closed_conf: tuple[Literal["enter", "read"], str] | None
    auth: str
    proof: str
    state: str
    state_problem: str
    cluster: str
    recorded: str
    holder: str
    user: str


START: Fact[Start] = Fact("preflight", "start")


def look(ctx: StepContext) -> ShellLook:
    """The look of the check; `parse` says what it returns."""
    return START.shell(render.script("lib/slurm_start.sh", "controller/start.sh"), parse, controller_library.text(ctx))


def parse(out: bytes) -> Start:
    """Parse the look's lines. Raises ValueError."""
    pairs = parse_pairs(out, "replace")
    single = first_values(pairs)
    return {
        "unparsed": all_values(pairs, "unparsed"),
        "closed_conf": _closed_conf(single.get("not_open", "")),
        "auth": single.get("auth", ""),
        "proof": single.get("proof", ""),
        "state": single.get("state", ""),
        "state_problem": single.get("state_problem", ""),
        "cluster": single.get("cluster", ""),
        "recorded": single.get("recorded", ""),
        "holder": single.get("holder", ""),
        "user": single.get("as", ""),
    }


def _closed_conf(words: str) -> tuple[Literal["enter", "read"], str] | None:
    """What not_open in templates/lib/slurmctld.sh prints: "enter FOLDER" or "read FILE"."""
    verb, _, path = words.partition(" ")
    return ("enter" if verb == "enter" else "read", path) if path else None


def judge(ctx: StepContext, have: Start) -> Sequence[Finding]:
    """The findings: each a reason why slurmctld would not start on this host."""
    findings = [
        *_masked(ctx),
        *_unparsable(ctx, have),
        *_proof(ctx, have),
        *_state_folder(ctx, have),
        *_cluster(ctx, have),
        *_port(ctx, have),
    ]
    return findings if have["unparsed"] else [*findings, *_plugins(ctx)]


def _if_restarted(ctx: StepContext, first: str = "s") -> str:
    """What follows, as a sentence: a running slurmctld continues until somebody restarts it. `first`: its first letter."""
    daemon = ctx.facts.known(slurmctld.FACT).get(ctx.host)
    if daemon and daemon["main"]:
        return f"{first}lurmctld still runs, but would not start again"
    return f"{first}lurmctld cannot start"


def _masked(ctx: StepContext) -> Iterator[Finding]:
    """A unit that somebody has masked: systemd refuses each start of it."""
    if ctx.host not in ctx.facts.known(CONTROLLER) or controller.state(ctx)["LoadState"] != "masked":
        return
    unit = shlex.quote(ctx.site.slurm.service)
    text = f"the unit {unit} on {ctx.host} is masked: systemd refuses to start it, and {_if_restarted(ctx)}"
    fix = f"find out who masked it, and why; if slurmctld may run there again, run `systemctl unmask {unit}` on {ctx.host}"
    yield Finding("slurm-unit-masked", text, fix)


# --- slurm.conf


def check_command(ctx: StepContext) -> str:
    """The command that reads slurm.conf as slurmctld does, and asks no slurmctld."""
    return f"SLURM_CONF={shlex.quote(ctx.site.slurm.conf)} scontrol show aliases localhost"


def _unparsable(ctx: StepContext, have: Start) -> Iterator[Finding]:
    if not have["unparsed"]:
        return
    conf, host = ctx.site.slurm.conf, ctx.host
    if have["closed_conf"]:
        verb, path = have["closed_conf"]
        text = f"SlurmUser {have['user']} may not {verb} {path} on {host}, so Slurm's programs cannot read {conf}; "
        text += _if_restarted(ctx)
        rights = "a+rx" if verb == "enter" else "a+r"
        fix = f"run `chmod {rights} {shlex.quote(path)}` on {host}, or give it to SlurmUser: `chown {shlex.quote(have['user'])}"
        yield Finding("slurm-files-closed", text, f"{fix} {shlex.quote(path)}`")
        return
    text = f"Slurm cannot read {conf} on {host}: {'; '.join(have['unparsed'])}"
    places = list(_places(ctx, have["unparsed"]))
    if places:
        text += f" ({first_few(places)})"
    text += f"; {_if_restarted(ctx)}"
    if changed := _changed_keys(ctx):
        text += f". Since it started, these keys were changed: {changed}"
    where = f"the ConfigMap that has slurm.conf of {host}" if discover.pod_of(ctx) else f"{conf} on {host}"
    fix = f"correct {where}; then run `{check_command(ctx)}` there: it prints no error once Slurm can read the file. "
    fix += "Do not restart slurmctld before"
    yield Finding("slurm-conf-unparsable", text, fix)


_KEY = re.compile(r"unrecognized key: ([A-Za-z0-9_.]+)")


def _places(ctx: StepContext, words: Sequence[str]) -> Iterator[str]:
    """Where the keys are that Slurm does not know, which it names without a line: FILE line 12: "SchedulerTyp=x"."""
    if ctx.host not in ctx.facts.known(CONTROLLER):
        return
    files = controller.state(ctx)["files"]
    for key in dict.fromkeys(match for line in words for match in _KEY.findall(line)):
        named = re.compile(rf"(?:^|\s){re.escape(key)}\s*[-*+/]?=", re.IGNORECASE)
        for path, text in files.items():
            for number, line in enumerate(text.split("\n"), 1):
                if named.search(line.partition("#")[0]):
                    yield f'{path} line {number}: "{line.strip()[:120]}"'


def _changed_keys(ctx: StepContext) -> str:
    daemon = ctx.facts.known(slurmctld.FACT).get(ctx.host)
    keys = slurmctld.differing(daemon) if daemon and daemon["main"] else None
    return ", ".join(keys[:5]) if keys else ""


# --- who SlurmUser is to the others


def _proof(ctx: StepContext, have: Start) -> Iterator[Finding]:
    if not have["proof"]:
        return
    host = ctx.host
    if have["auth"].endswith("munge"):
        text = (
            f"munge does not work on {host}: {have['proof']}. Slurm's programs cannot talk to each other without it, "
        )
        text += f"and {_if_restarted(ctx)}"
        fix = f"run `systemctl restart munge` on {host}; then `munge -n | unmunge` there must end without an error"
        if discover.pod_of(ctx):
            fix = "start munged in that container; then `munge -n | unmunge` there must end without an error"
        yield Finding("munge-down", text, fix)
        return
    folder, user = ctx.site.slurm.folder, shlex.quote(have["user"])
    text = f"{have['proof']} on {host}, which AuthType={have['auth']} needs; {_if_restarted(ctx)}"
    fix = f"copy the cluster's slurm.key into {folder} on {host}; then run `chown {user} {folder}/slurm.key` "
    fix += f"and `chmod 600 {folder}/slurm.key`"
    yield Finding("slurm-key-unreadable", text, fix)


# --- its state and its port


def _state_folder(ctx: StepContext, have: Start) -> Iterator[Finding]:
    if not have["state_problem"]:
        return
    path, user = shlex.quote(have["state"]), shlex.quote(have["user"])
    known = {
        "missing": ("does not exist", f"run `mkdir -p -m 755 {path} && chown {user} {path}` on {ctx.host}"),
        "closed": (
            f"cannot be written by {user}",
            f"run `chown -R {user} {path} && chmod u+rwx {path}` on {ctx.host}; {user} must be able to enter each folder above it",
        ),
        "inside": (
            f"has files or folders of slurmctld's that {user} cannot write, so sbatch already fails for many jobs",
            f"run `chown -R {user} {path} && chmod -R u+rwX {path}` on {ctx.host}",
        ),
        "read-only": (
            "is on a file system that is mounted read-only",
            f"run `findmnt -T {path}` on {ctx.host}, which shows it; repair and mount it again",
        ),
        "silent": (
            "does not respond within 10 s",
            f"check its file server: `timeout 10 ls {path}` on {ctx.host} must respond",
        ),
    }
    what, fix = known.get(have["state_problem"], known["closed"])
    text = f"StateSaveLocation {have['state']} on {ctx.host} {what}; slurmctld keeps its jobs there. {_if_restarted(ctx, 'S')}"
    yield Finding("state-folder-unusable", text, f"{fix}. If the jobs are on another disk, mount it first")


def _cluster(ctx: StepContext, have: Start) -> Iterator[Finding]:
    """The state of another cluster: slurmctld would mix both clusters' jobs, and ends instead."""
    if not have["recorded"]:
        return
    file, cluster = f"{have['state']}/clustername", have["cluster"]
    text = f"{file} on {ctx.host} {have['recorded']}, but slurm.conf there sets ClusterName={cluster}: slurmctld ends with "
    text += f"CLUSTER NAME MISMATCH when it takes charge. {_if_restarted(ctx, 'S')}"
    fix = f"check ClusterName and StateSaveLocation in slurm.conf on {ctx.host}, and correct what is wrong there. If both are "
    fix += f"right, and no other cluster has its state there, run `rm {shlex.quote(file)}` on {ctx.host}: slurmctld writes it "
    fix += "again at its start"
    yield Finding("cluster-name-mismatch", text, fix)


def _port(ctx: StepContext, have: Start) -> Iterator[Finding]:
    if not have["holder"]:
        return
    port, pid, name = [shlex.quote(word) for word in [*have["holder"].split(" ", 2), "", ""][:3]]
    text = f"port {port} of slurmctld on {ctx.host} is used by {name} (process {pid}); {_if_restarted(ctx)}"
    fix = f"run `ps -fp {pid}` on {ctx.host} to see what it is, and end it with `kill {pid}`; "
    yield Finding("slurmctld-port-used", text, f"{fix}or set another SlurmctldPort in slurm.conf on all hosts")


# --- plugins

KINDS = (
    ("AuthType", "auth"),
    ("SchedulerType", "sched"),
    ("SelectType", "select"),
    ("PriorityType", "priority"),
    ("PreemptType", "preempt"),
    ("JobCompType", "jobcomp"),
    ("JobSubmitPlugins", "job_submit"),
    ("AccountingStorageType", "accounting_storage"),
)
"""Keys of slurm.conf whose plugin slurmctld loads at its start, and ends without it; and how its file's name begins."""


def _plugins(ctx: StepContext) -> Iterator[Finding]:
    """The plugins that slurm.conf names and Slurm's folder lacks, where it has others of their kind."""
    if ctx.host not in ctx.facts.known(CONTROLLER):
        return
    state = controller.state(ctx)
    plugins, several = state.get("plugins"), controller.setting(state["files"], ctx.site, "PluginDir")
    if not plugins or (several and ":" in several.value):
        return
    folder = PurePosixPath(state["library"]).parent
    for key, kind in KINDS:
        setting = controller.setting(state["files"], ctx.site, key)
        for name in setting.value.lower().split(",") if setting else ():
            word = name.strip().removeprefix(f"{kind}/")
            known = [plugin for plugin in plugins if plugin.startswith(f"{kind}_")]
            if word in ("", "none", "(null)") or not known or f"{kind}_{word}" in known:
                continue
            text = f"slurm.conf on {ctx.host} sets {key}={name.strip()}, but {folder} has no {kind}_{word}.so; {_if_restarted(ctx)}"
            fix = f"correct {key} in slurm.conf (available: {', '.join(known)}), or install the package with {kind}_{word}.so"
            yield Finding("slurm-plugin-missing", text, fix)


CHECK = Check(START.step, "controller", look, judge)
"""For an install: judged on every controller."""


def before(stage: Stage) -> Check:
    """The same, judged only where a step of `stage` that changes slurm.conf or restarts slurmctld has something to do."""
    steps = [step for step in stage.steps if isinstance(step, Step) and step.restarts]

    def due(ctx: StepContext) -> bool:
        return any(_has_work(ctx, step, Fact[Value](stage.name, step.name)) for step in steps)

    return replace(CHECK, judge=lambda ctx, have: judge(ctx, have) if due(ctx) else ())


def _has_work(ctx: StepContext, step: Step, fact: Fact[Value]) -> bool:
    """Whether a step is not as wanted; True where that is unknown yet, False where the step refuses."""
    seen = ctx.facts.known(fact)
    try:
        return ctx.host in seen and bool(step.have(ctx, seen[ctx.host]) != step.want(ctx))
    except NotYetKnown:
        return True
    except Refused:
        return False
