"""The records that runs leave on the hosts: the same runs on all of them, as long as they are kept."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from dws_on_csm.commands.history import journal
from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.display.select import Display
from dws_on_csm.engine import host_script
from dws_on_csm.engine.reach import Reach
from dws_on_csm.model.actions import RunScript
from dws_on_csm.model.events import Event, Summary
from dws_on_csm.model.step import ShellLook, Stage, Step
from dws_on_csm.runner import past_runs, run, run_log
from dws_on_csm.runner.journal import Journal, identifier
from dws_on_csm.runner.options import Options
from dws_on_csm.runner.past_runs import PastRun
from tests.unit.conftest import Answer, LocalHost
from tests.unit.held_lock import holder

pytestmark = pytest.mark.slow

HOSTS = ("master", "ctl1", "ctl2")


def _id(number: int) -> str:
    return f"202601{number:02}T120000Z-1f3a"


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, LocalHost]:
    """A master and two controllers with a state folder each."""
    for module in (run_log, past_runs, host_script):
        monkeypatch.setattr(module, "STATE", "state")
    for name in HOSTS:
        (tmp_path / name).mkdir()
    return {name: LocalHost(tmp_path / name, host=name) for name in HOSTS}


def _reach(hosts: Mapping[str, LocalHost]) -> Reach:
    return Reach(hosts.__getitem__, lambda: None, lambda role: "master")


def _before(host: LocalHost, run: str, step: str) -> Path:
    """The record that a run leaves on a host before its first change there."""
    folder = host.folder / "state" / "before" / run
    (folder / "etc").mkdir(parents=True)
    (folder / "etc" / "slurm-dws.kubeconfig").write_text("a key")
    (folder / ".record").write_text(f"step {step}\n")
    return folder


def _run(
    hosts: Mapping[str, LocalHost],
    number: int,
    step: str = "slurm.conf",
    on: Sequence[str] = ("ctl1",),
    reached: Sequence[str] = HOSTS,
    keep: int = 2,
    undoes: int = 0,
    code: int = 0,
    without: Sequence[str] = (),
    controllers: Sequence[str] = (),
) -> None:
    """A complete run: opened on the master, working on some hosts, recorded on those that it reached; old runs are removed."""
    run, stage, _, name = _id(number), *step.partition(".")
    opened = {"run": run, "task": "install", "by": "joe@admin", "at": float(number), "installed": None}
    opened |= {"undoes": _id(undoes) if undoes else "", "without": list(without), "controllers": list(controllers)}
    folder = hosts["master"].folder / "state" / "before" / run
    folder.mkdir(parents=True)
    (folder / ".opened").write_text(json.dumps(opened) + "\n")
    events: list[Mapping[str, object]] = [{"event": "opened", "run": run, "task": "install", "at": float(number)}]
    for host in on:
        _before(hosts[host], run, step)
        done = {"event": "done", "host": host, "stage": stage, "step": name, "outcome": "changed", "began": 0.0}
        events.append({**done, "diff": ['+ "outcome": "changed", "began": 1']})
    events.append({"event": "summary", "run": run, "exit": code, "message": "It has ended."})
    text = "".join(json.dumps(event) + "\n" for event in events)
    run_log.write(_reach(hosts), run, "install", {host: [step] for host in on}, text.encode())
    run_log.prune(_reach(hosts), run, reached, keep)


def _kept(host: LocalHost) -> list[str]:
    return sorted({path.name for part in ("before", "runs") for path in (host.folder / "state" / part).glob("*")})


def _history(hosts: Mapping[str, LocalHost]) -> dict[str, PastRun]:
    known: dict[str, PastRun] = {}
    for name, host in hosts.items():
        past_runs.add_records(known, name, host.run(past_runs.script(), deadline=30.0).out.decode().splitlines())
    return known


def test_old_runs_go_from_a_host_that_no_later_run_changes(hosts: Mapping[str, LocalHost]) -> None:
    """A key in an old run's before-images on a controller is removed with its run, whatever changed since."""
    _run(hosts, 1, on=("ctl2",))
    for number in (2, 3):
        _run(hosts, number)
    assert _kept(hosts["master"]) == _kept(hosts["ctl1"]) == [_id(2), _id(3)]
    assert _kept(hosts["ctl2"]) == []


