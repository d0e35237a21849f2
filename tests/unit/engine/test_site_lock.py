"""The lock of a site, in a folder of this machine: the real sh takes, renews and releases it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.display.select import Display
from dws_on_csm.engine import site_lock
from dws_on_csm.engine.reach import Reach
from dws_on_csm.engine.site_lock import Holder, Locked, gone, hold, identity, owner
from dws_on_csm.engine.state import Run
from dws_on_csm.model import actions
from dws_on_csm.model.actions import CallApi, RunScript
from dws_on_csm.model.errors import LockLost, Lost, Unreachable
from dws_on_csm.model.events import Done, Event, Renamed
from dws_on_csm.model.step import Check, ShellLook, Stage, Step, StepContext
from dws_on_csm.runner.journal import identifier
from dws_on_csm.runner.options import Options
from dws_on_csm.runner.run import work
from tests.unit.conftest import Answer, LocalHost

pytestmark = pytest.mark.slow

HANG = 60.0
"""Seconds after which a fast operation counts as hanging."""


@pytest.fixture
def state(local_host: LocalHost) -> Iterator[Path]:
    folder = Path(actions.STATE)
    yield folder
    assert [path.name for path in folder.glob("lock*")] == [] if folder.is_dir() else True


def held(state: Path, who: str, process: object, run: str, left: int, identified: tuple[str, ...] = ()) -> None:
    """A lock that expires in so many seconds; without an identity it is one of an earlier version."""
    (state / "lock").mkdir(parents=True)
    (state / "lock" / "holder").write_text(holding(who, process, run, left))
    if identified:
        (state / "lock" / "process").write_text("".join(f"{line}\n" for line in identified))


def holding(who: str, process: object, run: str, left: int) -> str:
    """The text of the holder's file. No lock ended before the start of its machine, which may be a minute ago."""
    end = max(up() + left, 1)
    return f"{who}\n{process}\n{run}\n{int(time.time()) + left}\n{site_lock.BOOT.read_text().strip()} {end}\n"


def up() -> int:
    return int(float(Path("/proc/uptime").read_text().split()[0]))


def ends(state: Path) -> int:
    """When the lock ends, in seconds since this machine's boot."""
    return int(lines(state)[4].split()[1])


def lines(state: Path) -> list[str]:
    return (state / "lock" / "holder").read_text().splitlines()


def forced(state: Path) -> None:
    subprocess.run(["rm", "-r", state / "lock"], check=True)


def until(condition: Callable[[], bool]) -> None:
    last = time.monotonic() + HANG
    while not condition():
        assert time.monotonic() < last
        time.sleep(0.01)  # what other threads do wakes nobody here


def now() -> str:
    return identifier(time.time())


def test_the_lock_exists_while_a_run_works(local_host: LocalHost, state: Path) -> None:
    """The lock names its holder and the identity of its process, and is gone after the run."""
    run = now()
    with hold(local_host, run) as got:
        who, process, run_, until_, counts = lines(state)
        assert (who, int(process), run_, got.run) == (owner(), os.getpid(), run, run)
        assert 60 < int(until_) - time.time() <= 121
        assert counts.split()[0] == site_lock.BOOT.read_text().strip() and 60 < int(counts.split()[1]) - up() <= 121
        assert tuple((state / "lock" / "process").read_text().splitlines()) == identity() != ()
        got.check()


def test_somebody_elses_is_kept(local_host: LocalHost, state: Path) -> None:
    """Another operator's run is named, with the seconds until its lock expires, and the lock stays."""
    held(state, "ann@admin2", 1, "run-9", 100)
    with (
        pytest.raises(Locked, match=r"^Run run-9 by ann@admin2 is running on this site\.") as refused,
        hold(local_host, "r"),
    ):
        pass
    assert 20 <= refused.value.holder.left <= 100
    forced(state)


