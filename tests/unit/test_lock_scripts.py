"""The lock's own scripts, each killed behind every line, between the lines of another, and in every state against a model."""

from __future__ import annotations

import itertools
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from fabfile import lock
from fabfile.journal import identifier

HANG = 60.0
"""Seconds after which something hangs that takes a moment on a quiet machine."""
NOW = 1_800_000_000
HOLD = lock.HOLD
RUNS = {who: f"{identifier(NOW - 60)[:-4]}000{who}" for who in "abc"}
SHELLS = (("dash",), ("bash", "--posix"))


@dataclass
class Master:
    """A master whose clock stands until it is moved."""

    folder: Path
    shell: tuple[str, ...] = SHELLS[0]
    now: int = NOW

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def holder(self) -> Path:
        return self.state / "lock" / "holder"

    def script(self, verb: str, who: str, over: str = "") -> str:
        own = {"run": RUNS[who]}
        if verb == "take":
            own |= {"over": RUNS.get(over, ""), "who": who, "pid": "1", "process": f"process of {who}"}
        return lock._script(f"lock_{verb}.sh", **own)

    def begin(self, script: str) -> subprocess.Popen[str]:
        clock = self.folder / "bin" / "date"
        clock.parent.mkdir(exist_ok=True)
        if not (sync := clock.parent / "sync").exists():
            sync.symlink_to("/bin/true")  # nothing here outlives a power cut
        text = f'#!/bin/sh\n[ "$1" != +%s ] || {{ echo {self.now}; exit; }}\nexec /bin/date "$@"\n'
        if not clock.exists() or clock.read_text() != text:
            clock.write_text(text)
            clock.chmod(0o755)
        paths = {"PATH": f"{clock.parent}:{os.environ['PATH']}"}
        return subprocess.Popen(
            [*self.shell, "-c", script], env=paths, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, script: str) -> tuple[int, str]:
        process = self.begin(script)
        out, err = process.communicate(timeout=HANG)
        assert process.returncode in (0, lock.LOST, -9), err
        return process.returncode, out

    def takes(self, who: str, over: str = "") -> bool:
        code, out = self.run(self.script("take", who, over))
        assert code == 0 and out.split()[0] in ("taken", "held")
        return out.startswith("taken")

    def is_held(self, who: str, end: int) -> None:
        """Let somebody hold the lock, as an earlier version would have written it."""
        self.holder.parent.mkdir(parents=True, exist_ok=True)
        self.holder.write_text(f"{who}\n1\n{RUNS[who]}\n{end}\n")

    def is_torn(self) -> None:
        """Let nothing be in the holder's file, as after a power cut."""
        self.is_held("c", NOW)
        self.holder.write_text("")

    def clear(self) -> None:
        subprocess.run(["rm", "-rf", self.state], check=True)
        self.now = NOW


