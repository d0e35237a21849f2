"""`invoke discover` itself: what it refuses before it contacts a host, which Slurm it takes, and the file that it writes."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dws_on_csm.commands.discover import command, master
from dws_on_csm.commands.discover.cluster import PodSlurm
from dws_on_csm.commands.discover.command import Options
from dws_on_csm.commands.discover.hosts import SlurmHost
from dws_on_csm.commands.discover.login import Login, provisional
from dws_on_csm.commands.discover.slurm import Users
from dws_on_csm.config.load import load
from dws_on_csm.config.site import Role
from dws_on_csm.display import console
from dws_on_csm.model.cluster_api import ClusterError
from dws_on_csm.model.errors import Unreachable
from dws_on_csm.model.exit_codes import CHANGES, CONVERGED, FAILED, REFUSED, USAGE
from tests.unit.commands.discover import samples

LOOK = command.look_at_site


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test in a folder of its own, and with a site on which everything is known."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "look_at_site", lambda *arguments: samples.seen())


def test_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is a site file that every user may read, whatever the umask; nothing else is left; the next command is said."""
    mask = os.umask(0o077)
    try:
        assert command.discover(Options()) == CONVERGED
    finally:
        os.umask(mask)
    (file,) = tmp_path.iterdir()
    assert (file.name, stat.S_IMODE(file.stat().st_mode)) == ("site.yaml", 0o644)
    assert load(file).master.host.name == "ncn-m001"
    assert "Next: `invoke plan --hosts site.yaml`" in capsys.readouterr().out


def test_what_is_found_later_is_no_difference(capsys: pytest.CaptureFixture[str]) -> None:
    """The file that it wrote says what it finds again; one that somebody changed does not."""
    command.discover(Options())
    assert command.discover(Options(diff="site.yaml")) == CONVERGED
    file = Path("site.yaml")
    file.write_text(file.read_text().replace("user: joe", "user: ann"))
    assert command.discover(Options(diff="site.yaml")) == CHANGES
    assert "  - test_job.user: ann\n  + test_job.user: joe\n" in capsys.readouterr().out


