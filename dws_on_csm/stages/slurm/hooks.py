"""The functions that slurmctld asks burst_buffer.lua for: those that a plugin lacks are added at its end."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dws_on_csm.domain import compatibility
from dws_on_csm.model import render
from dws_on_csm.model.step import Finding, Refused, StepContext
from dws_on_csm.stages.slurm import controller

MARK = "added by dws-on-csm: this Slurm asks for functions that the plugin lacks"


def with_shim(ctx: StepContext, text: str) -> str:
    """The plugin's text; at its end the functions that this controller's Slurm asks for and the plugin doesn't define.

    Raises Refused for a function of which it isn't known what it would have to do.
    """
    lacking = [hook for hook in asked(ctx) if hook not in defined(text)]
    if unknown := [hook for hook in lacking if hook not in STANDS_IN]:
        raise Refused(_unknown(ctx, unknown))
    if not lacking:
        return text
    functions = "\n".join(render.fill("controller/shim.lua", name=hook) for hook in lacking)
    return f"{text.rstrip()}\n\n-- begin: {MARK}\n{functions}-- end: {MARK}\n"


STANDS_IN = ("slurm_bb_test_data_in", "slurm_bb_test_data_out")
"""Hooks that say whether the staging has ended: the plugin's own data_in and data_out return only when it has."""


def asked(ctx: StepContext) -> Sequence[str]:
    """The functions that slurmctld asks for: those that its burst_buffer_lua.so names, or else those of its version."""
    seen = controller.found(ctx)
    if seen["hooks"]:
        hooks: Sequence[str] = seen["hooks"]
        return hooks
    broken = compatibility.broken({"plugin": ctx.site.versions.plugin, "slurm": seen["version"]})
    return STANDS_IN if any(row.name == "hooks-missing" for row in broken) else ()


def defined(text: str) -> set[str]:
    """The names of the global functions that a Lua file defines at the beginning of a line."""
    return set(re.findall(r"^(?:function[ \t]+(\w+)[ \t]*\()", text, re.MULTILINE)) | set(
        re.findall(r"^(\w+)[ \t]*=[ \t]*function\b", text, re.MULTILINE)
    )


def _unknown(ctx: StepContext, hooks: Sequence[str]) -> Finding:
    version = controller.found(ctx)["version"]
    text = f"Slurm {version} on {ctx.host} calls {', '.join(hooks)}, which this plugin does not define"
    return Finding(
        "hooks-unknown", text, "set versions.plugin and sources.plugin to a plugin for this version of Slurm"
    )
