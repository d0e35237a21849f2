"""What a look at a controller finds, and what stands in the way there."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.config import acceptable
from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.model import render
from dws_on_csm.model.step import Facts, Refused, StepContext
from dws_on_csm.stages.facts import ControllerValues
from dws_on_csm.stages.preflight import unlisted_controllers
from dws_on_csm.stages.rollback import procedure
from dws_on_csm.stages.slurm import controller, deactivate, slurmctld

SITE = load(DEFAULT)
CONF = "/etc/slurm/slurm.conf"
TEXT = "ClusterName=lab\nSlurmctldHost=slurmctl\nSlurmUser=slurm\n"
GOOD: Any = {
    **dict.fromkeys(ControllerValues.__annotations__, ""),
    "host": "slurmctl",
    "program": "/usr/sbin/slurmctld",
    "version": "24.11.5",
    "main": "51",
    "LoadState": "loaded",
    "user": "slurm",
    "uid": "64030",
    "path": "/usr/bin",
    "kubectl": "/usr/bin/kubectl",
    "library": "/usr/lib64/slurm/burst_buffer_lua.so",
    "hooks": ["slurm_bb_pools"],
    "linked": ["5.4"],
    "lua": [["5.4", "/usr/bin/lua5.4"]],
    "files": {CONF: TEXT},
    "unreadable": [],
}
RUNNING: dict[str, Any] = {
    **slurmctld.parse(b""),
    "main": "51",
    "started": 100.0,
    "changed": {CONF: 50.0},
    "pings": [["here", "UP"]],
}


def read(was: str) -> dict[str, Any]:
    """A slurmctld that has read this slurm.conf before somebody changed it."""
    return {"changed": {CONF: 150.0}, "was": {CONF: was}, "now": {CONF: TEXT}}


def test_settings_that_are_not_loaded_are_named() -> None:
    """The keys that differ, and all three ways on."""
    running = RUNNING | read(f"{TEXT}MailProg=/x\nslurmctldport=1\n")
    (seen,) = controller.judge(StepContext(SITE, Facts({slurmctld.FACT.name: {"slurmctl": running}}), "slurmctl"), GOOD)
    assert "(MailProg, slurmctldport)" in seen.text
    assert all(way in seen.fix for way in ("restart", "undo", "accept: [slurm-conf-not-loaded]"))


def names(found: Any, running: dict[str, Any]) -> list[str]:
    place = StepContext(SITE, Facts({slurmctld.FACT.name: {"slurmctl": running}}), "slurmctl")
    seen = controller.judge(place, found)
    assert all(one.fix for one in seen)
    return [one.name for one in seen]


@pytest.mark.parametrize(
    ("change", "running", "expected"),
    [
        ({}, {}, []),
        ({"program": ""}, {}, ["slurm-missing"]),
        ({"files": {}}, {}, ["slurm-conf-missing"]),
        ({"LoadState": "not-found"}, {}, ["slurm-unit-missing"]),
        ({"main": ""}, {"main": ""}, ["slurmctld-not-running"]),
        ({"main": "", "files": {CONF: TEXT + "BurstBufferType=burst_buffer/lua\n"}}, {"main": ""}, []),
        ({"version": "22.05.8"}, {}, ["slurm-too-old"]),
        ({"linked": ["5.1"]}, {}, ["slurm-lua-5.1"]),
        ({"library": "", "linked": [], "hooks": []}, {}, ["bb-plugin-missing"]),
        ({"files": {CONF: TEXT + "burstbuffertype = burst_buffer/datawarp # old\n"}}, {}, ["other-burst-buffer"]),
        (
            {
                "files": {
                    CONF: TEXT + "Include bb.conf\n",
                    "/etc/slurm/bb.conf": "BurstBufferType=burst_buffer/generic\n",
                }
            },
            {},
            ["other-burst-buffer"],
        ),
        ({"unreadable": ["/etc/slurm/gone.conf"]}, {}, ["slurm-conf-include"]),
        ({}, {"pings": [["there", "UP"]]}, ["not-a-controller"]),
        ({}, {"changed": {CONF: 150.0}}, ["slurm-conf-not-loaded"]),
        ({}, read(TEXT.replace("lab", "old")), ["slurm-conf-not-loaded"]),
        ({}, read(f"# another comment\n{TEXT}"), []),
        ({}, read(f"{TEXT}BurstBufferType=burst_buffer/lua\n"), []),
        ({}, read(f"{TEXT}BurstBufferType=burst_buffer/lua\nMailProg=/x\n"), ["slurm-conf-not-loaded"]),
        ({}, {"changed": {CONF: 150.0}, "same": True}, []),
        ({"files": {CONF: TEXT + "BurstBufferType=burst_buffer/lua\n"}}, {"changed": {CONF: 150.0}}, []),
        ({"uid": ""}, {}, ["slurm-user-unknown"]),
        ({"uid": "", "lacks": "unknown", "why": "it has no such user"}, {}, ["slurm-user-unknown"]),
        ({"uid": "", "lacks": "unreadable", "why": "it is too long"}, {}, ["slurm-user-unknown"]),
        ({"uid": "", "lacks": "open", "why": "others can write it"}, {}, ["slurm-user-open"]),
        ({"files": {}, "uid": "", "lacks": "open", "why": "x"}, {}, ["slurm-conf-missing", "slurm-user-open"]),
        ({"kubectl": ""}, {}, ["kubectl-missing"]),
        ({"absent": ["liblua5.4.so.0"]}, {}, ["lua-library-missing"]),
        ({"kubectl": "", "closed": "/usr/bin/kubectl"}, {}, ["kubectl-missing"]),
        (
            {"kubectl": "", "uid": "", "version": "22.05"},
            {},
            ["slurm-too-old", "slurm-user-unknown", "kubectl-missing"],
        ),
    ],
)
def test_findings(change: dict[str, Any], running: dict[str, Any], expected: list[str]) -> None:
    """Each thing that an install would fail at has its name and a fix, all of them at once."""
    assert names(GOOD | change, RUNNING | running) == expected


@pytest.mark.parametrize(
    ("elsewhere", "fix"),
    [
        (
            ["/opt/slurm/etc/slurm.conf (-f in the running process)"],
            "set slurm.folder to /opt/slurm/etc in the site file",
        ),
        (["/opt/slurm/etc/slurm.conf (as slurmctld reports)"], "set slurm.folder to /opt/slurm/etc in the site file"),
        (["/etc/slurm/test.conf (SLURM_CONF in the unit slurmctld)"], "start slurmctld with one slurm.conf"),
        (["slurm.conf (-f in the running process)"], "start slurmctld with one slurm.conf"),
        (["/a/slurm.conf (-f in the running process)", "/b/slurm.conf (-f in the unit x)"], "start slurmctld with one"),
    ],
)
@pytest.mark.parametrize("files", [{CONF: TEXT}, {}])
def test_a_slurm_conf_that_slurmctld_does_not_read_is_refused(
    elsewhere: list[str], fix: str, files: dict[str, str]
) -> None:
    """Both paths are named, and nothing else is said of a file that does not matter."""
    place = StepContext(SITE, Facts({slurmctld.FACT.name: {"slurmctl": RUNNING}}), "slurmctl")
    (seen,) = controller.judge(place, GOOD | {"elsewhere": elsewhere, "files": files, "kubectl": ""})
    assert seen.name == "slurm-conf-elsewhere" and seen.name in acceptable.WHY_NOT
    assert all(named in seen.text for named in elsewhere) and f"makes it {CONF}" in seen.text
    assert seen.fix.startswith(fix)


def test_every_command_that_uses_slurm_conf_refuses_another_one() -> None:
    """An undeploy, a rollback and new certificates too: SlurmUser could be another one there, and the files lie elsewhere."""
    place = StepContext(SITE, Facts(), "slurmctl")
    have = GOOD | {"elsewhere": ["/opt/slurm/etc/slurm.conf (as slurmctld reports)"]}
    judges = (deactivate.judge, unlisted_controllers.checks_for_reading("")[0].judge, procedure.CONTROLLER_PLACED.judge)
    for judge in judges:
        assert [finding.name for finding in judge(place, have)] == ["slurm-conf-elsewhere"]
        assert list(judge(place, GOOD)) == []


def test_a_slurm_conf_without_end_is_refused() -> None:
    """Files that include each other twice, thirty deep, have no end in anybody's time: the host's check says so."""
    files = {f"/etc/slurm/a{i}": f"Include a{i + 1}\nInclude a{i + 1}\n" for i in range(30)} | {"/etc/slurm/a30": ""}
    found = GOOD | {"files": {CONF: TEXT + "Include a0\n", **files}, "uid": "", "lacks": "unreadable", "why": "x"}
    with pytest.raises(Refused) as refused:
        names(found, RUNNING)
    assert [one.name for one in refused.value.findings] == ["slurm-conf-too-long"]


# --- the look itself, run on this machine


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A host's folders: a slurmctld of version 23.02.7 below opt/, whose library asks for two hooks and has Lua 5.3."""
    for name in ("etc", "opt/sbin", "opt/lib64/slurm", "bin"):
        (tmp_path / name).mkdir(parents=True)
    program(tmp_path / "opt/sbin/slurmctld", "echo slurm 23.02.7")
    content = b"\x7fELF\0slurm_bb_pools\0slurm_bb_flags2str\0xslurm_bb_no\0slurm_bb_setup\0liblua-5.3.so\0liblua.so\0"
    (tmp_path / "opt/lib64/slurm/burst_buffer_lua.so").write_bytes(content)
    return tmp_path


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def look(host: Path, unit: str = "no-such-unit-at-all") -> Any:
    (host / "bin").mkdir(exist_ok=True)
    program(host / "bin/pgrep", "exit 1")  # this machine may run a slurmctld of its own
    script = render.script(
        "lib/as.sh", "lib/slurmctld.sh", "lib/lua.sh", "controller/controller.sh", folder=str(host / "etc"), unit=unit
    )
    settings = {"PATH": f"{host}/bin:{host}/opt/sbin:/usr/bin:/bin:/usr/sbin"}
    told = subprocess.run(["sh", "-c", script], env=settings, capture_output=True, timeout=30, check=False)
    assert (told.returncode, told.stderr) == (0, b"")
    return controller.parse(told.stdout)


