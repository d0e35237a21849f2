"""slurm.conf's next text, when a slurmctld is current, and what is said of compute nodes."""

from __future__ import annotations

import base64
import gzip
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.config.site import ComputeGroup, Host
from dws_on_csm.domain import slurm_conf
from dws_on_csm.model import render
from dws_on_csm.model.actions import RunScript
from dws_on_csm.model.step import Constant, Facts, NotYetKnown, Refused, Step, StepContext
from dws_on_csm.stages.slurm import activate, computes, slurmctld, transaction
from dws_on_csm.stages.slurm.stage import STAGE as SLURM
from tests.unit import steps
from tests.unit.growth import assert_no_square

SITE = load(DEFAULT)
CONF, BB = "/etc/slurm/slurm.conf", "/etc/slurm/burst_buffer.conf"
TEXT = "ClusterName=lab\nSlurmctldLogFile=/var/log/slurmctld.log\n"
LINE = "BurstBufferType=burst_buffer/lua\n"
CURRENT: Any = {
    "main": "51",
    "started": 100.0,
    "loaded": True,
    "changed": {CONF: 90.0, BB: 95.0},
    "pings": [["here", "UP"], ["there", "UP"]],
    "type": "burst_buffer/lua",
    "activated": "",
}


def place(
    text: str = TEXT, included: str = "", host: str = "one", facts: dict[str, dict[str, Any]] | None = None
) -> StepContext:
    """A controller with this slurm.conf, which may include one more file."""
    files = {CONF: text} | ({"/etc/slurm/more.conf": included} if included else {})
    found: dict[str, dict[str, Any]] = {
        "preflight.controller": {host: {"files": files}},
        "slurm.conf": {host: {"id": "1 1.1", "text": text}},
        "slurm.daemon": {host: CURRENT},
    }
    return StepContext(SITE, Facts(found | (facts or {})), host)


# --- slurm.conf


@pytest.mark.parametrize(
    ("text", "included"),
    [
        (TEXT + LINE, ""),
        (TEXT + "burstbuffertype = burst_buffer/lua # ours\n", ""),
        (TEXT + "Include more.conf\n", LINE),
    ],
)
def test_an_enabled_file_stays_unchanged(text: str, included: str) -> None:
    """Byte for byte, whoever wrote it and wherever it stands."""
    assert activate.wanted_text(place(text, included), text) == text


def test_the_line_is_added_once_and_taken_out_again() -> None:
    """With it the text is as wanted, and without it what it was."""
    text = activate.wanted_text(place(), TEXT)
    assert slurm_conf.value(text, activate.KEY) is not None
    assert activate.wanted_text(place(text), text) == text
    assert slurm_conf.without_setting(text, activate.KEY) == TEXT


@pytest.mark.parametrize("included", ["", "BurstBufferType=burst_buffer/datawarp\n"])
def test_another_burst_buffer_is_never_replaced(included: str) -> None:
    """Neither in slurm.conf nor in a file that it includes: somebody's jobs may need it."""
    text = TEXT + ("Include more.conf\n" if included else "BurstBufferType=burst_buffer/generic\n")
    with pytest.raises(Refused, match="other-burst-buffer"):
        activate.wanted_text(place(text, included), text)


@pytest.mark.parametrize("content", [b"A=1\n", b"A=\xff\xe4\n", b"A=1\r\nB=2", b"#\n"])
def test_any_bytes_come_back_as_they_were(tmp_path: Path, content: bytes) -> None:
    """What the look reads and what would be written are the same bytes, whatever their encoding."""
    file = tmp_path / "slurm.conf"
    file.write_bytes(content)
    script = render.script("lib/safe_file.sh", "controller/conf_look.sh", file=str(file))
    told = subprocess.run(["sh", "-c", script], capture_output=True, timeout=60, check=True)
    found = steps.present(activate.parse_conf(told.stdout))
    assert transaction.content(found["text"]) == content
    assert found["id"].startswith(f"{file.stat().st_ino} ")
    assert activate.parse_conf(b"") is None


