"""The lock's scripts: killed after every line, interleaved with each other, and compared with a model in every state."""

from __future__ import annotations

import itertools
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from dws_on_csm.engine import site_lock
from dws_on_csm.runner.journal import identifier

pytestmark = pytest.mark.slow

HANG = 60.0
"""Seconds after which a fast operation counts as hanging."""
NOW = 1_800_000_000
UP = 1_000_000
BOOT = "c0ffee00-0000-4000-8000-000000000001"
HOLD = site_lock.LEASE_SECONDS
RUNS = {who: f"{identifier(NOW - 60)[:-4]}000{who}" for who in "abc"}
SHELLS = (("dash",), ("bash", "--posix"))


SEEN = {"just now": 60, "long ago": 61}
"""Seconds ago in which a renewal found the lock expired, if it did."""


@dataclass
class Master:
    """A master whose clocks the test sets: `up`, seconds since its boot, and `now`, the settable clock."""

    folder: Path
    shell: tuple[str, ...] = SHELLS[0]
    now: int = NOW
    up: int = UP
    boot: str = BOOT
    names: dict[str, str] = field(default_factory=lambda: dict(RUNS))

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def holder(self) -> Path:
        return self.state / "lock" / "holder"

    def script(self, verb: str, who: str, over: str = "") -> str:
        own = {"run": self.names[who]}
        if verb == "take":
            own |= {"over": self.names.get(over, ""), "who": who, "pid": "1", "process": f"process of {who}"}
        if verb == "renew":
            own["seen"] = str(self.up - SEEN[over]) if over else ""
        return site_lock.script(f"master/lock_{verb}.sh", **own)

    def begin(self, script: str) -> subprocess.Popen[str]:
        clock = self.folder / "bin" / "date"
        clock.parent.mkdir(exist_ok=True)
        if not (sync := clock.parent / "sync").exists():
            sync.symlink_to("/bin/true")  # nothing here outlives a power cut
        proc = self.folder / "proc"
        (proc / "sys/kernel/random").mkdir(parents=True, exist_ok=True)
        _put(proc / "uptime", f"{self.up}.93 7000000.00\n")
        _put(proc / "sys/kernel/random/boot_id", f"{self.boot}\n")
        text = f'#!/bin/sh\n[ "$1" != +%s ] || {{ echo {self.now}; exit; }}\nexec /bin/date "$@"\n'
        _put(clock, text, 0o755)
        paths = {"PATH": f"{clock.parent}:{os.environ['PATH']}"}
        return subprocess.Popen(
            [*self.shell, "-c", script], env=paths, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, script: str) -> tuple[int, str]:
        process = self.begin(script)
        out, err = process.communicate(timeout=HANG)
        assert process.returncode in (0, site_lock.LOST, site_lock.LAPSED, -9), err
        return process.returncode, out

    def takes(self, who: str, over: str = "") -> bool:
        code, out = self.run(self.script("take", who, over))
        assert code == 0 and out.split()[0] in ("taken", "held")
        if out.startswith("taken"):
            self.names[who] = out.split()[2]
        return out.startswith("taken")

    def is_held(self, who: str, left: int) -> None:
        """Give the lock to a run for so many seconds."""
        self.holder.parent.mkdir(parents=True, exist_ok=True)
        self.holder.write_text(f"{who}\n1\n{self.names[who]}\n{self.now + left}\n{self.boot} {self.up + left}\n")

    def is_torn(self) -> None:
        """Empty the holder's file, as after a power failure."""
        self.is_held("c", 0)
        self.holder.write_text("")

    def passes(self, seconds: int) -> None:
        """Let time pass."""
        self.now += seconds
        self.up += seconds

    def starts_again(self, up: int) -> None:
        """Reboot the master, so many seconds ago."""
        self.boot, self.up = f"{self.boot[:-12]}{int(self.boot[-12:], 16) + 1:012x}", up

    def clear(self) -> None:
        subprocess.run(["rm", "-rf", self.state], check=True)
        self.now, self.up, self.boot = NOW, UP, BOOT
        self.names = dict(RUNS)


