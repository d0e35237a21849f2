"""Another tool's burst buffer: told from DWS's plugin, and refused."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.commands.history import rollback_target
from dws_on_csm.config import acceptable
from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.domain import names
from dws_on_csm.model.actions import Put
from dws_on_csm.model.step import Facts, Refused, Step, StepContext
from dws_on_csm.stages import verify_cancel
from dws_on_csm.stages.facts import CONTROLLER
from dws_on_csm.stages.slurm import activate, controller, deactivate, other_burst_buffer, plugin, slurmctld
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
        (names.PLUGIN_LUA, OWN_LUA, True),
        (names.PLUGIN_LUA, OWN_LUA + "-- not workflows.dataworkflowservices.github.io\n", True),
        (names.PLUGIN_LUA, "--[[ as\nfunction DWS:new()\ndoes --]]\n" + OWN_LUA, True),
        (names.PLUGIN_LUA, OWN_LUA + "--[==[ ]]\nfunction DWS:new()\n]==]\n", True),
        (names.PLUGIN_LUA, OWN_LUA + "--[[\nfunction DWS:new()\n", True),
        (names.PLUGIN_LUA, "-- a comment ends here too\r" + OWN_LUA.replace("\n", "\r"), True),
        (names.PLUGIN_LUA, "--[[ License\n]]\n" + OURS, False),
        (names.PLUGIN_LUA, "--[[ nothing yet\n]]\n", False),
        (names.PLUGIN_LUA, 'dofile("/opt/site/bb.lua")\n', True),
        (names.PLUGIN_LUA, "-- (this file holds a key, which is not shown)\n", True),
        (names.PLUGIN_LUA, "-- (this file can not be read to its end)\n", True),
        (names.PLUGIN_LUA, OURS, False),
        (names.PLUGIN_LUA, OURS + "-- edited\nlocal site = 1\n", False),
        (names.PLUGIN_LUA, f"{OURS}-- begin: {plugin.SHIM_MARK}\n", False),
        (names.PLUGIN_LUA, 'local WORKFLOW_CRD = "workflows.dws.cray.hpe.com"\n', False),
        (names.PLUGIN_LUA, "function DWS:new(workflow_name)\n", False),
        (names.PLUGIN_LUA, "", False),
        (names.PLUGIN_LUA, "\n-- nothing yet\n", False),
        (names.PLUGIN_CONF, OWN_CONF, True),
        (names.PLUGIN_CONF, "# Directive=DW\nDirective=BB\n", True),
        (names.PLUGIN_CONF, "Flags=EnablePersistent\n", True),
        (names.PLUGIN_CONF, (UPSTREAM / "burst_buffer.conf").read_text(), False),
        (names.PLUGIN_CONF, "directive = DW # ours\nFlags=TeardownFailure,TeardownFailure\n", False),
        (names.PLUGIN_CONF, "", False),
        (names.PLUGIN_CONF, "# Directive=BB\n", False),
    ],
)
def test_burst_buffers_of_the_site_are_recognized(name: str, text: str, expected: bool) -> None:
    """DWS's plugin stays DWS's when it is edited; a comment makes none of another one; what says nothing is nobody's."""
    assert other_burst_buffer.foreign(name, text) is expected


def there(lua: str | None = None, conf: str | None = None, **running: Any) -> StepContext:
    """A controller with these files."""
    found = {"plugin.lua": lua, "plugin.conf": conf}
    facts = {key: {"slurmctl": None if text is None else {"text": text}} for key, text in found.items()}
    return StepContext(SITE, Facts({**facts, **daemon_of(running)}), "slurmctl")


def daemon_of(running: dict[str, Any]) -> dict[str, Any]:
    """What was seen of slurmctld."""
    return {slurmctld.FACT.name: {"slurmctl": RUNNING | running}}


