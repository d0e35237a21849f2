"""The check `controller`: Slurm, slurm.conf, Lua and kubectl on a controller, read once before anything is changed."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import cast

from dws_on_csm.config.site import Site
from dws_on_csm.domain import compatibility, names, slurm_conf, tested
from dws_on_csm.model import render
from dws_on_csm.model.lines import all_values, first_values, parse_pairs
from dws_on_csm.model.step import Check, Finding, ShellLook, StepContext
from dws_on_csm.stages import controller_library
from dws_on_csm.stages.facts import CONTROLLER, Controller, ControllerValues
from dws_on_csm.stages.pod import discover, host_kubectl
from dws_on_csm.stages.slurm import activate, other_burst_buffer, slurmctld


def look(ctx: StepContext) -> ShellLook:
    """The look of the check `controller`; `parse` says what it returns."""
    return CONTROLLER.shell(
        render.script("lib/lua.sh", "controller/controller.sh"), parse, controller_library.with_slurmctld(ctx)
    )


def parse(out: bytes) -> Controller:
    """Parse the look's lines. Raises ValueError."""
    pairs = parse_pairs(out, "surrogateescape")
    printed = first_values(pairs)
    single = cast(ControllerValues, {key: printed.get(key, "") for key in ControllerValues.__annotations__})
    return {
        **single,
        "hooks": all_values(pairs, "hook"),
        "linked": all_values(pairs, "linked"),
        "absent": all_values(pairs, "absent"),
        "lua": [text.split(" ", 1) for text in all_values(pairs, "lua")],
        "files": first_values(_file(text) for text in all_values(pairs, "file")),
        "unreadable": all_values(pairs, "unreadable"),
        "plugins": all_values(pairs, "plugin"),
        "elsewhere": all_values(pairs, "elsewhere"),
    }


def _file(line: str) -> tuple[str, str]:
    path, content = line.rsplit(" ", 1)
    return path, slurm_conf.decoded(base64.b64decode(content))


def state(ctx: StepContext) -> Controller:
    """The result of `look` on this controller. Raises NotYetKnown before it was made."""
    return ctx.facts.on(CONTROLLER, ctx.host)


def interpreter(ctx: StepContext) -> str:
    """The path of a Lua interpreter of burst_buffer_lua.so's version; "" if the host has none."""
    seen = state(ctx)
    return next((path for version, path in seen["lua"] if version in seen["linked"]), "")


def setting(files: Mapping[str, str], site: Site, key: str) -> slurm_conf.Setting | None:
    """The setting of `key` in `files`, slurm.conf and its includes by path; None if it isn't set."""
    return slurm_conf.value(files.get(site.slurm.conf, ""), key, files, site.slurm.folder)


# --- what stands in the way


def judge(ctx: StepContext, have: Controller) -> Sequence[Finding]:
    """The findings on this controller that would make an install fail."""
    conf = ctx.site.slurm.conf
    if not have["program"]:
        text = f"slurmctld is not installed on {ctx.host}"
        return (
            Finding("slurm-missing", text, "correct controllers in the site file: list the hosts where slurmctld runs"),
        )
    if elsewhere := judge_place(ctx, have):
        return elsewhere
    if conf not in have["files"]:
        return (
            activate.conf_missing(ctx),
            *(_user_findings(ctx, have) if have["lacks"] else ()),
        )
    findings = (*_service_findings(ctx, have), *plugin_findings(ctx, have), *_conf_findings(ctx, have))
    return [*findings, *_user_findings(ctx, have), *kubectl_findings(ctx, have)]


KEEPS_FILES = "would keep using burst-buffer files that this run removes"
"""What becomes of a slurmctld that an undeploy leaves out."""


def limit_leaves_out_controllers(
    ctx: StepContext, effect: str, fix: str = "give neither --limit nor a node set for --hosts"
) -> Sequence[Finding]:
    """A finding where the command line leaves out controllers; `effect`: what becomes of those."""
    hosts = ctx.site.outside_limit
    return (Finding("controllers-left-out", f"{', '.join(hosts)} {effect}", fix),) if hosts else ()


