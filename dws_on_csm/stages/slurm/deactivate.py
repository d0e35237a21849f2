"""The Slurm side of an undeploy: take the burst buffer from each controller's slurmctld, then remove its files."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace

from dws_on_csm.config.site import Site
from dws_on_csm.domain import names, slurm_conf
from dws_on_csm.model.actions import Action, Remove
from dws_on_csm.model.lines import lines
from dws_on_csm.model.step import Check, Finding, Refused, Removal, ShellLook, Stage, Step, StepContext, Value
from dws_on_csm.stages import restart_notice
from dws_on_csm.stages.pod import discover, files, host_kubectl, templates
from dws_on_csm.stages.slurm import activate, controller, other_burst_buffer, plugin, slurmctld


def judge(ctx: StepContext, have: Value) -> Sequence[Finding]:
    """Refuse unless slurmctld reads the slurm.conf that the run edits, and the run has all controllers: one that is left out may
    share the files that are removed.
    """
    left_out = controller.limit_leaves_out_controllers(
        ctx, controller.KEEPS_FILES, "omit --limit where you pass --slurm"
    )
    return (*controller.judge_place(ctx, have), *left_out, *controller.unreached(ctx, controller.KEEPS_FILES))


# --- slurm.conf and the daemon


def _others_lua(ctx: StepContext) -> bool:
    """Whether burst_buffer.lua is another tool's: then the burst buffer in slurm.conf is that tool's, too, and stays."""
    return f"{ctx.site.slurm.folder}/{names.PLUGIN_LUA}" in other_burst_buffer.paths(ctx)


def want_conf(ctx: StepContext) -> Value:
    """slurm.conf without our setting."""
    text = activate.current_text(ctx)
    if _others_lua(ctx):
        return text
    own = slurm_conf.value(text, activate.KEY)
    if own:
        return slurm_conf.without_setting(text, activate.KEY) if slurmctld.is_lua(own.value) else text
    other = controller.setting(controller.state(ctx)["files"], ctx.site, activate.KEY)
    if other and other.file and slurmctld.is_lua(other.value):
        text = f"{activate.KEY} is set in {other.file} on {ctx.host}, a file that dws-on-csm does not edit"
        raise Refused(Finding("burst-buffer-included", text, "remove that line there and run again"))
    return text


def read_daemon(ctx: StepContext, daemon: Value) -> Value:
    """Whether slurmctld responds, and what it has not read; one that does not run reads slurm.conf when it starts."""
    unread = [slurmctld.changed_file(path).text for path in slurmctld.changed_since_start(ctx.site, daemon)]
    loaded = ["burst_buffer_lua.so is still loaded"] if daemon["loaded"] and not _others_lua(ctx) else []
    return {"answers": slurmctld.answers(daemon) or not daemon["main"], "not read": [*unread, *loaded]}


def _restart(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    return [activate.restart_action(ctx, back=None)]


SLURM = Stage(
    "slurm",
    ("preflight",),
    (
        restart_notice.CHECK,
        activate.ACTIVATION,
        replace(
            activate.CONF,
            want=want_conf,
            change=lambda ctx, have, want: activate.disable(ctx),
            removes=lambda ctx, have, want: activate.setting_removal(ctx),
        ),
        replace(
            activate.DAEMON,
            read=read_daemon,
            want=activate.want_daemon,
            change=_restart,
        ),
        host_kubectl.UNMOUNTED,
    ),
    serial=True,
    order=activate.restart_order,
)
"""Restart one controller after the other without the burst buffer."""


# --- the files


def _paths(site: Site) -> tuple[str, ...]:
    return (f"{site.slurm.folder}/{names.PLUGIN_LUA}", f"{site.slurm.folder}/{names.PLUGIN_CONF}", names.KUBECONFIG)


def _look_files(ctx: StepContext) -> ShellLook:
    paths = shlex.join(_paths(ctx.site))
    return ShellLook(f'for file in {paths}; do [ ! -e "$file" ] || echo "$file"; done', lines)


def _remove(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    if not discover.pod_of(ctx):
        return [Remove(path, secret=path == names.KUBECONFIG) for path in have["to remove"]]
    return [*files.config(ctx, dict.fromkeys(_own_keys(ctx))), *files.no_kubeconfig(ctx)]


def _own_keys(ctx: StepContext) -> list[str]:
    left = other_burst_buffer.paths(ctx)
    own = [name for name in discover.PLUGIN if f"{ctx.site.slurm.folder}/{name}" not in left]
    return [*own, discover.FILE] if discover.config_map(ctx).get("kubeconfig") else own


def _wanted_templates(ctx: StepContext) -> Mapping[str, str | None]:
    """Without the plugin's files. The line of slurm.conf went with slurmctld's restart, where the rendered file had it."""
    gone: dict[str, str | None] = dict.fromkeys(_own_keys(ctx))
    return gone if _others_lua(ctx) else gone | activate.template_of_result(ctx, on=False)


def _file_removals(ctx: StepContext, have: Value, want: Value) -> Sequence[Removal]:
    """The files of DWS's plugin."""
    kept = "saved on the master, except the kubeconfig" if discover.pod_of(ctx) else "saved there as before-images"
    return [Removal(f"{', '.join(have['to remove'])} on {ctx.host} ({kept})")]


def _read_files(ctx: StepContext, have: Value) -> Value:
    """The present files: those of another tool are left. Not those that the look of their content did not find."""
    left = [path for path in have if path in other_burst_buffer.paths(ctx)]
    return {
        "to remove": [path for path in have if path not in left],
        "left": left,
        "words": other_burst_buffer.words(ctx),
    }


def _want_files(ctx: StepContext) -> Value:
    return {"to remove": [], "left": [*other_burst_buffer.paths(ctx)], "words": other_burst_buffer.words(ctx)}


FILES = Stage(
    "plugin",
    ("slurm",),
    (
        Check("lua", "controller", lambda ctx: plugin.look_file(ctx, names.PLUGIN_LUA), lambda ctx, have: ()),
        Check("conf", "controller", lambda ctx: plugin.look_file(ctx, names.PLUGIN_CONF), lambda ctx, have: ()),
        templates.step(templates.PLUGIN, _wanted_templates, files.config),
        Step(
            "files",
            "controller",
            _look_files,
            _want_files,
            _remove,
            read=_read_files,
            settle_seconds=discover.settle_seconds(0.0),
            removes=_file_removals,
            status_text=lambda have: have["words"],
        ),
    ),
)
"""The plugin and its kubeconfig, when no controller uses them any more."""
