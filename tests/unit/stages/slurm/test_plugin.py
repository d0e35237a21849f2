"""The plugin's files: which hooks are added, what is wanted on a controller, and what its looks read."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.domain import names
from dws_on_csm.model import render
from dws_on_csm.model.actions import Put, RunScript
from dws_on_csm.model.step import Facts, NotYetKnown, Refused, StepContext
from dws_on_csm.stages.slurm import plugin
from tests.unit import steps

pytestmark = pytest.mark.slow

SITE = load(DEFAULT)
HOOKS = ["slurm_bb_pools", "slurm_bb_test_data_in", "slurm_bb_test_data_out"]
OURS = "lab/upstream/dws-slurm-bb-plugin/src/burst_buffer"
PLUGIN = "local function helper() end\n\nfunction slurm_bb_pools()\n\treturn 0\nend\n"
FILES = {names.PLUGIN_LUA: PLUGIN, names.PLUGIN_CONF: "Directive=DW\n"}


def place(host: str = "slurmctl1", files: dict[str, str] | None = None, **more: Any) -> StepContext:
    """A controller of Slurm 24.11 with Lua 5.4; the repository is cloned unless `files` says otherwise."""
    controller = {"version": "24.11.5", "hooks": HOOKS, "linked": ["5.4"], "lua": [["5.4", "/usr/bin/lua5.4"]], **more}
    found = {"there": True, "commit": "c0ffee", "modified": [], "open": "", "files": FILES if files is None else files}
    return StepContext(
        SITE, Facts({"preflight.controller": {host: controller}, "plugin.repository": {"ncn-m001": found}}), host
    )


# --- hooks


def test_hooks_that_slurm_asks_for_and_the_plugin_lacks_are_added() -> None:
    """They go into one marked block at the end; what was there stays byte for byte."""
    text = plugin.with_shim(place(), PLUGIN)
    assert text.startswith(PLUGIN)
    assert plugin.defined_functions(text) == {"slurm_bb_pools", "slurm_bb_test_data_in", "slurm_bb_test_data_out"}
    assert text.count(plugin.SHIM_MARK) == 2


@pytest.mark.parametrize("asked", [["slurm_bb_pools"], []])
def test_a_complete_plugin_stays_unchanged(asked: list[str]) -> None:
    """An older Slurm asks for fewer hooks, and gets the plugin as upstream has it."""
    assert plugin.with_shim(place(hooks=asked, version="23.11.4"), PLUGIN) == PLUGIN


def test_the_version_tells_where_the_library_does_not() -> None:
    """Without names in burst_buffer_lua.so the table of versions says which hooks are asked for."""
    assert "slurm_bb_test_data_in" in plugin.with_shim(place(hooks=[], version="24.05.1"), PLUGIN)


def test_an_unknown_hook_is_refused() -> None:
    """What a hook of a Slurm to come has to do can't be guessed."""
    with pytest.raises(Refused, match=r"hooks-unknown: .*slurm_bb_to_come"):
        plugin.with_shim(place(hooks=[*HOOKS, "slurm_bb_to_come"]), PLUGIN)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("function slurm_bb_a (x)\nend", {"slurm_bb_a"}),
        ("slurm_bb_b = function(x) end", {"slurm_bb_b"}),
        ("local function slurm_bb_c()\nend", set()),
        ("-- function slurm_bb_d()", set()),
        ('text = "function slurm_bb_e()"', set()),
    ],
)
def test_only_global_functions_count_as_defined(text: str, names: set[str]) -> None:
    """A local function, a comment or a string that names a hook doesn't define it."""
    assert plugin.defined_functions(text) == names


# --- what is wanted, and how it is made so


def test_nothing_is_wanted_before_the_repository_is_cloned() -> None:
    """A plan on an empty site can't know the files yet, and says so."""
    with pytest.raises(NotYetKnown, match="known after plugin"):
        steps.step(plugin.STAGE, "conf").want(place(files={}))


def test_the_file_is_loaded_before_it_is_put_in_place() -> None:
    """With a Lua of the linked version the text is loaded first; it comes on standard input and is left nowhere."""
    here = place()
    load_, put = steps.change(plugin.STAGE, "lua", here, None, steps.step(plugin.STAGE, "lua").want(here))
    assert isinstance(load_, RunScript)
    assert load_.data == plugin.with_shim(here, PLUGIN).encode()
    assert put == Put("/etc/slurm/burst_buffer.lua", load_.data, 0o644)


