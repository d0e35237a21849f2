"""The checks of the master before a run changes anything."""

from __future__ import annotations

import shutil
import subprocess
import time
from base64 import b64encode
from dataclasses import replace
from pathlib import Path

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.model.step import Check, Facts, ShellLook, StepContext
from dws_on_csm.stages.preflight.stage import STAGE as PREFLIGHT
from tests.unit.authority import authority, private
from tests.unit.hostile import SLURM_USER, Host, hostile_host, needs_root

__all__ = ["hostile_host"]

ASKED = 1_800_000_000.0


@pytest.mark.parametrize(
    ("told", "took", "found"),
    [
        (0, 2, []),
        (1, 59, []),  # a busy host's other looks took their time
        (59, 59, []),
        (-29, 2, []),
        (-40, 2, ["clock-skew"]),
        (-40, 59, ["clock-skew"]),
        (100, 59, ["clock-skew"]),
    ],
)
def test_a_clock_outside_question_and_answer_is_wrong(
    monkeypatch: pytest.MonkeyPatch, told: int, took: int, found: list[str]
) -> None:
    """`told` is the host's clock, and `took` the duration of its looks, in seconds after they were asked for."""
    monkeypatch.setattr(time, "time", lambda: ASKED)
    check, place = PREFLIGHT.steps[0], StepContext(load(DEFAULT), Facts(), "ncn-m001")
    assert isinstance(check, Check)
    look = check.look(place)
    assert isinstance(look, ShellLook)
    monkeypatch.setattr(time, "time", lambda: ASKED + took)
    have = look.parse(f"uid 0\ntime {ASKED + told:.0f}\n".encode())
    assert [one.name for one in check.judge(place, have)] == found


@pytest.mark.slow
@needs_root
@pytest.mark.parametrize("days", [-1, 1])
def test_certificates_of_the_control_plane_that_have_ended(tmp_path: Path, days: int) -> None:
    """Each has its own fix: kubectl says Unauthorized of one, and that it does not trust the server of the other."""
    signer, key = authority("kubernetes"), private()
    pem = signer.sign("kubernetes-admin", days=days, ago=46, key=key)
    (tmp_path / "admin.conf").write_text(f"users:\n- user:\n    client-certificate-data: {b64encode(pem).decode()}\n")
    (tmp_path / "apiserver.crt").write_bytes(pem)
    site = load(DEFAULT)
    site = replace(site, master=replace(site.master, kubeconfig=str(tmp_path / "admin.conf"), pki=str(tmp_path)))
    check, place = PREFLIGHT.steps[0], StepContext(site, Facts(), "ncn-m001")
    assert isinstance(check, Check)
    look = check.look(place)
    assert isinstance(look, ShellLook)
    done = subprocess.run(["sh", "-s"], input=look.script.encode(), capture_output=True, timeout=60, check=True)
    ended = [one for one in check.judge(place, look.parse(done.stdout)) if "expired" in one.name]
    assert [one.name for one in ended] == ["master-kubeconfig-expired", "api-certificate-expired"] * (days < 0)
    assert ["kubeadm certs renew" in one.fix for one in ended] == [True, True] * (days < 0)


@needs_root
def test_a_kubeconfig_of_others_on_the_master_is_a_finding(hostile_host: Host) -> None:
    """A kubeconfig can start programs, and root runs kubectl with it; a file and folder of root are fine."""
    site = load(DEFAULT)
    conf = hostile_host.owned(hostile_host.top / "admin.conf", "")
    site = replace(site, master=replace(site.master, kubeconfig=str(conf), pki=str(hostile_host.top)))
    check, place = PREFLIGHT.steps[0], StepContext(site, Facts(), "ncn-m001")
    assert isinstance(check, Check)
    for owner, expected in ((SLURM_USER, ["master-file-open"]), ("root", [])):
        shutil.chown(conf, owner)
        look = check.look(place)
        assert isinstance(look, ShellLook)
        have = look.parse(hostile_host.run(look.script).stdout.encode())
        told = [one.name for one in check.judge(place, have)]
        assert [name for name in told if name == "master-file-open"] == expected


@pytest.mark.slow
@needs_root
@pytest.mark.parametrize("options", ["noexec", "noexec,nosuid", "nosuid"])
def test_a_workarea_from_which_nothing_can_be_started(tmp_path: Path, options: str) -> None:
    """Hardened hosts mount some file systems so; also one whose name has a blank, and for a folder that is still to be made."""
    mount = tmp_path / "a disk"
    mount.mkdir()
    site = load(DEFAULT)
    site = replace(site, master=replace(site.master, workarea=str(mount / "to/be/made")))
    check, place = PREFLIGHT.steps[0], StepContext(site, Facts(), "ncn-m001")
    assert isinstance(check, Check)
    look = check.look(place)
    assert isinstance(look, ShellLook)
    script = f"mount -t tmpfs -o {options} tmpfs '{mount}'\n{look.script}"
    apart = ["unshare", "--mount", "--propagation=private", "sh", "-s"]
    done = subprocess.run(apart, input=script.encode(), capture_output=True, timeout=60, check=True)
    told = [one for one in check.judge(place, look.parse(done.stdout)) if one.name == "workarea-noexec"]
    assert len(told) == ("noexec" in options)
    for one in told:
        assert f"`mount -o remount,exec '{mount}'`" in one.fix