def ended() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.mark.parametrize(
    ("others", "taken"),
    [
        (lambda: (owner(), ended(), identity()), True),
        (lambda: (owner(), os.getpid(), (identity()[0], "1")), True),
        (lambda: (owner(), os.getpid(), identity()), False),
        (lambda: (owner(), 1, (identity()[0], site_lock.process_started(1))), False),
        (lambda: (owner(), ended(), ("another machine", "1")), False),
        (lambda: (owner(), ended(), ()), False),
        (lambda: (owner(), 10**30, identity()), False),
    ],
    ids=["ended", "number reused", "at work", "root's", "same name elsewhere", "earlier version", "no number"],
)
def test_only_a_process_of_this_machine_that_has_ended_gives_way_early(
    local_host: LocalHost, state: Path, others: Callable[[], tuple[str, int, tuple[str, ...]]], taken: bool
) -> None:
    """A lock is taken over where its process has certainly ended: not by the owner's name, nor if the process id was reused."""
    who, process, identified = others()
    held(state, who, process, "run-9", 100, identified=identified)
    with ExitStack() as stack:
        if taken:
            stack.enter_context(hold(local_host, now()))
            assert lines(state)[1] == str(os.getpid())
            return
        with pytest.raises(Locked):
            stack.enter_context(hold(local_host, now()))
    forced(state)


def test_a_process_of_somebody_else_is_no_defect(tmp_path: Path) -> None:
    """A process that this user may not signal counts as running."""
    code = "import sys; from dws_on_csm.engine.site_lock import *; from dws_on_csm.engine import site_lock as h\n"
    code += "mine = identity(); first = (mine[0], h.process_started(1))\n"
    code += "print(gone(Holder('o', 1, 'r', 9, first)), gone(Holder('o', 1, 'r', 9, mine)))"
    as_nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"] if os.getuid() == 0 else []
    # this very interpreter and source, wherever they lie: what was loaded already needs no rights
    loaded = f"import os; import dws_on_csm.engine.site_lock\n{'os.setgid(65534); os.setuid(65534)' if as_nobody else ''}\n{code}"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True, timeout=HANG)
    assert done.stdout.split() == ["False", "True"]


def test_a_machine_that_tells_nothing_of_its_processes_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc (macOS), or in another process namespace, no lock is taken over early."""
    dead = Holder(owner(), ended(), "r", 9, identity())
    assert gone(dead)
    monkeypatch.setattr(site_lock, "MACHINE", Path("/nowhere"))
    assert identity() and not gone(dead), "it may be another machine"
    monkeypatch.setattr(site_lock, "BOOT", Path("/nowhere"))
    assert identity() == () and not gone(dead) and not gone(replace(dead, identity=()))


@pytest.mark.parametrize("left", [0, -1000, None], ids=["over", "long over", "cut off"])
def test_one_that_has_ended_gives_way(local_host: LocalHost, state: Path, left: int | None) -> None:
    """A lock that has expired, or was half removed by an earlier version, does not block a run."""
    held(state, "ann@admin2", 1, "run-9", left or 0)
    if left is None:
        (state / "lock" / "holder").unlink()
    run = now()
    with hold(local_host, run):
        assert run in lines(state)


@pytest.mark.parametrize(
    "text",
    [
        *("", "ann@admin2\n1\nrun-9\n", "ann@admin2\n1\nrun-9\n170\n17x 12\n", "\0\0\0\0"),
        f"ann@admin2\n1\nrun-9\n{int(time.time()) - 1000}\n",
        holding("ann@admin2", 1, "run-9", 1 << 30),
    ],
    ids=["empty", "no end", "no number", "zeros", "earlier version", "too late"],
)
def test_a_lock_without_a_known_end_expires(local_host: LocalHost, state: Path, text: str) -> None:
    """A damaged lock, and one of an earlier version, last as long as one that was just renewed."""
    held(state, "ann@admin2", 1, "run-9", 0)
    (state / "lock" / "holder").write_text(text)
    for _ in range(2):
        with pytest.raises(Locked) as refused, hold(local_host, now()):
            pass
        assert site_lock.LEASE_SECONDS / 2 < refused.value.holder.left <= site_lock.LEASE_SECONDS
    (state / "lock" / "holder").write_text(holding("ann@admin2", 1, "run-9", -1))
    with hold(local_host, now()):
        pass


def test_a_lock_that_cannot_be_taken_is_reported(local_host: LocalHost, state: Path) -> None:
    """If the folder can't be written, the message has host, reason and fix."""
    state.write_text("a file in the folder's place")
    with (
        pytest.raises(Unreachable, match=r"one: the site can't be locked: mkdir: .*File exists"),
        hold(local_host, "r"),
    ):
        pass