def _put(path: Path, text: str, mode: int = 0o644) -> None:
    """Another process may be reading it: then this does nothing."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
        path.chmod(mode)


@pytest.fixture
def master(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Master:
    monkeypatch.setattr(site_lock, "PROC", str(tmp_path / "proc"))
    return Master(tmp_path)


def with_line(script: str, line: str, shell: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The script with `line` inserted after each command in turn; and the command."""
    lines = [one for one in script.splitlines() if one.strip() and not one.startswith("#")]
    for number in range(lines.index("set -eu") + 1, len(lines)):
        changed = "\n".join([*lines[:number], line, *lines[number:]])
        if subprocess.run([*shell, "-n", "-c", changed], check=False, capture_output=True).returncode == 0:
            yield changed, lines[number - 1]


# --- killed anywhere

BEGINNINGS: dict[str, tuple[str, Callable[[Master], object]]] = {
    "take, nobody's": ("take", lambda master: None),
    "take, expired": ("take", lambda master: master.is_held("c", 0)),
    "take, torn": ("take", lambda master: master.is_torn()),
    "take, held": ("take", lambda master: master.is_held("c", 60)),
    "renew": ("renew", lambda master: master.takes("a")),
    "release": ("release", lambda master: master.takes("a")),
}


OTHERS = {"take, held": "c", "take, torn": ""}
"""Who holds the lock if the killed script did not get it."""


@pytest.mark.parametrize(
    ("beginning", "shell"),
    [*((one, SHELLS[0]) for one in BEGINNINGS), ("take, expired", SHELLS[1]), ("renew", SHELLS[1])],
    ids=lambda one: one if isinstance(one, str) else one[0],
)
def test_killed_behind_any_line(master: Master, beginning: str, shell: tuple[str, ...]) -> None:
    """A script killed anywhere leaves at most one holder, and the lock can be taken when it has expired."""
    verb, prepare = BEGINNINGS[beginning]
    master.shell = shell
    tried = 0
    for script, line in with_line(master.script(verb, "a"), "kill -9 $$", shell):
        tried += 1
        master.clear()
        prepare(master)
        master.run(script)
        if master.takes("b"):
            assert beginning in ("take, nobody's", "take, expired", "release"), line
        else:
            assert seen(master).holder == OTHERS.get(beginning, "a"), line
            master.passes(HOLD + 1)
            assert master.takes("b"), line
        assert seen(master).holder == "b", line
        assert sorted(path.name for path in master.state.glob("lock*")) == ["lock"], line
    assert tried > 15


# --- between the lines of another


def waiting(master: Master) -> bool:
    """Whether a script waits until another one has released the gate."""
    return any(_waits(process, master.state / "gate") for process in Path("/proc").glob("[0-9]*"))


def _waits(process: Path, gate: Path) -> bool:
    # /proc/locks would show it too, but not in a process namespace
    try:
        return (
            (process / "comm").read_text() == "flock\n"
            and "lock_inode_wait" in (process / "wchan").read_text()
            and any(one.readlink() == gate for one in (process / "fd").iterdir())
        )
    except OSError:
        return False  # it has ended since


@pytest.mark.parametrize(
    ("first", "second"),
    [("take", "take"), ("take", "renew"), ("take", "release"), ("renew", "take"), ("release", "take")],
)
def test_between_any_two_lines(master: Master, first: str, second: str) -> None:
    """One script runs between any two lines of another at an expired lock: there is at most one holder, and it knows."""
    at, go = master.folder / "at", master.folder / "go"
    stop = f": >{at}; until [ -e {go} ]; do sleep 0.01; done"
    for script, line in with_line(master.script(first, "a"), stop, master.shell):
        master.clear()
        master.is_held("a" if first != "take" else "b" if second != "take" else "c", 0)
        one = master.begin(script)
        until(lambda one=one: at.exists() or one.poll() is not None)  # type: ignore[misc]
        other = master.begin(master.script(second, "b"))
        until(lambda other=other: other.poll() is not None or waiting(master))  # type: ignore[misc]
        go.touch()
        outs = [process.communicate(timeout=HANG)[0] for process in (one, other)]
        at.unlink(missing_ok=True)
        go.unlink()
        taken = [out.startswith("taken") for out in outs]
        assert taken != [True, True], line
        if first == "renew" and one.returncode == 0:
            assert taken[1] is False and seen(master) == State("a", HOLD), line
        if True in taken:
            assert seen(master) == State("ab"[taken.index(True)], HOLD), line


def until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + HANG
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.005)  # what another process does wakes nobody here