@pytest.mark.parametrize("found", [ENABLED, GOOD, GOOD | {"files": {CONF: TEXT + "BurstBufferType=lua\n"}}])
@pytest.mark.parametrize(
    ("place", "named"),
    [
        (there(OWN_LUA, OWN_CONF), ["burst_buffer.lua", "burst_buffer.conf"]),
        (there(OWN_LUA), ["burst_buffer.lua"]),
        (there(OURS, OWN_CONF), ["burst_buffer.conf"]),
        (there(OWN_LUA, loaded=True), ["burst_buffer.lua"]),
        (there(OURS + "-- edited\n", "Directive=DW\n"), []),
        (there(), []),
    ],
)
def test_another_tools_files_are_refused(found: Any, place: StepContext, named: list[str]) -> None:
    """Whether slurmctld uses them or not: before the first change, all files in one finding, which no site file accepts."""
    seen = controller.judge(place, found)
    assert [one.name for one in seen] == ["other-burst-buffer"] * bool(named)
    for one in seen:
        for name in named:
            assert (
                f"/etc/slurm/{name} on slurmctl is not DWS's plugin (" in one.text and f"/etc/slurm/{name}" in one.fix
            )
    assert "other-burst-buffer" in acceptable.WHY_NOT


def test_a_file_is_described_to_who_does_not_know_it() -> None:
    """Its size, owner, time of change and first lines are in the finding, without what could control a terminal."""
    look = {"size": "131 bytes", "owner": "bb:bb", "changed": "changed 2026-11-20 10:11:12", "text": f"\n\t{OWN_LUA}"}
    facts = Facts({"plugin.lua": {"slurmctl": look}, **daemon_of({})})
    (seen,) = controller.judge(StepContext(SITE, facts, "slurmctl"), GOOD)
    assert (
        '(131 bytes, bb:bb, changed 2026-11-20 10:11:12, begins with: local TOOL = "/usr/sbin/other-stager" | '
        in seen.text
    )


def test_what_is_seen_of_a_file(tmp_path: Path) -> None:
    """The look tells mode, owner, size and time of change beside the content."""
    (tmp_path / "slurm.conf").write_text("ClusterName=x\n")
    (tmp_path / "burst_buffer.conf").write_text(OWN_CONF)
    (tmp_path / "burst_buffer.conf").chmod(0o640)
    os.utime(tmp_path / "burst_buffer.conf", (0, 86400 * 365))
    look = plugin.look_file(
        StepContext(replace(SITE, slurm=replace(SITE.slurm, folder=str(tmp_path))), Facts({}), "c"), names.PLUGIN_CONF
    )
    done = subprocess.run(["sh", "-c", look.script], capture_output=True, check=True, env=os.environ | {"TZ": "UTC"})
    found = look.parse(done.stdout)
    assert {key: found[key] for key in ("mode", "size", "changed", "text")} == {
        "mode": "640",
        "size": "16 bytes",
        "changed": "changed 1971-01-01 00:00:00",
        "text": OWN_CONF,
    }


@pytest.mark.parametrize(
    ("text", "where", "value"),
    [
        ("BurstBufferType=burst_buffer/datawarp\n", CONF, "burst_buffer/datawarp"),
        ("BurstBufferType=datawarp\n", CONF, "datawarp"),
        ("BurstBufferType=lua,datawarp\n", CONF, "lua,datawarp"),
        ("BurstBufferType=Lua\n", CONF, "Lua"),
        ("Include bb.conf\n", "/etc/slurm/bb.conf", "generic"),
    ],
)
def test_another_burst_buffer_type_is_refused_in_the_same_words(text: str, where: str, value: str) -> None:
    """By the preflight and by the step, with the file that has the line."""
    files = {CONF: text, "/etc/slurm/bb.conf": "BurstBufferType=generic\n"}
    facts = Facts({CONTROLLER.name: {"slurmctl": GOOD | {"files": files}}, **daemon_of({})})
    place = StepContext(SITE, facts, "slurmctl")
    (seen,) = controller.judge(place, GOOD | {"files": files})
    with pytest.raises(Refused) as refused:
        activate.wanted_text(place, text)
    assert (seen.text, seen.fix) == (refused.value.findings[0].text, refused.value.findings[0].fix)
    assert seen.text.startswith(
        f"{where} on slurmctl has BurstBufferType={value}, and Slurm supports one burst buffer only"
    )