def test_questions_are_said_at_the_end(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each with its key, after what was written."""
    monkeypatch.setattr(command, "look_at_site", lambda *arguments: samples.seen(users=Users()))
    assert command.discover(Options(out="x.yaml")) == CONVERGED
    said = capsys.readouterr().out
    assert "1 question that only you can answer, marked in x.yaml:" in said
    assert "  test_job.user  As which ordinary user shall the test job run?" in said


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_nothing_is_overwritten(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever has the name stays, also a link to nothing; no host is contacted."""
    there = tmp_path / "site.yaml"
    if kind == "link":
        there.symlink_to("nowhere")
    elif kind == "folder":
        there.mkdir()
    else:
        there.write_text("mine")
    assert command.discover(Options()) == REFUSED
    assert "site.yaml exists, and nothing is overwritten" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["site.yaml"]
    assert kind != "file" or there.read_text() == "mine"


def test_a_file_that_comes_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two administrators at once: the second one's file is not the first one's end."""

    def meanwhile(*arguments: object) -> Any:
        (tmp_path / "site.yaml").write_text("theirs")
        return samples.seen()

    monkeypatch.setattr(command, "look_at_site", meanwhile)
    assert command.discover(Options()) == REFUSED
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("site.yaml", "theirs")]


def test_a_disk_without_room_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No half of a file: it fails, with the cause."""

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert command.discover(Options()) == FAILED
    assert "site.yaml cannot be written: No space left on device" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Options(out="a.yaml", diff="b.yaml"), "give --diff or --out, not both"),
        (Options(diff="b.yaml"), "b.yaml: no such file to compare with"),
        (Options(out="no/a.yaml"), "no is not a folder"),
        (Options(ssh_config="none"), "--ssh-config none: no such file"),
        (Options(controllers="c[1"), "c[1"),
    ],
)
def test_wrong_options(options: Options, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong command line ends with 2, before any host is contacted."""
    assert command.discover(options) == USAGE
    assert words in capsys.readouterr().err


def test_several_slurms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a choice they are listed, with the command that chooses; a wrong choice names the right ones."""
    slurms = [PodSlurm(name, (samples.POD,)) for name in ("lab", "user")]
    assert command.choose_slurm(Options(cluster="user"), slurms).name == "user"
    assert command.choose_slurm(Options(), slurms[:1]).name == "lab"
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    with pytest.raises(command.Several, match=r"discover --master m --cluster lab"):
        command.choose_slurm(Options(master="m"), slurms)
    with pytest.raises(command.Several, match=r"no Slurm 'usr' here; did you mean user\?"):
        command.choose_slurm(Options(cluster="usr"), slurms)


def unreachable(path: Path, master: str, host: str, *how: object) -> None:
    """No host answers."""
    raise Unreachable(host, "it does not answer", "")


def test_a_slurm_whose_controllers_all_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its slurm.conf was on another host: each controller is in the file, with its cause."""
    silent = [SlurmHost(name, "SlurmctldHost", None, "timed out") for name in ("a", "b")]
    monkeypatch.setattr(command, "reach", unreachable)
    site = command.seen_on_hosts(samples.seen(slurm=samples.on_hosts(*silent), conf=None), tmp_path / "site.yaml")
    monkeypatch.setattr(command, "look_at_site", lambda *arguments: site)
    assert command.discover(Options()) == CONVERGED
    assert [host.name for host in load(tmp_path / "site.yaml").controllers] == ["a", "b"]


@pytest.mark.parametrize("kubeconfig", ["/etc/kubernetes/admin.conf", "/root/.kube/config"])
def test_the_api_is_asked_with_the_kubeconfig_that_root_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kubeconfig: str
) -> None:
    """Where the usual one is not there, the master is reached again with the other one."""
    used: list[str] = []

    class Sessions:
        """Connections whose API server answers nothing."""

        def master(self, host: str) -> Any:
            """The master, with its way to the API."""
            raise ClusterError(0, "the API server did not answer")

        def close(self) -> None:
            """End them."""

    def reached(path: Path, name: str, host: str, role: Role, given: Login, kubeconfig: str = "") -> Any:
        used.append(provisional(path, given, name, kubeconfig).master.kubeconfig)
        return SimpleNamespace(sessions=Sessions(), session=None, login=given)

    monkeypatch.setattr(command, "reach", reached)
    monkeypatch.setattr(master, "look", lambda session, site: samples.master(kubeconfig=kubeconfig))
    with pytest.raises(ClusterError):
        LOOK(Options(), tmp_path / "site.yaml", Login(), ())
    assert used == ["/etc/kubernetes/admin.conf", *([kubeconfig] if "root" in kubeconfig else [])]


def test_a_person_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the name may be typed."""
    slurms = [PodSlurm(name, (samples.POD,)) for name in ("lab", "user")]
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(console, "ask", lambda question: " user ")
    assert command.choose_slurm(Options(), slurms).name == "user"


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing but JSON lines; the summary is the last one."""
    assert command.discover(Options(json=True)) == CONVERGED
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["event"] for line in lines[:-1]} == {"value"}
    assert (lines[-1]["event"], lines[-1]["cluster"], lines[-1]["questions"]) == ("summary", "user", 0)


def test_an_ssh_config_beside_the_file_is_named_relative_to_it(tmp_path: Path) -> None:
    """Both can be moved together."""
    (tmp_path / "ssh_config").touch()
    inside, outside = Path("site.yaml"), Path("/elsewhere/site.yaml")
    options = Options(ssh_config="ssh_config")
    assert command.config_value(options, inside.absolute()) == "ssh_config"
    assert command.config_value(options, outside) == str(tmp_path / "ssh_config")
