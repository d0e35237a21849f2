"""The doctor names a run that is at work."""

from __future__ import annotations

import fcntl
import subprocess
from pathlib import Path

import pytest

from dws_on_csm.commands.doctor.at_work import RUNNING_SCRIPT, parse_running
from dws_on_csm.engine import site_lock
from dws_on_csm.model.actions import STATE


def test_a_run_at_work_on_the_master(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run whose lock has not expired, by the lock's own scripts, and a script that holds `busy`; with the real sh and flock."""
    script = RUNNING_SCRIPT.replace(STATE, str(tmp_path))

    def seen() -> str:
        return parse_running(subprocess.run(["sh", "-c", script], capture_output=True, check=True).stdout)

    assert seen() == ""
    who = {"run": "run-2", "over": "", "who": "joe@admin1", "pid": "1", "process": ""}
    monkeypatch.setattr(site_lock, "STATE", str(tmp_path))
    taken = site_lock.script("master/lock_take.sh", **who)
    named = subprocess.run(["sh", "-c", taken], capture_output=True, check=True).stdout.decode().split()[2]
    holder = tmp_path / "lock/holder"
    _, _, run, _, counts = holder.read_text().splitlines()
    boot, until = counts.split()
    assert seen() == run == named
    elsewhere = "c0ffee00-0000-4000-8000-000000000001"
    up = int(until) - site_lock.LEASE_SECONDS
    for now, count, found in (
        ("1", f"{boot} {until}", run),  # the master's clock was set: what it says counts for nothing
        ("9999999999", f"{boot} {up}", ""),  # ended
        ("9999999999", f"{elsewhere} 9999", run if up < site_lock.LEASE_SECONDS else ""),  # of before this boot
        ("1", "torn", run),  # nobody knows when it ends: the next run waits for it
    ):
        holder.write_text(f"joe@admin1\n1\n{run}\n{now}\n{count}\n")
        assert seen() == found, (now, count)
    holder.write_text("")
    assert seen() == ""
    (tmp_path / "lock/holder").unlink()
    with (tmp_path / "busy").open("w") as file:
        file.write("run-1")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_SH)
        assert seen() == "a command of run run-1"
    assert seen() == ""