def test_it_says_until_when_others_were_at_work(master: Master) -> None:
    """Taking the lock reports how long ago another run may have held it: until it was released, expired, or its holder died."""

    def since(over: str = "") -> int:
        return int(master.run(master.script("take", "a", over))[1].split()[1])

    def left() -> None:
        holder = master.holder.read_text().splitlines()[2]
        master.run(site_lock.script("master/lock_release.sh", run=holder))

    assert since() == UP, "nobody ever did"
    left()
    master.passes(30)
    assert since() == 30
    left()
    master.up, master.now = master.up + 40, master.now - 86400
    assert since() == 40, "whatever became of the clock that can be set"
    left()
    master.starts_again(50)
    assert since() == 50, "not since this boot"
    left()
    (master.state / "left").write_text("")
    assert since() in (0, 50)
    master.is_held("c", -20)
    assert since() == 20
    master.is_held("c", 20)
    assert since(over="c") == 0
    master.is_held("c", 20)
    master.starts_again(HOLD + 7)
    assert since() == 7, "it may have held it until then, whenever it was renewed last"


def test_it_is_on_the_disk_before_it_counts(master: Master) -> None:
    """The lock is synced before its rename, and its folder after it: a power failure leaves it complete or absent."""
    order = master.folder / "order"
    for verb in ("take", "renew", "release"):
        names = {"sync": "command sync", "mv": "command mv"}
        noted = "".join(f'{name}() {{ echo "{name} $*" >>{order}; {real} "$@"; }}\n' for name, real in names.items())
        assert master.run(f"{noted}{master.script(verb, 'a')}")[0] == 0
    assert order.read_text().replace(" --", "").splitlines() == [
        *("sync lock.new/process", "sync lock.new/new", "mv -fT lock.new/new lock.new/holder", "sync lock.new"),
        *("sync ./lock.new", "mv -fT ./lock.new ./lock", "sync ."),
        *("sync lock/new", "mv -fT lock/new lock/holder", "sync lock"),
        *("sync ./left.part", "mv -fT ./left.part ./left", "sync .", "mv -T lock lock.old", "sync ."),
    ]


def test_three_at_once(master: Master) -> None:
    """Of three scripts that find the lock expired at the same time, one takes it, each time."""
    for _ in range(8):
        master.is_held("c", 0)
        begun = [master.begin(master.script("take", who)) for who in "abc"]
        outs = [process.communicate(timeout=HANG)[0] for process in begun]
        assert sorted(out.split()[0] for out in outs) == ["held", "held", "taken"]
        master.clear()


# --- against a model


@dataclass(frozen=True)
class State:
    """The lock's holder ("": none), and seconds until it expires."""

    holder: str
    left: int


LEFT = (HOLD, 60, 1, 0, -60, HOLD + 1, 10 * HOLD)
JUMPS = (86400, -86400, 0, -1000, 1000)
STATES = (State("", 0), *(State(who, left) for who in "ab" for left in LEFT))
DEEDS = (
    *itertools.product(("take", "renew", "release"), "ab", ("",)),
    *(("take", "b", "a"), ("take", "b", "c"), ("renew", "a", "just now"), ("renew", "a", "long ago")),
)


def rebooted(state: State, up: int) -> State:
    """The lock after a boot of the master: the same holder, for at most $HOLD seconds of the new boot."""
    return State(state.holder, HOLD - up) if state.holder else state


def model(before: State, verb: str, who: str, over: str) -> tuple[State, bool]:
    """The lock after this script, and whether the script succeeded."""
    if verb == "renew":
        # one that has expired: only if the run has just found it so
        return (
            (State(who, HOLD), True)
            if before.holder == who and (before.left > 0 or over == "just now")
            else (before, False)
        )
    if verb == "release":
        return (State("", 0), True) if before.holder == who else (before, True)
    if before.holder and before.left > 0 and before.holder != over:
        return State(before.holder, min(before.left, HOLD)), False
    return State(who, HOLD), True


def seen(master: Master) -> State:
    if not master.holder.exists():
        return State("", 0)
    _, _, run, _, counts = master.holder.read_text().splitlines()
    boot, end = counts.split()
    left = int(end) - master.up if boot == master.boot else HOLD - master.up
    return State(run[-1:], left)  # whatever second it was named for