def test_without_that_lua_the_plan_says_so() -> None:
    """Where the host has another Lua only, nothing is loaded, and what is wanted says that."""
    here = place(lua=[["5.1", "/usr/bin/lua"]])
    want = steps.step(plugin.STAGE, "lua").want(here)
    assert want["compiles"] == "not tried: this host has no Lua 5.4"
    assert [type(action) for action in steps.change(plugin.STAGE, "lua", here, None, want)] == [Put]


def test_a_clone_that_somebody_changed_is_refused() -> None:
    """It is kept, and named with its files."""
    with pytest.raises(Refused, match=r"plugin-modified.*src/burst_buffer/burst_buffer\.lua"):
        steps.change(
            plugin.STAGE,
            "repository",
            place(),
            {"at": "", "modified": [f"src/burst_buffer/{names.PLUGIN_LUA}"]},
            {"at": "v0.0.5"},
        )


# --- its scripts, run


def run(script: str, cwd: Path, data: bytes = b"", shell: str = "sh") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([shell, "-c", script], cwd=cwd, input=data, capture_output=True, timeout=30, check=False)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A bare repository with the plugin's two files at the tag v0.0.5."""
    work, bare = tmp_path / "work", tmp_path / "plugin.git"
    (work / "src/burst_buffer").mkdir(parents=True)
    for name, text in FILES.items():
        (work / "src/burst_buffer" / name).write_text(text)
    git = "git -c user.name=x -c user.email=x@y"
    script = f"git init -q {work} && cd {work} && git add . && {git} commit -qm one && git tag v0.0.5"
    assert run(f"{script} && git clone -q --bare {work} {bare}", tmp_path).returncode == 0
    return bare


def clone(repository: Path, folder: Path, tag: str = "v0.0.5") -> subprocess.CompletedProcess[bytes]:
    urls = f"file://{folder.parent}/nowhere.git file://{repository}"
    settings = {
        "clone": str(folder),
        "tag": tag,
        "sources": urls,
        "origin": "",
        "proxy": "",
        "unproxied": "",
        "commit": "",
    }
    script = render.script("lib/as.sh", "lib/proxy.sh", "lib/git.sh", "master/clone.sh", **settings)
    return run(f"set -eu\n{script}", folder.parent)


def look(folder: Path, tag: str = "v0.0.5") -> Any:
    settings = {"clone": str(folder), "tag": tag, "files": f"{names.PLUGIN_LUA} {names.PLUGIN_CONF}"}
    told = run(render.script("lib/as.sh", "lib/git.sh", "master/plugin_look.sh", **settings), folder.parent)
    assert told.returncode == 0, told
    return steps.parse(plugin.STAGE, "repository", told.stdout)


def test_the_sources_are_tried_in_order(repository: Path, tmp_path: Path) -> None:
    """The first URL that has the tag is cloned; the look then has the files as the tag has them."""
    assert clone(repository, tmp_path / "clone").returncode == 0
    found = look(tmp_path / "clone")
    assert (found["there"], found["modified"], found["files"]) == (True, [], FILES)
    here = place()
    here.facts.found["plugin.repository"] = {"m": found}
    assert steps.read(plugin.STAGE, "repository", here, found) == steps.step(plugin.STAGE, "repository").want(here)


def test_a_tag_that_is_nowhere_leaves_nothing(repository: Path, tmp_path: Path) -> None:
    """A wrong version fails, and no half clone is left to be taken for a whole one."""
    assert clone(repository, tmp_path / "clone", "v9.9.9").returncode == 1
    assert list(tmp_path.glob("clone*")) == []
    assert look(tmp_path / "clone") == {"there": False, "commit": "", "modified": [], "files": {}, "open": ""}


def test_a_changed_work_tree_is_seen_and_not_installed(repository: Path, tmp_path: Path) -> None:
    """The changed path is named, and the files are those of the tag all the same. The look writes nothing."""
    clone(repository, tmp_path / "clone")
    (tmp_path / "clone/src/burst_buffer" / names.PLUGIN_LUA).write_text("changed\n")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "clone").rglob("*")}
    found = look(tmp_path / "clone")
    assert (found["modified"], found["files"]) == ([f"src/burst_buffer/{names.PLUGIN_LUA}"], FILES)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "clone").rglob("*")} == before


