"""Findings about slurmctld, and about the files that it has read."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.commands.doctor import rules
from dws_on_csm.model import render
from dws_on_csm.model.step import Facts, StepContext
from dws_on_csm.stages.slurm import slurmctld, start
from tests.unit.commands.doctor.context import HOST, SITE, place, told


@pytest.mark.parametrize(
    ("main", "changed", "expected"),
    [
        ("9", {"slurm.conf": 6.0, "burst_buffer.conf": 1.0}, ["slurmctld-stale"]),
        ("9", {"slurm.conf": 1.0, "burst_buffer.conf": 6.0}, ["slurmctld-stale"]),
        ("9", {"slurm.conf": 1.0, "burst_buffer.conf": 1.0}, []),
        ("9", {"slurm.conf": 1.0}, []),
        ("", {"slurm.conf": 6.0, "burst_buffer.conf": 6.0}, ["slurmctld-not-running"]),
    ],
)
def test_a_slurmctld_that_is_older_than_its_files(main: str, changed: dict[str, float], expected: list[str]) -> None:
    """A missing file is a finding about the file; a changed one is a finding about slurmctld."""
    running = slurmctld.parse(b"started=5.0\nloaded=yes\nping=here UP\ntype=burst_buffer/lua\n")
    running |= {"main": main, "changed": {f"/etc/slurm/{name}": at for name, at in changed.items()}}
    have = {"answers": slurmctld.answers(running), "not read": []}
    assert told(rules.RULES["slurm.daemon"](place(slurm_daemon=running), have, None)) == expected


SILENT = {"answers": False, "not read": []}

PARSES = start.parse(b"auth=auth/munge\nas=slurm\n")


@pytest.mark.parametrize(
    ("main", "obstacle", "name", "restart"),
    [
        ("", {}, "slurmctld-not-running", "repair slurm"),
        ("", {"proof": "no socket"}, "slurmctld-not-running", "first fix munge-down"),
        ("", {"state_problem": "missing"}, "slurmctld-not-running", "first fix state-folder-unusable"),
        ("9", {"unparsed": ["error"]}, "slurmctld-not-answering", "first fix slurm-conf-unparsable"),
        ("9", {"proof": "no socket"}, "slurmctld-not-answering", "first fix munge-down"),
        ("9", {}, "slurmctld-not-answering", "wait a minute"),
    ],
)
def test_why_slurmctld_does_not_respond(main: str, obstacle: dict[str, Any], name: str, restart: str) -> None:
    """Not running, unable to be asked, busy: a restart is named only where it is the fix, and after what keeps it from working."""
    backup = {**slurmctld.parse(b"ping=there DOWN\nping=here UP\n"), "main": "7"}
    facts = {
        slurmctld.FACT.name: {HOST: {**slurmctld.parse(b""), "main": main}, "other": backup},
        start.START.name: {HOST: {**PARSES, **obstacle}},
    }
    (found,) = rules.RULES["slurm.daemon"](StepContext(SITE, Facts(facts), HOST), SILENT, None)
    assert (found.name, found.fix.startswith(restart) or restart in found.fix) == (name, True), found
    assert ("repair slurm" in found.fix) is not (main != "" and bool(obstacle))
    assert ("slurmctld on other responds" in found.text) is not (main != "" and bool(obstacle))


@pytest.mark.parametrize(
    ("ended", "limits"),
    [
        ("Result=oom-kill MemoryMax=67108864", ["MemoryMax"]),
        ("LimitAS=20971520 MemoryMax=67108864 Result=exit-code", ["LimitAS", "MemoryMax"]),
        ("Result=exit-code", []),
        ("", []),
    ],
)
def test_the_limits_of_a_slurmctld_that_has_ended(ended: str, limits: list[str]) -> None:
    """What systemd says of its end is shown; where its unit limits its memory, the commands that lift that are, too."""
    facts = {slurmctld.FACT.name: {HOST: slurmctld.parse(f"main=\nended={ended}\n".encode())}}
    (found,) = rules.RULES["slurm.daemon"](StepContext(SITE, Facts(facts), HOST), SILENT, None)
    assert (f"(systemd says {ended})" in found.text) == bool(ended)
    lifted = "".join(f"{limit}=infinity\\n" for limit in limits)
    assert (f"printf '[Service]\\n{lifted}' >/etc/systemd/system/slurmctld.service.d/" in found.fix) == bool(limits)


def test_a_slurmctld_that_somebody_started_by_hand() -> None:
    """It runs, and its unit does not know it: the fix ends it first, as the unit cannot start another one beside it."""
    facts = {slurmctld.FACT.name: {HOST: slurmctld.parse(b"main=\noutside=77\n")}}
    (found,) = rules.RULES["slurm.daemon"](StepContext(SITE, Facts(facts), HOST), SILENT, None)
    assert found.name == "slurmctld-not-running" and "process 77" in found.text
    assert found.fix.startswith("run `kill 77; ") and "systemctl start slurmctld`" in found.fix


@pytest.mark.parametrize("main", ["", "9"])
def test_what_a_silent_slurmctld_said_last_is_in_the_finding(main: str) -> None:
    """Its own errors name causes that no check of ours knows: a script that is missing, a name that does not resolve."""
    said = b"said=[2026] fatal: no prep plugin\nsaid=[2026] error: getaddrinfo() failed\n"
    daemon = {**slurmctld.parse(said), "main": main}
    facts: dict[str, Any] = {slurmctld.FACT.name: {HOST: daemon}, start.START.name: {HOST: PARSES}}
    (found,) = rules.RULES["slurm.daemon"](StepContext(SITE, Facts(facts), HOST), SILENT, None)
    assert "Its last errors: [2026] fatal: no prep plugin / [2026] error: getaddrinfo() failed" in found.text


@pytest.mark.parametrize("up", [True, False])
def test_the_last_errors_of_slurmctlds_log_are_read_where_it_does_not_respond(tmp_path: Path, up: bool) -> None:
    """The last five, of errors alone; nothing where it responds, whether or not another one does."""
    log = tmp_path / "slurmctld.log"
    lines = [
        "error: old",
        "error: zero",
        "error: and more",
        "debug: one",
        "error: two",
        "fatal: three",
        "error: four",
        "info: five",
    ]
    last = [line for line in lines[1:] if line.startswith(("error", "fatal"))]
    log.write_text("".join(f"[2026-12-01T04:00:00.000] {line}\n" for line in lines))
    library = render.script("lib/as.sh", "lib/slurmctld.sh", folder=str(tmp_path), unit="none", state=str(tmp_path))
    played = (
        f"named_pings() {{ echo $(uname -n) {'UP' if up else 'DOWN'}; echo other UP; }}\nlog_file() {{ echo {log}; }}\n"
    )
    played += 'systemd() { false; }\nmain_pid() { :; }\nslurm() { "$@"; }\n'
    script = library + played + render.read("controller/daemon.sh")
    done = subprocess.run(["sh", "-s"], input=script, capture_output=True, text=True, timeout=60, check=False)
    said = slurmctld.parse(done.stdout.encode())["said"]
    assert [line.partition("] ")[2] for line in said] == ([] if up else last), done


@pytest.mark.parametrize(
    ("pings", "type_", "stale"),
    [
        ("ping=there DOWN\nping=here UP\n", "", False),  # it has not taken over yet
        ("ping=there DOWN\nping=here UP\n", "type=(null)\n", True),
        ("ping=here UP\nping=there UP\n", "", True),
        ("ping=there UP\nping=here UP\n", "type=(null)\n", False),
    ],
)
def test_a_backup_is_not_old_because_its_primary_is_ill(pings: str, type_: str, stale: bool) -> None:
    """Only a slurmctld in charge says what burst buffer it has; one that stands by loads it when it takes over."""
    daemon = slurmctld.parse(f"main=9\nstarted=5.0\nchanged=1.0 /etc/slurm/burst_buffer.conf\n{pings}{type_}".encode())
    assert bool(slurmctld.restart_reasons(SITE, daemon)) is stale


@pytest.mark.parametrize(("line", "expected"), [("", []), ("BurstBufferType=burst_buffer/lua\n", ["slurmctld-stale"])])
def test_a_slurmctld_that_has_read_a_slurm_conf_without_the_burst_buffer(line: str, expected: list[str]) -> None:
    """There is a finding only where slurm.conf sets what slurmctld does not have."""
    running = slurmctld.parse(
        b"main=9\nstarted=5.0\nchanged=1.0 /etc/slurm/burst_buffer.conf\nping=here UP\ntype=(null)\n"
    )
    conf = {"id": "1", "text": f"ClusterName=x\n{line}"}
    seen = place(slurm_daemon=running, slurm_conf=conf, preflight_controller={"files": {}})
    assert [reason.code for reason in slurmctld.restart_reasons(SITE, running)] == ["other-type"]
    assert told(rules.RULES["slurm.daemon"](seen, {"answers": True, "not read": []}, None)) == expected
