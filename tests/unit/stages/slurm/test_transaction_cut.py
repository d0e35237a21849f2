"""An activation that is cut off anywhere: whoever comes by next leaves a text that slurmctld is known to start with.

The programs around it are those of test_transaction; the shell, its signals, the files and the locks are real.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.model import render
from dws_on_csm.model.actions import STATE, RunScript
from dws_on_csm.model.step import Facts, ShellLook, StepContext
from dws_on_csm.stages.slurm import transaction
from tests.unit.hostile import Host as Hostile
from tests.unit.stages.slurm.test_transaction import NEW, OLD, checksum, controller

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # hundreds of activations, each with its processes

Then = Literal["stopped", "boot", "again"]
"""Who comes by after the cut: the unit's end, the host's next start, a later run."""

BEHIND = 'if [ -e "$TOP/cut" ]; then rm "$TOP/cut"; kill -{signal} $$; fi'
TRACE = ': >"$TOP/reached/{number}"'
SAME = 'code_=$?; {}; (exit "$code_")'
"""A line between others that leaves the exit code what it was."""
SYSTEMD = "systemd() { true; }\n"


@dataclass(frozen=True)
class Host(Hostile):
    """A controller in a folder, and an activation of it of which every line can be its last."""

    @classmethod
    def made(cls, top: Path, following: str | None, back: str | None, old: str = OLD) -> Host:
        """One in a new folder, with these texts."""
        host = cls(top)
        controller(host, old)
        for folder in (top / "units", top / "reached", host.work):
            folder.mkdir()
        for name, text in (("next", following), ("back", back)):
            if text is not None:
                (host.work / name).write_text(text)
        return host

    @property
    def conf(self) -> Path:
        """slurm.conf."""
        return self.top / "etc/slurm.conf"

    @property
    def work(self) -> Path:
        """The activation's own folder."""
        return self.top / "state/activation.d.x"

    @property
    def pending(self) -> Path:
        """What is there while something is to be put back."""
        return self.top / "state/activation.pending"

    def write(self, body: str, seen: str = OLD) -> None:
        """The activation's script, with `body` in place of activate.sh."""
        fixed = {"state": f"{self.top}/state", "folder": f"{self.top}/etc", "unit": "slurmctld", "deadline": "30"}
        fixed |= {"log": "", "seen": checksum(seen), "units": f"{self.top}/units", "work": str(self.work)}
        fixed |= {"burst_buffer": "added"}
        (self.work / "activate").write_text(
            render.script("lib/durable.sh", "lib/safe_file.sh", "lib/as.sh", "lib/slurmctld.sh", **fixed)
            + SYSTEMD
            + body
        )

    def calls(self, *words: str, shell: str = "dash") -> int:
        """A shell with these words; its exit code."""
        environment = {"PATH": f"{self.top}/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TOP": str(self.top)}
        told = subprocess.run(
            [shell, *words], env=environment, timeout=120, check=False, capture_output=True, stdin=subprocess.DEVNULL
        )
        return told.returncode

    def outcome(self) -> str:
        """How the last activation is said to have ended."""
        told = self.top / "state/activation"
        return told.read_text().partition("\n")[0].removeprefix("outcome=") if told.exists() else ""

    def wrong(self) -> list[str]:
        """What is not as it has to be after an end in the middle, in words."""
        there = self.conf.read_text()
        told = {
            f"slurm.conf is {there!r}": there not in (OLD, *((NEW,) if self.outcome() == "activated" else ())),
            "slurmctld does not run": not (self.top / "alive").exists(),
            "something is pending": os.path.lexists(self.pending),
        }
        return [text for text, so in told.items() if so]

    def settle(self, then: Then) -> None:
        """What comes by after an end in the middle."""
        if then == "stopped":
            self.calls(str(self.work / "activate"), "stopped")
        elif then == "again":
            if self.pending.exists():
                self.calls(str(self.pending / "activate"), "again")
        else:
            (self.top / "alive").unlink(missing_ok=True)
            unit = self.top / "units/multi-user.target.wants/dws-on-csm-activation-boot.service"
            if unit.exists() and self.pending.exists():
                assert self.calls(str(self.pending / "activate"), "boot") in (0, -signal.SIGKILL)
            self.calls(str(self.top / "bin/service"))