def test_the_transaction_has_both_texts_and_their_checksums() -> None:
    """What to put, what to put back, what must be there now; all that goes through standard input."""
    here = place()
    (action,) = steps.change(SLURM, "conf", here, TEXT, activate.wanted_text(here, TEXT))
    assert isinstance(action, RunScript)
    assert action.data == activate.wanted_text(here, TEXT).encode() + TEXT.encode()
    assert transaction.checksum(TEXT.encode()) in action.script
    assert "log=/var/log/slurmctld.log" in action.script
    assert "BurstBufferType=" not in action.title
    assert action.deadline > 2 * SITE.deadlines.slurmctld


def test_disabling_a_disabled_file_does_nothing() -> None:
    """An undeploy that is repeated finds nothing to do; otherwise the line goes, and comes back if that fails."""
    assert activate.disable(place()) == []
    (action,) = activate.disable(place(TEXT + LINE))
    assert isinstance(action, RunScript)
    assert action.data == TEXT.encode() + (TEXT + LINE).encode()


def test_an_undo_gives_the_text_back() -> None:
    """The text from before is what is put, and what is there now is what comes back if that fails."""
    (action,) = activate.restore(place(TEXT + LINE), TEXT)
    assert isinstance(action, RunScript)
    assert action.data == TEXT.encode() + (TEXT + LINE).encode()
    assert activate.restore(place(TEXT), TEXT) == []


# --- the daemon


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, []),
        ({"changed": {CONF: 100.01, BB: 95.0}}, [f"{CONF} changed after slurmctld read it"]),
        (
            {"changed": {CONF: 90.0, "/etc/slurm/n.conf": 101.0, BB: 9.0}},
            ["/etc/slurm/n.conf changed after slurmctld read it"],
        ),
        ({"changed": {CONF: 90.0, BB: 100.5}}, [f"{BB} changed after slurmctld read it"]),
        ({"changed": {CONF: 90.0}}, [f"{BB} is missing: jobs would run without their Workflows"]),
        ({"type": "(null)"}, ["BurstBufferType is (null)"]),
        ({"type": ""}, []),
        ({"loaded": False}, ["burst_buffer_lua.so is not loaded"]),
        ({"type": "(null)", "pings": [["there", "UP"], ["here", "UP"]]}, []),
        ({"loaded": False, "pings": [["there", "UP"], ["here", "UP"]]}, []),
        ({"loaded": False, "pings": [["there", "DOWN"], ["here", "UP"]]}, ["burst_buffer_lua.so is not loaded"]),
        ({"main": ""}, []),
    ],
)
def test_when_a_slurmctld_is_current(change: dict[str, Any], why: list[str]) -> None:
    """It started after its files were changed; and the one in charge, the first that answers, has loaded the plugin."""
    assert [reason.text for reason in slurmctld.restart_reasons(SITE, CURRENT | change)] == why


@pytest.mark.parametrize(
    ("change", "answers"),
    [
        ({}, True),
        ({"pings": [["here", "DOWN"], ["there", "UP"]]}, False),
        ({"pings": []}, False),
        ({"main": ""}, False),
    ],
)
def test_another_ones_answer_does_not_count(change: dict[str, Any], answers: bool) -> None:
    """scontrol succeeds as soon as any controller answers; what counts is that this host's does."""
    assert slurmctld.answers(CURRENT | change) is answers


def test_a_daemon_that_is_down_is_started() -> None:
    """With files that are right, one that does not answer is brought up by the same transaction, without a new text."""
    here = place(TEXT + LINE)
    (action,) = steps.change(SLURM, "daemon", here, {"answers": False, "not read": []}, None)
    assert isinstance(action, RunScript)
    assert action.data == TEXT.encode()
    assert "next_size=0\n" in action.script


@pytest.mark.parametrize(
    ("identity", "other", "kept"),
    [
        ("1 1.1", CURRENT, True),
        ("1 1.1", CURRENT | {"changed": {CONF: 200.0, BB: 1.0}}, False),
        ("1 1.1", CURRENT | {"main": ""}, False),
        ("2 1.1", CURRENT, False),
    ],
)
def test_a_file_that_another_slurmctld_uses_stays(identity: str, other: dict[str, Any], kept: bool) -> None:
    """On a shared /etc/slurm the second one's failure leaves slurm.conf to the first, if that runs with it."""
    conf = {"one": {"id": "1 1.1", "text": TEXT + LINE}, "two": {"id": identity, "text": TEXT + LINE}}
    here = place(TEXT + LINE, facts={"slurm.conf": conf, "slurm.daemon": {"one": CURRENT, "two": other}})
    (action,) = steps.change(SLURM, "daemon", here, None, None)
    assert isinstance(action, RunScript)
    assert (action.data == b"") is kept