@pytest.mark.parametrize("value", ["lua", '"lua"', "burst_buffer/lua", "lua,"])
def test_lua_is_burst_buffer_lua_everywhere(value: str) -> None:
    """Slurm adds the prefix: nothing is edited or restarted for it, nothing finds it missing, and an undeploy removes it."""
    text = f"{TEXT}BurstBufferType={value}\n"
    files = {CONF: text}
    daemon: Any = RUNNING | {"loaded": True, "type": value.strip('"')}
    conf = {"slurm.conf": {"slurmctl": {"text": text}}}
    facts = Facts(
        {"preflight.controller": {"slurmctl": GOOD | {"files": files}}, slurmctld.FACT.name: {"slurmctl": daemon}}
        | conf
    )
    place = StepContext(SITE, facts, "slurmctl")
    assert activate.wanted_text(place, text) == text and activate.enabled(place)
    assert list(controller.judge(place, GOOD | {"files": files})) == [] == list(slurmctld.plugin_lacks(daemon))
    assert verify_cancel.judge_active(place, {"type": value.strip('"')}) == []
    assert rollback_target.enables_burst_buffer(text)
    assert deactivate.want_conf(place) == TEXT


@pytest.mark.parametrize("name", ["lua", "conf"])
def test_the_step_itself_refuses_too(name: str) -> None:
    """Also where no preflight ran, as in a repair: nothing puts a file over another tool's."""
    have, want = {"text": "theirs"}, {"text": "ours"}
    with pytest.raises(Refused, match="other-burst-buffer"):
        steps.change(plugin.STAGE, name, there(OWN_LUA, OWN_CONF), have, want)


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
    monkeypatch.setattr(plugin, "upstream", lambda place: {names.PLUGIN_LUA: OURS, names.PLUGIN_CONF: ""})
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


@pytest.mark.parametrize(("lua", "stays"), [(OWN_LUA, True), (OURS, False), (None, False)])
def test_an_undeploy_leaves_another_tools_line_in_slurm_conf(lua: str | None, stays: bool) -> None:
    """BurstBufferType=burst_buffer/lua belongs to whose burst_buffer.lua is there; its plugin stays loaded, too."""
    text = TEXT + "BurstBufferType=burst_buffer/lua\n"
    found: dict[str, dict[str, Any]] = {
        "slurm.conf": {"slurmctl": {"text": text}},
        "preflight.controller": {"slurmctl": {"files": {CONF: text}}},
    }
    place = there(lua, loaded=True)
    place.facts.found.update(found)
    assert deactivate.want_conf(place) == (text if stays else TEXT)
    unread = deactivate.read_daemon(place, RUNNING | {"loaded": True, "main": "1"})["not read"]
    assert ("burst_buffer_lua.so is still loaded" in unread) is not stays


def test_an_undeploy_leaves_what_it_did_not_install() -> None:
    """Whoever confirms, also with --yes: the file stays, slurm.conf keeps naming its burst buffer, and the command that removes the
    file is shown.
    """
    files = next(one for one in deactivate.FILES.steps if one.name == "files")
    assert isinstance(files, Step) and files.read and files.change and files.removes and files.status_text
    have = ["/etc/slurm/burst_buffer.lua", "/etc/slurm/slurm-dws.kubeconfig"]
    place = there(OWN_LUA)
    seen, want = files.read(place, have), files.want(place)
    assert seen != want and files.read(place, have[:1]) == want
    assert [one.path for one in files.change(place, seen, want)] == have[1:]  # type: ignore[union-attr]
    assert have[0] not in files.removals(place, seen, want)[0].words
    assert "`rm -- /etc/slurm/burst_buffer.lua`" in files.status_text(want)
    ours = there(OURS)
    assert files.want(ours)["to remove"] == [] and files.status_text(files.want(ours)) == ""
    assert [one.path for one in files.change(ours, files.read(ours, have), [])] == have  # type: ignore[union-attr]
    assert {one.name for one in deactivate.FILES.steps} >= {"lua", "conf"}, "what `foreign` asks for is looked at"
