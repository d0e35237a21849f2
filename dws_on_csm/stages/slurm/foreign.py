"""A burst_buffer.lua or burst_buffer.conf of another burst buffer than DWS's, which this tool did not install."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence

from dws_on_csm.domain import slurm_conf
from dws_on_csm.model import render
from dws_on_csm.model.actions import RunScript
from dws_on_csm.model.step import Finding, Removal, StepContext

LUA, CONF = "burst_buffer.lua", "burst_buffer.conf"

NOT_SHOWN = "-- (this file "
"""How templates/controller/plugin_file.sh begins its text for a file whose content it does not print: its origin is unknown."""

_COMMENT = re.compile("--.*")
_DWS = re.compile(
    r"(?:dataworkflowservices\.github\.io|dws\.cray\.hpe\.com)\b|^[ \t]*function[ \t]+DWS[ \t]*[:.]", re.MULTILINE
)
"""Every version of DWS's plugin contains this: the group of its Workflows, or its functions."""


def foreign(name: str, text: str) -> bool:
    """Whether the text of a file of this name is of another burst buffer: it is not empty, and not DWS's plugin, edited or not."""
    if name == CONF:
        directive = slurm_conf.value(text, "Directive")
        says = any(line.partition("#")[0].strip() for line in text.split("\n"))
        return says and (directive is None or directive.value != "DW")
    said = _COMMENT.sub("", text)
    return text.startswith(NOT_SHOWN) or (bool(said.strip()) and not _DWS.search(said))


def _seen(ctx: StepContext) -> Iterator[tuple[str, str]]:
    """Name and text of such files on this host, as far as they were read."""
    for name, key in ((LUA, "plugin.lua"), (CONF, "plugin.conf")):
        found = ctx.facts.found.get(key, {}).get(ctx.host)
        if found and foreign(name, found["text"]):
            yield name, found["text"]


def findings(ctx: StepContext, used: bool) -> Sequence[Finding]:
    """A finding if slurmctld uses (`used`) the burst buffer of such files: its jobs would lose it."""
    names = [name for name, _ in _seen(ctx)] if used else []
    if not names:
        return ()
    paths = " and ".join(f"{ctx.site.slurm.folder}/{name}" for name in names)
    text = f"slurmctld on {ctx.host} uses {paths}, which this tool did not install (BurstBufferType=burst_buffer/lua); "
    text += "Slurm supports one burst buffer only, and jobs that use that one would lose their storage"
    fix = (
        "once no job needs that burst buffer, remove BurstBufferType from slurm.conf, restart slurmctld, and run again"
    )
    return (Finding("other-burst-buffer", text, fix),)


_IN_USE = """
used() { printf '%s\\n' "$1" >&2; exit 1; }
[ "$conf_code" = 0 ] || used "slurm.conf cannot be read, so it is unknown whether slurmctld uses $own"
case $(conf_said BurstBufferType | tr '[:upper:]' '[:lower:]') in *burst_buffer/lua*)
    used "slurm.conf has set BurstBufferType=burst_buffer/lua since this run began, so slurmctld uses $own"
    ;;
esac
main=$(main_pid)
if [ -n "$main" ]; then
    maps=$(of_process "$main" maps) || used "slurmctld's memory cannot be read, so it is unknown whether it uses $own"
    case $maps in */burst_buffer_lua.so*) used "slurmctld has loaded its burst buffer since this run began: it uses $own" ;; esac
fi
"""


def guard(ctx: StepContext, name: str) -> Sequence[RunScript]:
    """What goes before the replacement of a file that this tool did not install: slurmctld is asked again whether it uses it."""
    if not any(seen == name for seen, _ in _seen(ctx)):
        return ()
    path, slurm = f"{ctx.site.slurm.folder}/{name}", ctx.site.slurm
    script = render.script("lib/as.sh", "lib/slurmctld.sh", folder=slurm.folder, unit=slurm.service, own=path)
    return (RunScript(f"check again that slurmctld does not use {path}", script + _IN_USE, 60.0),)


def removals(ctx: StepContext, name: str) -> Sequence[Removal]:
    """The removal of such a file where nothing uses it: it is replaced, which has to be confirmed."""
    return [_removal(ctx, name, text) for one, text in _seen(ctx) if one == name]


def _removal(ctx: StepContext, name: str, text: str) -> Removal:
    path = f"{ctx.site.slurm.folder}/{name}"
    words = f"{path} on {ctx.host}, which this tool did not install and which is not DWS's plugin (saved there as a before-image)"
    return Removal(words, frozenset({f"{path} {hashlib.sha256(text.encode()).hexdigest()}"}))
