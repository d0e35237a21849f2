"""What a controller is like before anything is done there: its Slurm, slurm.conf, Lua, kubectl. Read once, by many."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from dws_on_csm.config.site import Site
from dws_on_csm.domain import compatibility, slurm_conf
from dws_on_csm.model import render
from dws_on_csm.model.lines import every, first, pairs
from dws_on_csm.model.step import Check, Finding, NotYetKnown, ShellLook, StepContext, Value
from dws_on_csm.stages.slurm import activate, foreign, slurmctld

FACT = "preflight.controller"
"""Where what LOOK finds is kept, by host."""


SINGLE = (
    *("host", "program", "version", "main", "LoadState", "ActiveState"),  # slurmctld: its file, process, service
    *("fqdn", "addresses"),  # what else the host calls itself, and where it is reached
    *("user", "uid", "lacks", "why"),  # SlurmUser, or why it is not known who that is, in a word and in a sentence
    *("path", "kubectl"),  # PATH as slurmctld has it
    "library",  # burst_buffer_lua.so
)


def look(place: StepContext) -> ShellLook:
    """The look that the check `controller` makes; see `parse` for what it finds."""
    slurm = place.site.slurm
    return ShellLook(
        render.script(
            "lib/as.sh",
            "lib/slurmctld.sh",
            "lib/lua.sh",
            "controller/controller.sh",
            folder=slurm.folder,
            unit=slurm.service,
        ),
        parse,
    )


def parse(out: bytes) -> Value:
    """The look's lines as a dict: SINGLE by name ("" for what isn't there), and these lists and dicts.

    hooks    the functions that slurmctld asks for
    linked   the Lua of its burst_buffer_lua.so: ["5.4"]
    lua      [version, path] of each interpreter on the host
    files    path -> text of slurm.conf, which is the first, and of what it includes; `unreadable`: the others
    """
    told = pairs(out, "surrogateescape")
    single = dict.fromkeys(SINGLE, "")
    found: dict[str, Any] = single | {key: text for key, text in first(told).items() if key in single}
    for key in ("hook", "linked", "unreadable"):
        found[f"{key}s" if key == "hook" else key] = every(told, key)
    found["lua"] = [text.split(" ", 1) for text in every(told, "lua")]
    found["files"] = first(_file(text) for text in every(told, "file"))
    return found


def _file(line: str) -> tuple[str, str]:
    path, content = line.rsplit(" ", 1)
    return path, slurm_conf.decoded(base64.b64decode(content))


def found(place: StepContext) -> Mapping[str, Any]:
    """What LOOK found on this controller. Raises Unknown if it wasn't made."""
    everywhere = place.facts.all(FACT)
    if place.host not in everywhere:
        raise NotYetKnown("preflight")
    answer: Mapping[str, Any] = everywhere[place.host]
    return answer


def interpreter(place: StepContext) -> str:
    """The path of a Lua of the version that this Slurm's burst_buffer_lua.so has; "" if the host has none."""
    seen = found(place)
    return next((path for version, path in seen["lua"] if version in seen["linked"]), "")


def setting(found: Mapping[str, Any], site: Site, key: str) -> slurm_conf.Setting | None:
    """What slurm.conf and its includes say of `key`; None if nothing."""
    text = found["files"].get(site.slurm.conf, "")
    return slurm_conf.value(text, key, found["files"])


# --- what stands in the way


def judge(place: StepContext, found: Value) -> Sequence[Finding]:
    """Everything on this controller that an install would fail at."""
    conf = place.site.slurm.conf
    if not found["program"]:
        text = f"there is no slurmctld on {place.host}"
        return (Finding("slurm-missing", text, "controllers are the hosts where slurmctld runs: correct them"),)
    if conf not in found["files"]:
        return (
            Finding("slurm-conf-missing", f"{conf} on {place.host} can't be read", "correct slurm.folder"),
            *(_user(place, found) if found["lacks"] else ()),
        )
    looked = (*_service(place, found), *_plugin(place, found), *_conf(place, found))
    return [*looked, *_user(place, found), *_kubectl_there(place, found)]


def _service(place: StepContext, found: Value) -> Sequence[Finding]:
    unit, host = place.site.slurm.service, place.host
    if found["LoadState"] == "not-found":
        text = f"systemd on {host} has no unit {unit}"
        return (Finding("slurm-unit-missing", text, "set slurm.service to the name of slurmctld's unit"),)
    enabled = _type(place, found) == OURS
    if not found["main"] and not enabled:
        text = f"slurmctld does not run on {host}, so it could not be told whether it starts with the burst buffer"
        return (Finding("slurmctld-not-running", text, f"systemctl start {unit} on {host}, and see why it had ended"),)
    return ()


OURS = "burst_buffer/lua"


def _type(place: StepContext, found: Value) -> str:
    said = setting(found, place.site, "BurstBufferType")
    return said.value if said else ""


