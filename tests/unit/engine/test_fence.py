"""The fence at the head of scripts: a run that lost the site's lock changes nothing, wherever it was suspended."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.display.select import Display
from dws_on_csm.engine.host_script import BUSY, FENCE, FENCED, OUTRUN, compile_actions, fenced
from dws_on_csm.engine.reach import ClusterLease, Reach
from dws_on_csm.engine.site_lock import hold
from dws_on_csm.engine.state import Run
from dws_on_csm.model import actions
from dws_on_csm.model.actions import CallApi, Put, RunElsewhere, RunScript
from dws_on_csm.model.events import Done, Event
from dws_on_csm.model.step import ShellLook, Stage, Step, StepContext
from dws_on_csm.runner import masters
from dws_on_csm.runner.journal import identifier
from dws_on_csm.runner.options import Options
from dws_on_csm.runner.run import work
from tests.unit.conftest import Answer, LocalHost
from tests.unit.held_lock import end, holder

pytestmark = pytest.mark.slow

SHELLS = (("dash",), ("bash", "--posix"))
OLD, NEW = identifier(time.time() - 90000), identifier(time.time() - 80000)


@pytest.fixture(params=SHELLS, ids=lambda shell: shell[0])
def shell(request: pytest.FixtureRequest) -> tuple[str, ...]:
    found: tuple[str, ...] = request.param
    return found


def sh(shell: tuple[str, ...], script: str, data: bytes = b"") -> tuple[int, str]:
    done = subprocess.run([*shell, "-c", script], input=data, capture_output=True, timeout=60, check=False)
    return done.returncode, done.stderr.decode()


def state() -> Path:
    return Path(actions.STATE)


def taken_by(run: str) -> None:
    """Give the lock to that run; this host is a master from then on."""
    (state() / "lock").mkdir(parents=True, exist_ok=True)
    (state() / "gate").touch()
    (state() / "lock/holder").write_text(holder(run))


def test_only_the_holder_of_the_lock_changes_the_master(shell: tuple[str, ...], tmp_path: Path) -> None:
    """On the master a script of a run without the lock does nothing, and says who holds it."""
    there = tmp_path / "there"
    script, data = compile_actions([Put(str(there), b"new")], OLD, "mark", "a.step")
    for changing in (script, fenced(OLD, f"touch {there}")):
        taken_by(NEW)
        code, said = sh(shell, changing, data)
        assert (code, said) == (FENCED, f"{OUTRUN}ann@admin2 took it with run {NEW}\n") and not there.exists()
        subprocess.run(["rm", "-r", state() / "lock"], check=True)
        assert sh(shell, changing, data) == (FENCED, f"{OUTRUN}it is gone from the master\n") and not there.exists()
    taken_by(OLD)
    assert sh(shell, script, data) == (0, "") and there.read_text() == "new"
    assert not (state() / "before" / NEW).exists()


def test_a_lock_that_has_expired_is_lost_also_if_nobody_took_it(shell: tuple[str, ...], tmp_path: Path) -> None:
    """A run that slept longer than its lock lasts begins nothing on its master: through another master, with another lock, a run
    may have the cluster's Lease. Also if the lock was renewed before the master's boot.
    """
    there = tmp_path / "there"
    taken_by(OLD)
    holder = state() / "lock/holder"
    for over in (end(0), "c0ffee00-0000-4000-8000-000000000001 999999999", "", f"{end()}x"):
        holder.write_text(f"ann@admin2\n1\n{OLD}\n0\n{over}\n")
        code, said = sh(shell, fenced(OLD, f"touch {there}"))
        assert (code, said) == (FENCED, f"{OUTRUN}it was not renewed in time, and has expired\n") and not there.exists()
    taken_by(OLD)
    assert sh(shell, fenced(OLD, f"touch {there}")) == (0, "") and there.exists()


def test_a_host_lets_no_run_in_behind_a_later_one(shell: tuple[str, ...], tmp_path: Path) -> None:
    """Where a later run has worked, a run with an earlier id changes nothing any more; still later runs do."""
    there = tmp_path / "there"
    assert sh(shell, fenced(OLD, "true"))[0] == 0
    assert sh(shell, fenced(NEW, "true"))[0] == 0
    code, said = sh(shell, fenced(OLD, f"touch {there}"))
    assert code == FENCED and f"{OUTRUN}run {NEW} has changed " in said and not there.exists()
    assert sh(shell, fenced(NEW, f"touch {there}"))[0] == 0 and there.stat().st_mode & 0o777 == 0o644


def test_a_host_that_remembers_a_run_that_its_master_has_forgotten_says_the_way_out(shell: tuple[str, ...]) -> None:
    """The master's state was lost and its clock is behind: the refusal names the file to remove, and then the run may work."""
    sh(shell, fenced(NEW))
    code, said = sh(shell, fenced(OLD, "true"))
    found = re.search(r"remove (\S+/busy) there\)", said)
    assert code == FENCED and found
    Path(found[1]).unlink()
    assert sh(shell, fenced(OLD, "true")) == (0, "")