def lines() -> list[str]:
    """activate.sh line by line."""
    return render.read("controller/activate.sh").splitlines()


def with_lines(added: dict[int, str]) -> str:
    """activate.sh with something behind some of its lines."""
    return "\n".join(f"{line}\n{added[n]}" if n in added else line for n, line in enumerate(lines())) + "\n"


def possible() -> list[int]:
    """The lines behind which a statement may stand."""
    code = [n for n, line in enumerate(lines()) if line.strip() and not line.strip().startswith("#")]

    def fits(number: int) -> bool:
        text = with_lines({number: TRACE.format(number=number)})
        return subprocess.run(["dash", "-n"], input=text, text=True, capture_output=True, check=False).returncode == 0

    # within a here-document anything may stand, and nothing is done
    document = range(next(n for n in code if "<<END" in lines()[n]), lines().index("END"))
    with ThreadPoolExecutor(4) as pool:
        return [n for n, good in zip(code, pool.map(fits, code), strict=True) if good and n not in document]


@pytest.fixture(scope="module")
def moments() -> list[int]:
    """The lines behind which it can be cut off."""
    found = possible()
    assert len(found) > 80
    return found


CASES = {
    "one that would do": (NEW, OLD),
    "one that does not come up": ("BROKEN\n", OLD),
    "a restart alone": (None, "without\n"),
}


def reached(folder: Path, moments: Sequence[int], texts: tuple[str | None, str]) -> list[int]:
    """The lines that an activation comes to, when nothing happens to it."""
    host = Host.made(folder, *texts)
    host.write(with_lines({n: TRACE.format(number=n) for n in moments}))
    host.calls(str(host.work / "activate"))
    return sorted(int(one.name) for one in (folder / "reached").iterdir())


WAYS: tuple[tuple[str, Then], ...] = (("KILL", "stopped"), ("KILL", "boot"), ("KILL", "again"), ("TERM", "stopped"))


@pytest.mark.parametrize("case", range(len(CASES)), ids=list(CASES))
def test_interrupted_after_any_line(tmp_path: Path, moments: list[int], case: int) -> None:
    """slurm.conf is the old one, or one that slurmctld was seen to start with; slurmctld runs; nothing is left to settle.

    Each line has one of WAYS in a case, in turn. What settles a kill is cut off at the same line once more, where it
    comes to that, and called again.
    """
    texts = [*CASES.values()][case]

    def one(number: int) -> str:
        cut, then = WAYS[(number + case) % len(WAYS)]
        host = Host.made(tmp_path / str(number), *texts)
        host.write(with_lines({number: BEHIND.format(signal=cut)}))
        (host.top / "cut").touch()
        code = host.calls(str(host.work / "activate"), shell=("dash", "bash")[number % 2])
        if cut == "KILL":
            if not (host.top / "cut").exists():
                assert code == -signal.SIGKILL
                (host.top / "cut").touch()
            host.settle(then)
            host.settle(then)
        wrong = host.wrong()
        return f"behind {number + 1} ({lines()[number].strip()}), {cut}, {then}: {', '.join(wrong)}" if wrong else ""

    # two of the three cases for each line: this takes a while
    some = [number for number in reached(tmp_path / "whole", moments, texts) if (number + case) % 3]
    with ThreadPoolExecutor(3) as pool:
        assert [text for text in pool.map(one, some) if text] == []


def test_interrupted_while_the_old_text_is_tried(tmp_path: Path, moments: list[int]) -> None:
    """An activation of a slurmctld that cannot start, interrupted after any line: slurm.conf has its former text in the end."""
    texts = (None, OLD)

    def made(name: str, added: dict[int, str]) -> Host:
        host = Host.made(tmp_path / name, *texts, old=NEW)
        (host.top / "starts").write_text("ends\n" * 20)
        host.write(with_lines(added), seen=NEW)
        return host

    whole = made("whole", {n: SAME.format(TRACE.format(number=n)) for n in moments})
    assert whole.calls(str(whole.work / "activate")) == 1
    assert (whole.conf.read_text(), whole.outcome()) == (NEW, "down")
    # behind the first start: before it the cut is that of any restart
    begin = next(n for n, line in enumerate(lines()) if line == "undo_after_failure() {")
    some = sorted(int(one.name) for one in (tmp_path / "whole/reached").iterdir() if int(one.name) > begin)

    def one(number: int) -> str:
        cut = ("KILL", "TERM", "KILL")[number % 3]
        host = made(str(number), {number: SAME.format(BEHIND.format(signal=cut))})
        (host.top / "cut").touch()
        host.calls(str(host.work / "activate"), shell=("dash", "bash")[number % 2])
        if cut == "KILL":
            host.settle("stopped" if number % 2 else "again")
        wrong = host.conf.read_text() != NEW or os.path.lexists(host.pending)
        return f"behind {number + 1} ({lines()[number].strip()}): {host.conf.read_text()!r}" if wrong else ""

    with ThreadPoolExecutor(3) as pool:
        assert [text for text in pool.map(one, some) if text] == []