STOPPED = CURRENT | {"main": "", "pings": [["here", "DOWN"], ["there", "UP"]]}
READ = {"activated": transaction.checksum((TEXT + LINE).encode())}


@pytest.mark.parametrize(
    ("mine", "other", "kept"),
    [
        (STOPPED, {}, False),
        (STOPPED | READ, {}, True),
        (STOPPED | {"activated": transaction.checksum(TEXT.encode())}, {}, False),
        (STOPPED, {"text": TEXT + LINE}, True),
        (STOPPED, {"text": TEXT}, False),
        (CURRENT | READ, {}, False),
        (CURRENT, {"text": TEXT + LINE}, False),
    ],
)
def test_a_text_that_is_known_to_start_is_not_touched(mine: dict[str, Any], other: dict[str, Any], kept: bool) -> None:
    """A slurmctld that does not run, and whose slurm.conf one has started with: its line is not taken out. One that runs is
    tried without it, whatever is known: files of the plugin may be others now."""
    conf = {"one": {"id": "1 1.1", "text": TEXT + LINE}}
    daemons = {"one": mine}
    if other:
        conf["two"], daemons["two"] = {"id": "2 1.1", **other}, CURRENT
    here = place(TEXT + LINE, facts={"slurm.conf": conf, "slurm.daemon": daemons})
    (action,) = steps.change(SLURM, "daemon", here, None, None)
    assert isinstance(action, RunScript)
    assert action.data == (b"" if kept else TEXT.encode())


def test_a_line_that_is_not_there_is_not_taken_out() -> None:
    """Where an included file has it, slurm.conf stays what it is."""
    here = place(TEXT + "Include more.conf\n", LINE)
    (action,) = steps.change(SLURM, "daemon", here, None, None)
    assert isinstance(action, RunScript) and action.data == b""


def test_a_stopped_slurmctld_is_started() -> None:
    """Somebody may have stopped it: the plan says that it will be started, and the report that it was."""
    step = next(one for one in SLURM.steps if one.name == "daemon")
    assert isinstance(step, Step) and step.side_effect and step.change
    for state, means in (
        (CURRENT, "restarts slurmctld; running jobs continue, pending jobs keep their place"),
        (STOPPED, "slurmctld does not run on one and will be started"),
    ):
        here = place(TEXT + LINE, facts={"slurm.daemon": {"one": state}})
        assert step.side_effect(here, None, None) == means
        (action,) = step.change(here, None, None)
        assert isinstance(action, RunScript)
        assert action.note == ("" if state is CURRENT else "slurmctld did not run on one; this run started it")


# --- its scripts, run


def run(script: str, tmp_path: Path, **programs: str) -> str:
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    settings = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    whole = render.script("lib/as.sh", "lib/slurmctld.sh", folder="/nowhere", unit="slurmctld") + script
    return subprocess.run(
        ["sh", "-c", whole], env=settings, capture_output=True, timeout=60, check=True, text=True
    ).stdout


@pytest.mark.parametrize(
    ("here", "told", "expected"),
    [
        ("a", "Slurmctld(primary) at a is UP\nSlurmctld(backup) at b is DOWN\n***\n", "here UP\nthere DOWN\n"),
        ("b.site", "Slurmctld(primary) at a is UP\nSlurmctld(backup) at b is UP\n", "there UP\nhere UP\n"),
        ("b", "Slurmctld(primary) at a,b is UP\n", "here UP\n"),
        ("c.site", "Slurmctld(backup1) at c.site is DOWN\n", "here DOWN\n"),
        ("ab", "Slurmctld(primary) at a is UP\n", "there UP\n"),
        ("a", "", ""),
    ],
)
def test_who_answers(tmp_path: Path, here: str, told: str, expected: str) -> None:
    """scontrol's lines in their order, and which of them means this host, by its name with and without its domain."""
    assert run("pings", tmp_path, uname=f"echo {here}", scontrol=f"printf '{told}'; exit 1") == expected


