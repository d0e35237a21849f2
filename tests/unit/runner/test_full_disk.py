"""A full disk, here or on a host: a file is written completely or not at all, and a message says so."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from paramiko import ECDSAKey

from dws_on_csm.commands.history import rollback
from dws_on_csm.commands.history.host_record import HostRecord, parse_host_record
from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.display.select import Display
from dws_on_csm.engine import site_lock
from dws_on_csm.engine.host_script import compile_actions
from dws_on_csm.engine.looks import Board
from dws_on_csm.engine.perform import perform
from dws_on_csm.engine.reach import Reach, StepReporter
from dws_on_csm.model import render
from dws_on_csm.model.actions import Put, RunScript
from dws_on_csm.model.errors import Unreachable
from dws_on_csm.model.events import Done, Event, Opened, Summary
from dws_on_csm.model.step import ShellLook, Stage, Step, StepContext, Value
from dws_on_csm.runner import past_runs, run, run_log
from dws_on_csm.runner.journal import Journal
from dws_on_csm.runner.options import Options
from dws_on_csm.runner.past_runs import PastRun
from dws_on_csm.transport import known_hosts
from tests.unit.conftest import LocalHost, redirect
from tests.unit.small_disk import PAGE, Disk, small_disk

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")]
LARGE = b"y" * (4 * PAGE + 100)
FREE = (0, 1, 2, 3)
"""Pages: none, room for the beginning of the file, and for nearly all of it."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path / "small") as made:
        yield made


