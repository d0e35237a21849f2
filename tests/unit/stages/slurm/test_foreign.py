"""A burst buffer of the site's own: told from DWS's plugin, refused where slurmctld uses it, asked about where nothing does."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.config import acceptable
from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.model import render
from dws_on_csm.model.actions import Put, RunScript
from dws_on_csm.model.step import Facts, Removal, Step, StepContext
from dws_on_csm.stages.slurm import controller, deactivate, foreign, plugin, slurmctld
from tests.unit import steps
from tests.unit.stages.slurm.test_controller import CONF, GOOD, RUNNING, TEXT

SITE = load(DEFAULT)
UPSTREAM = Path("lab/upstream/dws-slurm-bb-plugin/src/burst_buffer")
OWN_LUA = 'local TOOL = "/usr/sbin/other-stager"\nfunction slurm_bb_job_process(script, uid, gid, info) return 0 end\n'
OWN_CONF = "Directive=OTHER\n"
OURS = (UPSTREAM / "burst_buffer.lua").read_text()
ENABLED = GOOD | {"files": {CONF: TEXT + "BurstBufferType=burst_buffer/lua\n"}}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (plugin.LUA, OWN_LUA, True),
        (plugin.LUA, OWN_LUA + "-- not workflows.dataworkflowservices.github.io\n", True),
        (plugin.LUA, 'dofile("/opt/site/bb.lua")\n', True),
        (plugin.LUA, "-- (this file holds a key, which is not shown)\n", True),
        (plugin.LUA, "-- (this file can not be read to its end)\n", True),
        (plugin.LUA, OURS, False),
        (plugin.LUA, OURS + "-- edited\nlocal site = 1\n", False),
        (plugin.LUA, f"{OURS}-- begin: {plugin.SHIM_MARK}\n", False),
        (plugin.LUA, 'local WORKFLOW_CRD = "workflows.dws.cray.hpe.com"\n', False),
        (plugin.LUA, "function DWS:new(workflow_name)\n", False),
        (plugin.LUA, "", False),
        (plugin.LUA, "\n-- nothing yet\n", False),
        (plugin.CONF, OWN_CONF, True),
        (plugin.CONF, "# Directive=DW\nDirective=BB\n", True),
        (plugin.CONF, "Flags=EnablePersistent\n", True),
        (plugin.CONF, (UPSTREAM / "burst_buffer.conf").read_text(), False),
        (plugin.CONF, "directive = DW # ours\nFlags=TeardownFailure,TeardownFailure\n", False),
        (plugin.CONF, "", False),
        (plugin.CONF, "# Directive=BB\n", False),
    ],
)
def test_what_is_the_sites_own(name: str, text: str, expected: bool) -> None:
    """DWS's plugin stays DWS's when it is edited; a comment makes none of another one; what says nothing is nobody's."""
    assert foreign.foreign(name, text) is expected


def there(lua: str | None = None, conf: str | None = None, **running: Any) -> StepContext:
    """A controller with these files."""
    found = {"plugin.lua": lua, "plugin.conf": conf}
    facts = {key: {"slurmctl": None if text is None else {"text": text}} for key, text in found.items()}
    return StepContext(SITE, Facts({**facts, **daemon_of(running)}), "slurmctl")


def daemon_of(running: dict[str, Any]) -> dict[str, Any]:
    """What was seen of slurmctld."""
    return {slurmctld.FACT: {"slurmctl": RUNNING | running}}


@pytest.mark.parametrize(
    ("found", "place", "named"),
    [
        (ENABLED, there(OWN_LUA, OWN_CONF), ["/etc/slurm/burst_buffer.lua and /etc/slurm/burst_buffer.conf"]),
        (ENABLED, there(OWN_LUA), ["/etc/slurm/burst_buffer.lua"]),
        (ENABLED, there(OURS, OWN_CONF), ["/etc/slurm/burst_buffer.conf"]),
        (GOOD, there(OWN_LUA, loaded=True), ["/etc/slurm/burst_buffer.lua"]),
        (GOOD, there(OWN_LUA, OWN_CONF), []),
        (ENABLED, there(OURS + "-- edited\n", "Directive=DW\n"), []),
        (ENABLED, there(), []),
    ],
)
def test_a_burst_buffer_in_use_is_refused(found: dict[str, Any], place: StepContext, named: list[str]) -> None:
    """Jobs of another burst buffer would lose it: with BurstBufferType on, or still in slurmctld's memory, it stands in the way."""
    seen = controller.judge(place, found)
    assert [one.name for one in seen] == ["other-burst-buffer"] * len(named)
    assert all(
        f"uses {files}, which this tool did not install (" in one.text and one.fix
        for one, files in zip(seen, named, strict=True)
    )
    assert "other-burst-buffer" in acceptable.WHY_NOT