@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: " ".join(filter(None, deed)))
def test_as_the_model_says(master: Master, deed: tuple[str, str, str]) -> None:
    """In each state of the lock each script does what the model does, wherever the settable clock jumped."""
    verb, who, over = deed
    for before, jump in zip(STATES, itertools.cycle(JUMPS), strict=False):
        master.clear()
        if before.holder:
            master.is_held(before.holder, before.left)
        master.now += jump
        assert _done(master, *deed) == model(before, verb, who, over), (before, jump)


@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: " ".join(filter(None, deed)))
def test_as_the_model_says_after_a_boot(master: Master, deed: tuple[str, str, str]) -> None:
    """A lock of the former boot lasts as if it had been renewed right before this boot, and can be renewed."""
    verb, who, over = deed
    states = (State("", 0), State("a", 1), State("a", 10 * HOLD), State("b", 60))
    for (before, up), jump in zip(itertools.product(states, (0, 60, HOLD, UP)), itertools.cycle(JUMPS), strict=False):
        master.clear()
        if before.holder:
            master.is_held(before.holder, before.left)
        master.now += jump
        master.starts_again(up)
        assert _done(master, *deed) == model(rebooted(before, up), verb, who, over), (before, up, jump)


def _done(master: Master, verb: str, who: str, over: str) -> tuple[State, bool]:
    got = master.takes(who, over) if verb == "take" else master.run(master.script(verb, who, over))[0] == 0
    return seen(master), got


def test_random_courses(master: Master) -> None:
    """After any sequence of scripts, time, clock jumps and boots of the master, the lock is as in the model."""
    random = Random(8)  # noqa: S311  # no secret: the same courses each time
    for _ in range(12):
        master.clear()
        state = State("", 0)
        course: list[object] = []
        for _ in range(12):
            what = random.choice(("deed", "deed", "deed", "time", "jump", "boot"))
            if what == "deed":
                deed = random.choice(DEEDS)
                state, got = model(state, *deed)
                course.append(deed)
                assert _done(master, *deed) == (state, got), course
                continue
            step = random.choice((1, 30, HOLD - 1, HOLD, 10 * HOLD))
            course.append((what, step))
            if what == "time":
                master.passes(step)
                state = State(state.holder, state.left - step) if state.holder else state
            elif what == "jump":
                master.now += random.choice((-1, 1)) * 1000 * step
            else:
                master.starts_again(step)
                state = rebooted(state, step)
            assert seen(master) == state, course


def test_a_lock_of_an_earlier_version(master: Master) -> None:
    """A lock that has its end by the settable clock alone expires as if it had been renewed just now."""
    master.is_held("c", 20)
    master.holder.write_text("".join(master.holder.read_text().splitlines(keepends=True)[:4]))
    master.now += 10 * HOLD
    assert not master.takes("a") and seen(master) == State("c", HOLD)
    master.passes(HOLD - 1)
    assert not master.takes("a")
    master.passes(1)
    assert master.takes("a")


def test_each_name_is_after_that_of_the_lock_before(master: Master) -> None:
    """Runs that leave nothing else on the master have ids in their order too, whether they released the lock or not."""
    names: list[str] = []
    for digits, ends in (("ffff", "left"), ("eeee", "over"), ("dddd", "left"), ("cccc", "left")):
        own = {"over": "", "who": "w", "pid": "1", "process": "x", "run": f"{identifier(NOW - 60)[:-4]}{digits}"}
        word, _, name, *former = master.run(site_lock.script("master/lock_take.sh", **own))[1].split()
        assert word == "taken" and former == ([names[-1]] if ends != "left" and len(names) == 2 else former)
        names.append(name)
        if ends == "left":
            master.run(site_lock.script("master/lock_release.sh", run=name))
        else:
            master.passes(HOLD)
    assert names == sorted(names) and len({*names}) == 4


def test_a_run_of_the_lock_from_clocks_apart(master: Master) -> None:
    """Two runs whose clocks differ by a minute, either way, follow each other: the lock uses the master's clock alone."""
    for behind, ahead in (("a", "b"), ("b", "a")):
        names = {behind: identifier(NOW - 60), ahead: identifier(NOW + 60)}
        for who in (behind, ahead):
            run = site_lock.script("master/lock_take.sh", run=names[who], over="", who=who, pid="1", process="x")
            code, out = master.run(run)
            assert code == 0 and out.startswith("taken")
            assert not master.takes("c")
            master.passes(HOLD - 1)
            assert not master.takes("c")
            master.passes(1)
        master.clear()