@pytest.fixture
def host(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> LocalHost:
    """A host whose state is on the small disk."""
    for module in ("model.actions", "engine.host_script", "engine.before_images", "runner.run_log", "runner.past_runs"):
        monkeypatch.setattr(f"dws_on_csm.{module}.STATE", str(disk.folder / "state"))
    (disk.folder / "state").mkdir()
    return LocalHost(disk.folder)


def reached(host: LocalHost, cluster: Any = None) -> Reach:
    return Reach(lambda name: host, lambda: cluster, lambda role: "one")


def leftovers(folder: Path) -> list[str]:
    """The remains of a write, where other scripts find them."""
    every = [path for path in folder.rglob("*") if "before" not in path.parts]
    return [path.name for path in every if path.suffix == ".part" or ".dws-on-csm." in path.name]


# --- the shell's writers

WRITERS = {
    "lib/durable.sh": "here",
    "lib/fence.sh": "it writes in place what is as long as what was there",
    "host/restore_file.sh": "here",
    "lib/safe_file.sh": "here, by what puts files and restores them",
    "pod/pod_start_files.sh": "here",
    "master/images_push.sh": "here",
    "controller/test_job.sh": "here",
    "controller/activate.sh": "here",
    "host/saved_kubeconfigs.sh": "its folder ends with it, and what does not fit cannot be used as a certificate",
    "master/lock.sh": "here",
    "master/lock_take.sh": "here",
    "master/lock_release.sh": "it renames and removes alone",
    "master/clone.sh": "a clone is made aside and renamed once git has checked it out",
    "lib/detach.sh": "its files end with the activation; set -e stops before one begins that isn't whole",
    "lib/slurm_start.sh": "a text in memory that does not fit is not tried",
    "controller/run_activation.sh": "what came is compared with its checksum before an activation begins",
    "pod/run_rollout.sh": "set -e stops before a rollout begins that isn't whole",
    "pod/rollout.sh": "its files end with the rollout; its record is pod_start_files.sh's kind",
    "master/sign.sh": "its folder ends with it, and openssl reads each file that it writes",
}
"""Each template that writes to a file, and its test on a full disk, or why it needs none."""

_WRITES = re.compile(r'(?<![<\d&$-])>{1,2}(?![&=])\s*"?\$|\btruncate\b|\btee\b|(?<![\w-])(?:mv|cp) -')


def test_every_template_that_writes_is_known_here() -> None:
    """A new template has a test on a full disk, or a reason why it needs none."""
    found = {
        path.relative_to(render.TEMPLATES).as_posix()
        for path in render.TEMPLATES.rglob("*.sh")
        if any(_WRITES.search(line.partition("# ")[0]) for line in path.read_text().splitlines())
    }
    assert found - {"controller/logs.sh"} == set(WRITERS)  # logs.sh compares in awk


def sh(script: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["sh", "-c", script], input=data, capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize("free", FREE)
@pytest.mark.parametrize("kind", ["write_file", "append_line"])
def test_a_record_is_whole_or_as_it_was(disk: Disk, kind: str, free: int) -> None:
    """Whatever space is left: the old file stays, and nothing of the new one that did not fit."""
    file = disk.folder / "record"
    file.write_bytes(b"before\n")
    disk.leave(free)
    done = sh(f"{render.read('lib/durable.sh')}\n{kind} {file} {len(LARGE)}", LARGE)
    assert done.returncode == 1 and str(file) in done.stderr.decode()
    assert file.read_bytes() == b"before\n" and leftovers(disk.folder) == []
    disk.room()
    assert sh(f"{render.read('lib/durable.sh')}\n{kind} {file} {len(LARGE)}", LARGE).returncode == 0
    assert file.read_bytes() == (LARGE if kind == "write_file" else b"before\n\n" + LARGE)


@pytest.mark.parametrize("kind", ["write_file", "append_line"])
def test_what_came_with_a_broken_connection_is_no_record(disk: Disk, kind: str) -> None:
    """An incomplete file is removed."""
    file = disk.folder / "record"
    file.write_bytes(b"before\n")
    assert sh(f"{render.read('lib/durable.sh')}\n{kind} {file} 100", b"half").returncode == 1
    assert file.read_bytes() == b"before\n"


@pytest.mark.parametrize("free", FREE)
def test_a_file_that_does_not_fit_is_not_put(host: LocalHost, disk: Disk, free: int) -> None:
    """The old file stays, and nothing of the new one."""
    file = disk.folder / "file"
    file.write_bytes(b"before\n")
    disk.leave(free)
    script, data = compile_actions([Put(str(file), LARGE)], "run-1", "mark", "some.step")
    assert host.run(script, data, deadline=60).code != 0
    assert file.read_bytes() == b"before\n" and leftovers(disk.folder) == []


def test_a_before_image_that_does_not_fit_stops_the_change(host: LocalHost, disk: Disk) -> None:
    """A file that could not be restored later is not changed."""
    file = disk.folder / "file"
    file.write_bytes(LARGE)
    disk.leave(2)
    script, data = compile_actions([Put(str(file), b"small")], "run-1", "mark", "some.step")
    assert host.run(script, data, deadline=60).code != 0
    assert file.read_bytes() == LARGE
    assert not list((disk.folder / "state/before").rglob("file"))


@pytest.mark.parametrize("free", FREE)
def test_a_restored_file_is_whole_or_not_at_all(host: LocalHost, disk: Disk, free: int, tmp_path: Path) -> None:
    """If the before-image does not fit, the file is not changed."""
    file, image = disk.folder / "file", tmp_path / "image"
    file.write_bytes(b"now\n")
    image.write_bytes(LARGE)
    image.chmod(0o600)
    sum_ = sh(f"sha256sum <{image}").stdout.decode().split()[0]
    settings = {"path": str(file), "source": str(image), "sum": sum_, "mode": ""}
    disk.leave(free)
    script, data = compile_actions(
        [RunScript("put back", render.script("host/restore_file.sh", **settings))], "run-1", "mark"
    )
    assert host.run(script, data, deadline=60).code != 0
    assert file.read_bytes() == b"now\n"


def test_a_before_image_that_is_not_what_it_was_is_not_put_back(host: LocalHost, disk: Disk, tmp_path: Path) -> None:
    """Its checksum was recorded when the rollback was planned: a damaged or changed image replaces nothing."""
    file, image = disk.folder / "file", tmp_path / "image"
    file.write_bytes(b"now\n")
    image.write_bytes(b"before\n")
    for sum_, code, text in (
        ("0" * 64, 1, b"now\n"),
        (sh(f"sha256sum <{image}").stdout.decode().split()[0], 0, b"before\n"),
    ):
        settings = {"path": str(file), "source": str(image), "sum": sum_, "mode": ""}
        script, data = compile_actions(
            [RunScript("put back", render.script("host/restore_file.sh", **settings))], "run-1", "mark"
        )
        assert host.run(script, data, deadline=60).code == code
        assert file.read_bytes() == text


def _tail_of(name: str, mark: str) -> str:
    text = render.read(name)
    return text[text.index(mark) :]


RECORDS = {
    "pod/pod_start_files.sh": (
        "activation",
        "start_files() { i=0; while [ $i -lt 300 ]; do echo /etc/hostname; i=$((i+1)); done; }",
    ),
    "master/images_push.sh": (
        "record",
        "started=; work=$disk/../pushed; mkdir -p $work; head -c 17000 /dev/zero | tr '\\0' y >$work/one",
    ),
    "controller/test_job.sh": (
        "proof.json",
        "spent() { :; }; state_folder=$state job=1 took= bbstat= listed= api= times=\n"
        "states=$(head -c 17000 /dev/zero | tr '\\0' y)",
    ),
    "controller/activate.sh": ("activation", "work=$disk/../work; mkdir -p $work; sum() { echo sum; }; conf="),
}
ENDS = {
    "pod/pod_start_files.sh": ("record_start_files() {", "record_start_files"),
    "master/images_push.sh": ("finish() {", "finish"),
    "controller/test_job.sh": ('mkdir -p "$state_folder"', ""),
    "controller/activate.sh": ("finish() {", 'finish 0 activated "$(head -c 17000 /dev/zero | tr "\\0" y)"'),
}


@pytest.mark.parametrize("free", FREE)
@pytest.mark.parametrize("name", RECORDS)
def test_what_scripts_note_is_whole_or_as_it_was(disk: Disk, name: str, free: int) -> None:
    """A note that does not fit does not replace the former one."""
    note, prepared = RECORDS[name]
    begin, call = ENDS[name]
    body = _tail_of(name, begin)
    body = body if not call else body[: body.index("\n}\n") + 3]
    file = disk.folder / note
    file.write_text("before\n")
    settings = f"disk={disk.folder} state={disk.folder} folder=/etc record={file}"
    disk.leave(free)
    sh(f"set -eu\n{settings}\nsay() {{ :; }}\n{prepared}\n{body}\n{call}")
    assert file.read_text() == "before\n"


@pytest.mark.parametrize("free", [0, 1])
def test_a_lock_is_held_or_free(disk: Disk, free: int) -> None:
    """A lock that can't be taken or renewed on a full disk stays as it was, and no run believes that it holds it."""
    one = {"run": "20260101T000000Z-0001", "over": "", "who": "me@here", "pid": "1", "process": "x" * 3 * PAGE}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(site_lock, "STATE", str(disk.folder))
        take, renew = (
            site_lock.script("master/lock_take.sh", **one),
            site_lock.script("master/lock_renew.sh", run="$(sed -n 3p lock/holder)"),
        )
    disk.leave(free)
    done = sh(take)
    assert done.returncode != 0 and b"taken" not in done.stdout and not (disk.folder / "lock").exists()
    disk.room()
    assert b"taken" in sh(take).stdout
    held = (disk.folder / "lock/holder").read_text()
    renew = renew.replace("run='$(sed -n 3p lock/holder)'", f"run={held.splitlines()[2]}")
    disk.leave(0)
    assert sh(renew).returncode != 0
    assert (disk.folder / "lock/holder").read_text() == held


# --- what a run keeps on the master


@pytest.mark.parametrize("free", FREE[:2])
def test_nothing_is_changed_whose_way_back_could_not_be_kept(host: LocalHost, disk: Disk, free: int) -> None:
    """The object's state does not fit on the master's disk: the action does not run, and the message has cause and fix."""

    class Api:
        def get(self, path: str) -> Any:
            return {"kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"text": LARGE.decode()}}

    disk.leave(free)
    at = StepReporter("run-1", "one", "some", "step", lambda event: None)
    action = RunScript("change it", f"touch {disk.folder}/changed", objects=("/api/x",))
    with pytest.raises(Unreachable) as kept:
        perform(reached(host, Api()), Board(load(DEFAULT)), at, [action], {})
    assert "could not be saved" in str(kept.value) and "df -h" in kept.value.fix
    disk.room()
    assert not (disk.folder / "changed").exists()
    assert past_runs.on_hosts(load(DEFAULT), Connected(host)) == {}  # type: ignore[arg-type]


class Connected(dict[str, Any]):
    """All hosts of the site are the same host."""

    commands = connections = 1
    unreachable: ClassVar[dict[str, Any]] = {}

    def __init__(self, host: LocalHost) -> None:
        super().__init__()
        self.one = host

    def __missing__(self, name: str) -> LocalHost:
        return self.one

    def session(self, name: str) -> LocalHost:
        return self.one

    master = session

    def open(self) -> Sequence[Any]:
        return ()

    def close(self) -> None:
        pass


def test_a_journal_that_does_not_fit_on_the_master(host: LocalHost, disk: Disk) -> None:
    """A message says so, no incomplete journal is left there, and the history stays readable."""
    reach = reached(host)
    text = b"".join(
        json.dumps({"event": "opened", "task": "install", "at": 1.0, "n": n}).encode() + b"\n" for n in range(300)
    )
    disk.leave(3)
    said = run_log.write(reach, "run-1", "install", {"one": ["a.b"]}, text)
    assert len(said) == 1 and "can't be written there" in said[0] and "runs/run-1" in said[0]
    assert leftovers(disk.folder) == [] and not (disk.folder / "state/runs/run-1").exists()
    disk.room()
    assert past_runs.on_hosts(load(DEFAULT), Connected(host)) == {}  # type: ignore[arg-type]
    assert run_log.write(reach, "run-1", "install", {"one": ["a.b"]}, text) == []
    assert (disk.folder / "state/runs/run-1").read_bytes() == text


# --- records that are torn already


def test_torn_records_are_named_and_passed_over(host: LocalHost, disk: Disk) -> None:
    """Whatever the files in a host's state contain, the runs are listed, with what could not be read."""
    state = disk.folder / "state"
    for name, opened in {"1": '{"run": "1", "task": "install"', "2": "", "3": '{"run": "3"}', "4": "{[]"}.items():
        (state / "before" / name).mkdir(parents=True)
        (state / "before" / name / ".opened").write_text(f"\n{opened}\n")
        (state / "before" / name / ".record").write_text("step a.b\nleft 12\nst")
    (state / "runs").mkdir()
    (state / "runs/2").write_text('{"event": "opened", "task": "install", "at": 5.0}\n{"event": "summary", "exit"')
    (state / "runs/5").write_bytes(b'{"event": "opened"}\n\xff\xfe{"event": "summary"\n[]\n')
    found = past_runs.on_hosts(load(DEFAULT), Connected(host))  # type: ignore[arg-type]
    assert {name: bool(one.unreadable_records) for name, one in found.items()} == {
        "1": True, "2": True, "3": True, "4": True, "5": True,
    }  # fmt: skip
    assert found["2"].task == "install" and found["1"].changes


def test_the_operators_own_journals_may_be_torn(tmp_path: Path) -> None:
    """Lines that are not records are counted, and the others are read."""
    (tmp_path / "1").mkdir()
    opened = json.dumps({"event": "opened", "task": "install", "at": 1.0, "site": str(DEFAULT.absolute())})
    (tmp_path / "1/journal.jsonl").write_bytes(opened.encode() + b'\n{"event": "su\n\xff\n{"event": "summary"}\n{"ev')
    (found,) = past_runs.of_operator(load(DEFAULT), tmp_path).values()
    assert found.task == "install" and found.code is None
    assert found.unreadable_records[0].startswith("2 lines of ") and len(found.unreadable_records) == 2


OBJECT = 'object 1 {"path": "/x", "step": "deploy.applied", "before": null}'


@pytest.mark.parametrize(
    ("line", "matters"),
    [
        ('object 1 {"path": "/y", "step": "dep', False),
        ('object 1 {"pa', False),
        ("left 1 abc", False),
        ("object 1 {\0\0\0", True),
        ('object 1 {"step": 3}', True),
        ("image 1 644 root:root", True),
        ("image 1 644 root:root abc no-base-64! /etc/x", True),
    ],
)
def test_a_rollback_passes_over_what_does_not_matter(line: str, matters: bool) -> None:
    """It names the unreadable record, and refuses where an earlier state is unknown without it."""
    found: dict[str, HostRecord] = {"one": parse_host_record([OBJECT, line])}
    assert found["one"].objects["/x"]["before"] is None
    if matters:
        with pytest.raises(rollback.CannotRollBack, match=r"run 1: .* on one"):
            rollback.unreadable_records([], found, "1")
    else:
        (said,) = rollback.unreadable_records([], found, "1")
        assert "run 1" in said and "is not needed" in said


def test_a_rollback_of_a_run_whose_begin_cannot_be_read(tmp_path: Path) -> None:
    """It names the record, and does not undo an earlier run in its place."""
    whole = PastRun("1", changed={"one": ["a.b"]}, kept=True)
    torn = PastRun("2", changed={"one": ["a.b"]}, unreadable_records=[f"{past_runs.OPENED}, on one"])
    for name in ("", "2"):
        with pytest.raises(rollback.CannotRollBack, match=r"2.* record"):
            rollback.choose_run([whole, torn], name, load(DEFAULT))
    assert rollback.choose_run([whole, replace(torn, changed={})], "", load(DEFAULT)) is whole


# --- the operator's own disk


def opened(name: str) -> Event:
    return Opened(name, "install", {"master": ("one",)}, {"some": ()}, 1.0)


def test_a_journal_continues_without_a_disk(disk: Disk) -> None:
    """Full at the start, midway or at the end: no event raises, the file has complete lines, and what is missing is reported."""
    disk.leave(0)
    folder = disk.folder / "runs"
    first = Journal("1", 10, folder)
    first(opened("1"))
    assert not first.report(lambda events: "page")
    assert ["journal" in first.problems()[0], "report" in first.problems()[1]] == [True, True]
    assert "No space left" in first.problems()[0] and b"opened" in first.text()
    disk.room()
    second = Journal("2", 10, folder)
    second(opened("2"))
    disk.leave(0)
    long = Done("one", "some", "step", "changed", 1.0, 1.0, diff=("+ " + "x" * PAGE,) * 2)
    for _ in range(3):
        second(long)
    assert second.problems() and second.text().count(b"\n") == 4
    lines = (folder / "2/journal.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["opened"]
    disk.room()
    second(long)
    assert second.problems() == [] and (folder / "2/journal.jsonl").read_bytes() == second.text()
    disk.leave(1)
    assert not second.report(lambda events: "x" * (2 * PAGE))
    assert [path.name for path in (folder / "2").iterdir()] == ["journal.jsonl"]


@pytest.mark.parametrize("room", [0, 1])
def test_known_hosts_has_whole_lines(disk: Disk, room: int) -> None:
    """A host key that does not fit leaves no incomplete line in the user's known_hosts, which OpenSSH reads too."""
    file = disk.folder / "known_hosts"
    file.write_bytes(b"#" * (PAGE - 40 - room * PAGE // 2) + b"\n")
    disk.leave(0)
    before_ = file.read_bytes()
    key = ECDSAKey.generate(bits=521)
    to: Any = SimpleNamespace(known_hosts=(file,), key_names=("one",), hash_names=False)
    if room:
        known_hosts.remember(to, key)
        assert file.read_bytes() == before_ + f"one {key.get_name()} {key.get_base64()}\n".encode()
    else:
        with pytest.raises(OSError, match="No space left"):
            known_hosts.remember(to, key)
        assert file.read_bytes() == before_


@pytest.mark.parametrize("when", ["start", "midway", "never"])
def test_a_run_says_how_it_ended_and_does_what_it_was_to(
    host: LocalHost, disk: Disk, monkeypatch: pytest.MonkeyPatch, when: str, tmp_path: Path
) -> None:
    """The operator's disk fills up: the change is made, and the summary names what could not be written."""
    target = tmp_path / "target"

    def change(place: StepContext, have: Value, want: Value) -> Sequence[Any]:
        if when == "midway":
            disk.leave(0)
        return [RunScript("make it", f"printf done >{target}")]

    step = Step(
        "step",
        "master",
        lambda place: ShellLook(f"cat {target} 2>/dev/null || :", bytes.decode),
        lambda p: "done",
        change,
    )
    redirect(monkeypatch, tmp_path / "state")  # the hosts' disks have room
    monkeypatch.setattr(run, "connect", lambda site, hosts, *how: Connected(LocalHost(tmp_path)))
    monkeypatch.setattr(run, "report_connections", lambda site, hosts, sessions, emit: (hosts, ()))
    monkeypatch.setattr(run, "roles", lambda site: {"master": ("one",), "submitter": ()})
    monkeypatch.setattr(run, "Journal", partial(Journal, folder=disk.folder / "runs"))
    if when == "start":
        disk.leave(0)
    seen: list[Event] = []
    stages = [Stage("preflight", (), ()), Stage("some", (), (step,))]
    code = run.run_procedure(load(DEFAULT), stages, Options("install"), Display(seen.append))
    assert target.read_text() == "done"
    summary = seen[-1]
    assert isinstance(summary, Summary) and summary.exit == code == 0
    assert bool(summary.lacking) == (when != "never") and bool(summary.report) == (when == "never")
