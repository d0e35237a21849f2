"""burst_buffer.lua and burst_buffer.conf: cloned once on the master, written next to slurm.conf on every controller.

The controllers get the files' content from this run: they need neither git nor network access, and all get the same bytes.
"""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import TypedDict

from dws_on_csm.config.site import Site
from dws_on_csm.domain import compatibility, names
from dws_on_csm.model import render
from dws_on_csm.model.actions import Action, Put, RunScript
from dws_on_csm.model.lines import all_values, first_values, parse_pairs
from dws_on_csm.model.step import Fact, Finding, NotYetKnown, Refused, ShellLook, Stage, Step, StepContext, Value
from dws_on_csm.stages import controller_library
from dws_on_csm.stages.dws import plugin_workflow_version, workarea
from dws_on_csm.stages.pod import discover, files, templates
from dws_on_csm.stages.slurm import activate, controller, other_burst_buffer, slurm_user, slurmctld
from dws_on_csm.stages.slurm.other_burst_buffer import LUA_FILE, PLUGIN_FILES, PluginFile


def clone(site: Site) -> str:
    """The folder of the plugin's clone on the master; each version has its own."""
    return f"{site.master.workarea}/dws-slurm-bb-plugin-{site.versions.plugin}"


# --- the repository on the master


class Repository(TypedDict):
    """The plugin's clone on the master.

    commit     the tag's; "" if there is no such tag
    modified   paths with local changes
    files      name -> text as the tag has it
    open       what of it others than root can write; "" for nothing
    """

    there: bool
    commit: str
    open: str
    modified: list[str]
    files: dict[str, str]


REPOSITORY: Fact[Repository] = Fact("plugin", "repository")


def _look_repository(ctx: StepContext) -> ShellLook:
    settings = {
        "clone": clone(ctx.site),
        "tag": f"v{ctx.site.versions.plugin}",
        "files": f"{names.PLUGIN_LUA} {names.PLUGIN_CONF}",
    }
    return REPOSITORY.shell(
        render.script("lib/as.sh", "lib/git.sh", "master/plugin_look.sh", **settings), _parse_repository
    )


def _parse_repository(out: bytes) -> Repository:
    pairs = parse_pairs(out)
    single = first_values(pairs)
    files = [text.partition(" ")[::2] for text in all_values(pairs, "file")]
    return {
        "there": bool(pairs),
        "commit": single.get("commit", ""),
        "open": single.get("open", ""),
        "modified": all_values(pairs, "modified"),
        "files": {name: base64.b64decode(content).decode(errors="replace") for name, content in files},
    }


def _read_repository(ctx: StepContext, repository: Repository) -> Value:
    if not repository["there"]:
        return None
    at = f"v{ctx.site.versions.plugin}" if repository["commit"] and len(repository["files"]) == 2 else "no such tag"
    at = "writable by others" if repository["open"] else at
    return {"at": at, "modified": repository["modified"], "commit": repository["commit"]}


def _want_repository(ctx: StepContext) -> Value:
    """The pinned commit, else the tag's."""
    have = ctx.facts.one_or_none(REPOSITORY)
    commit = ctx.site.versions.commit("plugin") or (have and have["commit"]) or "the tag's"
    return {"at": f"v{ctx.site.versions.plugin}", "modified": [], "commit": commit}