def unreached(ctx: StepContext, effect: str) -> Sequence[Finding]:
    """A finding where controllers that may be down do not respond; `effect`: what becomes of those."""
    hosts = ", ".join(sorted(ctx.site.absent))
    fix = f"have {hosts} respond: may_be_down in the site file does not hold for a removal"
    return (Finding("controllers-left-out", f"{hosts} {effect}", fix),) if hosts else ()


def judge_place(ctx: StepContext, have: Controller) -> Sequence[Finding]:
    """The finding where slurmctld reads another slurm.conf than this run would; nothing else of that file matters then."""
    if not (named := have.get("elsewhere")):
        return ()
    text = f"slurmctld on {ctx.host} reads {' and '.join(named)}, but slurm.folder in the site file makes it {ctx.site.slurm.conf}"
    paths = {name.rpartition(" (")[0] for name in named}
    path = PurePosixPath(paths.pop())
    fix = "start slurmctld with one slurm.conf, in its arguments and its unit, and set slurm.folder to its folder"
    if not paths and path.is_absolute() and path.name == "slurm.conf":
        fix = f"set slurm.folder to {path.parent} in the site file; or start slurmctld with {ctx.site.slurm.conf}"
    return (Finding("slurm-conf-elsewhere", text, fix),)


def _service_findings(ctx: StepContext, have: Controller) -> Sequence[Finding]:
    unit, host = ctx.site.slurm.service, ctx.host
    if have["LoadState"] == "not-found":
        text = f"systemd on {host} has no unit {unit}"
        return (
            Finding("slurm-unit-missing", text, "set slurm.service in the site file to the name of slurmctld's unit"),
        )
    enabled = slurmctld.is_lua(_burst_buffer_type(ctx, have))
    if not have["main"] and not enabled:
        text = f"slurmctld does not run on {host}, so this run cannot tell whether it starts with the burst buffer"
        return (
            Finding(
                "slurmctld-not-running",
                text,
                f"run `systemctl start {unit}` on {host}, and find out why slurmctld ended",
            ),
        )
    return ()


def _burst_buffer_type(ctx: StepContext, have: Controller) -> str:
    configured = setting(have["files"], ctx.site, activate.KEY)
    return configured.value if configured else ""


def plugin_findings(ctx: StepContext, have: Controller) -> Sequence[Finding]:
    """What is wrong with burst_buffer_lua.so on a controller."""
    versions = {"plugin": ctx.site.versions.plugin, "slurm": have["version"], "lua": min(have["linked"], default="")}
    findings = list(compatibility.findings(versions, ctx.host))
    if not have["library"]:
        text = f"Slurm {have['version']} on {ctx.host} lacks burst_buffer_lua.so"
        fix = "install the package that contains it, or build Slurm where Lua's development files are installed"
        findings.append(Finding("bb-plugin-missing", text, fix))
    if absent := have.get("absent"):
        text = f"{have['library']} on {ctx.host} needs {', '.join(absent)}, which that host lacks: slurmctld does not start with "
        fix = "install Lua's library there again (Debian: liblua5.4-0; SLES: liblua5_4-5; RHEL: lua-libs); then "
        fix += f"`ldd {shlex.quote(have['library'])}`"
        findings.append(
            Finding("lua-library-missing", f"{text}the burst buffer", f"{fix} on {ctx.host} must not say `not found`")
        )
    if library := have["unreadable_library"]:
        text = f"{library} on {ctx.host} cannot be read to its end, so it is unknown which functions slurmctld calls"
        fix = f"check that root can read it, and the disk or file server that has it: `sha256sum -- {shlex.quote(library)}`"
        findings.append(Finding("hooks-unknown", text, fix))
    return findings


