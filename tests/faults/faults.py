"""The columns of the matrix: what is broken while a run is at work, when, and what must hold of that run.

Each fault is real: packets do not arrive, processes stand still or end, file systems are full, a host loses its power.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lab import cgroups, machine
from tests.faults.matrix import NODE, Program, Row
from tests.lab import product
from tests.lab.product import Answer, Running
from tests.lab.scene import MASTER, REGISTRY
from tests.lab.world import CONTROLLERS, KILL_API_SERVER, START_API_SERVER, World

KILLED = -signal.SIGKILL


@dataclass(frozen=True)
class Point:
    """When a fault comes: with this event of the step in the run's journal ("" for the one with which it says that it is at work),
    and so many seconds after it, since no event comes while a script is at work on a host."""

    name: str
    event: str
    seconds: float = 0.0


START, BEGIN, MIDDLE, END = Point("start", "opened"), Point("begin", ""), Point("middle", "", 0.4), Point("end", "done")


def _nothing(world: World, row: Row) -> None:
    pass


def _holds(world: World, row: Row, answer: Answer, made: Any) -> Sequence[str]:
    return ()


@dataclass(frozen=True)
class Fault:
    """Something that is broken.

    name     as it is typed, and shown in the table
    applies  whether it is tried with a row
    strike   breaks it; what it returns is given to `holds`
    prepare  what has to be there before the run begins
    heal     takes it back, also where `strike` was never called
    held     seconds after which it is taken back; None: once the run has ended
    points   when it comes
    codes    the exit codes with which the run may end
    host     the host that the run has to name if it fails; "" for any
    frees    whether the site's lock is free once the run has ended
    silent   whether slurmctld of that host may be silent meanwhile
    holds    what else must hold once the next run has converged: a sentence for each thing that does not
    longest  seconds within which the run ends, after it was struck and what is held for a time was taken back
    """

    name: str
    applies: Callable[[Row], bool]
    strike: Callable[[World, Row, Running], Any]
    prepare: Callable[[World, Row], None] = _nothing
    heal: Callable[[World, Row], None] = _nothing
    held: float | None = None
    points: tuple[Point, ...] = (BEGIN, MIDDLE, END)
    codes: frozenset[int] = frozenset({0, 1})
    host: Callable[[Row], str] = lambda row: row.host
    frees: bool = True
    silent: bool = False
    holds: Callable[[World, Row, Answer, Any], Sequence[str]] = _holds
    longest: float = 300.0


def _always(row: Row) -> bool:
    return True


def _signal(number: int) -> Callable[[World, Row, Running], None]:
    return lambda world, row, run: run.process.send_signal(number)


# --- the network, the machines


def _cut(world: World, row: Row, run: Running) -> None:
    world.cable(row.host, "down")


def _plugged(world: World, row: Row) -> None:
    world.cable(row.host, "up")


def _freeze(world: World, row: Row, on: bool) -> None:
    cgroups.freeze(cgroups.groups(world.lab, world.lab.host(row.host)), on)


def _lose_power(world: World, row: Row, run: Running) -> None:
    machine.kill(world.lab, world.lab.host(row.host))


# --- programs and services


_CALLED = """#!/bin/sh
case " $* " in *"WORD"*) echo 'WORDS' >&2; exec sleep SECONDS;; esac
for real in /usr/sbin/NAME /usr/bin/NAME /sbin/NAME /bin/NAME; do [ ! -x $real ] || exec $real "$@"; done
"""


def _replaced(seconds: int) -> Callable[[World, Row], None]:
    """Puts a program that fails, or that says nothing for so long, in the place of the one that the step calls."""

    def prepare(world: World, row: Row) -> None:
        program = _program(row)
        text = _CALLED.replace("WORDS", "broken on purpose").replace("WORD", program.word).replace("NAME", program.name)
        text = text.replace("exec sleep SECONDS", f"exec sleep {seconds}" if seconds else "exit 1")
        world.on(program.host, f"cat >/usr/local/bin/{program.name}; chmod 755 /usr/local/bin/{program.name}", text)

    return prepare


def _program(row: Row) -> Program:
    assert row.program
    return row.program


def _real_program(world: World, row: Row) -> None:
    world.on(_program(row).host, f"rm -f /usr/local/bin/{_program(row).name}")


def _nothing_more(world: World, row: Row, run: Running) -> None:
    """What was prepared is all."""


def _of_a_program(word: str, seconds: int, longest: float = 300.0) -> Fault:
    return Fault(
        f"program-{word}",
        lambda row: bool(row.program),
        _nothing_more,
        prepare=_replaced(seconds),
        heal=_real_program,
        points=(START,),
        codes=frozenset({1, 3}),
        longest=longest,
    )


_SERVER = f"systemctl stop --no-block kube-apiserver; {KILL_API_SERVER}"
_WEBHOOK = "kubectl -n dws-system scale deployment dws-webhook --replicas=0"
_CONF = "/etc/docker/registry/write.yml"
_READ_ONLY = f"""cp -p {_CONF} /root/write.yml
sed -i '/delete:/a\\  maintenance: {{readonly: {{enabled: true}}}}' {_CONF}; systemctl restart registry-write"""
_WRITABLE = f"[ ! -e /root/write.yml ] || mv /root/write.yml {_CONF}; systemctl restart registry-write"


def _command(host: str, command: str) -> Callable[[World, Row, Running], None]:
    def strike(world: World, row: Row, run: Running) -> None:
        world.on(host, command)

    return strike


def _back(host: str, command: str, settle: bool = False) -> Callable[[World, Row], None]:
    def heal(world: World, row: Row) -> None:
        world.on(host, command)
        if settle:
            world.settle()

    return heal


def _of_the_registry(word: str, command: str, back: str, points: tuple[Point, ...] = (START, BEGIN, MIDDLE)) -> Fault:
    return Fault(
        f"registry-{word}",
        lambda row: row.step == "images.pushed",
        _command(REGISTRY, command),
        heal=_back(REGISTRY, back),
        points=points,
        codes=frozenset({0, 1, 3}),
    )


# --- full file systems

# The folder gets a small file system of its own; what lies below stays in reach, and gets what was written when that goes.
_SMALL = """set -e
mkdir -p FOLDER /run/small /run/below
mount --bind PARENT /run/below; mount --make-private /run/below
mount -t tmpfs -o size=$(($(du -sk FOLDER | cut -f1) + 16384))k small /run/small
chmod --reference=FOLDER /run/small; chown --reference=FOLDER /run/small
cp -a FOLDER/. /run/small/
mount --bind /run/small FOLDER"""
_FILL = "dd if=/dev/zero of=FOLDER/.filler bs=4k status=none 2>/dev/null || true"
_LARGE = """mountpoint -q FOLDER || exit 0
rm -f FOLDER/.filler; find /run/below/NAME -mindepth 1 -delete; cp -a FOLDER/. /run/below/NAME/
umount --lazy FOLDER; umount --lazy /run/small; umount --lazy /run/below"""
STATE = "/var/lib/dws-on-csm"
# Its files are others than before, of the same content: slurmctld reads them, or a run would refuse to have it load a change.
_READ = """
systemctl restart slurmctld; until scontrol ping | grep -q "at $(uname -n) is UP"; do sleep 0.2; done"""


def _small(command: str, folder: str) -> str:
    parent, _, name = folder.rpartition("/")
    more = _READ if folder == "/etc/slurm" and command != _FILL else ""
    return command.replace("FOLDER", folder).replace("PARENT", parent).replace("NAME", name) + more


def _full(name: str, applies: Callable[[Row], bool], folder: Callable[[Row], str]) -> Fault:
    def prepare(world: World, row: Row) -> None:
        world.on(row.host, _small(_SMALL, folder(row)))

    def strike(world: World, row: Row, run: Running) -> None:
        world.on(row.host, _small(_FILL, folder(row)))

    def heal(world: World, row: Row) -> None:
        world.on(row.host, _small(_LARGE, folder(row)))

    points, codes = (START, BEGIN, MIDDLE), frozenset({0, 1, 3})
    return Fault(name, applies, strike, prepare=prepare, heal=heal, points=points, codes=codes)


# --- people

COLLEAGUE = "# a note of a colleague"


def _edits_slurm_conf(world: World, row: Row, run: Running) -> None:
    world.on(row.host, f"printf '%s\\n' '{COLLEAGUE}' >>/etc/slurm/slurm.conf")


def _note_stays(world: World, row: Row, answer: Answer, made: Any) -> Sequence[str]:
    there = COLLEAGUE in world.slurm_conf(row.host)
    world.on(row.host, f"sed -i '/^{COLLEAGUE}$/d' /etc/slurm/slurm.conf")
    return () if there else ("the colleague's line in slurm.conf is lost",)


def _edits_object(world: World, row: Row, run: Running) -> None:
    assert row.edit
    world.on(MASTER, row.edit.done)


def _edit_stays(world: World, row: Row, answer: Answer, made: Any) -> Sequence[str]:
    assert row.edit
    there = world.on(MASTER, f"if {row.edit.shows}; then echo yes; fi")
    world.on(MASTER, f"{row.edit.back} || true")
    return () if there else ("the colleague's label on the object is lost",)


def _second_run(world: World, row: Row, run: Running) -> Answer:
    return product.install(world.site, "--yes")


def _refused(world: World, row: Row, answer: Answer, made: Any) -> Sequence[str]:
    assert isinstance(made, Answer)
    if made.code == 0:  # the first one had ended when the second one wanted to begin
        return ()
    named = "is running on this site" in str(made.summary.get("message", ""))
    return (
        () if made.code == 3 and named else (f"the second run ended with {made.code}: {made.summary.get('message')}",)
    )


FAULTS: tuple[Fault, ...] = (
    Fault("killed", _always, _signal(signal.SIGKILL), codes=frozenset({KILLED}), frees=False),
    Fault("interrupted", _always, _signal(signal.SIGINT), longest=90),
    Fault("terminated", _always, _signal(signal.SIGTERM), longest=90),
    Fault("cut", _always, _cut, heal=_plugged, held=10.0),
    Fault("unreachable", _always, _cut, heal=_plugged, frees=False),
    Fault(
        "paused",
        _always,
        lambda world, row, run: _freeze(world, row, on=True),
        heal=lambda world, row: _freeze(world, row, on=False),
        held=25.0,
        silent=True,
    ),
    Fault(
        "reboot",
        lambda row: row.host != NODE,
        _lose_power,
        heal=lambda world, row: world.boot(row.host),
        held=0.0,
        frees=False,
        silent=True,
    ),
    _full("disk-full", lambda row: bool(row.folder), lambda row: row.folder),
    _full("state-full", lambda row: row.host != NODE, lambda row: STATE),
    _of_a_program("fails", 0),
    _of_a_program("hangs", 900, longest=800),
    Fault(
        "api-down",
        lambda row: row.host != NODE,
        _command(MASTER, _SERVER),
        heal=_back(MASTER, START_API_SERVER, settle=True),
        codes=frozenset({0, 1, 3, 5}),
        host=lambda row: "",
        longest=500,
    ),
    Fault(
        "webhook-down",
        lambda row: row.step in ("verify.job", "slurm.conf", "access.kubeconfig"),
        _command(MASTER, _WEBHOOK),
        codes=frozenset({0, 1, 3, 5}),
        host=lambda row: "",
        longest=500,
    ),
    _of_the_registry("stopped", "systemctl stop registry-write", "systemctl start registry-write"),
    _of_the_registry(
        "hangs", "systemctl kill --signal=STOP registry-write", "systemctl kill --signal=CONT registry-write"
    ),
    _of_the_registry("read-only", _READ_ONLY, _WRITABLE, points=(START, BEGIN)),
    Fault(
        "conf-edited",
        lambda row: row.host in CONTROLLERS,
        _edits_slurm_conf,
        codes=frozenset({0, 1, 3}),
        holds=_note_stays,
    ),
    Fault("object-edited", lambda row: bool(row.edit), _edits_object, codes=frozenset({0, 1, 3}), holds=_edit_stays),
    Fault("second-run", _always, _second_run, codes=frozenset({0}), points=(BEGIN,), holds=_refused),
)

NOT_HERE = {
    "clock": "all hosts of the lab have this machine's clock: tests/unit/engine/test_lock_scripts.py, tests/lab/test_bad_input.py",
    "registry-slow": "the lab's network has no traffic control: registry-hangs is the same, without an end",
}
"""Faults that this lab does not make: why, and the tests that they have instead."""


@dataclass(frozen=True)
class Cell:
    """One cell of the matrix: a step, a fault, and when it comes."""

    row: Row
    fault: Fault
    point: Point

    @property
    def name(self) -> str:
        """As people call it: "slurm.conf@slurmctl1 cut middle"."""
        return f"{self.row.name} {self.fault.name} {self.point.name}"


def cells(rows: Sequence[Row]) -> list[Cell]:
    """All cells of the matrix."""
    return [Cell(row, fault, point) for row in rows for fault in FAULTS if fault.applies(row) for point in fault.points]