def test_a_host_that_was_away_is_pruned_by_the_next_run_that_reaches_it(hosts: Mapping[str, LocalHost]) -> None:
    """Records that should have been removed while a host was down are removed later, though the master no longer knows the run."""
    _run(hosts, 1, on=("ctl2",))
    for number in (2, 3):
        _run(hosts, number, reached=("master", "ctl1"))
    assert _kept(hosts["ctl2"]) == [_id(1)]
    _run(hosts, 4)
    assert _kept(hosts["ctl2"]) == []


def test_proofs_push_no_before_images_out(hosts: Mapping[str, LocalHost]) -> None:
    """Of runs that changed nothing the newest are kept, and the install before them is kept whatever their number."""
    _run(hosts, 1)
    for number in range(2, 8):
        _run(hosts, number, "verify.job")
    for name in ("master", "ctl1"):
        assert _kept(hosts[name]) == [_id(1), _id(6), _id(7)]
    assert (hosts["ctl1"].folder / "state" / "before" / _id(1) / "etc").exists()


def test_a_run_removes_no_record_of_another_slurm_s_site(hosts: Mapping[str, LocalHost]) -> None:
    """Two site files on one master, each with its own keep_runs; a site whose list of controllers changed is still the same."""
    for number in (1, 2, 3):
        _run(hosts, number, on=("ctl2",), keep=3, controllers=("ctl2", "ctl3"))
    for number in (4, 5, 6):
        _run(hosts, number, keep=1, controllers=("ctl1",))
    assert _kept(hosts["ctl2"]) == [_id(1), _id(2), _id(3)]
    assert _kept(hosts["master"]) == [_id(1), _id(2), _id(3), _id(6)] and _kept(hosts["ctl1"]) == [_id(6)]
    _run(hosts, 7, on=("ctl2",), keep=1, controllers=("ctl2",))
    assert _kept(hosts["ctl2"]) == [_id(7)] and _kept(hosts["master"]) == [_id(6), _id(7)]


def test_what_the_master_does_not_know_stays_until_it_is_too_old(hosts: Mapping[str, LocalHost]) -> None:
    """A reinstalled master removes no before-images from a controller; when enough runs are known, older ones are removed."""
    _before(hosts["ctl1"], _id(1), "slurm.conf")
    _run(hosts, 2)
    assert _id(1) in _kept(hosts["ctl1"])
    _run(hosts, 3)
    assert _kept(hosts["ctl1"]) == [_id(2), _id(3)]


def test_a_controller_has_no_say_in_what_goes(hosts: Mapping[str, LocalHost]) -> None:
    """Ids from the future on a controller remove nothing anywhere."""
    for number in range(20, 28):
        _before(hosts["ctl2"], _id(number), "slurm.conf")
    _run(hosts, 1)
    _run(hosts, 2)
    assert _kept(hosts["master"]) == _kept(hosts["ctl1"]) == [_id(1), _id(2)]


def test_an_interrupted_run_is_kept_as_a_changing_run(hosts: Mapping[str, LocalHost]) -> None:
    """What it changed is unknown, so its before-images may be needed."""
    _run(hosts, 1)
    (hosts["master"].folder / "state" / "runs" / _id(1)).unlink()
    for number in (2, 3):
        _run(hosts, number, "verify.job", keep=1)
    assert _id(1) in _kept(hosts["master"])


def test_failed_writes_are_reported(hosts: Mapping[str, LocalHost]) -> None:
    """A record that could not be written is reported with its host, and the other hosts have theirs."""
    (hosts["ctl1"].folder / "state").write_text("no folder")
    (said,) = run_log.write(_reach(hosts), _id(2), "install", {"ctl1": ["slurm.conf"]}, b"")
    assert said.startswith("ctl1: the record of this run can't be written")
    assert (hosts["master"].folder / "state" / "runs.log").exists()