def taken(place: StepContext, name: str) -> tuple[Removal, ...]:
    """What the step of this file would take away, before it is known what comes in its place."""
    step = next(one for one in plugin.STAGE.steps if isinstance(one, Step) and one.name == name)
    return step.removals(place, {"text": "x"}, None)


def test_one_that_nothing_uses_is_asked_about() -> None:
    """It is named with its host, also before the plugin was cloned; who agrees agrees to that content alone."""
    lua, conf = (taken(there(OWN_LUA, OWN_CONF), name)[0] for name in ("lua", "conf"))
    assert lua.words.startswith("/etc/slurm/burst_buffer.lua on slurmctl, which this tool did not install")
    assert conf.words.startswith("/etc/slurm/burst_buffer.conf on slurmctl, which this tool did not install")
    assert lua.confirmed != taken(there(OWN_LUA + "x = 1\n"), "lua")[0].confirmed
    assert taken(there(OURS + "-- edited\n", "Directive=DW\n"), "lua") == taken(there(), "conf") == ()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"text": OURS + "-- edited\n"}, "plugin-edited"),
        ({"text": OWN_LUA}, ""),
        ({"text": OURS + "-- edited\n", "mode": "666"}, ""),
        ({"text": OURS.replace("function slurm_bb_pools", "function no_pools")}, ""),
    ],
)
def test_which_difference_is_an_edited_plugin(change: dict[str, str], expected: str) -> None:
    """Only DWS's own plugin that has every function that this Slurm asks for, and differs in nothing else."""
    seen = {"preflight.controller": {"slurmctl": {"hooks": ["slurm_bb_pools"]}}}
    want = {"mode": "644", "owner": "root:root", "text": OURS, "compiles": "with lua"}
    assert (
        steps.accepted_as(plugin.STAGE, "lua", StepContext(SITE, Facts(seen), "slurmctl"), want | change, want)
        == expected
    )


EDITED = OURS + "-- edited\n"