@pytest.fixture
def master(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Master:
    monkeypatch.setattr("fabfile.lock.STATE", str(tmp_path / "state"))
    return Master(tmp_path)


def with_line(script: str, line: str, shell: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The script with `line` behind each of its lines in turn that does something, and the line behind which it is."""
    lines = [one for one in script.splitlines() if one.strip() and not one.startswith("#")]
    for number in range(lines.index("set -eu") + 1, len(lines)):
        changed = "\n".join([*lines[:number], line, *lines[number:]])
        if subprocess.run([*shell, "-n", "-c", changed], check=False, capture_output=True).returncode == 0:
            yield changed, lines[number - 1]


# --- killed anywhere

BEGINNINGS: dict[str, tuple[str, Callable[[Master], object]]] = {
    "take, nobody's": ("take", lambda master: None),
    "take, expired": ("take", lambda master: master.is_held("c", NOW)),
    "take, torn": ("take", lambda master: master.is_torn()),
    "take, held": ("take", lambda master: master.is_held("c", NOW + 60)),
    "renew": ("renew", lambda master: master.takes("a")),
    "leave": ("leave", lambda master: master.takes("a")),
}


OTHERS = {"take, held": "c", "take, torn": ""}
"""Whose the lock stays where a killed one did not get it."""


@pytest.mark.parametrize(
    ("beginning", "shell"),
    [*((one, SHELLS[0]) for one in BEGINNINGS), ("take, expired", SHELLS[1]), ("renew", SHELLS[1])],
    ids=lambda one: one if isinstance(one, str) else one[0],
)
def test_killed_behind_any_line(master: Master, beginning: str, shell: tuple[str, ...]) -> None:
    """A script that is killed anywhere leaves the lock held by one or by nobody, and when its time is over it can be taken."""
    verb, prepare = BEGINNINGS[beginning]
    master.shell = shell
    tried = 0
    for script, line in with_line(master.script(verb, "a"), "kill -9 $$", shell):
        tried += 1
        master.clear()
        prepare(master)
        master.run(script)
        if master.takes("b"):
            assert beginning in ("take, nobody's", "take, expired", "leave"), line
        else:
            assert seen(master).holder == OTHERS.get(beginning, "a"), line
            master.now += HOLD + 1
            assert master.takes("b"), line
        assert seen(master).holder == "b", line
        assert sorted(path.name for path in master.state.glob("lock*")) == ["lock"], line
    assert tried > 20


# --- between the lines of another


def waiting(master: Master) -> bool:
    """Whether a script waits until another one has left the gate."""
    number = f":{(master.state / 'gate').stat().st_ino} " if (master.state / "gate").exists() else "none"
    locks = Path("/proc/locks").read_text().splitlines()
    return any("-> FLOCK" in one and number in one for one in locks)


@pytest.mark.parametrize(
    ("first", "second"),
    [("take", "take"), ("take", "renew"), ("take", "leave"), ("renew", "take"), ("leave", "take")],
)
def test_between_any_two_lines(master: Master, first: str, second: str) -> None:
    """At a lock that has expired one script comes between any two lines of another: there is one holder at most, who knows it."""
    at, go = master.folder / "at", master.folder / "go"
    stop = f": >{at}; until [ -e {go} ]; do sleep 0.01; done"
    for script, line in with_line(master.script(first, "a"), stop, master.shell):
        master.clear()
        master.is_held("a" if first != "take" else "b" if second != "take" else "c", NOW)
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
    """Who takes the lock hears how long ago somebody else may have held it: until it was given up, ended, or its holder died."""

    def since(over: str = "") -> int:
        return int(master.run(master.script("take", "a", over))[1].split()[1])

    assert since() > 10 * 365 * 86400, "nobody ever did"
    master.run(master.script("leave", "a"))
    os.utime(master.state / "gate", (master.now - 30, master.now - 30))
    assert since() == 30
    master.is_held("c", master.now - 20)
    assert since() == 20
    master.is_held("c", master.now + 20)
    assert since(over="c") == 0


def test_it_is_on_the_disk_before_it_counts(master: Master) -> None:
    """The lock is synced before it is put in place, and its folder after that: a power cut leaves it whole or not there."""
    order, bin_ = master.folder / "order", master.folder / "bin"
    for verb in ("take", "renew", "leave"):
        script = master.script(verb, "a")
        for name in ("sync", "mv"):
            script = script.replace(f"{name} ", f"noted {name} ")
        master.run(f'noted() {{ echo "$*" >>{order}; "$@"; }}\n{script}')
    assert bin_.exists() and order.read_text().splitlines() == [
        *("sync lock.new/process", "sync lock.new/new", "mv -f lock.new/new lock.new/holder", "sync lock.new"),
        *("mv -T lock.new lock", "sync ."),
        *("sync lock/new", "mv -f lock/new lock/holder", "sync lock"),
        *("mv -T lock lock.old", "sync ."),
    ]


def test_three_at_once(master: Master) -> None:
    """Of three that find the lock expired at the same time one takes it, each time."""
    for _ in range(8):
        master.is_held("c", NOW)
        begun = [master.begin(master.script("take", who)) for who in "abc"]
        outs = [process.communicate(timeout=HANG)[0] for process in begun]
        assert sorted(out.split()[0] for out in outs) == ["held", "held", "taken"]
        master.clear()


# --- against a model


@dataclass(frozen=True)
class State:
    """Who holds the lock ("" nobody) and for how many seconds more."""

    holder: str
    left: int


LEFT = (HOLD, 60, 1, 0, -60, HOLD + 1, 10 * HOLD)
STATES = (State("", 0), *(State(who, left) for who in "ab" for left in LEFT))
DEEDS = (*itertools.product(("take", "renew", "leave"), "ab", ("",)), ("take", "b", "a"), ("take", "b", "c"))


def model(before: State, verb: str, who: str, over: str) -> tuple[State, bool]:
    """What becomes of the lock, and whether the one who does it got what he wanted."""
    if verb == "renew":
        return (State(who, HOLD), True) if before.holder == who else (before, False)
    if verb == "leave":
        return (State("", 0), True) if before.holder == who else (before, True)
    if before.holder and before.left > 0 and before.holder != over:
        return State(before.holder, min(before.left, HOLD)), False
    return State(who, HOLD), True


def seen(master: Master) -> State:
    if not master.holder.exists():
        return State("", 0)
    _, _, run, end = master.holder.read_text().splitlines()
    return State({run: who for who, run in RUNS.items()}.get(run, ""), int(end) - master.now)


@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: " ".join(filter(None, deed)))
def test_as_the_model_says(master: Master, deed: tuple[str, str, str]) -> None:
    """Each script does to the lock, in each of its states and also where the clock was moved, what the model does."""
    verb, who, over = deed
    for before in STATES:
        master.clear()
        if before.holder:
            master.is_held(before.holder, NOW + before.left)
        code, out = master.run(master.script(verb, who, over))
        got = out.startswith("taken") if verb == "take" else code == 0
        assert (seen(master), got) == model(before, verb, who, over), before


def test_a_run_of_the_lock_from_clocks_apart(master: Master) -> None:
    """With names by clocks a minute apart, both ways, two runs follow each other: the lock goes by the master's clock alone."""
    for behind, ahead in (("a", "b"), ("b", "a")):
        names = {behind: identifier(NOW - 60), ahead: identifier(NOW + 60)}
        for who in (behind, ahead):
            run = lock._script("lock_take.sh", run=names[who], over="", who=who, pid="1", process="x")
            code, out = master.run(run)
            assert code == 0 and out.startswith("taken")
            assert not master.takes("c")
            master.now += HOLD - 1
            assert not master.takes("c")
            master.now += 1
        master.clear()
