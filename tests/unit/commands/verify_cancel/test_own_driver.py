"""The storage driver by which `verify --cancel --all` holds Workflows: its rule, and its part in status.drivers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest

from dws_on_csm.commands.verify_cancel import own_driver
from dws_on_csm.commands.verify_cancel.known_outcomes import STATES
from dws_on_csm.commands.verify_cancel.own_driver import OwnDriver
from dws_on_csm.model.cluster_api import CONFLICT, ClusterError
from dws_on_csm.stages.verify_cancel import DRIVER

PATH = "/apis/dataworkflowservices.github.io/v1alpha2/namespaces/user/workflows"
CRD = {
    "metadata": {},
    "spec": {
        "names": {"kind": "DWDirectiveRule"},
        "versions": [{"name": "v1alpha2", "served": True, "storage": True}],
    },
}


class Api:
    """An API with DWS, whose webhook knows our rule after so many dry runs; and a Workflow, changed by others so many times."""

    def __init__(self, state: str = "", deaf: int = 0, busy: int = 0, **entries: bool) -> None:
        self.deaf, self.busy, self.version = deaf, busy, 1
        drivers = [{"driverID": "tape", "watchState": state, "completed": False}]
        drivers += [{"driverID": DRIVER, "watchState": name, "completed": done} for name, done in entries.items()]
        self.status = {"state": state, "drivers": drivers}
        self.rules: list[Mapping[str, Any]] = []
        self.deleted: list[str] = []

    def get(self, path: str) -> Any:
        """A CRD, the Workflow, or all of them."""
        if "customresourcedefinitions" in path:
            return CRD
        workflow = {"metadata": {"name": "bb1", "resourceVersion": str(self.version)}, "status": self.status}
        return copy.deepcopy({"items": [workflow]} if path == PATH else workflow)

    def apply(self, manifest: Mapping[str, Any]) -> None:
        """The rule."""
        self.rules.append(manifest)

    def create(self, path: str, body: Mapping[str, Any], dryRun: str) -> Any:
        """A dry run: the webhook enters drivers by the rules that it has noticed."""
        assert (path, dryRun) == (PATH, "All")
        self.deaf -= 1
        if self.deaf >= 0:
            raise ClusterError(403, "invalid directive")
        known = {spec["command"]: spec for spec in self.rules[-1]["spec"]}
        rules = [known[line.split()[1]] for line in body["spec"]["dwDirectives"]]
        return {"status": {"drivers": [{"driverID": r["driverLabel"], "watchState": r["watchStates"]} for r in rules]}}

    def patch(self, path: str, body: Mapping[str, Any]) -> None:
        """Refused where somebody has changed the object since."""
        if self.busy:
            self.busy, self.version = self.busy - 1, self.version + 1
        if body["metadata"]["resourceVersion"] != str(self.version):
            raise ClusterError(CONFLICT, "the object has been modified")
        self.status["drivers"] = body["status"]["drivers"]

    def delete(self, path: str) -> None:
        """The rule."""
        self.deleted.append(path)


def completed(api: Api) -> list[str]:
    """The states whose entries are completed."""
    return [driver["watchState"] for driver in api.status["drivers"] if driver["completed"]]  # type: ignore[index]


@pytest.mark.parametrize("deaf", [0, 3])
def test_the_rule_is_awaited_until_the_webhook_heeds_it(deaf: int) -> None:
    """A job that is submitted earlier would be refused, or run without our driver. One command holds in one state."""
    api = Api(deaf=deaf)
    OwnDriver(api, PATH).start()
    (rule,) = api.rules
    assert rule["metadata"]["namespace"] == "dws-system" and rule["apiVersion"].endswith("/v1alpha2")
    assert [(f"#DW {spec['command']}", spec["watchStates"]) for spec in rule["spec"]] == [
        (OwnDriver.line(state), state) for state in STATES
    ]


def test_a_webhook_that_never_notices_it_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the API server's own words."""
    monkeypatch.setattr(own_driver, "NOTICED_WITHIN", 0.0)
    with pytest.raises(ClusterError, match=r"ignores .* invalid directive"):
        OwnDriver(Api(deaf=1000), PATH).start()


@pytest.mark.parametrize("busy", [0, 2])
def test_a_workflow_is_released_as_a_driver_does(busy: int) -> None:
    """Our entry of the present state alone: DWS refuses others. Who changed the Workflow meanwhile loses nothing."""
    api = Api("Setup", busy=busy, Setup=False, DataIn=False)
    OwnDriver(api, PATH).release_all()
    assert completed(api) == ["Setup"]


@pytest.mark.parametrize(("state", "entries"), [("PreRun", {"Setup": False}), ("Setup", {"Setup": True}), ("", {})])
def test_a_workflow_that_is_not_held_is_left_alone(state: str, entries: dict[str, bool]) -> None:
    """In another state, or already released."""
    api = Api(state, **entries)
    before = copy.deepcopy(api.status)
    OwnDriver(api, PATH).release("bb1")
    assert api.status == before


def test_the_rule_goes() -> None:
    """Also one that a killed run left."""
    api = Api()
    OwnDriver(api, PATH).stop()
    group = "/apis/dataworkflowservices.github.io/v1alpha2"
    assert api.deleted == [f"{group}/namespaces/dws-system/dwdirectiverules/{DRIVER}"]