@pytest.mark.parametrize(
    ("first", "now", "exact", "text"),
    [
        ("644", "644", True, OURS),
        ("666", "666", True, EDITED),
        ("666", "644", True, EDITED),
        ("666", "666", False, OURS),
    ],
)
def test_an_accepted_edit_keeps_its_text_where_its_mode_is_corrected(
    first: str, now: str, exact: bool, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its mode alone is corrected, and only as long as nobody edits it meanwhile. Bytes that are no text are left as they are."""
    monkeypatch.setattr(plugin, "upstream", lambda place: {plugin.LUA: OURS, plugin.CONF: ""})
    monkeypatch.setattr(plugin, "with_shim", lambda place, text: text)
    monkeypatch.setattr(controller, "interpreter", lambda place: "")
    monkeypatch.setattr(controller, "state", lambda place: {"linked": []})
    file = {"owner": "root:root", "compiled": {}, "text": EDITED, "exact": exact}
    seen = {"preflight.controller": {"slurmctl": {"hooks": ["slurm_bb_pools"]}}}
    facts = Facts(
        {**seen, "plugin.lua": {"slurmctl": {**file, "mode": now}}},
        {"plugin.lua": {"slurmctl": {**file, "mode": first}}},
    )
    place = StepContext(replace(SITE, accept=frozenset({"plugin-edited"})), facts, "slurmctl")
    monkeypatch.setattr(plugin, "required_functions", lambda place: ["slurm_bb_pools"])
    have, want = (
        steps.read(plugin.STAGE, "lua", place, {**file, "mode": now}),
        steps.step(plugin.STAGE, "lua").want(place),
    )
    assert want["text"] == text and want["mode"] == "644"
    if text == EDITED:
        (put,) = steps.change(plugin.STAGE, "lua", place, have, want)
        assert isinstance(put, Put) and put.content == EDITED.encode() and "cmp -s" in put.check
    else:
        assert steps.accepted_as(plugin.STAGE, "lua", place, have, want) == "plugin-edited"
    refused = StepContext(SITE, facts, "slurmctl")
    assert steps.step(plugin.STAGE, "lua").want(refused)["text"] == OURS


STUBS = """set -eu
conf_said() { printf '%s\\n' "$type"; }
main_pid() { printf '%s\\n' "$main"; }
of_process() { [ "$maps" != unreadable ] && printf '%s\\n' "$maps"; }
own=/etc/slurm/burst_buffer.lua
"""
LOADED = "7f-80 r-xp 0 0 0 /usr/lib64/slurm/burst_buffer_lua.so"


@pytest.mark.parametrize("shell", ["dash", "bash --posix"])
@pytest.mark.parametrize(
    ("code", "type_", "main", "maps", "why"),
    [
        ("0", "", "7", "7f-80 r-xp 0 0 0 /usr/sbin/slurmctld", ""),
        ("0", "", "", "", ""),
        ("0", "BurstBuffer_none", "", "", ""),
        ("0", "Burst_Buffer/Lua", "", "", "BurstBufferType=burst_buffer/lua"),
        ("0", "", "7", LOADED, "has loaded"),
        ("0", "", "7", "unreadable", "cannot be read"),
        ("1", "", "", "", "cannot be read"),
    ],
)
def test_a_burst_buffer_that_came_into_use_meanwhile_stays(
    shell: str, code: str, type_: str, main: str, maps: str, why: str
) -> None:
    """Right before the file is replaced slurmctld is asked again. Where that is unknown, the file stays too."""
    settings = {"conf_code": code, "type": type_, "main": main, "maps": maps, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [*shell.split(), "-c", STUBS + foreign._IN_USE], env=settings, capture_output=True, text=True, check=False
    )
    assert (done.returncode, why in done.stderr) == (1 if why else 0, True)


@pytest.mark.parametrize("line", ["BurstBufferType=burst_buffer/lua", "burstbuffertype = Burst_Buffer/Lua"])
def test_the_guard_reads_slurm_conf(tmp_path: Path, line: str) -> None:
    """What it says at that moment, in an include too."""
    (tmp_path / "slurm.conf").write_text("ClusterName=x\nInclude more.conf\n")
    (tmp_path / "more.conf").write_text("")
    names = ("lib/as.sh", "lib/slurmctld.sh")
    script = render.script(*names, folder=str(tmp_path), unit="no-such-unit", own="/etc/slurm/burst_buffer.lua")
    words = ["sh", "-euc", f"{script}\nmain_pid() {{ :; }}\n{foreign._IN_USE}"]
    assert subprocess.run(words, capture_output=True, check=False).returncode == 0
    (tmp_path / "more.conf").write_text(f"{line}\n")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "BurstBufferType=burst_buffer/lua" in done.stderr


def test_only_a_file_that_this_tool_did_not_install_is_guarded() -> None:
    """The guard goes before the replacement, in the same script."""
    for name in (plugin.LUA, plugin.CONF):
        first, put = plugin._put(there(OWN_LUA, OWN_CONF), name, "x")
        assert isinstance(first, RunScript) and f"own=/etc/slurm/{name}" in first.script and isinstance(put, Put)
        (alone,) = plugin._put(there(OURS, "Directive=DW\n"), name, "x")
        assert isinstance(alone, Put)


def test_an_undeploy_says_what_it_did_not_install() -> None:
    """Each such file by its content, whoever confirms."""
    files = next(one for one in deactivate.FILES.steps if one.name == "files")
    assert isinstance(files, Step)
    have = ["/etc/slurm/burst_buffer.lua", "/etc/slurm/slurm-dws.kubeconfig"]
    all_, own = files.removals(there(OWN_LUA), have, [])
    assert "burst_buffer.lua on slurmctl, which this tool did not install and which is not DWS's plugin" in own.words
    assert own.confirmed != files.removals(there(OWN_LUA + "x = 1\n"), have, [])[1].confirmed
    assert files.removals(there(OURS), have, []) == (all_,)
    assert {one.name for one in deactivate.FILES.steps} >= {"lua", "conf"}, "what `foreign` asks for is looked at"
