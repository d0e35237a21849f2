"""Controllers that do not hear each other: keys that differ, or something between them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.commands.doctor import divided
from dws_on_csm.config.load import load
from dws_on_csm.config.site import Site
from dws_on_csm.model.step import Facts, Finding, StepContext
from dws_on_csm.stages.slurm import slurmctld
from tests.unit.site_files import write

PRIMARY, BACKUP = "slurmctl1", "slurmctl2"
SITE = "{master: {host: m}, controllers: [{host: 'slurmctl[1-2]', user: root}]}"
KEY, DIVIDED = divided.CHECKS


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with two controllers."""
    return load(write(tmp_path, SITE))


def keys(site: Site, primary: dict[str, str], backup: dict[str, str], auth: str = "auth/munge") -> list[Finding]:
    known: dict[str, Any] = {
        f"doctor.{KEY.name}": {PRIMARY: primary, BACKUP: backup},
        "preflight.start": {host: {"auth": auth} for host in (PRIMARY, BACKUP)},
    }
    ctx = StepContext(site, Facts(known), BACKUP)
    assert KEY.judge(StepContext(site, Facts(known), PRIMARY), primary) == ()
    return [*KEY.judge(ctx, backup)]


def test_another_key_is_named_with_the_commands_that_bring_the_right_one(site: Site) -> None:
    """As they are typed: copied, munge restarted, slurmctld asked again."""
    (found,) = keys(site, {"auth/munge": "a"}, {"auth/munge": "b"})
    copy, restart, repair = re.findall(r"`([^`]+)`", found.fix)
    assert found.name == "auth-key-differs"
    assert copy.startswith("scp -3 ") and copy.endswith(
        "root@slurmctl1:/etc/munge/munge.key root@slurmctl2:/etc/munge/munge.key"
    )
    assert restart == "systemctl restart munge" and repair.startswith(f"fab -H {BACKUP} repair slurm")


@pytest.mark.parametrize(
    ("primary", "backup", "auth"),
    [
        ({"auth/munge": "a"}, {"auth/munge": "a"}, "auth/munge"),
        ({"auth/munge": "a"}, {}, "auth/munge"),
        ({}, {"auth/munge": "b"}, "auth/munge"),
        ({"auth/munge": "a", "auth/slurm": "s"}, {"auth/munge": "b", "auth/slurm": "s"}, "auth/slurm"),
    ],
)
def test_keys_that_are_equal_unknown_or_unused_are_no_finding(
    site: Site, primary: dict[str, str], backup: dict[str, str], auth: str
) -> None:
    """AuthType says which of them counts."""
    assert keys(site, primary, backup, auth) == []


def test_a_digest_says_only_whether_two_keys_are_equal(site: Site, tmp_path: Path) -> None:
    """By the script that runs on a host: the key's own digest does not leave it."""
    look: Any = KEY.look(StepContext(site, Facts({}), PRIMARY))
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(b"k" * 128)
    seen = [
        look.parse(subprocess.run(["sh", "-c", script], capture_output=True, timeout=20, check=True).stdout)
        for script in (
            look.script.replace("/etc/munge/munge.key", str(tmp_path / name)) for name in ("one", "two", "none")
        )
    ]
    assert seen[0] == seen[1] and len(seen[0]["auth/munge"]) == 16 and seen[2] == {}
    plain = subprocess.run(
        ["sha256sum", tmp_path / "one"], capture_output=True, text=True, timeout=20, check=True
    ).stdout
    assert seen[0]["auth/munge"] not in plain


def test_a_key_that_is_no_file_is_not_waited_for(site: Site, tmp_path: Path) -> None:
    """slurm.key lies in SlurmUser's folder: a pipe there, or a link to one, would keep root waiting."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    look: Any = KEY.look(StepContext(site, Facts({}), PRIMARY))
    for name in ("pipe", "link"):
        script = look.script.replace("/etc/slurm/slurm.key", str(tmp_path / name)).replace(
            "/etc/munge/", f"{tmp_path}/"
        )
        assert subprocess.run(["sh", "-c", script], capture_output=True, timeout=15, check=True).stdout == b""


def daemon(named: list[list[str]], main: str = "7") -> dict[str, Any]:
    where = [["here" if name == own else "there", state] for name, state, own in named]
    return {**slurmctld.parse(b""), "main": main, "named": [entry[:2] for entry in named], "pings": where}


@pytest.mark.parametrize(
    ("backup_runs", "name", "state", "found"),
    [
        ("9", "slurmctl2", "DOWN", ["controllers-divided"]),
        ("9", "slurmctl2,slurmctl2.site", "DOWN", ["controllers-divided"]),
        ("9", "slurmctl2", "UP", []),
        ("", "slurmctl2", "DOWN", []),
    ],
)
def test_two_that_respond_and_do_not_hear_each_other(
    site: Site, backup_runs: str, name: str, state: str, found: list[str]
) -> None:
    """One that does not run has its own finding."""
    primary = daemon([[PRIMARY, "UP", PRIMARY], [name, state, PRIMARY]])
    backup = daemon([[PRIMARY, "DOWN", BACKUP], [BACKUP, "UP" if backup_runs else "DOWN", BACKUP]], backup_runs)
    known = {slurmctld.FACT.name: {PRIMARY: primary, BACKUP: backup}}
    assert [one.name for one in DIVIDED.judge(StepContext(site, Facts(known), PRIMARY), None)] == found
