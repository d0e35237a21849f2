"""The steps that set BurstBufferType in slurm.conf, and restart slurmctld so that it reads it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypedDict

from dws_on_csm.domain import managed_file, slurm_conf
from dws_on_csm.model import render
from dws_on_csm.model.actions import Action, RunScript
from dws_on_csm.model.step import (
    ApiLook,
    Check,
    Constant,
    Fact,
    Facts,
    Finding,
    Look,
    NotYetKnown,
    Refused,
    Restart,
    ShellLook,
    Step,
    StepContext,
    Value,
)
from dws_on_csm.stages import restart_notice
from dws_on_csm.stages.dws import workflows
from dws_on_csm.stages.pod import discover, generated, rollout, templates
from dws_on_csm.stages.slurm import other_burst_buffer, slurmctld, transaction

KEY = slurm_conf.BURST_BUFFER
COMMENT = "set by dws-on-csm: jobs with #DW lines get a Workflow from DataWorkflowServices"


# --- slurm.conf


class SlurmConf(TypedDict):
    """slurm.conf on a controller: which file it is, and its content, non-UTF-8 bytes included."""

    id: str
    text: str


SLURM_CONF: Fact[SlurmConf | None] = Fact("slurm", "conf")
"""None where there is no file."""


def look_conf(ctx: StepContext) -> ShellLook:
    """The look for slurm.conf's text; `parse_conf` says what it returns."""
    return SLURM_CONF.shell(
        render.script("lib/safe_file.sh", "controller/conf_look.sh", file=ctx.site.slurm.conf), parse_conf
    )


def parse_conf(out: bytes) -> SlurmConf | None:
    """Parse the look's output. Raises ValueError."""
    if not out.strip():
        return None
    which, _, content = out.decode().partition("\n")
    return {"id": which, "text": slurm_conf.decoded(base64.b64decode(content))}


def conf_missing(ctx: StepContext) -> Finding:
    """The finding of a controller without slurm.conf."""
    text = f"{ctx.site.slurm.conf} on {ctx.host} can't be read"
    return Finding("slurm-conf-missing", text, "correct slurm.folder in the site file")


def current_text(ctx: StepContext) -> str:
    """slurm.conf's text as last read on this controller. Raises NotYetKnown if it wasn't read."""
    conf = ctx.facts.on(SLURM_CONF, ctx.host)
    if conf is None:
        raise NotYetKnown(SLURM_CONF.stage)
    return conf["text"]


def enabled(ctx: StepContext) -> bool:
    """Whether slurm.conf or its includes set the burst buffer. Raises NotYetKnown if slurm.conf wasn't read."""
    setting = _setting(ctx, current_text(ctx))
    return setting is not None and slurmctld.is_lua(setting.value)


def _setting(ctx: StepContext, text: str) -> slurm_conf.Setting | None:
    """BurstBufferType in a text of slurm.conf and in this controller's included files."""
    return slurm_conf.value(text, KEY, transaction.included_files(ctx), ctx.site.slurm.folder)


def _want_conf(ctx: StepContext) -> Value:
    return wanted_text(ctx, current_text(ctx))


def wanted_text(ctx: StepContext, text: str) -> str:
    """`text` with the burst buffer enabled; unchanged where it or its includes enable it already."""
    setting = _setting(ctx, text)
    if setting and slurmctld.is_lua(setting.value):
        return text
    for finding in other_burst_buffer.other_type(ctx, setting):
        raise Refused(finding)
    return slurm_conf.with_setting(text, KEY, slurmctld.TYPE, COMMENT)


def checksum_with_setting(text: str) -> str:
    """The checksum of `text` with our line. If an activation recorded it, only that line was removed since."""
    return transaction.checksum(transaction.content(slurm_conf.with_setting(text, KEY, slurmctld.TYPE, COMMENT)))