def test_a_finished_run_is_never_shown_as_interrupted(hosts: Mapping[str, LocalHost]) -> None:
    """Of a run that only a controller has a line of: time, person, task, and that it has ended."""
    _run(hosts, 1, on=("ctl2",))
    for number in (2, 3):
        _run(hosts, number, reached=("master", "ctl1"))
    one, *others = journal.runs_text(past_runs.joined({}, _history(hosts)))
    assert (
        _id(1) in one
        and "install" in one
        and journal.UNKNOWN in one
        and "?" not in one
        and journal.INTERRUPTED not in one
    )
    assert "ctl2: slurm.conf" in others[0]


def test_the_lines_of_a_journal_come_without_differences(hosts: Mapping[str, LocalHost]) -> None:
    """What a run changed is read from the hosts, without any file's content."""
    _run(hosts, 1)
    out = hosts["master"].run(past_runs.script(), deadline=30.0).out
    assert b"changed" in out and b"diff" not in out
    assert _history(hosts)[_id(1)].changes == {"ctl1": ["slurm.conf"]}


def test_the_reason_why_a_run_is_not_kept_is_reported_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the line or the journal of a run can't be written, the summary says so, and old runs are removed all the same."""
    pruned: list[object] = []

    def full(*more: object) -> list[str]:
        return ["ncn-m001: what this run did can't be kept: No space left on device."]

    def prune(*more: object) -> list[str]:
        pruned.append(more)
        return []

    monkeypatch.setattr(run_log, "write", full)
    monkeypatch.setattr(run_log, "prune", prune)
    host = SimpleNamespace(name="ncn-m001", pod=None)
    site = SimpleNamespace(
        controllers=(), master=SimpleNamespace(host=host), keep_runs=3, ssh=SimpleNamespace(connections=4)
    )
    reach = SimpleNamespace(guard=lambda: None)
    made = SimpleNamespace(changing=True, site=site, outcomes={}, reach=reach, id="1", hosts={"master": ("ncn-m001",)})
    end = Summary("1", 0, {}, 1, 1, 1, 0.0)
    said = run_log.write_record(made, Options(), SimpleNamespace(text=lambda: b""), end)  # type: ignore[arg-type]
    assert said == ["ncn-m001: what this run did can't be kept: No space left on device."]
    assert len(pruned) == 1
    made.changing = False  # a run that only reads leaves nothing
    assert run_log.write_record(made, Options(), SimpleNamespace(text=lambda: b""), end) == []  # type: ignore[arg-type]
    assert len(pruned) == 1


# --- what a rollback needs


def test_what_a_rollback_that_failed_was_to_undo_stays(hosts: Mapping[str, LocalHost]) -> None:
    """However often its rollback fails, or leaves out a host, and whatever runs in between: its before-images stay for the next
    try. They are removed when the rollback is complete, or when the last try is old itself."""
    _run(hosts, 1, on=("ctl1", "ctl2"))
    _run(hosts, 2)
    for number in (3, 4):
        _run(hosts, number, undoes=1, code=1)
    _run(hosts, 5, undoes=1, without=("ctl2",))
    _run(hosts, 6)
    assert all(_id(1) in _kept(host) for host in hosts.values()) and _id(2) in _kept(hosts["ctl1"])
    _run(hosts, 7, undoes=1)
    for host in ("master", "ctl1"):
        assert _kept(hosts[host]) == [_id(6), _id(7)]
    assert _kept(hosts["ctl2"]) == []
    _run(hosts, 8, undoes=6, code=1)
    for number in (9, 10):
        assert _id(6) in _kept(hosts["master"])
        _run(hosts, number)
    assert _kept(hosts["master"]) == [_id(9), _id(10)]