def test_the_next_activation_finishes_an_interrupted_one(tmp_path: Path) -> None:
    """An activation that finds a pending one puts that back first, and is refused where the text isn't the one it saw."""
    host = Host.made(tmp_path, NEW, OLD)
    host.write(with_lines({n: BEHIND.format(signal="KILL") for n in possible() if "slurm.conf replaced" in lines()[n]}))
    (host.top / "cut").touch()
    assert host.calls(str(host.work / "activate")) == -signal.SIGKILL
    assert (host.conf.read_text(), host.pending.exists()) == (NEW, True)
    place = StepContext(load(DEFAULT), Facts(), "one")
    look = transaction.look(place)
    assert isinstance(look, ShellLook)
    told = subprocess.check_output(["sh", "-c", look.script.replace(STATE, str(host.top / "state"))])
    (action,) = transaction.settle(place, look.parse(told), "none")
    assert isinstance(action, RunScript) and str(look.parse(told)).startswith("interrupted, begun ")
    assert host.calls("-euc", action.script.replace(STATE, str(host.top / "state"))) == 0
    assert (host.conf.read_text(), host.outcome(), host.wrong()) == (OLD, "reverted", [])
    assert transaction.settle(place, "running since yesterday", "none") == []


def test_one_that_meets_a_pending_one(tmp_path: Path) -> None:
    """It settles that first, without being told."""
    host = Host.made(tmp_path, NEW, OLD)
    host.write(with_lines({n: BEHIND.format(signal="KILL") for n in possible() if "slurm.conf replaced" in lines()[n]}))
    (host.top / "cut").touch()
    host.calls(str(host.work / "activate"))
    first, second = host.work, tmp_path / "state/activation.d.y"
    second.mkdir()
    for name in ("next", "back"):
        shutil.copy(first / name, second / name)
    (second / "activate").write_text((first / "activate").read_text().replace(str(first), str(second)))
    assert host.calls(str(second / "activate")) == 0
    assert (host.conf.read_text(), host.outcome(), host.pending.exists(), first.exists()) == (
        NEW,
        "activated",
        False,
        False,
    )


def test_while_the_host_goes_down(tmp_path: Path) -> None:
    """systemd starts nothing then: slurm.conf is put back, and slurmctld left alone."""
    host = Host.made(tmp_path, NEW, OLD)
    host.write(with_lines({n: BEHIND.format(signal="TERM") for n in possible() if "slurm.conf replaced" in lines()[n]}))
    (host.top / "bin/systemctl").write_text('#!/bin/sh\n[ "$1" != is-system-running ] || echo stopping\n')
    (host.top / "cut").touch()
    assert host.calls(str(host.work / "activate")) != 0
    assert (host.conf.read_text(), host.outcome(), host.wrong()) == (OLD, "reverted", [])
    assert not (host.top / "restarts").exists()


def test_somebody_elses_text_is_left(tmp_path: Path) -> None:
    """What was written by hand after a cut is not overwritten by what would be put back."""
    host = Host.made(tmp_path, NEW, OLD)
    host.write(with_lines({n: BEHIND.format(signal="KILL") for n in possible() if "slurm.conf replaced" in lines()[n]}))
    (host.top / "cut").touch()
    host.calls(str(host.work / "activate"))
    host.conf.write_text("ClusterName=other\n")
    host.settle("boot")
    assert (host.conf.read_text(), host.pending.exists()) == ("ClusterName=other\n", False)