@dataclass
class Talking(LocalHost):
    """A master whose shell prints something before, or in place of, a script's output."""

    answer: bytes = b""

    def run(self, script: str, data: bytes = b"", *, deadline: float, line: Any = None) -> Answer:
        out = super().run(script, data, deadline=deadline, line=line).out
        return Answer(self.answer.replace(b"OUT", out), b"", 0)


ODD = [
    b"",
    b"Welcome to ncn-m001\nOUT",
    b"taken",
    b"taken x 20260131T120000Z-aaaa",
    b"taken 0 ../x",
    b"held",
    b"held 9",
]
ODD += [b"held x\nann\n1\nr\n0\n0", b"held 9\nann\n1\nr", b"\xff\xfe", b"taken 0", b"held " + b"9" * 5000]


@pytest.mark.parametrize("answer", ODD)
def test_a_useless_answer_is_reported(tmp_path: Path, state: Path, answer: bytes) -> None:
    """An unexpected answer of the master is not a defect: the message has host, answer and fix."""
    host = Talking(tmp_path, answer=answer)
    with (
        pytest.raises(Unreachable, match="one: the site can't be locked: the answer of the script could not be read"),
        hold(host, now()),
    ):
        pass
    assert not (state / "lock").exists(), "it was taken all the same, and is left"


# --- renewing


@dataclass
class Broken(LocalHost):
    """A master whose connection fails at the next renewals."""

    fails: int = 0

    def run_aside(self, script: str, *, deadline: float) -> Answer:
        if self.fails:
            self.fails -= 1
            raise Lost("one", "the connection broke")
        return super().run_aside(script, deadline=deadline)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that is renewed every second, and at once after a failure."""
    monkeypatch.setattr(site_lock, "LEASE_SECONDS", 3)
    monkeypatch.setattr(site_lock, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(site_lock, "MARGIN", 0.0)


def test_it_is_renewed(local_host: LocalHost, state: Path, hurried: None) -> None:
    """While its run is running, the lock's end moves on automatically."""
    with hold(local_host, now()):
        first = ends(state)
        until(lambda: ends(state) >= first + 2)


