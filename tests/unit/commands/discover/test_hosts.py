"""What a host says of its slurmctld: the unit, and the folder of its slurm.conf."""

from __future__ import annotations

from typing import Any

import pytest

from dws_on_csm.commands.discover import hosts
from dws_on_csm.commands.discover.hosts import folder_of, unit_of
from dws_on_csm.commands.discover.login import Login
from dws_on_csm.commands.discover.slurm import Users


@pytest.mark.parametrize(
    ("out", "unit"),
    [
        pytest.param(b"unit=slurmctld-blue\nfile=slurmctld\n", "slurmctld-blue", id="of-the-process"),
        pytest.param(b"file=slurmctld2\n", "slurmctld2", id="only-one"),
        pytest.param(b"file=slurmctld\nfile=slurmctld@\n", "slurmctld", id="unclear"),
        pytest.param(b"unit=a b\n", "slurmctld", id="no-name"),
        pytest.param(b"", "slurmctld", id="none"),
    ],
)
def test_unit(out: bytes, unit: str) -> None:
    """The unit of the process is the surest; what is no unit's name is none."""
    assert unit_of(out) == unit


@pytest.mark.parametrize(
    ("elsewhere", "folder"),
    [
        (["/opt/slurm/etc/slurm.conf (-f in the running process)"], "/opt/slurm/etc"),
        (["/a/slurm.conf (x)", "/b/slurm.conf (y)"], ""),
        (["/a/other.conf (x)"], ""),
        (["/a/../slurm.conf (x)"], ""),
        ([], ""),
    ],
)
def test_folder(elsewhere: list[str], folder: str) -> None:
    """One slurm.conf that slurmctld reads elsewhere names the folder; two do not."""
    state: Any = {"elsewhere": elsewhere}
    assert folder_of(state) == folder


def state(name: str, *controllers: str, address: str = "") -> Any:
    """What the look at a controller returns."""
    conf = "ClusterName=lab\n" + "".join(f"SlurmctldHost={host}\n" for host in controllers)
    return {
        "host": name,
        "fqdn": "",
        "addresses": address,
        "program": "/usr/sbin/slurmctld",
        "files": {"/etc/slurm/slurm.conf": conf},
        "version": "24.11.5",
    }


def search(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, states: dict[str, Any], *names: str) -> hosts.Search:
    """A search in which these hosts answer, and all others can't be reached."""

    def look(self: hosts.Search, name: str, source: str, with_users: bool = False) -> Any:
        seen = states.get(name)
        why = "" if seen else "timed out"
        return hosts.SlurmHost(name, source, Login() if seen else None, why, seen), Users()

    monkeypatch.setattr(hosts.Search, "_look", look)
    path = tmp_path / "site.yaml"
    return hosts.Search(path, "m", Login(), dict.fromkeys(names, "listed"), lambda name: None)


def test_all_controllers_of_slurm_conf(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One host that is known by its name leads to its backup, in the order of slurm.conf, whether or not that answers."""
    states = {"ctl2": state("ctl2", "ctl1", "ctl2")}
    found = search(tmp_path, monkeypatch, states, "ctl2").slurms()
    assert [[host.name for host in one.controllers] for one in found] == [["ctl1", "ctl2"]]
    assert [host.why for host in found[0].controllers] == ["timed out", ""]


def test_names_of_one_slurm_are_one(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts are recognised by what they call themselves and by their addresses, so none is listed twice."""
    states = {"slurm": state("ctl1", "ctl1", "b(10.0.0.2)", address="10.0.0.1"), "10.0.0.2": state("b", "ctl1")}
    found = search(tmp_path, monkeypatch, states, "slurm", "ctl1", "10.0.0.1").slurms()
    assert [[host.name for host in one.controllers] for one in found] == [["slurm", "10.0.0.2"]]


def test_two_slurms(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two slurm.confs are two Slurms; what cannot be looked at is remembered with its cause."""
    states = {"a": {**state("a", "a")}, "b": state("b", "b")}
    looked = search(tmp_path, monkeypatch, states, "a", "b", "c")
    assert [host.name for one in looked.slurms() for host in one.controllers] == ["a", "b"]
    assert [(host.name, host.why) for host in looked.silent] == [("c", "timed out")]