def test_when_a_process_began(tmp_path: Path) -> None:
    """The clock's time of a process's start is right to a few hundredths: later files are later, within a second too."""
    before = tmp_path / "before"
    before.write_text("")
    time.sleep(0.05)
    begin = time.time()
    process = subprocess.Popen(["sleep", "30"])
    end = time.time()  # on a busy machine not at once
    time.sleep(0.05)
    (tmp_path / "after").write_text("")
    try:
        started = float(run(f"start_time {process.pid}", tmp_path))
    finally:
        process.kill()
        process.wait()
    assert begin - 0.045 < started < end + 0.045
    assert before.stat().st_ctime < started < (tmp_path / "after").stat().st_ctime


# --- compute nodes


def node(
    mode: Literal["check", "edit", "print"], text: str | None, controllers: str = TEXT, more: str = ""
) -> StepContext:
    """A node with this slurm.conf, below a controller with another."""
    host = Host("nid1", "compute", "root", False)
    site = replace(SITE, computes=(ComputeGroup((host,), mode, 0),))
    first = site.controllers[0].name
    found = {"mode": "640", "owner": "root:slurm", "acl": False, "text": text} if text is not None else None
    facts = place(controllers + more, host=first).facts
    controller = facts.found["preflight.controller"][first] | {"host": first, "user": "slurm", "uid": "64030"}
    facts.found["preflight.controller"][first] = controller
    return StepContext(
        site, Facts(facts.found | {computes.COMPARED.name: {"nid1": found}, "computes.conf": {"nid1": found}}), "nid1"
    )


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (TEXT, []),
        (TEXT + LINE, []),
        ("# of the node\n" + TEXT.replace("\n", "  # why\n", 1), []),
        (TEXT.replace("lab", "other"), ["slurm-conf-differs"]),
        (None, ["slurm-conf-differs"]),
    ],
)
def test_a_node_that_is_checked(text: str | None, names: list[str]) -> None:
    """It may lack the line that slurmctld alone reads, and nothing else, before the controllers have it and after."""
    for controllers in (TEXT, activate.wanted_text(place(), TEXT)):
        here = node("check", text, controllers)
        found = computes.judge(here, here.facts.all(computes.COMPARED)["nid1"])
        assert [one.name for one in found] == names
        told = "(- present, + expected): " if text else "/etc/slurm/slurm.conf is missing on nid1"
        assert all(told in one.text for one in found)


def test_a_nodes_file_costs_no_more_than_its_length() -> None:
    """Lines that are much like the controllers', in any number, hold up nobody: one node says what there is to compare."""

    def work(size: int) -> object:
        theirs, ours = ("".join(f"NodeName={name}{i:06} CPUs=128\n" for i in range(size)) for name in ("nix", "nid"))
        here = node("check", theirs, TEXT + ours)
        return computes.judge(here, here.facts.all(computes.COMPARED)["nid1"])

    assert_no_square(work, 12)


def compared(ctx: StepContext) -> str:
    """What is shown for a node whose slurm.conf is only compared."""
    return steps.status(computes.STAGE, "conf", ctx, ctx.facts.found["computes.conf"]["nid1"])


def test_nodes_that_are_only_compared_are_reported() -> None:
    """That the line is lacking, or in what they differ; nothing of one that is the same, or where Slurm is configless."""
    configless = "SlurmctldParameters=power_save_interval=5,enable_configless\n"
    assert compared(node("check", TEXT)).startswith("lacks BurstBufferType=burst_buffer/lua")
    assert compared(node("check", activate.wanted_text(place(), TEXT))) == ""
    told = compared(node("print", TEXT))
    assert told == "differs from the controllers' (- present, + expected): + BurstBufferType=burst_buffer/lua"
    assert compared(node("print", "X=1\n", more=configless)) == ""


def test_a_node_with_other_comments_is_as_wanted() -> None:
    """A file that means the same is not replaced, and is no difference: only slurm.conf's meaning counts."""
    text = "# of the node\n" + activate.wanted_text(place(), TEXT)
    assert steps.step(computes.STAGE, "conf").want(node("edit", text)) == text
    assert compared(node("print", text)) == ""


