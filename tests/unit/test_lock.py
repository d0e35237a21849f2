"""The lock of a site, on a folder of this machine: the real sh takes it, renews it and leaves it."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fabfile.faults import Lost, Unreachable
from fabfile.lock import Locked, hold, owner
from tests.unit.conftest import LocalHost

GONE = "4194305"  # above what Linux gives any process
NEVER = 1 << 40
"""When a lock ends that does not end during any run of the tests."""


@pytest.fixture
def state(local_host: LocalHost, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = local_host.folder / "state"
    monkeypatch.setattr("fabfile.lock.STATE", str(folder))
    yield folder
    assert [path.name for path in folder.glob("lock*")] == [] if folder.is_dir() else True


def held(state: Path, *holder: object) -> None:
    (state / "lock").mkdir(parents=True)
    (state / "lock" / "holder").write_text("".join(f"{line}\n" for line in holder))


def test_it_is_there_while_a_run_is_at_work(local_host: LocalHost, state: Path) -> None:
    """The lock names who holds it, and is gone after the run."""
    with hold(local_host, "run-1", (Lost,)):
        who, _, run, until = (state / "lock" / "holder").read_text().splitlines()
        assert (who, run) == (owner(), "run-1") and 60 < int(until) - time.time() <= 121


def test_somebody_elses_is_kept(local_host: LocalHost, state: Path) -> None:
    """Another operator's run is named, with the seconds until its lock would end, and its lock stays."""
    held(state, "ann@admin2", 1, "run-9", int(time.time()) + 500)
    with pytest.raises(Locked, match="ann@admin2 is at work here with run run-9") as refused, hold(local_host, "r", ()):
        pass
    assert 400 <= refused.value.holder.left <= 500
    subprocess.run(["rm", "-r", state / "lock"], check=True)


@pytest.mark.parametrize(
    "holder",
    [("ann@admin2", 1, "run-9", 5), (owner(), GONE, "run-9", NEVER), ()],
    ids=["over", "process gone", "cut off"],
)
def test_one_that_has_ended_gives_way(local_host: LocalHost, state: Path, holder: tuple[object, ...]) -> None:
    """A lock whose time is over, whose process is gone or that was cut off while it was taken away holds nobody up."""
    held(state, *holder)
    if not holder:
        (state / "lock" / "holder").unlink()
    with hold(local_host, "run-1", (Lost,)):
        assert "run-1" in (state / "lock" / "holder").read_text()


def test_one_that_can_not_be_made_is_told(local_host: LocalHost, state: Path) -> None:
    """Where the folder can't be written, its host, the reason and what to mend are said."""
    state.write_text("a file in the folder's place")
    with (
        pytest.raises(Unreachable, match=r"one: the site can't be locked: mkdir: .*File exists"),
        hold(local_host, "r", ()),
    ):
        pass
