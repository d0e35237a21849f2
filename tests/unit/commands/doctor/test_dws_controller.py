"""DWS's controller that runs and does nothing, by its Lease."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from dws_on_csm.commands.doctor import dws_controller
from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.domain import names
from dws_on_csm.model.step import Facts, StepContext
from dws_on_csm.stages.dws.cluster_time import Renewal

MASTER = "ncn-m001"


class Leases:
    """The API of a cluster with these Leases: namespace -> when each was renewed; and with pods of the controller that started
    then."""

    def __init__(self, started: Sequence[str] = (), **renewed: list[str]) -> None:
        self.started = started
        self.renewed = {name.replace("_", "-"): times for name, times in renewed.items()}

    def get(self, path: str, **query: str) -> Any:
        """The Leases of the namespace in the path, or its pods; None where it has none, as where it does not exist."""
        if path.endswith("/pods"):
            pods = [(f"{names.CONTROLLER}-1", {"startTime": time}) for time in self.started]
            pods += [("dws-webhook-1", {"startTime": "2026-01-31T12:00:00Z"}), (f"{names.CONTROLLER}-2", {})]
            return {"items": [{"metadata": {"name": name}, "status": status} for name, status in pods]}
        times = self.renewed.get(path.split("/")[-2])
        return None if times is None else {"items": [{"spec": {"renewTime": time}} for time in times]}


def read(started: Sequence[str] = (), **renewed: list[str]) -> Renewal:
    look: Any = dws_controller.CHECK.look(StepContext(load(DEFAULT), Facts({}), MASTER))
    found: Renewal = look.read(Leases(started, **renewed))
    return found


NOW = ["2026-01-31T12:00:00.000000Z", "2026-01-31T11:50:00.000000Z"]


@pytest.mark.parametrize(
    ("leases", "ago"),
    [
        ({"dws_system": ["2026-01-31T11:56:00.500000Z"], "kube_node_lease": NOW}, 239.5),
        ({"dws_system": ["2026-01-31T12:00:04.000000Z"], "kube_node_lease": NOW}, -4.0),
        ({"kube_node_lease": NOW}, 0.0),
        ({"dws_system": [], "kube_node_lease": NOW}, 0.0),
        ({"dws_system": ["2026-01-31T11:56:00.500000Z"]}, 0.0),
    ],
)
def test_a_renewal_is_compared_with_the_kubelets(leases: dict[str, list[str]], ago: float) -> None:
    """The newest of each counts; where one side has none, nothing is known."""
    assert read(**leases)["ago"] == ago


@pytest.mark.parametrize(
    ("started", "ago"),
    [
        (["2026-01-31T11:55:00Z", "2026-01-31T11:59:50Z"], 10.0),
        (["2026-01-31T11:30:00Z"], 239.5),
        ([], 239.5),
    ],
)
def test_a_controller_that_has_just_started_has_time_to_take_the_lease(started: list[str], ago: float) -> None:
    """It waits until the former one's has ended, though its pod is ready: doctor right after a restart finds nothing."""
    renewal = read(started, dws_system=["2026-01-31T11:56:00.500000Z"], kube_node_lease=NOW)
    assert renewal == {"last": "2026-01-31 11:56 UTC", "ago": ago}


@pytest.mark.parametrize(
    ("ago", "ready", "traces", "found"),
    [
        (240.0, 1, ["x"], ["dws-controller-idle"]),
        (12.0, 1, ["x"], []),
        (240.0, 0, ["x"], []),  # that it has no pod is another finding
        (240.0, 1, [], []),
    ],
)
def test_a_controller_that_is_ready_and_idle(ago: float, ready: int, traces: list[str], found: list[str]) -> None:
    """With the command that starts it again."""
    known: dict[str, Any] = {
        "preflight.installed": {MASTER: {"traces": traces, "crds": {}, "unfinished": "", "tag": ""}},
        "deploy.available": {MASTER: {"pods": {names.CONTROLLER: {"ready": ready, "wanted": 1}}}},
    }
    ctx = StepContext(load(DEFAULT), Facts(known), MASTER)
    findings = dws_controller.CHECK.judge(ctx, {"last": "2026-01-31 11:56 UTC", "ago": ago})
    assert [one.name for one in findings] == found
    for one in findings:
        assert "since 2026-01-31 11:56 UTC" in one.text
        assert "`kubectl -n dws-system rollout restart deployment/dws-controller-manager`" in one.fix
