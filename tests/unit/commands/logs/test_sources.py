"""Which log of a slurmctld in a pod is read: its file where slurm.conf there names one, otherwise its container's."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dws_on_csm.commands.logs import pod_log
from dws_on_csm.commands.logs import sources as module
from dws_on_csm.commands.logs.sources import sources
from dws_on_csm.config.load import load
from dws_on_csm.config.site import Host
from tests.unit.site_files import write

SITE = "master: {host: m}\ncontrollers: [{pod: {name: inside}}]\n"


class Session(SimpleNamespace):
    """A connection whose scripts say that slurmctld's log is at `where`."""

    def pipe(self, script: str, ready: str, deadline: float, lifetime: float) -> tuple[Any, str]:
        """The log's script, once it is ready."""
        channel = SimpleNamespace(sendall=lambda text: None, close=lambda: None)
        return channel, f"{self.now} +0000 {self.where}"


@pytest.mark.parametrize(
    ("where", "files", "containers", "note", "missing"),
    [
        ("/var/log/slurm/slurmctld.log", ["inside"], [], "", False),
        ("container", [], ["inside"], "inside: slurmctld writes its log to its container alone", False),
        ("nowhere: /var/log/x.log cannot be read", [], ["inside"], "inside: there is no log of slurmctld", True),
    ],
)
def test_the_log_of_a_pod(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    where: str,
    files: list[str],
    containers: list[str],
    note: str,
    missing: bool,
) -> None:
    """A file has the hooks' lines too, and it is read in place of the container's log, which has the others once more."""
    session = {name: Session(host=name, where=where, now=time.time()) for name in ("m", "inside")}
    monkeypatch.setattr(module, "connect_all", lambda site, wanted: _Sessions(session))
    monkeypatch.setattr(module, "Cluster", lambda *given, **named: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(module, "seconds_ahead", lambda session: 0.0)
    monkeypatch.setattr(pod_log, "node_clocks", lambda *given: {})
    asked: list[str] = []

    def read(cluster: Any, note: Any, hosts: Sequence[Host]) -> list[Any]:
        asked.extend(host.name for host in hosts)
        return []

    monkeypatch.setattr(pod_log, "readable_containers", read)
    with sources(load(write(tmp_path, SITE)), 0.0, follow=False) as opened:
        assert [log.host for log in opened.hosts] == files
        assert [host.name for host in opened.controllers_in_pods] == asked == containers
        assert opened.missing == missing
    assert note in capsys.readouterr().err


class _Sessions(dict[str, Session]):
    def close(self) -> None:
        """Nothing is open."""