def _conf_findings(ctx: StepContext, have: Controller) -> Sequence[Finding]:
    findings = []
    conf = ctx.site.slurm.conf
    if have["unreadable"]:
        text = f"{conf} on {ctx.host} includes {', '.join(have['unreadable'])}, which can't be read"
        findings.append(
            Finding("slurm-conf-include", text, "correct the Include line: slurmctld would fail to restart")
        )
    findings += other_burst_buffer.other_type(ctx, setting(have["files"], ctx.site, activate.KEY))
    findings += other_burst_buffer.other_files(ctx, names.PLUGIN_LUA, names.PLUGIN_CONF)
    return [*findings, *_position_findings(ctx, have), *_not_loaded(ctx, have)]


def _position_findings(ctx: StepContext, have: Controller) -> Sequence[Finding]:
    pings = slurmctld.state(ctx)["pings"]
    if not pings or any(where == "here" for where, _ in pings):
        return ()
    text = f"{ctx.host} calls itself {have['host']}, and no SlurmctldHost of slurm.conf has that name"
    return (
        Finding(
            "not-a-controller",
            text,
            "correct controllers in the site file: list the hosts that slurm.conf names as SlurmctldHost",
        ),
    )


def _not_loaded(ctx: StepContext, have: Controller) -> Sequence[Finding]:
    """Warn that a restart would load somebody's untested change; where slurm.conf has our line, a restart is needed anyway."""
    if slurmctld.is_lua(_burst_buffer_type(ctx, have)) or not (
        changed := slurmctld.changed_since_start(ctx.site, slurmctld.state(ctx))
    ):
        return ()
    conf, keys = ctx.site.slurm.conf, slurmctld.differing(slurmctld.state(ctx))
    if keys is not None and {key.lower() for key in keys} <= {activate.KEY.lower()}:
        return ()  # an activation corrects our own line
    if changed == [conf] and activate.checksum_with_setting(have["files"][conf]) == slurmctld.state(ctx)["activated"]:
        return ()
    keys_text = f" ({', '.join(keys)})" if keys else ""
    text = f"{', '.join(changed)} on {ctx.host} changed after slurmctld read it{keys_text}; a restart would load the change"
    fix = f"restart {ctx.site.slurm.service} on {ctx.host} and check that it responds; or undo the change; "
    fix += "or, if this run may load it, set accept: [slurm-conf-not-loaded] in the site file"
    return (Finding("slurm-conf-not-loaded", text, fix),)


def _user_findings(ctx: StepContext, have: Controller) -> Sequence[Finding]:
    """Nothing runs as a SlurmUser that slurm.conf may name wrongly: it could be any account."""
    if have["uid"]:
        return ()
    why = f"on {ctx.host}: {have['why'] or 'SlurmUser=' + have['user'] + ' does not exist on this host'}"
    if have["lacks"] == "open":
        folder = ctx.site.slurm.folder
        fix = f"make root or SlurmUser the owner and only writer of {folder} and of all files that slurm.conf includes "
        fix += f"(`chown root {folder} {folder}/slurm.conf; chmod go-w {folder} {folder}/slurm.conf`); "
        fix += "or start slurmctld: its process shows who SlurmUser is"
        return (Finding("slurm-user-open", why, fix),)
    fix = "correct SlurmUser, or create that user: it becomes the kubeconfig's owner"
    if have["lacks"] == "unreadable":
        fix = "correct the Include lines: root must be able to read slurm.conf and all files that it includes"
    return (Finding("slurm-user-unknown", why, fix),)


def kubectl_findings(ctx: StepContext, have: Controller) -> Sequence[Finding]:
    """What keeps slurmctld from running kubectl."""
    if have["kubectl"]:
        return ()
    text = f"slurmctld on {ctx.host} cannot find kubectl on its PATH ({have['path']})"
    if pod := discover.pod_of(ctx):
        return host_kubectl.missing(ctx, pod, text)
    if closed := have["closed"]:
        text += f": {closed} is not executable"
        return (Finding("kubectl-missing", text, f"run `chmod 755 {shlex.quote(closed)}` on {ctx.host}"),)
    return (Finding("kubectl-missing", text, "install a kubectl of the cluster's version in /usr/local/bin there"),)


CHECK = Check("controller", "controller", look, judge, note=lambda ctx, have: tested.note({"slurm": have["version"]}))
