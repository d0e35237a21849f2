"""What runs leave on the hosts: the same runs on all of them, as long as they are among those to keep."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from fabfile import history, past, trail
from fabfile.faults import Unreachable
from fabfile.history import Past
from fabfile.perform import Reach
from tests.unit.conftest import LocalHost

HOSTS = ("master", "ctl1", "ctl2")


def _id(number: int) -> str:
    return f"202601{number:02}T120000Z-1f3a"


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, LocalHost]:
    """A master and two controllers with a state folder each."""
    for module in (trail, history):
        monkeypatch.setattr(module, "STATE", "state")
    for name in HOSTS:
        (tmp_path / name).mkdir()
    return {name: LocalHost(tmp_path / name, host=name) for name in HOSTS}


def _reach(hosts: Mapping[str, LocalHost]) -> Reach:
    return Reach(hosts.__getitem__, lambda: None, lambda role: "master")


def _before(host: LocalHost, run: str, step: str) -> Path:
    """What a run leaves on a host before it changes something there."""
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
) -> None:
    """A whole run: opened on the master, at work on some hosts, ended on those that it reached."""
    run, stage, _, name = _id(number), *step.partition(".")
    opened = {"run": run, "task": "install", "by": "joe@admin", "at": float(number), "undoes": "", "installed": None}
    folder = hosts["master"].folder / "state" / "before" / run
    folder.mkdir(parents=True)
    (folder / ".opened").write_text(json.dumps(opened) + "\n")
    events: list[Mapping[str, object]] = [{"event": "opened", "run": run, "task": "install", "at": float(number)}]
    for host in on:
        _before(hosts[host], run, step)
        done = {"event": "done", "host": host, "stage": stage, "step": name, "outcome": "fixed", "began": 0.0}
        events.append({**done, "diff": ['+ "outcome": "fixed", "began": 1']})
    events.append({"event": "summary", "run": run, "exit": 0, "message": "Installed."})
    text = "".join(json.dumps(event) + "\n" for event in events)
    trail.leave(_reach(hosts), run, "install", {host: [step] for host in on}, text.encode(), (Unreachable,))
    trail.prune(_reach(hosts), reached, keep, (Unreachable,))


def _kept(host: LocalHost) -> list[str]:
    return sorted({path.name for part in ("before", "runs") for path in (host.folder / "state" / part).glob("*")})


def _history(hosts: Mapping[str, LocalHost]) -> dict[str, Past]:
    known: dict[str, Past] = {}
    for name, host in hosts.items():
        history.take(known, name, host.run(history.script(), deadline=30.0).out.decode().splitlines())
    return known


def test_old_runs_go_from_a_host_that_no_later_run_changes(hosts: Mapping[str, LocalHost]) -> None:
    """A key that an old run put aside on a controller goes when its run is not among those to keep, whatever changed since."""
    _run(hosts, 1, on=("ctl2",))
    for number in (2, 3):
        _run(hosts, number)
    assert _kept(hosts["master"]) == _kept(hosts["ctl1"]) == [_id(2), _id(3)]
    assert _kept(hosts["ctl2"]) == []


def test_a_host_that_was_away_is_pruned_by_the_next_run_that_reaches_it(hosts: Mapping[str, LocalHost]) -> None:
    """What was to go while a host did not answer goes from it later, though the master no longer knows of it."""
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


def test_what_the_master_does_not_know_stays_until_it_is_too_old(hosts: Mapping[str, LocalHost]) -> None:
    """A master that was set up anew takes no before-image from a controller; once enough runs are known, older ones go."""
    _before(hosts["ctl1"], _id(1), "slurm.conf")
    _run(hosts, 2)
    assert _id(1) in _kept(hosts["ctl1"])
    _run(hosts, 3)
    assert _kept(hosts["ctl1"]) == [_id(2), _id(3)]


def test_a_controller_has_no_say_in_what_goes(hosts: Mapping[str, LocalHost]) -> None:
    """Runs of the future that a controller tells of push nothing out anywhere."""
    for number in range(20, 28):
        _before(hosts["ctl2"], _id(number), "slurm.conf")
    _run(hosts, 1)
    _run(hosts, 2)
    assert _kept(hosts["master"]) == _kept(hosts["ctl1"]) == [_id(1), _id(2)]


def test_a_run_that_was_cut_off_is_kept_as_one_that_changed_something(hosts: Mapping[str, LocalHost]) -> None:
    """Nobody can say what it did, so what was there before it may be wanted."""
    _run(hosts, 1)
    (hosts["master"].folder / "state" / "runs" / _id(1)).unlink()
    for number in (2, 3):
        _run(hosts, number, "verify.job", keep=1)
    assert _id(1) in _kept(hosts["master"])


def test_what_can_not_be_written_is_told(hosts: Mapping[str, LocalHost]) -> None:
    """What could not be written on a host is said with its name, and the others have theirs."""
    (hosts["ctl1"].folder / "state").write_text("no folder")
    (said,) = trail.leave(_reach(hosts), _id(2), "install", {"ctl1": ["slurm.conf"]}, b"", (Unreachable,))
    assert said.startswith("ctl1: what this run did can't be kept")
    assert (hosts["master"].folder / "state" / "runs.log").exists()


def test_a_finished_run_is_never_shown_as_cut_off(hosts: Mapping[str, LocalHost]) -> None:
    """A run of which only a controller has something left says when it was, whose, what, and that it has ended."""
    _run(hosts, 1, on=("ctl2",))
    for number in (2, 3):
        _run(hosts, number, reached=("master", "ctl1"))
    one, *others = past._text(history.joined({}, _history(hosts)))
    assert _id(1) in one and "install" in one and past.GONE in one and "?" not in one and past.CUT_OFF not in one
    assert "ctl2: slurm.conf" in others[0]


def test_the_lines_of_a_journal_come_without_differences(hosts: Mapping[str, LocalHost]) -> None:
    """What a run changed is read from the hosts, and no file's content with it."""
    _run(hosts, 1)
    out = hosts["master"].run(history.script(), deadline=30.0).out
    assert b"fixed" in out and b"diff" not in out
    assert _history(hosts)[_id(1)].changes == {"ctl1": ["slurm.conf"]}


def test_what_keeps_a_run_from_being_kept_is_said_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the line or the journal of a run can't be written, the run's last words say so, and old runs go all the same."""
    from fabfile import run

    pruned: list[object] = []

    def full(*more: object) -> list[str]:
        return ["ncn-m001: what this run did can't be kept: No space left on device."]

    def prune(*more: object) -> list[str]:
        pruned.append(more)
        return []

    monkeypatch.setattr(trail, "leave", full)
    monkeypatch.setattr(trail, "prune", prune)
    host = SimpleNamespace(name="ncn-m001", pod=None)
    site = SimpleNamespace(
        controllers=(), master=SimpleNamespace(host=host), keep_runs=3, ssh=SimpleNamespace(connections=4)
    )
    made = SimpleNamespace(changing=True, site=site, outcomes={}, reach=None, id="1", hosts={"master": ("ncn-m001",)})
    said = run._trail(made, "install", SimpleNamespace(text=lambda: b""))  # type: ignore[arg-type]
    assert said == ["ncn-m001: what this run did can't be kept: No space left on device."]
    assert len(pruned) == 1