def test_the_last_runs_name_needs_no_disk_space(shell: tuple[str, ...]) -> None:
    """The last run's id overwrites the former one of the same length: the file is never empty."""
    sh(shell, fenced(OLD))
    before = (state() / "busy").stat()
    sh(shell, fenced(NEW))
    after = (state() / "busy").stat()
    assert (before.st_size, before.st_ino) == (after.st_size, after.st_ino)
    assert (state() / "busy").read_text().split("\n")[0] == NEW


def test_a_script_of_the_run_before_ends_first(shell: tuple[str, ...], tmp_path: Path) -> None:
    """The fence lets a later run in only when scripts of the earlier one have ended."""
    go, through = tmp_path / "go", tmp_path / "through"
    subprocess.run(["mkfifo", go], check=True)
    script = fenced(OLD, f"echo begun; read x <{go}; touch {through}")
    process = subprocess.Popen([*shell, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline() == b"begun\n"
    code, _ = sh(shell, fenced(NEW).replace("-w 60", "-w 0.2"))
    assert code == BUSY and not through.exists()
    go.write_text("\n")
    assert sh(shell, fenced(NEW, f"[ -e {through} ]"))[0] == 0
    process.communicate(timeout=60)


def test_a_before_image_that_a_lost_host_left_unfinished_is_removed(shell: tuple[str, ...]) -> None:
    """The first script of the next run removes it, and nothing that is finished; scripts of the same run leave each other's."""
    images = state() / "before" / OLD / "etc/slurm"
    sh(shell, fenced(OLD, f"mkdir -p {images}; touch {images}/slurm.conf {images}/plugin.lua.part"))
    assert sh(shell, fenced(OLD)) == (0, "") and (images / "plugin.lua.part").exists()
    assert sh(shell, fenced(NEW)) == (0, "")
    assert [image.name for image in images.iterdir()] == ["slurm.conf"]


# --- a run that stood still


@dataclass
class Master(LocalHost):
    """A master on which something happens right before a marked script: after its run has checked its lock."""

    when: Callable[[str], bool] = lambda script: False
    then: Callable[[], None] = lambda: None

    def run(
        self, script: str, data: bytes = b"", *, deadline: float, line: Callable[[str], None] | None = None
    ) -> Answer:
        if self.when(script):
            self.when = lambda script: False
            self.then()
        return super().run(script, data, deadline=deadline, line=line)


@dataclass
class Site:
    """A run on one master: its stages and its events."""

    host: Master
    cluster: object = None
    named: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    alone: ClusterLease = field(default_factory=ClusterLease)

    def run(self, *steps: Step) -> Run:
        stages = [Stage(f"s{n}", (f"s{n - 1}",) if n else (), (one,)) for n, one in enumerate(steps)]
        reach = Reach(
            lambda name: self.host,
            lambda: self.cluster,
            lambda role: "one",
            fence=self.named.append,
            lease=lambda run, tell: nullcontext(self.alone),
        )
        hosts: dict[str, tuple[str, ...]] = {"master": ("one",), "submitter": ()}
        name = identifier(time.time())
        made = Run(name, load(DEFAULT), stages, reach, self.events.append, hosts)
        with ExitStack() as holding:
            assert work(made, Options(yes=True), Display(self.events.append), (), holding) == ""
        return made

    @property
    def done(self) -> dict[str, Done]:
        return {f"{one.stage}.{one.step}": one for one in self.events if isinstance(one, Done)}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "host").mkdir()
    yield Site(Master(tmp_path / "host"))


def step(name: str, *planned: RunElsewhere | CallApi | RunScript | Put) -> Step:
    look = ShellLook(f"[ -e {name} ] && echo there || echo none", lambda out: out.decode().strip())

    def change(place: StepContext, have: str, want: str) -> list[RunElsewhere | CallApi | RunScript | Put]:
        return list(planned)

    return Step(name, "master", lambda place: look, lambda place: "there", change)


@pytest.mark.parametrize("kind", ["script", "ask", "record", "first"])
def test_a_run_that_stood_still_before_its_command(site: Site, tmp_path: Path, kind: str) -> None:
    """A run's machine sleeps between the check of its lock and its command, and another run takes the lock: nothing of that
    command is done, whatever its kind, and the run changes nothing more; it says who holds the lock."""
    there = tmp_path / "there"
    marks = {"script": "touch", "ask": "touch", "record": ".objects", "first": ".opened"}
    site.host.when = lambda script: marks[kind] in script and "holder" in script
    site.host.then = lambda: taken_by(NEW)
    change = RunScript("change", f"touch {there}", objects=("/api/v1/nodes/a",) if kind == "record" else ())
    if kind == "record":
        cluster = type("Cluster", (), {"get": lambda self, path: None})()
        site.cluster = cluster
    ask = RunElsewhere("ask", "master", f"touch {there}")
    made = site.run(step("one", ask if kind == "ask" else change), step("two", change))
    assert not there.exists() and not list(state().glob("before/*/.objects"))
    told = [failure.meaning for one in site.done.values() for failure in one.failures]
    assert any(
        f"lost its lock on the site: ann@admin2 took it with run {NEW}. It changes nothing more" in one for one in told
    )
    assert made.stopping.is_set() and site.done["run.lock"].outcome == "failed"


def test_who_takes_a_lock_that_was_not_given_up_shuts_its_run_out_everywhere(site: Site, tmp_path: Path) -> None:
    """A suspended run does not keep its lock. The next run tells all hosts before it reads anything: from then on the first one
    changes nothing, also on hosts on which the next run has nothing to do."""
    with hold(site.host, identifier(time.time())) as first:
        first.over.set()  # nobody renews it
        holder = state() / "lock/holder"
        lines = holder.read_text().splitlines()
        holder.write_text("\n".join([*lines[:4], f"{lines[4].split()[0]} 0", ""]))
        seen = len(site.host.scripts)
        second = site.run(step("one", RunScript("change", "touch one")))
        assert second.outcomes["s0", "one", "one"] == "changed" and second.id > first.run
        mine = site.host.scripts[seen:]
        (told,) = [n for n, script in enumerate(mine) if script == fenced(second.id)]
        assert "[ -e one ]" in mine[told + 1], "what was seen before may not be so any more"
        (state() / "gate").unlink()  # let this be another host than the master
        code, said = sh(SHELLS[0], fenced(first.run, f"touch {tmp_path}/there"))
        assert code == FENCED and second.id in said and not (tmp_path / "there").exists()


@pytest.mark.parametrize("former", ["", OLD], ids=["given up", "kept"])
def test_who_takes_a_lease_that_was_not_given_up_shuts_its_run_out_everywhere(site: Site, former: str) -> None:
    """The former run worked through another master, whose lock this run does not see: it tells all hosts first, and reads again.
    One that gave the Lease up is over: nobody has to be told.
    """
    alone = ClusterLease()
    alone.elsewhere, alone.former = True, former
    site.alone = alone
    second = site.run(step("one", RunScript("change", "touch one")))
    assert second.outcomes["s0", "one", "one"] == "changed"
    told = [n for n, script in enumerate(site.host.scripts) if script == fenced(second.id)]
    assert len(told) == bool(former)
    assert all("[ -e one ]" in site.host.scripts[n + 1] for n in told)


def test_the_records_are_claimed_right_before_they_are_written(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by a run that then changes nothing: its master would have no record of it."""
    scripts: list[str] = []

    def claim(controllers: list[str]) -> None:
        assert controllers == masters.controllers(load(DEFAULT))
        scripts.extend(site.host.scripts)

    monkeypatch.setattr(site.alone, "keep_records", claim)
    run = site.run(step("one", RunScript("change", "touch one")))
    assert scripts and ".opened" in site.host.scripts[len(scripts)]
    scripts.clear()
    assert not site.run(step("one", RunScript("change", "touch one"))).changing and run.changing and not scripts


def test_after_a_run_that_gave_the_lock_up_nothing_more_is_asked(site: Site) -> None:
    """An ordinary run needs no additional exec for all this."""
    runs = [site.run(step(name, RunScript("change", f"touch {name}"))).id for name in ("one", "two")]
    assert site.named == runs, "the calls of the API are not told whose they are"
    assert runs[0] < runs[1] and not {fenced(run) for run in runs} & {*site.host.scripts}


def test_a_host_on_which_the_former_run_is_still_at_work(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A run that takes over changes nothing while a script of the former run is running, and says so."""
    monkeypatch.setattr(
        "dws_on_csm.engine.host_script.FENCE",
        FENCE.replace("-w 60", "-w 0.1"),
    )
    taken_by(OLD)
    go = tmp_path / "go"
    subprocess.run(["mkfifo", go], check=True)
    process = subprocess.Popen(["sh", "-c", fenced(OLD, f"echo begun; read x <{go}")], stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline() == b"begun\n"
    (state() / "lock/holder").write_text(f"ann@admin2\n1\n{OLD}\n0\nc0ffee00-0000-4000-8000-000000000001 0\n")
    made = site.run(step("one", RunScript("change", "touch one")))
    assert "still running there" in site.done["run.work"].failures[0].meaning
    assert not (site.host.folder / "one").exists() and made.outcomes["run", "work", "one"] == "failed"
    go.write_text("\n")
    process.communicate(timeout=60)