def test_the_look_at_a_file_tells_what_it_is_like(tmp_path: Path) -> None:
    """Mode, owner, content; nothing where there is none."""
    file = tmp_path / names.PLUGIN_CONF
    script = render.script(
        "lib/slurm_conf.sh", "lib/holds_secret.sh", "controller/plugin_file.sh", folder=str(tmp_path), file=str(file)
    )
    assert steps.parse(plugin.STAGE, "lua", run(script, tmp_path).stdout) is None
    file.write_text("Directive=DW\n")
    file.chmod(0o640)
    found = steps.parse(plugin.STAGE, "lua", run(script, tmp_path).stdout)
    assert (found["mode"], found["text"]) == ("640", "Directive=DW\n")


@pytest.fixture
def lua() -> str:
    """The Lua that the Slurm of the lab is linked with."""
    found = shutil.which("lua5.4")
    assert found, "lua5.4 is needed: apt-get install lua5.4"
    return found


def load_lua(lua: str, text: str, tmp_path: Path, asked: str = "") -> subprocess.CompletedProcess[bytes]:
    settings = {
        "folder": str(tmp_path),
        "file": "",
        "lua": lua,
        "program": render.read("controller/load.lua"),
        "hooks": asked,
    }
    return run(render.script("lib/slurm_conf.sh", "controller/load.sh", **settings) + "loads", tmp_path, text.encode())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("function (", "expected near"),
        ("error('no luck')", "no luck"),
        ("return 1", "returns 1"),
        ("function slurm_bb_other() end", "has no function slurm_bb_pools"),
    ],
)
def test_what_slurmctld_would_refuse_does_not_load(lua: str, tmp_path: Path, text: str, said: str) -> None:
    """A syntax error, an error while loading, a return code and a missing hook each end with one clear line."""
    told = load_lua(lua, text, tmp_path, "slurm_bb_pools")
    assert told.returncode == 1
    assert said in told.stderr.decode()


def test_a_good_plugin_loads(lua: str, tmp_path: Path) -> None:
    """Ours, with the hooks added, loads and has every function that is asked for."""
    text = (Path(__file__).parents[4] / OURS / names.PLUGIN_LUA).read_text()
    told = load_lua(lua, plugin.with_shim(place(), text), tmp_path, " ".join(HOOKS))
    assert (told.returncode, told.stderr) == (0, b"")


def test_an_installed_plugin_is_compiled_and_not_run(lua: str, tmp_path: Path) -> None:
    """A look at a file that would do harm when it is run does none; a syntax error is told."""
    file = tmp_path / names.PLUGIN_LUA
    script = (
        "interpreters() { echo 5.4 "
        + lua
        + "; }\n"
        + render.script(
            "lib/slurm_conf.sh",
            "lib/holds_secret.sh",
            "controller/plugin_file.sh",
            folder=str(tmp_path),
            file=str(file),
        )
    )
    file.write_text(f"io.open('{tmp_path}/harm', 'w')")
    assert steps.parse(plugin.STAGE, "lua", run(script, tmp_path).stdout)["compiled"] == {lua: ""}
    assert not (tmp_path / "harm").exists()
    file.write_text("function (")
    assert "expected near" in steps.parse(plugin.STAGE, "lua", run(script, tmp_path).stdout)["compiled"][lua]


def test_content_is_shown_whatever_it_is() -> None:
    """A file that is no text is shown as far as it can be, and differs from what is wanted."""
    line = b"mode=644\nowner=root:root\ncontent=" + base64.b64encode(b"\xff\x00x") + b"\n"
    assert steps.parse(plugin.STAGE, "lua", line)["text"] == "\\xff\x00x"


def test_half_of_a_plugin_is_none(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of which git can read the beginning alone is no file of the plugin: it would go to all controllers."""
    assert clone(repository, tmp_path / "clone").returncode == 0
    git, half = shutil.which("git"), tmp_path / "bin" / "git"
    half.parent.mkdir()
    half.write_text(f'#!/bin/sh\ncase " $*" in *" show "*) {git} "$@" | head -c 9; exit 1 ;; esac\n{git} "$@"\n')
    half.chmod(0o755)
    monkeypatch.setenv("PATH", f"{half.parent}:{os.environ['PATH']}")
    settings = {"clone": str(tmp_path / "clone"), "tag": "v0.0.5", "files": f"{names.PLUGIN_LUA} {names.PLUGIN_CONF}"}
    told = run(render.script("lib/as.sh", "lib/git.sh", "master/plugin_look.sh", **settings), tmp_path)
    assert told.returncode != 0 and b"file=" not in told.stdout