def test_a_node_whose_file_holds_a_key_says_so() -> None:
    """Its text is not read: the comment in its place says why."""
    assert "(this file holds a key" in compared(node("print", "# (this file holds a key, which is not shown)\n"))


def test_a_node_that_is_edited() -> None:
    """It gets the controllers' text, with the mode and owner that its file had."""
    here = node("edit", "X=1\n")
    want = steps.step(computes.STAGE, "conf").want(here)
    (put,) = steps.change(computes.STAGE, "conf", here, "X=1\n", want)
    assert want == activate.wanted_text(place(), TEXT)
    assert (put.path, put.content, put.mode, put.owner) == (CONF, want.encode(), 0o640, "root:slurm")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("line", "mode", "there", "refused"),
    [
        ("JobCompPass=s3cr3t", "644", "X=1", True),
        ("JobCompPass*=s3cr3t", "644", "X=1", True),
        ("JobCompPass=\\\n  s3cr3t", "644", "X=1", True),
        ("JobCompPass=s3cr3t", "640", "X=1", False),
        ("JobCompPass=s3cr3t", "640 root:users", "X=1", True),
        ("JobCompPass=s3cr3t", "600 root:users", "X=1", False),
        ("JobCompPass=s3cr3t", "644", "jobcomppass=s3cr3t", True),
        ("JobCompPass=s3cr3t", "644", "JobCompPass=s3cr3t # as everywhere", False),
        ("AccountingStoragePass=/run/munge/dbd.socket", "644", "X=1", False),
    ],
)
def test_no_password_comes_where_users_can_read_it(line: str, mode: str, there: str, refused: bool) -> None:
    """A node's file keeps its mode: what it does not have yet, and is secret, is not written into one that is open."""
    here = node("edit", f"{there}\n", more=f"{line}\n")
    seen = here.facts.found["computes.conf"]["nid1"]
    seen["mode"], _, owner = mode.partition(" ")
    seen["owner"] = owner or seen["owner"]
    want = steps.step(computes.STAGE, "conf").want(here)
    if not refused:
        assert steps.change(computes.STAGE, "conf", here, f"{there}\n", want)
        return
    with pytest.raises(Refused) as raised:
        steps.change(computes.STAGE, "conf", here, f"{there}\n", want)
    (finding,) = raised.value.findings
    assert finding.name == "slurm-conf-secret" and "JobCompPass" in finding.text and "s3cr3t" not in finding.text


def test_a_node_is_known_only_after_the_controller() -> None:
    """Before a controller was looked at nothing can be wanted of a node."""
    here = node("edit", TEXT)
    with pytest.raises(NotYetKnown):
        steps.step(computes.STAGE, "conf").want(replace(here, facts=Facts({"computes.conf": {"nid1": None}})))


def test_a_nodes_file_comes_in_small(tmp_path: Path) -> None:
    """What the look prints is read again byte for byte, and is much less than the file."""
    file = tmp_path / "slurm.conf"
    file.write_text(TEXT * 200)
    script = render.script("lib/safe_file.sh", "lib/holds_secret.sh", "controller/compute_look.sh", file=str(file))
    told = subprocess.run(["sh", "-c", script], capture_output=True, timeout=60, check=True).stdout
    assert steps.present(computes.parse(told))["text"] == TEXT * 200
    assert len(told) < len(TEXT * 200) / 10
    assert gzip.decompress(base64.b64decode(told.split()[-1])).decode() == TEXT * 200
    subprocess.run(["setfacl", "-m", "u:daemon:r", str(file)], check=True)
    told = subprocess.run(["sh", "-c", script], capture_output=True, timeout=60, check=True).stdout
    assert steps.present(computes.parse(told))["acl"]


def test_a_nodes_file_with_an_acl_is_not_replaced() -> None:
    """The new file would not have it: whom it let in could not read slurm.conf any more, or its mode would let others in."""
    here = node("edit", TEXT.replace("lab", "other"))
    here.facts.found["computes.conf"]["nid1"]["acl"] = True
    with pytest.raises(Refused) as raised:
        steps.change(computes.STAGE, "conf", here, "x\n", TEXT)
    assert raised.value.findings[0].name == "slurm-conf-acl"


