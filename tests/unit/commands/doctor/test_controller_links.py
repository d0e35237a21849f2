"""Controllers that do not hear each other: keys that differ, or something between them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.commands.doctor import controller_links
from dws_on_csm.config.load import load
from dws_on_csm.config.site import Site
from dws_on_csm.model.step import Facts, Finding, StepContext
from dws_on_csm.stages.slurm import slurmctld
from tests.unit.site_files import write

PRIMARY, BACKUP = "slurmctl1", "slurmctl2"
SITE = "{master: {host: m}, controllers: [{host: 'slurmctl[1-2]', user: root}]}"
KEY, ADDRESSES, DIVIDED = controller_links.CHECKS


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


def controllers(conf: str) -> dict[str, Any]:
    """What both controllers are, with this slurm.conf."""
    return {
        host: {"host": host, "fqdn": f"{host}.site", "addresses": address, "files": {"/etc/slurm/slurm.conf": conf}}
        for host, address in ((PRIMARY, "10.0.0.1 fd00::1"), (BACKUP, "10.0.0.2"))
    }


@pytest.mark.parametrize(
    ("conf", "found", "says"),
    [
        (
            "SlurmctldHost=slurmctl1\nSlurmctldHost=slurmctl2\n",
            "192.0.2.9 192.0.2.8",
            "resolves slurmctl2 to 192.0.2.9 192.0.2.8",
        ),
        ("SlurmctldHost=slurmctl1\nSlurmctldHost=slurmctl2\n", "10.0.0.2 192.0.2.8", ""),
        ("SlurmctldHost=slurmctl1\nSlurmctldHost=slurmctl2\n", "", ""),
        ("SlurmctldHost=slurmctl1\nSlurmctldHost=slurmctl2(ctl2-ib)\n", "192.0.2.9", "resolves ctl2-ib to 192.0.2.9"),
    ],
)
def test_a_wrong_address_of_the_other_is_shown(site: Site, conf: str, found: str, says: str) -> None:
    """As /etc/hosts may have it: the two addresses, and the command that shows what the host finds."""
    name = "ctl2-ib" if "ctl2-ib" in conf else BACKUP
    daemons = {
        PRIMARY: daemon([[PRIMARY, "UP", PRIMARY], [BACKUP, "DOWN", PRIMARY]]),
        BACKUP: daemon([[PRIMARY, "DOWN", BACKUP], [BACKUP, "UP", BACKUP]], "9"),
    }
    known = {
        slurmctld.FACT.name: daemons,
        "preflight.controller": controllers(conf),
        f"doctor.{ADDRESSES.name}": {PRIMARY: {name: found}},
    }
    (one,) = DIVIDED.judge(StepContext(site, Facts(known), PRIMARY), None)
    assert one.name == "controllers-divided" and says in one.text
    assert (f"`getent hosts {name}`" in one.fix) == bool(says)


def test_each_controller_looks_up_the_names_of_slurm_conf(site: Site) -> None:
    """As slurmctld does: the address where slurm.conf has one, else the name; a name that nobody knows has none."""
    conf = "SlurmctldHost=localhost\nSlurmctldHost=slurmctl2(127.0.0.1)\nSlurmctldHost=none.invalid\n"
    look: Any = ADDRESSES.look(StepContext(site, Facts({"preflight.controller": controllers(conf)}), PRIMARY))
    out = subprocess.run(["sh", "-c", look.script], capture_output=True, timeout=60, check=True).stdout
    found = look.parse(out)
    assert set(found["localhost"].split()) & {"127.0.0.1", "::1"}
    assert found["127.0.0.1"] == "127.0.0.1" and found["none.invalid"] == ""