def test_an_unreadable_rollback_prevents_pruning(hosts: Mapping[str, LocalHost]) -> None:
    """Its record is damaged: it may be a failed rollback. When it is old, it does not keep other runs."""
    for number in (1, 2):
        _run(hosts, number)
    (hosts["master"].folder / "state" / "before" / _id(2) / ".opened").write_text('{"run": "')
    _run(hosts, 3)
    assert _kept(hosts["ctl1"]) == [_id(1), _id(2), _id(3)]
    _run(hosts, 4)
    assert _kept(hosts["ctl1"]) == [_id(3), _id(4)]


def _taken(host: LocalHost, run: str) -> None:
    """That run holds the lock on the master `host`, for the next minutes, and has worked there."""
    (host.folder / "state/lock").mkdir(parents=True, exist_ok=True)
    (host.folder / "state/gate").touch()
    (host.folder / "state/busy").write_text(f"{run}\n")
    (host.folder / "state/lock/holder").write_text(holder(run))


def test_a_run_that_stood_still_at_its_end_takes_nothing_from_the_next(hosts: Mapping[str, LocalHost]) -> None:
    """After a later run, a host accepts neither the line of this run, nor its removal of old runs."""
    for number in (1, 2):
        _run(hosts, number)
    _taken(hosts["master"], _id(9))
    (hosts["ctl1"].folder / "state/busy").write_text(f"{_id(9)}\n")
    kept = {name: _kept(host) for name, host in hosts.items()}
    logs = (hosts["master"].folder / "state/runs.log").read_text()
    said = run_log.write(_reach(hosts), _id(3), "install", {"ctl1": ["slurm.conf"]}, b"{}\n")
    said += run_log.prune(_reach(hosts), _id(3), HOSTS, 1)
    assert len(said) == 3 and all("has lost its lock" in one for one in said)
    assert kept == {name: _kept(host) for name, host in hosts.items()}
    assert (hosts["master"].folder / "state/runs.log").read_text() == logs


def test_a_run_that_loses_its_lock_midway_takes_nothing_more(hosts: Mapping[str, LocalHost]) -> None:
    """A run read on the master what to remove; a later run reached one controller before its script did."""
    for number in (1, 2):
        _run(hosts, number, on=("ctl1", "ctl2"))
    _taken(hosts["master"], _id(3))
    (hosts["ctl1"].folder / "state/busy").write_text(f"{_id(9)}\n")
    (said,) = run_log.prune(_reach(hosts), _id(3), HOSTS, 1)
    assert "has lost its lock" in said and _id(9) in said
    assert _kept(hosts["ctl1"]) == [_id(1), _id(2)] and _kept(hosts["ctl2"]) == [_id(2)]


@dataclass
class _Watched(LocalHost):
    """A master that notes the lock's holder when a run's record is written, or an old one removed; `then` is called first."""

    holders: list[str] = field(default_factory=list)
    then: Callable[[], None] = lambda: None

    def run(
        self, script: str, data: bytes = b"", *, deadline: float, line: Callable[[str], None] | None = None
    ) -> Answer:
        if "runs.log" in script or 'rm -rf -- "$record"' in script:
            self.then()
            holder = self.folder / "state/lock/holder"
            self.holders.append(holder.read_text().splitlines()[2] if holder.exists() else "nobody")
        return super().run(script, data, deadline=deadline, line=line)


class _Site(dict[str, LocalHost]):
    """The connections of a site of one host."""

    commands = connections = 1
    unreachable: ClassVar[dict[str, Any]] = {}

    def open(self) -> Sequence[LocalHost]:
        return ()

    def close(self) -> None:
        pass


