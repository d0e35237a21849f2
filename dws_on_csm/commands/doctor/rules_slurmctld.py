"""The findings about a slurmctld that does not respond, or works with old files: why, and whether a restart fixes it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from dws_on_csm.commands.doctor.diagnosis import drop_in, repair_fix, shows_unit
from dws_on_csm.model.step import Finding, StepContext, Value
from dws_on_csm.stages.pod import discover
from dws_on_csm.stages.slurm import activate, slurmctld, start


def daemon(ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
    """The findings of the step `slurm.daemon`."""
    if not have["answers"]:
        yield _silent(ctx)
    if reasons := _reasons_without_own_finding(ctx):
        text = f"slurmctld on {ctx.host} started before its files were changed, and works with the old ones: "
        text += "; ".join(reason.text for reason in reasons)
        yield Finding("slurmctld-stale", text, _after(ctx, repair_fix(ctx, "slurm")))


def _silent(ctx: StepContext) -> Finding:
    """Why slurmctld does not respond. Only of a stopped one, and of one that hangs, a restart is the fix."""
    host, running = ctx.host, slurmctld.state(ctx)["main"]
    fix = repair_fix(ctx, "slurm")
    if outside := slurmctld.state(ctx).get("outside"):
        unit = shlex.quote(ctx.site.slurm.service)
        text = f"slurmctld runs on {host} as process {outside}, outside its unit {unit}: somebody has started it by hand. systemd "
        text += "cannot start another one beside it, and nothing starts this one again after a reboot"
        end = f"kill {outside}; timeout 60 tail --pid={outside} -f /dev/null; systemctl start {unit}"
        return Finding("slurmctld-not-running", text, f"run `{end}` on {host}; then {fix}")
    if not running:
        ended = slurmctld.state(ctx).get("ended", "")
        text = f"slurmctld does not run on {host}{f' (systemd says {ended})' if ended else ''}{_others(ctx)}"
        text += _last_words(ctx)
        why = f"run {_journal(ctx)} to see why it ended; "
        if limits := [word.partition("=")[0] for word in ended.split() if not word.startswith("Result=")]:
            settings = drop_in(ctx, "zz-no-limit", *(f"{limit}=infinity" for limit in limits))
            why += f"its unit limits its memory ({', '.join(limits)}): if it had too little, remove that limit "
            why += f"({shows_unit(ctx)}), or override it: {settings}; "
        why += "then "
        return Finding("slurmctld-not-running", text, _after(ctx, why + fix))
    obstacles = set(_obstacles(ctx))
    conf_unreadable = bool({"slurm-conf-unparsable", "slurm-files-closed"} & obstacles)
    if conf_unreadable or {"munge-down", "slurm-key-unreadable"} & obstacles:
        cannot = "`scontrol` cannot read slurm.conf" if conf_unreadable else "`scontrol` cannot prove who it is"
        text = f"slurmctld runs on {host} (process {running}), but it is unknown whether it responds: {cannot}"
        return Finding("slurmctld-not-answering", text, _after(ctx, "run `invoke doctor` again"))
    text = f"slurmctld runs on {host} (process {running}), but does not respond to `scontrol ping`: it is busy, or it hangs"
    check = f"wait a minute and run `invoke doctor` again; {_journal(ctx)} and slurmctld's log show what it does. "
    return Finding(
        "slurmctld-not-answering",
        text + _others(ctx) + _last_words(ctx),
        f"{check}If the log has no new lines, it hangs: {fix}",
    )


def _journal(ctx: StepContext) -> str:
    """The command that shows slurmctld's last words, and where to run it."""
    if pod := discover.pod_of(ctx):
        return f"`kubectl -n {pod.namespace} logs -l {pod.selector} -c {pod.container} --tail 50` on the master"
    return f"`journalctl -n 50 -u {shlex.quote(ctx.site.slurm.service)}` on {ctx.host}"


def _last_words(ctx: StepContext) -> str:
    """What slurmctld itself, or systemd of it, said last, for the end of a text."""
    said = slurmctld.state(ctx).get("said", [])
    return f". Its last errors: {' / '.join(said)}" if said else ""


def _obstacles(ctx: StepContext) -> list[str]:
    """The findings on this host without whose fix slurmctld does not start."""
    known = ctx.facts.known(start.START)
    return [finding.name for finding in start.judge(ctx, known[ctx.host])] if ctx.host in known else []


def _after(ctx: StepContext, fix: str) -> str:
    """`fix`, after the fixes of what keeps slurmctld from starting."""
    obstacles = _obstacles(ctx)
    if not obstacles:
        return fix
    return f"first fix {', '.join(obstacles)} on {ctx.host}: before that, slurmctld would not start again. Then {fix}"


def _others(ctx: StepContext) -> str:
    """Which other controller responds, for the end of a sentence: it takes over, and stands by when this one is back."""
    daemons = ctx.facts.known(slurmctld.FACT)
    responding = [host for host, state in daemons.items() if host != ctx.host and slurmctld.answers(state)]
    return f"; slurmctld on {', '.join(responding)} responds, and takes over" if responding else ""


def _reasons_without_own_finding(ctx: StepContext) -> list[slurmctld.Reason]:
    """Why slurmctld needs a restart; without what has an own finding: no burst_buffer.conf; no BurstBufferType in slurm.conf."""
    reasons = slurmctld.restart_reasons(ctx.site, slurmctld.state(ctx))
    own = {"conf-missing"}
    off = {"other-type", "not-loaded"}
    if any(reason.code in off for reason in reasons) and not activate.enabled(ctx):
        own |= off
    return [reason for reason in reasons if reason.code not in own]