def test_a_renewal_that_fails_is_tried_again(
    local_host: LocalHost, state: Path, hurried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failed renewals are tried again."""
    monkeypatch.setattr(site_lock, "LEASE_SECONDS", 60)
    host, told = Broken(local_host.folder, fails=3), list[str]()
    with hold(host, now(), told.append) as got:
        first = ends(state)
        assert [got.renew() for _ in range(3)] == [False] * 3
        got.check()
        until(lambda: got.renew() and ends(state) > first)
    assert told == []


def test_a_renewal_gives_time_again(local_host: LocalHost, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each renewal gives the lock its full time, also if the next renewals fail."""
    host, told, later = Broken(local_host.folder), list[str](), 0.0
    real = site_lock.clock
    monkeypatch.setattr(site_lock, "clock", lambda: real() + later)
    with hold(host, now(), told.append) as got:
        later = 100.0
        assert got.renew()
        host.fails, later = 2, 200.0
        assert not got.renew() and got.lost == ""
        later = 100.0 + site_lock.LEASE_SECONDS
        with pytest.raises(LockLost, match="could not be renewed"):
            got.check()
    assert len(told) == 1


def test_renewal_continues_after_a_failure(local_host: LocalHost, state: Path, hurried: None) -> None:
    """The renewing thread tries again soon after a failure, until the lock would have expired."""
    host = Broken(local_host.folder, fails=2)
    with hold(host, now()):
        first = ends(state)
        until(lambda: host.fails == 0 and ends(state) >= first + 2)


def test_a_lock_that_could_not_be_renewed_in_time_is_lost(local_host: LocalHost, state: Path, hurried: None) -> None:
    """If no renewal succeeds until the lock has expired, this is reported once, and nothing may be changed any more."""
    host, told = Broken(local_host.folder, fails=1 << 30), list[str]()
    with hold(host, now(), told.append) as got:
        until(lambda: bool(told))
        with pytest.raises(LockLost, match=r"could not be renewed for 3 s .*the connection broke"):
            got.check()
        host.fails = 0
    assert len(told) == 1


def test_a_paused_run_checks_the_lock_before_it_continues(
    local_host: LocalHost, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its machine slept longer than the lock lasts, a run continues unless another run took the lock."""
    asleep = 0.0
    real = site_lock.clock
    monkeypatch.setattr(site_lock, "clock", lambda: real() + asleep)
    with hold(local_host, now()) as got:
        asleep = 500.0
        got.check()
        asleep = 1000.0
        (state / "lock" / "holder").write_text(holding("ann@admin2", 1, "run-9", 100))
        with pytest.raises(LockLost, match=r"has lost its lock on the site: ann@admin2 took it with run run-9\."):
            got.check()
    assert lines(state)[2] == "run-9", "left, whoever holds it"
    forced(state)


def test_a_lock_that_has_expired_is_renewed_only_while_no_other_master_is_used(
    local_host: LocalHost, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever thread of a run that slept wakes first: its lock counts again only once the run has made sure that it still has the
    cluster's Lease; and not where it slept once more since.
    """
    told: list[str] = []
    with hold(local_host, now(), told.append) as got:
        over = state / "lock" / "holder"

        def lapse() -> str:
            boot = lines(state)[4].split()[0]
            over.write_text("\n".join([*lines(state)[:4], f"{boot} 0", ""]))
            return over.read_text()

        lapsed = lapse()
        asked: list[str] = []
        got.check_lease = lambda: asked.append(over.read_text())
        assert got.renew() and asked == [lapsed] and over.read_text() != lapsed

        def lost() -> None:
            raise LockLost("m1", "a run through the master m2 has it")

        lapsed = lapse()
        monkeypatch.setattr(got, "check_lease", lambda: None)
        with (
            monkeypatch.context() as slept
        ):  # so the second script says that it has seen another end than there is by now
            run_aside = local_host.run_aside
            slept.setattr(
                local_host,
                "run_aside",
                lambda script, **more: run_aside(re.sub(r"(?m)^seen=\d+$", "seen=1", script), **more),
            )
            assert not got.renew() and over.read_text() == lapsed
        monkeypatch.setattr(got, "check_lease", lost)
        assert not got.renew() and over.read_text() == lapsed
        with pytest.raises(LockLost, match="a run through the master m2 has it"):
            got.check()
    assert told == [], "the Lease has told it"


def test_a_vanished_lock_is_lost(local_host: LocalHost, state: Path, hurried: None) -> None:
    """A lock that another run took and released, or that was removed by hand, is noticed too."""
    told: list[str] = []
    with hold(local_host, now(), told.append):
        forced(state)
        until(lambda: bool(told))
    assert "it is gone from the master" in told[0] and not (state / "lock").exists()


def test_a_run_that_lost_its_lock_stops_before_its_next_change(
    local_host: LocalHost, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose lock was taken changes nothing more, says who took it, and fails."""
    seen: list[Event] = []
    changed = local_host.folder / "changed"

    def stolen(cluster: object) -> bytes:
        (state / "lock" / "holder").write_text(holding("ann@admin2", 1, "run-9", 100))
        monkeypatch.setattr(site_lock, "clock", lambda: time.monotonic() + 1e9)  # so that it is asked for at once
        return b""

    def step(name: str, change: Callable[[StepContext, str, str], list[CallApi | RunScript]]) -> Step:
        look = ShellLook(
            f"[ -e {local_host.folder / name} ] && echo there || echo none", lambda out: out.decode().strip()
        )
        return Step(name, "master", lambda place: look, lambda place: "there", change)

    steps = (
        step("one", lambda *_: [CallApi("steal", stolen), RunScript("change", f"touch {changed}")]),
        step("two", lambda *_: [RunScript("change", f"touch {changed}")]),
    )
    reach = Reach(lambda name: local_host, lambda: None, lambda role: "one")
    stages = [Stage("first", (), (steps[0],)), Stage("second", ("first",), (steps[1],))]
    run = Run(now(), load(DEFAULT), stages, reach, seen.append, {"master": ("one",), "submitter": ()})
    with ExitStack() as held:
        assert work(run, Options(yes=True), Display(seen.append), (), held) == ""
    done = {f"{one.stage}.{one.step}": one for one in seen if isinstance(one, Done)}
    assert not changed.exists()
    assert done["run.lock"].outcome == "failed" and "ann@admin2 took it" in done["run.lock"].failures[0].meaning
    assert done["first.one"].outcome == "failed" and done["second.two"].outcome == "skipped"
    assert run.stopping.is_set()
    forced(state)


def test_looks_from_before_the_end_of_another_run_are_repeated(local_host: LocalHost, state: Path) -> None:
    """If another run worked between a run's first looks and its lock, the run reads again and decides by that."""
    one = local_host.folder / "one"
    one.touch()

    def meanwhile(place: StepContext, have: str) -> tuple[()]:
        if one.exists() and not (local_host.folder / "two").exists():
            with hold(local_host, now()):
                one.unlink()
        return ()

    def step(name: str) -> Step:
        look = ShellLook(f"[ -e {name} ] && echo there || echo none", lambda out: out.decode().strip())
        return Step(
            name, "master", lambda place: look, lambda place: "there", lambda *_: [RunScript("make", f"touch {name}")]
        )

    check = Check("other", "master", lambda place: ShellLook("true", bytes.decode), meanwhile)
    stages = [Stage("first", (), (check,)), Stage("a", ("first",), (step("one"),)), Stage("b", ("a",), (step("two"),))]
    reach = Reach(lambda name: local_host, lambda: None, lambda role: "one")
    run = Run(now(), load(DEFAULT), stages, reach, lambda event: None, {"master": ("one",), "submitter": ()})
    with ExitStack() as held:
        assert work(run, Options(yes=True), Display(lambda event: None), (), held) == ""
    assert one.exists() and (local_host.folder / "two").exists()
    assert run.outcomes["a", "one", "one"] == "changed"


# --- the names of runs


@pytest.mark.parametrize("hours", [-24, -2, 0, 2, 24])
def test_a_run_is_named_by_the_masters_clock(local_host: LocalHost, state: Path, hours: int) -> None:
    """A wrong operator's clock does not affect ids: each id has the master's time, and the run's own digits."""
    run = identifier(time.time() + 3600 * hours)
    with hold(local_host, run) as got:
        assert lines(state)[2] == got.run
        assert (
            abs(int(time.strftime("%s", time.strptime(got.run[:15], "%Y%m%dT%H%M%S"))) - time.mktime(time.gmtime()))
            < HANG
        )
        assert got.run[-4:] == run[-4:] and (got.run == run) == (hours == 0)


def test_names_of_runs_are_in_the_order_of_the_runs(local_host: LocalHost, state: Path) -> None:
    """Whatever the operators' clocks say, and after an id from the future on the master: each id is later than the last."""
    begun = int(time.time())
    names = [identifier(begun + 90000)]
    (state / "before" / names[0]).mkdir(parents=True)
    for proposed in (begun, begun - 86400, begun + 86400, begun, begun):
        with hold(local_host, identifier(proposed)) as got:
            (state / "runs").mkdir(exist_ok=True)
            (state / "runs" / got.run).touch()
            names.append(got.run)
    assert names == sorted(names) and len({name[:16] for name in names}) == len(names)


def test_two_runs_of_one_second_are_in_order(local_host: LocalHost, state: Path) -> None:
    """The second of two runs that began in the same second has the later id, whatever its digits."""
    begun = identifier(time.time() - 30)[:-4]
    names = []
    for digits in ("ffff", "0000"):
        with hold(local_host, begun + digits) as got:
            (state / "before" / got.run).mkdir(parents=True)
            names.append(got.run)
    assert names[0] == begun + "ffff" and names[0] < names[1] and names[1].endswith("-0000")


def test_the_run_goes_by_its_name_from_then_on(local_host: LocalHost, state: Path) -> None:
    """Records on hosts and in the journal have the id that the master gave the run."""
    seen: list[Event] = []
    look = ShellLook("cat one 2>/dev/null || echo none", lambda out: out.decode().strip())
    step = Step("one", "master", lambda place: look, lambda place: "x", lambda *_: [RunScript("change", "echo x >one")])
    reach = Reach(lambda name: local_host, lambda: None, lambda role: "one")
    late = identifier(time.time() + 86400)
    run = Run(
        late,
        load(DEFAULT),
        [Stage("s", (), (step,))],
        reach,
        seen.append,
        {"master": ("one",), "submitter": ()},
    )
    with ExitStack() as held:
        work(run, Options(yes=True), Display(seen.append), (), held)
    (renamed,) = [one for one in seen if isinstance(one, Renamed)]
    assert renamed.run == run.id < late


@dataclass
class Apart(LocalHost):
    """A host other than the master: its state is in its own folder."""

    def run(self, script: str, data: bytes = b"", *, deadline: float, line: Any = None) -> Answer:
        mine = script.replace(actions.STATE, str(self.folder / "state"))
        return super().run(mine, data, deadline=deadline, line=line)


def test_a_host_that_knows_a_later_run_is_reported_before_any_change(
    local_host: LocalHost, state: Path, tmp_path: Path
) -> None:
    """The master lost its state, or its clock was ahead: no host is changed, and the message says what to remove where."""
    (tmp_path / "two").mkdir()
    hosts = {"one": local_host, "two": Apart(tmp_path / "two", host="two")}
    late = "20990101T000000Z-aaaa"
    busy = tmp_path / "two/state/busy"
    busy.parent.mkdir()
    busy.write_text(f"{late}\n")
    look = ShellLook("cat one 2>/dev/null || echo none", lambda out: out.decode().strip())

    def step(role: str) -> Step:
        return Step(role, role, lambda place: look, lambda place: "x", lambda *_: [RunScript("change", "echo x >one")])

    roles = {"master": ("one",), "controller": ("two",), "submitter": ()}
    stages = [Stage("a", (), (step("master"),)), Stage("b", (), (step("controller"),))]

    def made() -> tuple[str, Run]:
        reach = Reach(lambda name: hosts.get(name, local_host), lambda: local_host.cluster(), lambda role: "one")
        run = Run(now(), load(DEFAULT), stages, reach, lambda event: None, roles)
        with ExitStack() as held:
            return work(run, Options(yes=True), Display(lambda event: None), (), held), run

    why, run = made()
    assert f"on two, {late}" in why and f"`ssh two rm {actions.STATE}/busy`" in why
    assert not list(tmp_path.glob("*/one")) and not (state / "lock").exists() and not run.outcomes
    busy.unlink()
    assert made()[0] == "" and (tmp_path / "two/one").exists()


def test_a_run_is_named_after_the_last_that_was_at_work_on_the_master(local_host: LocalHost, state: Path) -> None:
    """Also if that run left nothing else."""
    state.mkdir()
    (state / "busy").write_text("20990101T000000Z-aaaa\n")
    with hold(local_host, now()) as got:
        assert got.run > "20990101T000000Z-aaaa"