def test_the_unit_for_the_next_start_of_the_host(tmp_path: Path) -> None:
    """It is there with all that it needs before slurm.conf is another one, is ordered before slurmctld, and goes at the end."""
    host = Host.made(tmp_path, NEW, OLD)
    copy = f"cp -r {tmp_path}/units {tmp_path}/seen; readlink {tmp_path}/state/activation.pending >{tmp_path}/link"
    host.write(with_lines({n: copy for n in possible() if "write_undo_record ||" in lines()[n]}))
    assert host.calls(str(host.work / "activate")) == 0
    text = (tmp_path / "seen/dws-on-csm-activation-boot.service").read_text().splitlines()
    assert (tmp_path / "link").read_text().strip() == str(host.work)
    assert f"ConditionPathExists={host.pending}" in text and "Before=slurmctld.service" in text
    assert f"ExecStart=/bin/sh {host.pending}/activate boot" in text
    assert (tmp_path / "seen/multi-user.target.wants/dws-on-csm-activation-boot.service").is_symlink()
    assert (host.wrong(), [*(tmp_path / "units").rglob("*.service")]) == ([], [])


# --- what the activation must not do without


def test_a_unit_that_was_started_too_often(tmp_path: Path) -> None:
    """systemd refuses to start it until that is forgotten: slurmctld comes up all the same."""
    host = Host.made(tmp_path, NEW, OLD)
    limited = """case "$1" in
reset-failed) rm -f "$TOP/limit" ;;
restart) if [ -e "$TOP/limit" ]; then rm -f "$TOP/alive"; exit 1; fi; exec "$TOP/bin/usual" "$@" ;;
*) exec "$TOP/bin/usual" "$@" ;;
esac"""
    (host.top / "bin/systemctl").rename(host.top / "bin/usual")
    host.program("systemctl", limited)
    (tmp_path / "limit").touch()
    host.write(with_lines({}))
    assert host.calls(str(host.work / "activate")) == 0
    assert (host.conf.read_text(), host.outcome(), host.wrong()) == (NEW, "activated", [])


def test_started_programs_do_not_hold_the_lock(tmp_path: Path) -> None:
    """A slurmctld that runs on for years leaves it to the next activation."""
    host = Host.made(tmp_path, NEW, OLD)
    (host.top / "bin/systemctl").rename(host.top / "bin/usual")
    start = """if [ "$1" = restart ]; then sleep 300 >/dev/null 2>&1 & echo $! >"$TOP/started"; fi
exec "$TOP/bin/usual" "$@\""""
    host.program("systemctl", start)
    host.write(with_lines({}))
    try:
        assert host.calls(str(host.work / "activate")) == 0
        assert subprocess.call(["flock", "-n", str(tmp_path / "state/activation.lock"), "true"]) == 0
    finally:
        os.kill(int((tmp_path / "started").read_text()), signal.SIGKILL)


def test_a_text_that_was_not_written_whole(tmp_path: Path) -> None:
    """A write that loses a part, and says nothing, is noticed before slurm.conf is another one."""
    host = Host.made(tmp_path, NEW, OLD)
    host.program("cat", 'case "$*" in *activation.d.x/next) exec head -c 20 -- "$2" ;; esac\nexec /bin/cat "$@"')
    host.write(with_lines({}))
    assert host.calls(str(host.work / "activate")) == 1
    assert (host.conf.read_text(), host.outcome(), (tmp_path / "restarts").exists()) == (OLD, "refused", False)


def test_the_way_back_is_on_disk_before_slurm_conf_changes(tmp_path: Path) -> None:
    """The script, both texts, their folder, and then the link by which they are found."""
    host = Host.made(tmp_path, NEW, OLD)
    told = 'for one; do echo "$one,$(readlink "$TOP/state/activation.pending"),$(grep -c Burst "$TOP/etc/slurm.conf")"; done'
    host.program("sync", f'{told} >>"$TOP/synced"\nexec /bin/sync "$@"')
    host.write(with_lines({}))
    assert host.calls(str(host.work / "activate")) == 0
    synced = [line.rpartition(",")[0] for line in (tmp_path / "synced").read_text().splitlines() if line.endswith(",0")]
    written = [f"{host.work / name}," for name in ("activate", "next", "back")]
    folders = [f"{host.work},", f"{tmp_path}/state,{host.work}"]
    assert [line for line in synced if line in (*written, *folders)] == [*written, *folders]
