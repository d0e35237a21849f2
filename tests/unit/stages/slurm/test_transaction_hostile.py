"""The activation where the disk, a slurmctld or SlurmUser is not as it should be; the host is the one of test_transaction."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.unit.stages.slurm.test_transaction import (
    NEW,
    OLD,
    PROGRAMS,
    Activate,
    activate,
    conf,
    host,
    leftovers,
    outcome,
)

pytestmark = pytest.mark.slow

__all__ = ["activate", "host"]


def program(host: Path, name: str, body: str) -> None:
    """A program that comes before the host's own."""
    (host / "bin" / name).write_text(f"#!/bin/sh\nTOP={host}\n{body}\n")
    (host / "bin" / name).chmod(0o755)


def test_a_text_that_is_not_on_the_disk_is_not_activated(host: Path, activate: Activate) -> None:
    """Where the disk does not take the new text, nothing is touched: slurm.conf could be empty after a power failure."""
    real = shutil.which("sync")
    program(host, "sync", f'for one; do case $one in */new) exit 1 ;; esac; done\nexec {real} "$@"')
    told = activate(NEW, OLD)
    assert told.returncode == 1
    assert (conf(host), outcome(host), leftovers(host)) == (OLD, "refused", [])
    assert not (host / "restarts").exists()


def test_a_text_that_was_not_written_as_it_came_is_not_activated(host: Path, activate: Activate) -> None:
    """What lies on the disk is read again and compared, whatever the writing of it said."""
    real = shutil.which("cat")
    program(host, "cat", f'case "$*" in "-- "*/next) head -c 13 -- "$2" ;; *) exec {real} "$@" ;; esac')
    told = activate(NEW, OLD)
    assert told.returncode == 1
    assert (conf(host), outcome(host), leftovers(host)) == (OLD, "refused", [])
    assert not (host / "restarts").exists()


def test_a_slurmctld_holds_no_lock_of_the_activation(host: Path, activate: Activate) -> None:
    """Where no systemd starts it, it has the open files of whoever does; the next activation is not kept out by it."""
    program(host, "service", f'{PROGRAMS["service"]}\nsleep 300 &\necho $! >>"$TOP/daemons"')
    try:
        assert activate(NEW, OLD).returncode == 0
        assert activate(OLD, NEW, seen=NEW).returncode == 0
        assert outcome(host) == "activated"
    finally:
        for pid in (host / "daemons").read_text().split():
            os.kill(int(pid), signal.SIGKILL)


@pytest.mark.parametrize("trap", ["link", "second name"])
def test_what_slurm_user_put_in_slurm_confs_place_is_refused(host: Path, activate: Activate, trap: str) -> None:
    """In its own folder: the file that it leads to is not touched."""
    canary = host / "canary"
    canary.write_text(OLD)
    canary.chmod(0o600)
    shutil.chown(host / "etc", "nobody")
    file = host / "etc/slurm.conf"
    program(
        host,
        "slurm-user",
        {
            "link": f"ln -sf {canary} {file}",
            "second name": f"ln -f {canary} {file}",
        }[trap],
    )
    # after the before-image was made, so that it is the activation itself that meets it
    real = shutil.which("flock")
    program(host, "flock", f'case "$*" in "-w 2 8") slurm-user ;; esac\nexec {real} "$@"')
    told = activate(NEW, OLD)
    assert told.returncode == 1
    assert outcome(host) == "refused"
    assert (canary.read_text(), canary.stat().st_mode & 0o777, canary.owner()) == (OLD, 0o600, "root")
    assert not (host / "restarts").exists()
