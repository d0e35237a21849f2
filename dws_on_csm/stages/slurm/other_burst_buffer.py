"""A burst buffer other than DWS's: another BurstBufferType, or another tool's burst_buffer.lua or burst_buffer.conf.

An install never replaces one, whether slurmctld uses it or not: it refuses, and says what it found. An undeploy leaves it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import TypedDict

from dws_on_csm.domain import names, slurm_conf
from dws_on_csm.model.step import Fact, Finding, Refused, StepContext


class PluginFile(TypedDict):
    """burst_buffer.lua or burst_buffer.conf on a controller.

    size, changed   in words
    compiled        path of a Lua -> "" or why it can't compile the file
    exact           whether `text` is all bytes of the file
    """

    mode: str
    owner: str
    size: str
    changed: str
    compiled: dict[str, str]
    text: str
    exact: bool


LUA_FILE: Fact[PluginFile | None] = Fact("plugin", "lua")
"""None where there is no file."""
PLUGIN_FILES = {names.PLUGIN_LUA: LUA_FILE, names.PLUGIN_CONF: Fact[PluginFile | None]("plugin", "conf")}
"""The plugin's files by name."""

NOT_SHOWN = "-- (this file "
"""How templates/controller/plugin_file.sh begins its text for a file whose content it does not print: its origin is unknown."""

_COMMENT = re.compile(r"--(?:\[(=*)\[)?")
_DWS = re.compile(
    r"(?:dataworkflowservices\.github\.io|dws\.cray\.hpe\.com)\b|^[ \t]*function[ \t]+DWS[ \t]*[:.]", re.MULTILINE
)
"""Every version of DWS's plugin contains this: the group of its Workflows, or its functions."""


def foreign(name: str, text: str) -> bool:
    """Whether the text of a file of this name is of another burst buffer: it is not empty, and not DWS's plugin, edited or not."""
    if name == names.PLUGIN_CONF:
        directive = slurm_conf.value(text, "Directive")
        says = any(line.partition("#")[0].strip() for line in text.split("\n"))
        return says and (directive is None or directive.value != "DW")
    code = _without_comments(text)
    return text.startswith(NOT_SHOWN) or (bool(code.strip()) and not _DWS.search(code))


def _without_comments(lua: str) -> str:
    """A Lua text without comments, those over several lines (--[[ ]], --[==[ ]==]) included. Strings count as code."""
    code, at = list[str](), 0
    while comment := _COMMENT.search(lua, at):
        code.append(lua[at : comment.start()])
        closing = r"[\r\n]" if comment[1] is None else re.escape(f"]{comment[1]}]")
        end = re.compile(closing).search(lua, comment.end())
        if end is None:
            return "".join(code)
        at = end.start() if comment[1] is None else end.end()
    return "".join([*code, lua[at:]])


def other_type(ctx: StepContext, setting: slurm_conf.Setting | None) -> Sequence[Finding]:
    """A finding if slurm.conf names another burst buffer, in a setting of BurstBufferType."""
    if setting is None or slurm_conf.burst_buffers(setting.value) in ((), ("burst_buffer/lua",)):
        return ()
    where = setting.file or ctx.site.slurm.conf
    problem = f"{where} on {ctx.host} has BurstBufferType={setting.value}"
    return (_other(problem, "remove that line and restart slurmctld"),)


def other_files(ctx: StepContext, *file_names: str) -> Sequence[Finding]:
    """A finding for those of these files on this host, as far as they were read, that are not DWS's plugin."""
    seen = [(name, file) for name, file in _seen(ctx) if name in file_names]
    if not seen:
        return ()
    folder = ctx.site.slurm.folder
    problem = " and ".join(
        f"{folder}/{name} on {ctx.host} is not DWS's plugin ({_description(file)})" for name, file in seen
    )
    moved = " and ".join(f"{folder}/{name}" for name, _ in seen)
    fix = "remove the line BurstBufferType from slurm.conf and restart slurmctld, if it is set there; "
    return (_other(problem, f"{fix}move {moved} to another folder"),)


def _other(problem: str, fix: str) -> Finding:
    text = f"{problem}, and Slurm supports one burst buffer only: jobs that use it would lose their storage"
    return Finding("other-burst-buffer", text, f"wait until no job needs that burst buffer; then {fix}, and run again")


def refuse(ctx: StepContext, name: str) -> None:
    """Raise Refused if this file on the host is another tool's: it must not be replaced."""
    for finding in other_files(ctx, name):
        raise Refused(finding)


def refuse_template(ctx: StepContext, name: str, text: str) -> None:
    """Raise Refused if the template of this file, from which a Job renders it, is another tool's."""
    if foreign(name, text):
        problem = (
            f"the template of {name} of {ctx.host} is not DWS's plugin (begins with: {' '.join(text.split())[:80]})"
        )
        raise Refused(_other(problem, "remove that key of the templates and run their Job"))


def _seen(ctx: StepContext) -> Iterator[tuple[str, PluginFile]]:
    """Name and look of such files on this host, as far as they were read."""
    for name, fact in PLUGIN_FILES.items():
        file = ctx.facts.known(fact).get(ctx.host)
        if file and foreign(name, file["text"]):
            yield name, file


def _description(file: PluginFile) -> str:
    """What a file is, for an administrator who does not know it: size, owner, time of change, first lines."""
    about = [text for text in (file.get("size"), file.get("owner"), file.get("changed")) if text]
    first = [" ".join(line.split())[:80] for line in file["text"].split("\n") if line.strip()][:2]
    return ", ".join([*about, f"begins with: {' | '.join(first)}"])


def paths(ctx: StepContext) -> tuple[str, ...]:
    """The paths of such files on this host, as far as they were read."""
    return tuple(f"{ctx.site.slurm.folder}/{name}" for name, _ in _seen(ctx))


def words(ctx: StepContext) -> str:
    """What stays where an undeploy leaves them, and how to remove it; "" where there is none."""
    left = paths(ctx)
    if not left:
        return ""
    return f"left, as not DWS's plugin: {', '.join(left)}; to remove them on {ctx.host}: `rm -- {shlex.join(left)}`"