def _change_repository(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    folder, tag = clone(ctx.site), want["at"]
    if have and have["modified"]:
        text = (
            f"{folder} on {ctx.host} has local changes ({', '.join(have['modified'])}); only {tag} itself is installed"
        )
        fix = f"move the change to a fork (sources.plugin), then run `git -C {folder} checkout .`"
        raise Refused(Finding("plugin-modified", text, fix))
    writable = ctx.facts.one(REPOSITORY)["open"] if have else ""
    return workarea.clone_actions(ctx, "plugin", folder, have["commit"] if have else "", writable, "master/clone.sh")


# --- the files on the controllers


def _look_lua(ctx: StepContext) -> ShellLook:
    return look_file(ctx, names.PLUGIN_LUA, "lib/lua.sh")


def _look_conf(ctx: StepContext) -> ShellLook:
    return look_file(ctx, names.PLUGIN_CONF)


def look_file(ctx: StepContext, name: str, *before: str) -> ShellLook:
    """The look at the file of this name; `before`: more templates that its script needs."""
    file = f"{ctx.site.slurm.folder}/{name}"
    script = render.script(*before, "lib/holds_secret.sh", "controller/plugin_file.sh", file=file)
    return PLUGIN_FILES[name].shell(script, _parse_file, controller_library.text(ctx))


def _parse_file(out: bytes) -> PluginFile | None:
    pairs = parse_pairs(out, "replace")
    if not pairs:
        return None
    single = first_values(pairs)
    text = base64.b64decode(single["content"]).decode(errors="backslashreplace")
    return {
        "mode": single.get("mode", ""),
        "owner": single.get("owner", ""),
        "size": single.get("size", ""),
        "changed": single.get("changed", ""),
        "compiled": first_values(text.partition(" ")[::2] for text in all_values(pairs, "compiled")),
        "text": text,
        "exact": text.encode() == base64.b64decode(single["content"]),
    }


def _read_conf(ctx: StepContext, file: PluginFile | None) -> Value:
    if not file:
        return None
    return discover.without_mode_in_pod(ctx, {"mode": file["mode"], "owner": file["owner"], "text": file["text"]})


def _read_lua(ctx: StepContext, file: PluginFile | None) -> Value:
    if not file:
        return None
    lua = controller.interpreter(ctx)
    error = file["compiled"].get(lua, "") if lua else ""
    return {**_read_conf(ctx, file), "compiles": f"no: {error}" if error else _compiles(ctx)}


def _compiles(ctx: StepContext) -> str:
    """What `compiles` says of a correct file: with which Lua, or that this host has no such Lua."""
    lua = controller.interpreter(ctx)
    linked = " or ".join(controller.state(ctx)["linked"]) or "of Slurm's version"
    return f"with {lua}" if lua else f"not tried: this host has no Lua {linked}"


def upstream(ctx: StepContext) -> Mapping[str, str]:
    """The plugin's files by name, as its repository's tag has them. Raises NotYetKnown before it was cloned."""
    repository, pin = ctx.facts.one(REPOSITORY), ctx.site.versions.commit("plugin")
    if len(repository["files"]) < 2 or pin not in ("", repository["commit"]):
        raise NotYetKnown("plugin")
    return repository["files"]


def _want_lua(ctx: StepContext) -> Value:
    text = plugin_workflow_version.for_plugin(ctx, with_shim(ctx, upstream(ctx)[names.PLUGIN_LUA]))
    want = discover.without_mode_in_pod(
        ctx, {"mode": "644", "owner": "root:root", "text": text, "compiles": _compiles(ctx)}
    )
    return {**want, "text": _accepted_edit(ctx, want) or text}


def _accepted_edit(ctx: StepContext, want: Value) -> str:
    """The text of an edited plugin that the site accepts, where this run only corrects its mode and owner; "" otherwise."""
    looks = [known(LUA_FILE).get(ctx.host) for known in (ctx.facts.known, ctx.facts.at_first)]
    file = looks[0]
    if not file or not file.get("exact") or "plugin-edited" not in ctx.site.accept:
        return ""
    corrected = any(seen and not _differ(_read_conf(ctx, seen), want) <= {"text"} for seen in looks)
    edited = _differ(_read_lua(ctx, file), want) - {"mode", "owner"} == {"text"} and _loadable(ctx, file["text"])
    return file["text"] if corrected and edited else ""


def _differ(have: Value, want: Value) -> set[str]:
    return {key for key in have if have[key] != want[key]}


def _loadable(ctx: StepContext, text: str) -> bool:
    """Whether a text is DWS's plugin, with every function that this Slurm asks for."""
    return not other_burst_buffer.foreign(names.PLUGIN_LUA, text) and set(required_functions(ctx)) <= defined_functions(
        text
    )


def _want_conf(ctx: StepContext) -> Value:
    text = upstream(ctx)[names.PLUGIN_CONF]
    return discover.without_mode_in_pod(ctx, {"mode": "644", "owner": "root:root", "text": text})


def _change_lua(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    other_burst_buffer.refuse(ctx, names.PLUGIN_LUA)
    # an accepted edit keeps its text: one that was edited since it was read stays as it is
    present = f"{shlex.quote(ctx.site.slurm.folder)}/{names.PLUGIN_LUA}"
    check = f'cmp -s -- "$file" {present}' if have and have["text"] == want["text"] else ""
    return [*load(ctx, want["text"]), *_put(ctx, names.PLUGIN_LUA, want["text"], check)]


def _covered_lua(ctx: StepContext, have: Value, want: Value) -> str:
    """An edited plugin of DWS that this Slurm can load is the site's to accept. Where its bytes are not text that can be
    written again, also with another mode or owner."""
    file = ctx.facts.known(LUA_FILE).get(ctx.host)
    spared = {"text"} if not file or file.get("exact", True) else {"text", "mode", "owner"}
    return "plugin-edited" if _differ(have, want) <= spared and _loadable(ctx, have["text"]) else ""


def _change_conf(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    other_burst_buffer.refuse(ctx, names.PLUGIN_CONF)
    return _put(ctx, names.PLUGIN_CONF, want["text"])


def _in_use(ctx: StepContext, have: Value, want: Value) -> bool:
    """Whether a slurmctld has loaded the burst buffer: it reads burst_buffer.lua at each call, so that a new one acts at once.
    Another controller may share the folder, or take over."""
    return any(daemon["loaded"] for daemon in ctx.facts.known(slurmctld.FACT).values())


def _put(ctx: StepContext, name: str, text: str, check: str = "") -> Sequence[Action]:
    if discover.pod_of(ctx):
        return files.config(ctx, {name: text})
    return [Put(f"{ctx.site.slurm.folder}/{name}", text.encode(), 0o644, check=check)]


def _wanted_templates(ctx: StepContext) -> Mapping[str, str | None]:
    """The plugin's files; and the line of slurm.conf, where the rendered file has it."""
    texts = {names.PLUGIN_LUA: _want_lua(ctx)["text"], names.PLUGIN_CONF: upstream(ctx)[names.PLUGIN_CONF]}
    return {**texts, **activate.template_of_result(ctx, on=True)}


def _change_templates(ctx: StepContext, wanted: Mapping[str, str | None]) -> Sequence[Action]:
    seen = ctx.facts.on(templates.PLUGIN, ctx.host)
    for name in discover.PLUGIN:
        other_burst_buffer.refuse(ctx, name)
        other_burst_buffer.refuse_template(ctx, name, seen["templates"].get(name, "") if seen else "")
    lua = wanted.get(names.PLUGIN_LUA)
    return [*(load(ctx, lua) if lua else ()), *files.config(ctx, wanted)]


def load(ctx: StepContext, text: str) -> Sequence[Action]:
    """Load the text with slurmctld's Lua, as SlurmUser, before installing it; nothing where the host has no such Lua."""
    lua = controller.interpreter(ctx)
    if not lua:
        return []
    script = "file=\n" + loading(ctx, lua, "loads\n")
    return [RunScript(f"load {names.PLUGIN_LUA} with {lua} before installing it", script, 30.0, text.encode())]


def load_file(ctx: StepContext, file: str) -> Sequence[Action]:
    """The same with a file of root's on the controller, whose content stays there."""
    lua = controller.interpreter(ctx)
    if not lua:
        return []
    script = "file=\n" + loading(ctx, lua, f"loads <{shlex.quote(file)}\n")
    return [RunScript(f"load {names.PLUGIN_LUA} with {lua} before installing it", script, 30.0)]


def loading(ctx: StepContext, lua: str, body: str) -> str:
    """The script `body`, with templates/controller/load.sh's function before it; $file has to be set."""
    settings = {"lua": lua, "program": render.read("controller/load.lua"), "hooks": " ".join(required_functions(ctx))}
    return slurm_user.shell(ctx) + render.script("lib/as.sh", "controller/load.sh", **settings) + body


# --- functions that this Slurm calls and the plugin lacks

SHIM_MARK = "added by dws-on-csm: this Slurm asks for functions that the plugin lacks"


def with_shim(ctx: StepContext, text: str) -> str:
    """Return the plugin's text with stubs at its end for the functions that this Slurm calls and the plugin lacks.

    Raises Refused where such a function has no known stub.
    """
    lacking = [hook for hook in required_functions(ctx) if hook not in defined_functions(text)]
    if unknown := [hook for hook in lacking if hook not in SHIMMED]:
        raise Refused(_unknown_functions(ctx, unknown))
    if not lacking:
        return text
    functions = "\n".join(render.fill("controller/shim.lua", name=hook) for hook in lacking)
    return f"{text.rstrip()}\n\n-- begin: {SHIM_MARK}\n{functions}-- end: {SHIM_MARK}\n"


SHIMMED = ("slurm_bb_test_data_in", "slurm_bb_test_data_out")
"""Functions that report whether staging has ended. A stub may say yes: the plugin's data_in and data_out return only then."""


def required_functions(ctx: StepContext) -> Sequence[str]:
    """The functions that slurmctld calls: those that its burst_buffer_lua.so names, else those known of its version."""
    seen = controller.state(ctx)
    if seen["hooks"]:
        return seen["hooks"]
    broken = compatibility.broken({"plugin": ctx.site.versions.plugin, "slurm": seen["version"]})
    return SHIMMED if any(row.name == "hooks-missing" for row in broken) else ()


def defined_functions(text: str) -> set[str]:
    """The names of the global functions that a Lua file defines at the beginning of a line."""
    return set(re.findall(r"^(?:function[ \t]+(\w+)[ \t]*\()", text, re.MULTILINE)) | set(
        re.findall(r"^(\w+)[ \t]*=[ \t]*function\b", text, re.MULTILINE)
    )


def _unknown_functions(ctx: StepContext, hooks: Sequence[str]) -> Finding:
    version = controller.state(ctx)["version"]
    text = f"Slurm {version} on {ctx.host} calls {', '.join(hooks)}, which this plugin does not define"
    return Finding(
        "hooks-unknown", text, "set versions.plugin and sources.plugin to a plugin for this version of Slurm"
    )


STAGE = Stage(
    "plugin",
    # where another version of DWS is replaced, it is away when the version that the plugin writes changes: no Workflow lives then
    ("preflight", "pod", "replace"),
    (
        Step(
            "repository",
            "master",
            _look_repository,
            _want_repository,
            _change_repository,
            read=_read_repository,
            status_text=workarea.commit_text,
            hint="check that the master reaches sources.plugin and that this tag exists; to work offline see docs/offline.md",
        ),
        templates.step(templates.PLUGIN, _wanted_templates, _change_templates, _in_use),
        Step(
            "lua",
            "controller",
            _look_lua,
            _want_lua,
            _change_lua,
            read=_read_lua,
            window=_in_use,
            settle_seconds=discover.settle_seconds(0.0),
            accepted_as=_covered_lua,
            hint=f"{names.PLUGIN_LUA} is unchanged: with a plugin that fails to load, slurmctld refuses #DW jobs and does not "
            "start",
        ),
        Step(
            "conf",
            "controller",
            _look_conf,
            _want_conf,
            _change_conf,
            read=_read_conf,
            window=_in_use,
            settle_seconds=discover.settle_seconds(0.0),
        ),
    ),
)
