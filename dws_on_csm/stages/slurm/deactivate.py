"""The Slurm side of an undeploy: no controller's slurmctld uses the burst buffer any more, and then its files go."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace

from dws_on_csm.config.site import Site
from dws_on_csm.domain import names, slurm_conf
from dws_on_csm.model.actions import Action, Remove
from dws_on_csm.model.lines import lines
from dws_on_csm.model.step import Finding, Refused, ShellLook, Stage, Step, StepContext, Value
from dws_on_csm.stages.pod import discover, files
from dws_on_csm.stages.slurm import activate, controller, plugin, slurmctld, transaction

_SLURM = {step.name: step for step in activate.STAGE.steps if isinstance(step, Step)}


def judge(place: StepContext, found: Value) -> Sequence[Finding]:
    """A slurmctld must not lose files that it, or another one that shares them, still uses: all controllers, or none."""
    left_out = [host.name for host in place.site.controllers if not place.site.active(host)]
    if not left_out:
        return ()
    text = f"{', '.join(left_out)} would go on with a burst buffer whose files may be the very ones that are taken away"
    return (Finding("controllers-left-out", text, "give no --limit with --slurm"),)


# --- slurm.conf and the daemon


def _want_conf(place: StepContext) -> Value:
    text = activate.seen(place)
    own = slurm_conf.value(text, activate.KEY)
    if own:
        return slurm_conf.without_setting(text, activate.KEY) if own.value.lower() == slurmctld.TYPE else text
    other = controller.setting(controller.found(place), place.site, activate.KEY)
    if other and other.file and other.value.lower() == slurmctld.TYPE:
        found = f"{activate.KEY} stands in {other.file} on {place.host}, which this tool does not write"
        raise Refused(Finding("burst-buffer-included", found, "take that line out there, and run again"))
    return text


def _read_daemon(place: StepContext, found: Value) -> Value:
    """Whether it answers, and what of slurm.conf it has not read; a slurmctld that is not there reads it when it starts."""
    unread = [f"{path} was changed after it was read" for path in slurmctld.unread(place.site, found)]
    loaded = ["burst_buffer_lua.so is still loaded"] if found["loaded"] else []
    return {"answers": slurmctld.answers(found) or not found["main"], "not read": [*unread, *loaded]}


def _restart(place: StepContext, have: Value, want: Value) -> Sequence[Action]:
    title = f"start {place.site.slurm.service} again"
    return [transaction.transaction(place, title, activate.seen(place), None, back=None)]


SLURM = Stage(
    "slurm",
    ("preflight",),
    (
        _SLURM["activation"],
        replace(
            _SLURM["conf"],
            want=_want_conf,
            change=lambda place, have, want: activate.disable(place),
            takes=lambda place, have, want: activate.goes(place),
        ),
        replace(
            _SLURM["daemon"], read=_read_daemon, want=lambda place: {"answers": True, "not read": []}, change=_restart
        ),
    ),
    serial=True,
)
"""One controller after the other, each started again without the burst buffer."""


# --- the files


def _paths(site: Site) -> tuple[str, ...]:
    return (f"{site.slurm.folder}/{plugin.LUA}", f"{site.slurm.folder}/{plugin.CONF}", names.KUBECONFIG)


def _look_files(place: StepContext) -> ShellLook:
    paths = shlex.join(_paths(place.site))
    return ShellLook(f'for file in {paths}; do [ ! -e "$file" ] || echo "$file"; done', lines)


def _remove(place: StepContext, have: Value, want: Value) -> Sequence[Action]:
    if not discover.of(place):
        return [Remove(path, secret=path == names.KUBECONFIG) for path in have]
    return [*files.config(place, dict.fromkeys(discover.PLUGIN)), *files.no_kubeconfig(place)]


def _takes_files(place: StepContext, have: Value, want: Value) -> str:
    kept = "kept on the master, but for the kubeconfig" if discover.of(place) else "kept there as before-images"
    return f"{', '.join(have)} on {place.host} ({kept})"


FILES = Stage(
    "plugin",
    ("slurm",),
    (
        Step(
            "files",
            "controller",
            _look_files,
            lambda place: [],
            _remove,
            settle=discover.settle(0.0),
            takes=_takes_files,
        ),
    ),
)
"""The plugin and its kubeconfig, when no controller uses them any more."""