def _change_conf(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    if have is None:
        raise Refused(conf_missing(ctx))
    return [_transaction(ctx, _title(ctx, f"set {KEY} in {_source(ctx)}"), have, following=want, back=have)]


def _transaction(ctx: StepContext, title: str, seen: str, *, following: str | None, back: str | None) -> Action:
    return transaction.action(
        ctx,
        title,
        seen,
        following=following,
        back=back,
        template=lambda before, after: _edit_template(ctx, before, after),
    )


def _source(ctx: StepContext) -> str:
    """The file that is edited, for people."""
    known = templates.source(ctx)
    return (
        f"{ctx.site.slurm.conf} (ConfigMap {known['templates']}, Job {known['job']})" if known else ctx.site.slurm.conf
    )


def _edit_template(ctx: StepContext, before: str, after: str) -> Mapping[str, Any]:
    """The edit of slurm.conf's template with which the Job renders the burst buffer as `after` has it, in place of `before`."""
    known = templates.source(ctx)
    assert known is not None
    text = templates.slurm_conf(ctx, known)
    values = [setting.value if (setting := slurm_conf.value(conf, KEY)) else None for conf in (before, after)]
    keys = {templates.SLURM_CONF: (text, template_text(ctx, text, after))}
    return generated.edit(known, keys, {templates.SLURM_CONF: (KEY, values[0], values[1])}, ctx.site.deadlines.deploy)


def template_text(ctx: StepContext, template: str, model: str) -> str:
    """slurm.conf's template with the burst buffer set where `model`, a rendered slurm.conf, sets it itself, else without."""
    setting = slurm_conf.value(model, KEY)
    if setting and slurmctld.is_lua(setting.value):
        return wanted_text(ctx, template)
    return slurm_conf.without_setting(template, KEY)


def template_of_result(ctx: StepContext, *, on: bool) -> dict[str, str]:
    """The template of slurm.conf that this run writes, as {"slurm.conf": TEXT}; {} where no template is known.

    If the rendered slurm.conf is already as wanted (`on`: with the burst buffer), the template is made to agree. Otherwise it
    stays, because it changes together with slurmctld's restart.
    """
    known, seen = templates.source(ctx), ctx.facts.on(templates.PLUGIN, ctx.host)
    if known is None or seen is None:
        return {}
    text, rendered = seen["templates"].get(templates.SLURM_CONF, ""), seen["result"].get(templates.SLURM_CONF, "")
    setting = slurm_conf.value(rendered, KEY)
    fits = bool(setting and slurmctld.is_lua(setting.value)) if on else setting is None
    return {templates.SLURM_CONF: template_text(ctx, text, rendered) if fits else text}


def _title(ctx: StepContext, change: str) -> str:
    unit = ctx.site.slurm.service
    then = f"roll out {rollout.workload(ctx)}" if discover.pod_of(ctx) else f"restart {unit}"
    return f"{change}, {then}; undo unless slurmctld responds within {ctx.site.deadlines.slurmctld:.0f} s"


def restore(ctx: StepContext, before: Value) -> Sequence[Action]:
    """Restore slurm.conf's text `before` and restart slurmctld, as a rollback does."""
    now = current_text(ctx)
    return (
        [] if now == before else [_transaction(ctx, _title(ctx, "restore slurm.conf"), now, following=before, back=now)]
    )


def setting_removal(ctx: StepContext) -> str:
    """The removal of BurstBufferType from slurm.conf, with its effect, for the confirmation."""
    return f"{KEY} in slurm.conf of {ctx.host}: Slurm will then run jobs with #DW without their storage"


def disable(ctx: StepContext) -> Sequence[Action]:
    """Remove BurstBufferType from slurm.conf and restart slurmctld, as an undeploy does."""
    now = current_text(ctx)
    without = slurm_conf.without_setting(now, KEY)
    if now == without:
        return []
    return [_transaction(ctx, _title(ctx, f"remove {KEY} from {_source(ctx)}"), now, following=without, back=now)]


# --- the daemon


def _read_daemon(ctx: StepContext, daemon: slurmctld.Daemon) -> Value:
    reasons = slurmctld.restart_reasons(ctx.site, daemon)
    return {"answers": slurmctld.answers(daemon), "not read": [reason.text for reason in reasons]}


def want_daemon(ctx: StepContext) -> Value:
    """A slurmctld that responds, and has read what its files say."""
    return {"answers": True, "not read": []}


def _change_daemon(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    """Restart slurmctld. If it does not come up, remove the burst buffer and start it once more, except where another
    controller uses this slurm.conf, or a stopped slurmctld is known to start with it.
    """
    now = current_text(ctx)
    without = slurm_conf.without_setting(now, KEY)
    kept = without == now or _runs_elsewhere(ctx, "id") or (_stopped(ctx) and _known_to_start(ctx, now))
    again = restart_action(ctx, back=None if kept else without)
    if _stopped(ctx) and isinstance(again, RunScript):
        again = replace(again, note=f"slurmctld did not run on {ctx.host}; this run started it")
    return [again]


def restart_action(ctx: StepContext, back: str | None) -> Action:
    """Restart slurmctld; where it does not come up, write `back` to slurm.conf and start it once more."""
    return _transaction(ctx, f"restart {ctx.site.slurm.service}", current_text(ctx), following=None, back=back)


def _stopped(ctx: StepContext) -> bool:
    return not slurmctld.state(ctx)["main"]


def _known_to_start(ctx: StepContext, text: str) -> bool:
    """Whether some slurmctld is known to start with this text: this one once did, or another one runs with it."""
    return slurmctld.state(ctx)["activated"] == transaction.checksum(transaction.content(text)) or _runs_elsewhere(
        ctx, "text"
    )


def _runs_elsewhere(ctx: StepContext, key: Literal["id", "text"]) -> bool:
    """Whether another controller runs with the present text of the same file ("id") or of an equal file ("text")."""
    files, daemons = ctx.facts.all(SLURM_CONF), ctx.facts.all(slurmctld.FACT)
    own = files[ctx.host]
    if templates.source(ctx):
        key = "text"  # the files of two pods, from one template
    same = [host for host, file in files.items() if own and file and file[key] == own[key]]
    good = [host for host in same if host in daemons and slurmctld.answers(daemons[host])]
    return any(host != ctx.host and not slurmctld.restart_reasons(ctx.site, daemons[host]) for host in good)


def _restart_aborts_plugin(ctx: StepContext) -> bool:
    """Whether this run restarts a slurmctld that has the burst buffer: that kills the plugin's running functions."""
    daemon = slurmctld.state(ctx)
    return bool(daemon["loaded"]) and (not enabled(ctx) or bool(slurmctld.restart_reasons(ctx.site, daemon)))


AWAITED_STATES = ("Setup", "DataIn", "PreRun", "PostRun", "DataOut")
"""States of a Workflow that Slurm's plugin waits for. If a restart kills it, the job loses its data or is held."""


def _judge_hooks(ctx: StepContext, existing: Value) -> Sequence[Finding]:
    if not _restart_aborts_plugin(ctx):
        return ()
    if existing is None:
        raise NotYetKnown("slurm")
    busy = [
        workflow
        for workflow in existing
        if workflow["desired"] in AWAITED_STATES and not workflow["ready"] and not workflow["deleting"]
    ]
    fix = "run again when `invoke workflows` shows all of them ready; users can submit jobs meanwhile"
    return [Finding("workflow-at-work", _describe_moving_workflow(ctx.host, workflow), fix) for workflow in busy]


def _describe_moving_workflow(host: str, workflow: workflows.Workflow) -> str:
    whose = f" of job {workflow['job']}" if workflow["job"] else ""
    move = f"Workflow {workflows.label(workflow)}{whose} is moving to {workflow['desired']}"
    return f"{move}: restarting slurmctld on {host} would abort that, and the job would lose its data"


def _look_hooks(ctx: StepContext) -> Look:
    return ApiLook(workflows.read) if _restart_aborts_plugin(ctx) else Constant(None)


HOOKS = Check("hooks", "controller", _look_hooks, _judge_hooks, window=True)
"""Refuse a restart of slurmctld while its plugin waits for a Workflow."""


def daemon_status(have: Value) -> str:
    """Why slurmctld needs a restart, or that it does not respond."""
    return "; ".join(have["not read"]) if have["answers"] else "slurmctld does not respond to `scontrol ping`"


def _restart_side_effect(ctx: StepContext, have: Value, want: Value) -> str:
    if _stopped(ctx):  # somebody may have stopped it on purpose
        return f"slurmctld does not run on {ctx.host} and will be started"
    if discover.pod_of(ctx):
        return f"{rollout.side_effect(ctx)}; {restart_notice.jobs_text(ctx)}"
    return f"restarts {ctx.site.slurm.service}; {restart_notice.jobs_text(ctx)}"


def _conf_side_effect(ctx: StepContext, have: Value, want: Value) -> str:
    known = templates.source(ctx)
    source = f"edits the template in ConfigMap {known['templates']}; Job {known['job']} renders it; " if known else ""
    managed = managed_file.comment(have or "")
    if managed and not discover.pod_of(ctx):
        source = f"a comment there says '{managed}': add {KEY} to the source of that file, too, or it will be removed; "
    return source + _restart_side_effect(ctx, have, want)


def restart(ctx: StepContext, after: str = "") -> Restart | None:
    """The restart of a slurmctld that runs; None where none does: it is only started."""
    if not slurmctld.state(ctx)["main"]:
        return None
    return restart_notice.of_slurmctld(
        ctx, after=after, rollout=rollout.workload_text(ctx) if discover.pod_of(ctx) else ""
    )


def _conf_restart(ctx: StepContext, have: Value, want: Value) -> Restart | None:
    return None if have == want else restart(ctx)


def _daemon_restart(ctx: StepContext, have: Value, want: Value) -> Restart | None:
    """It restarts where it is not current, and after another burst_buffer.conf: slurmctld reads that at its start only."""
    return restart(ctx, after=AFTER if have == want else "")


def restart_order(facts: Facts, hosts: tuple[str, ...]) -> tuple[str, ...]:
    """The controllers in the order of their restarts. Where a Job generates their files, the backups are first, as CSM's documents
    say: when the primary restarts, a backup with the new files can take over."""
    pods = facts.known(discover.FACT)
    config_maps = [pods[host].get("config_map") if host in pods else None for host in hosts]
    if not all(config_map and discover.generator(config_map) for config_map in config_maps):
        return hosts
    daemons = facts.known(slurmctld.FACT)
    return tuple(sorted(hosts, key=lambda host: -slurmctld.position(daemons[host]) if host in daemons else 0))


AFTER = "plugin.conf"
"""The step of an install that writes burst_buffer.conf."""


ACTIVATION = Step(
    "activation",
    "controller",
    transaction.look,
    lambda ctx: "none",
    transaction.settle,
    side_effect=lambda ctx, have, want: transaction.settle_side_effect(have),
    restarts=lambda ctx, have, want: restart(ctx) if transaction.settle(ctx, have, want) else None,
    window=lambda ctx, have, want: True,
    settle_seconds=transaction.longest,
    status_text=lambda have: "" if have == "none" else f"activation by an earlier run: {have}",
    hint="run `systemctl status dws-on-csm-activation` on that controller",
)
"""No activation of an earlier run is running or interrupted."""

CONF = Step(
    SLURM_CONF.step,
    "controller",
    look_conf,
    _want_conf,
    _change_conf,
    read=lambda ctx, conf: conf["text"] if conf else None,
    settle_seconds=discover.settle_seconds(0.0),
    side_effect=_conf_side_effect,
    restarts=_conf_restart,
    window=lambda ctx, have, want: True,
    hint="the output above shows slurmctld's errors and what was restored; correct the cause and run again",
)
"""slurm.conf has the burst buffer."""

DAEMON = Step(
    slurmctld.FACT.step,
    "controller",
    slurmctld.look,
    want_daemon,
    _change_daemon,
    read=_read_daemon,
    settle_seconds=lambda site: 10.0,
    status_text=daemon_status,
    side_effect=_restart_side_effect,
    restarts=_daemon_restart,
    window=lambda ctx, have, want: True,
    hint="read `journalctl -u slurmctld` and slurmctld's log on that controller",
)
"""slurmctld responds, and has read its files."""