def _plugin(place: StepContext, found: Value) -> Sequence[Finding]:
    versions = {"plugin": place.site.versions.plugin, "slurm": found["version"]}
    versions |= {"dws": place.site.versions.dws, "lua": min(found["linked"], default="")}
    seen = list(compatibility.findings(versions, place.host))
    if not found["library"]:
        text = f"Slurm {found['version']} on {place.host} has no burst_buffer_lua.so"
        fix = "install the package that has it, or build Slurm with Lua's development files at hand"
        seen.append(Finding("bb-plugin-missing", text, fix))
    return seen


def _conf(place: StepContext, found: Value) -> Sequence[Finding]:
    seen = []
    conf = place.site.slurm.conf
    if found["unreadable"]:
        text = f"{conf} on {place.host} includes {', '.join(found['unreadable'])}, which can't be read"
        seen.append(Finding("slurm-conf-include", text, "slurmctld would not start again: correct the Include"))
    other = setting(found, place.site, "BurstBufferType")
    if other and other.value.lower() not in (OURS, "(null)", ""):
        text = f"slurm.conf on {place.host} has BurstBufferType={other.value}, and Slurm takes one only"
        fix = f"take it out first, if no job needs it any more: `grep -ri BurstBufferType {place.site.slurm.folder}`"
        seen.append(Finding("other-burst-buffer", text, fix))
    seen += foreign.findings(place, _used(place, found))
    return [*seen, *_position(place, found), *_unread(place, found)]


def _used(place: StepContext, found: Value) -> bool:
    """Whether slurmctld has a burst buffer in Lua, or will have one when it starts."""
    return _type(place, found).lower() == OURS or bool(slurmctld.found(place)["loaded"])


def _position(place: StepContext, found: Value) -> Sequence[Finding]:
    pings = slurmctld.found(place)["pings"]
    if not pings or any(where == "here" for where, _ in pings):
        return ()
    text = f"{place.host} calls itself {found['host']}, which slurm.conf names as no SlurmctldHost"
    return (Finding("not-a-controller", text, "controllers are the hosts that slurm.conf names as SlurmctldHost"),)


def _unread(place: StepContext, found: Value) -> Sequence[Finding]:
    """A restart would load what somebody changed and nobody tried; with our line already in it, it has to be."""
    if _type(place, found) == OURS or not (changed := slurmctld.unread(place.site, slurmctld.found(place))):
        return ()
    conf, keys = place.site.slurm.conf, slurmctld.differing(slurmctld.found(place))
    if keys is not None and {key.lower() for key in keys} <= {activate.KEY.lower()}:
        return ()  # our own line is put right with an activation of its own
    if changed == [conf] and activate.ours_again(found["files"][conf]) == slurmctld.found(place)["activated"]:
        return ()
    what = f" ({', '.join(keys)})" if keys else ""
    text = (
        f"{', '.join(changed)} on {place.host} was changed since slurmctld read it{what}, and a restart would load it"
    )
    fix = f"restart {place.site.slurm.service} on {place.host} and see that it answers; or undo that change; "
    fix += "or, if this run may load it, accept: [slurm-conf-not-loaded] in the site file"
    return (Finding("slurm-conf-not-loaded", text, fix),)


def _user(place: StepContext, found: Value) -> Sequence[Finding]:
    """Nothing is run as somebody of whom it is not known that slurm.conf may name it: it could be anybody."""
    if found["uid"]:
        return ()
    why = f"on {place.host}: {found['why'] or 'SlurmUser=' + found['user'] + ' is no user of this host'}"
    if found["lacks"] == "open":
        folder = place.site.slurm.folder
        fix = f"let root or SlurmUser own {folder} and what slurm.conf includes, and nobody else write there "
        fix += f"(`chown root {folder} {folder}/slurm.conf; chmod go-w {folder} {folder}/slurm.conf`); "
        fix += "or start slurmctld: it shows by its process who SlurmUser is"
        return (Finding("slurm-user-open", why, fix),)
    fix = "correct SlurmUser, or create the user: the kubeconfig becomes that user's"
    if found["lacks"] == "unreadable":
        fix = "correct the Include lines: root has to be able to read slurm.conf and all that it includes"
    return (Finding("slurm-user-unknown", why, fix),)


def _kubectl_there(place: StepContext, found: Value) -> Sequence[Finding]:
    if found["kubectl"]:
        return ()
    text = f"kubectl on {place.host} is nowhere where slurmctld would find it ({found['path']})"
    return (Finding("kubectl-missing", text, _kubectl(place)),)


def _kubectl(place: StepContext) -> str:
    """Where a kubectl has to be put: in a pod it would go with the pod."""
    if pod := next((host.pod for host in place.site.controllers if host.name == place.host), None):
        which = f"container {pod.container} of {pod.selector} in namespace {pod.namespace}"
        return f"give {which} an image with a kubectl that fits the cluster"
    return "put a kubectl that fits the cluster into /usr/local/bin there"


CHECK = Check("controller", "controller", look, judge)
