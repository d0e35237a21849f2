"""Findings about hosts, the API server and clocks, of checks that failed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dws_on_csm.commands.doctor import judge
from dws_on_csm.commands.doctor.judge import HERE, clock_findings, unusable
from dws_on_csm.engine.looks import FailureReason
from dws_on_csm.model.cluster_api import SILENT_FIX
from tests.unit.commands.doctor.context import MASTER, SITE


def test_a_host_that_starts_no_script_is_a_finding() -> None:
    """ssh connects, and the login's shell ends: nothing else is found on that host then. One check that failed, an API server that
    does not respond and a sudo that refuses are other things."""
    shell, silent = (
        FailureReason("c1: the login ended", "change its shell"),
        FailureReason("no answer", SILENT_FIX, cluster=True),
    )
    every = ("a", "b", "c", "d")
    failed = {(check, "c1"): shell for check in every} | {(check, "m"): silent for check in every}
    failed |= {("a", "c2"): shell, **{(check, "c3"): FailureReason("x ended with exit code 1") for check in every}}
    failed |= {(check, "c4"): shell for check in every}
    (found,) = unusable(failed, ["c4"])
    assert (found.host, found.finding.name) == ("c1", "host-unreachable")
    assert found.finding.text == "nothing could be checked on c1: the login ended"


@pytest.mark.parametrize(
    ("failed", "name", "fix"),
    [
        (FailureReason("no answer", SILENT_FIX, cluster=True), "cluster-unreachable", SILENT_FIX),
        (
            FailureReason("nodes is forbidden"),
            "master-kubeconfig-refused",
            "create clusterrolebinding kubeadm:cluster-admins",
        ),
    ],
)
def test_an_api_server_that_refuses_the_administrator_responds(failed: FailureReason, name: str, fix: str) -> None:
    """Nothing has to be started then: the kubeconfig lacks rights."""
    run: Any = SimpleNamespace(board=SimpleNamespace(failed={("doctor.cluster", MASTER): failed}), site=SITE)
    (found,) = judge.of_failure(run, "doctor.cluster", MASTER, failed.text)
    assert (found.host, found.finding.name, failed.text in found.finding.text) == (MASTER, name, True)
    assert fix in found.finding.fix
    assert list(judge.of_failure(run, "deploy.open", MASTER, failed.text)) == []


@pytest.mark.parametrize(
    ("ahead", "wrong"),
    [
        ({"a": 0.1, "b": -0.2, "c": 29.0}, []),
        ({"a": 0.1, "b": -0.2, "c": 90.0}, ["c"]),
        ({"a": 100.1, "b": 99.8, "c": 100.0}, [HERE]),
        ({"a": 100.1, "b": 99.8, "c": 0.0}, [HERE, "c"]),
        ({}, []),
    ],
)
def test_the_clock_that_is_wrong_is_named(ahead: dict[str, float], wrong: list[str]) -> None:
    """The clock that differs from most others; where all differ from this machine's, this machine's."""
    assert [one.host for one in clock_findings(ahead)] == wrong