# --- what a slurmctld has read


@pytest.mark.slow
def test_what_it_has_read_is_known_from_its_activation(tmp_path: Path) -> None:
    """As long as it is the same process: what it read and what its files say now, or that both are the same."""
    etc, state = tmp_path / "etc", tmp_path / "state"
    etc.mkdir()
    state.mkdir()
    conf = etc / "slurm.conf"
    settings = {"folder": str(etc), "unit": "slurmctld", "state": str(state)}
    quiet = 'main_pid() { echo "$PID"; }\npings() { :; }\n'
    library = render.script("lib/as.sh", "lib/slurmctld.sh", **settings) + quiet

    def told(script: str, pid: int) -> bytes:
        environment = {"PATH": "/usr/sbin:/usr/bin:/bin", "PID": str(pid)}
        return subprocess.run(["sh", "-c", library + script], env=environment, capture_output=True, timeout=60).stdout

    def found(pid: int) -> slurmctld.Daemon:
        return slurmctld.parse(told(render.read("controller/daemon.sh"), pid))

    with subprocess.Popen(["sleep", "60"]) as process, subprocess.Popen(["sleep", "60"]) as another:
        conf.write_text(TEXT + LINE)
        noted = told('echo "process=$(identity "$PID")"; conf_texts text', process.pid)
        (state / "activation").write_bytes(noted)
        assert slurmctld.differing(found(process.pid)) == ()
        conf.write_text("# somebody's comment\n" + TEXT + LINE)
        seen = found(process.pid)
        assert (slurmctld.differing(seen), seen["was"], seen["now"][str(conf)]) == (
            (),
            {str(conf): TEXT + LINE},
            conf.read_text(),
        )
        conf.write_text(TEXT + "#" + LINE)
        assert slurmctld.differing(found(process.pid)) == ("BurstBufferType",)
        assert slurmctld.differing(found(another.pid)) is None
        process.kill()
        another.kill()


def test_a_comment_is_no_reason_to_start_slurmctld_again() -> None:
    """What it has read still means the same."""
    changed = {"changed": {CONF: 150.0, BB: 9.0}, "was": {CONF: TEXT + LINE}}
    assert slurmctld.restart_reasons(SITE, CURRENT | changed | {"now": {CONF: f"# x\n{TEXT}{LINE}"}}) == []
    assert slurmctld.restart_reasons(SITE, CURRENT | changed | {"now": {CONF: f"{TEXT}{LINE}X=1\n"}}) == [
        slurmctld.Reason("changed", f"{CONF} changed after slurmctld read it")
    ]


# --- a restart, and what the plugin is at work on


def a_workflow(desired: str, ready: bool, deleting: bool = False) -> dict[str, Any]:
    return {"namespace": "default", "name": "bb7", "job": "7", "desired": desired, "ready": ready, "deleting": deleting}


@pytest.mark.parametrize(
    ("workflow", "loaded", "text", "refused"),
    [
        (a_workflow("DataOut", False), True, TEXT, True),
        (a_workflow("Setup", False), True, TEXT, True),
        (a_workflow("DataOut", False), True, TEXT + LINE, False),
        (a_workflow("DataOut", False), False, TEXT, False),
        (a_workflow("DataOut", True), True, TEXT, False),
        (a_workflow("Proposal", False), True, TEXT, False),
        (a_workflow("Teardown", False), True, TEXT, False),
        (a_workflow("DataOut", False, deleting=True), True, TEXT, False),
    ],
)
def test_no_restart_ends_what_the_plugin_is_at_work_on(
    workflow: dict[str, Any], loaded: bool, text: str, refused: bool
) -> None:
    """A slurmctld that has the burst buffer is not started again while a job's data is copied; one without it may be."""
    here = place(text, facts={"slurm.daemon": {"one": CURRENT | {"loaded": loaded}}})
    found = activate.HOOKS.judge(here, [workflow])
    assert [one.name for one in found] == (["workflow-at-work"] if refused else [])
    assert list(activate.HOOKS.judge(here, [])) == []
    assert isinstance(activate.HOOKS.look(here), Constant) == (not loaded or text != TEXT), (
        "nothing is asked where none is due"
    )