Made = Callable[..., Summary]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[_Watched, Made]]:
    """A master, and a function that makes a complete run on it, with a shell command as its change."""
    host = _Watched(tmp_path, host="one")
    site = load(DEFAULT)
    site = replace(site, keep_runs=1, master=replace(site.master, host=replace(site.master.host, name="one")))
    roles: dict[str, tuple[str, ...]] = {"master": ("one",), "submitter": ("one",)}
    monkeypatch.setattr(run, "connect", lambda site, hosts, *how: _Site(one=host))
    monkeypatch.setattr(run, "report_connections", lambda site, hosts, sessions, emit: (hosts, ()))
    monkeypatch.setattr(run, "roles", lambda site: roles)
    monkeypatch.setattr(
        run, "reach_through", lambda site, sessions: Reach(lambda name: host, lambda: None, lambda role: "one")
    )
    monkeypatch.setattr(run, "Journal", partial(Journal, folder=tmp_path / "runs"))

    def make(command: str, **more: object) -> Summary:
        file = host.folder / "file"
        look = ShellLook(f"cat {file} 2>/dev/null || :", bytes.decode)
        step = Step("step", "master", lambda place: look, lambda place: "x", lambda *_: [RunScript("make it", command)])
        seen: list[Event] = []
        stages = [Stage("preflight", (), ()), Stage("some", (), (step,))]
        run.run_procedure(site, stages, Options("install", **more), Display(seen.append))  # type: ignore[arg-type]
        assert isinstance(seen[-1], Summary)
        return seen[-1]

    yield host, make


def test_what_a_run_leaves_is_left_while_it_has_the_lock(made: tuple[_Watched, Made]) -> None:
    """Its line, its journal and the removal of old runs come before another run can take the lock; then the lock is free."""
    host, make = made
    end = make(f"printf x >{host.folder}/file")
    assert end.exit == 0 and end.lacking == () and set(host.holders) == {end.run} and len(host.holders) >= 2
    assert not (host.folder / "state/lock").exists()
    assert '"event": "summary"' in (host.folder / "state/runs" / end.run).read_text()


def test_what_a_host_says_at_the_end_is_shown_and_kept_without_secrets(
    made: tuple[_Watched, Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason why a run's record could not be written: on the terminal, and in the report."""
    host, make = made
    monkeypatch.setattr(run_log, "write", lambda *words: ["one: printf: token=s3cr3tWort42: no space left"])
    end = make(f"printf x >{host.folder}/file")
    (page,) = (tmp_path / "runs").glob("*/report.html")
    for said in (*end.lacking, page.read_text()):
        assert "no space left" in said and "s3cr3t" not in said


def test_a_run_that_lost_its_lock_at_its_end_leaves_and_takes_nothing(made: tuple[_Watched, Made]) -> None:
    """Its outcome stays, and the summary says what is missing; the before-images that the next run needs stay."""
    host, make = made
    first = make(f"printf x >{host.folder}/file")
    (host.folder / "file").unlink()
    other = identifier(time.time() + 1000)
    host.then = lambda: _taken(host, other)
    end = make(f"printf x >{host.folder}/file")
    assert end.exit == 0 and len(end.lacking) == 1 and other in end.lacking[0]
    assert (host.folder / "state/before" / first.run).exists()


def test_a_run_that_failed_lets_no_old_run_go(made: tuple[_Watched, Made]) -> None:
    """A failed run is repeated or undone: before-images stay until a run ends well."""
    host, make = made
    runs = [make(f"printf x >{host.folder}/file").run]
    (host.folder / "file").unlink()
    runs += [make("exit 1").run for _ in range(2)]
    assert set(runs) <= set(_kept(host))
    assert make(f"printf x >{host.folder}/file").exit == 0
    assert not set(runs) & set(_kept(host))


def test_a_proof_that_stays_stops_the_run_before_its_first_change(made: tuple[_Watched, Made]) -> None:
    """The former proof would count for this run's changes: the run fails, and says why."""
    host, make = made
    (host.folder / "state/proof.json").mkdir(parents=True)  # so that rm can't take it away, nor for root
    end = make(f"printf x >{host.folder}/file")
    assert end.exit == 1 and not (host.folder / "file").exists()
    (host.folder / "state/proof.json").rmdir()
    assert make(f"printf x >{host.folder}/file").exit == 0