def test_the_look_reads_the_library(host: Path) -> None:
    """Version, hooks and Lua come from the files of this Slurm; a name that only resembles a hook is none."""
    found = look(host)
    assert found["version"] == "23.02.7"
    assert found["library"] == f"{host}/opt/lib64/slurm/burst_buffer_lua.so"
    assert found["hooks"] == ["slurm_bb_pools", "slurm_bb_setup"]
    assert found["linked"] == ["5.3"]


def test_a_library_that_is_not_read_to_its_end_is_none_without_functions(host: Path) -> None:
    """Of half of it some functions would be missing: which ones slurmctld calls is unknown then, and stands in the way."""
    program(host / "bin/dd", '/usr/bin/dd "$@" | head -c 30; exit 1')
    found = look(host)
    library = f"{host}/opt/lib64/slurm/burst_buffer_lua.so"
    assert (found["library"], found["unreadable_library"], found["hooks"], found["linked"]) == (
        library,
        library,
        [],
        [],
    )
    place = StepContext(load(DEFAULT), Facts({}), "slurmctl")
    (told,) = [
        one
        for one in controller.plugin_findings(place, GOOD | {"unreadable_library": library})
        if one.name == "hooks-unknown"
    ]
    assert library in told.text and library in told.fix


def test_the_look_follows_includes(host: Path) -> None:
    """Files included by files are read, relative to slurm.conf's folder; one that is missing is named; a circle ends."""
    etc = host / "etc"
    (etc / "slurm.conf").write_text("ClusterName=LAB\nInclude nodes.conf # x\ninclude  %c.conf\nInclude gone.conf\n")
    (etc / "nodes.conf").write_text("Include slurm.conf\nSlurmUser=daemon\n")
    (etc / "lab.conf").write_bytes(b"\xe4=1\n#Include not.conf\n  Include neither.conf\n")
    found = look(host)
    assert list(found["files"]) == [f"{etc}/slurm.conf", f"{etc}/nodes.conf", f"{etc}/lab.conf"]
    assert found["files"][f"{etc}/lab.conf"].encode(errors="surrogateescape").startswith(b"\xe4=1\n")
    assert found["unreadable"] == [f"{etc}/gone.conf"]
    assert (found["user"], found["uid"]) == ("daemon", "1")


def test_the_look_without_slurm(tmp_path: Path) -> None:
    """On a host without Slurm it finds nothing, and doesn't fail."""
    found = look(tmp_path)
    assert (found["files"], found["main"], found["user"]) == ({}, "", "root")


def test_kubectl_is_looked_for_where_slurmctld_would(host: Path) -> None:
    """A kubectl on the login's PATH alone doesn't count: slurmctld would not find it."""
    program(host / "bin/kubectl", "true")
    assert f"{host}/bin" not in look(host)["path"]
    assert not look(host)["kubectl"].startswith(str(host))
