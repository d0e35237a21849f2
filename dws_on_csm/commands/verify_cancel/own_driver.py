"""A storage driver of our own: a Workflow whose job asks for it stays in one state until the run completes the driver's part.

DWS enters the drivers of a Workflow when it is created, from the rules (DWDirectiveRules) that know the commands of its #DW lines.
Our rule has a command for each state, whose driver takes part in that state alone. It concerns no job that does not use these
commands, and exists only while the run lasts.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from dws_on_csm.commands.verify_cancel.known_outcomes import STATES
from dws_on_csm.domain import names
from dws_on_csm.model.cluster_api import CONFLICT, ClusterError
from dws_on_csm.stages.dws import installed
from dws_on_csm.stages.verify_cancel import DRIVER

NOTICED_WITHIN = 30.0
"""Seconds that DWS's webhook has to notice the rule: it watches rules, and needs less than a second."""

RELEASED = 30.0
"""Seconds within which a Workflow must be released, though DWS and Slurm change it at the same time."""

DRY_RUNS_IN_A_ROW = 3
"""Dry runs in a row that must show our driver: the webhook's replicas notice the rule one after the other."""


class OwnDriver:
    """The rule, and the driver's part in Workflows of the collection at `path`. Threads may share it. Raises ClusterError."""

    def __init__(self, cluster: Any, path: str) -> None:
        self._cluster, self._path = cluster, path

    @staticmethod
    def line(state: str) -> str:
        """The #DW line of a job whose Workflow shall stay in this state."""
        return f"#DW {DRIVER}-{state}"

    def start(self) -> None:
        """Create the rule, and wait until DWS enters our driver into a new Workflow (a dry run)."""
        crd = installed.crd(self._cluster, "dwdirectiverules")
        if crd is None:
            raise ClusterError(404, f"DWS's CRD dwdirectiverules.{names.GROUP} does not exist")
        version = installed.path("dwdirectiverules", crd).split("/")[3]
        self._cluster.apply(rule(f"{names.GROUP}/{version}"))
        deadline_at, seen, why = time.monotonic() + NOTICED_WITHIN, 0, ""
        while seen < DRY_RUNS_IN_A_ROW:
            why = self._why_not_held()
            seen = 0 if why else seen + 1
            if why and time.monotonic() >= deadline_at:
                raise ClusterError(0, f"DWS ignores the DWDirectiveRule {DRIVER} in {names.NAMESPACE}: {why}")
            if why:
                time.sleep(0.2)  # the webhook reports no event when it has noticed a rule

    def _why_not_held(self) -> str:
        """Why a Workflow would not wait for our driver; "" if it would."""
        try:
            answer = self._cluster.create(self._path, _trial(self._path), dryRun="All")
        except ClusterError as error:
            return str(error)
        entered = {driver.get("watchState") for driver in _ours(answer)}
        missing = [state for state in STATES if state not in entered]
        return f"a new Workflow has no entry of it for {', '.join(missing)}" if missing else ""

    def release(self, name: str) -> None:
        """Complete our driver's part in the present state of this Workflow, as a driver does; a missing one is fine."""
        deadline_at = time.monotonic() + RELEASED
        while workflow := self._cluster.get(f"{self._path}/{name}"):
            if not _holds(workflow):
                return
            drivers = [_completed(driver, workflow) for driver in workflow["status"]["drivers"]]
            version = {"resourceVersion": workflow["metadata"]["resourceVersion"]}
            try:
                self._cluster.patch(f"{self._path}/{name}", {"metadata": version, "status": {"drivers": drivers}})
                return
            except ClusterError as error:
                # DWS or Slurm has changed it since it was read: its state may be another one now
                if error.status != CONFLICT or time.monotonic() >= deadline_at:
                    raise

    def release_all(self) -> None:
        """Complete our driver's part in every Workflow of the collection, also of jobs that a killed run left."""
        for workflow in (self._cluster.get(self._path) or {"items": []})["items"]:
            if _holds(workflow):
                self.release(workflow["metadata"]["name"])

    def stop(self) -> None:
        """Remove the rule, also one that a killed run left."""
        crd = installed.crd(self._cluster, "dwdirectiverules")
        if crd is not None:
            above, _, plural = installed.path("dwdirectiverules", crd).rpartition("/")
            self._cluster.delete(f"{above}/namespaces/{names.NAMESPACE}/{plural}/{DRIVER}")


def rule(version: str) -> dict[str, Any]:
    """Our DWDirectiveRule in this API version."""
    specs = [
        {"command": f"{DRIVER}-{state}", "driverLabel": DRIVER, "watchStates": state, "ruleDefs": []}
        for state in STATES
    ]
    meta = {"namespace": names.NAMESPACE, "name": DRIVER, "labels": {"app.kubernetes.io/managed-by": "dws-on-csm"}}
    return {"apiVersion": version, "kind": "DWDirectiveRule", "metadata": meta, "spec": specs}


def _trial(path: str) -> dict[str, Any]:
    """A Workflow that waits for our driver in every state."""
    version, _, namespace = path.removeprefix("/apis/").removesuffix("/workflows").partition("/namespaces/")
    lines = [OwnDriver.line(state) for state in STATES]
    spec = {"desiredState": "Proposal", "dwDirectives": lines, "wlmID": "dws-on-csm", "jobID": "0"}
    meta = {"name": DRIVER, "namespace": namespace}
    return {"apiVersion": version, "kind": "Workflow", "metadata": meta, "spec": {**spec, "userID": 0, "groupID": 0}}


def _ours(workflow: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Our entries of status.drivers."""
    drivers = workflow.get("status", {}).get("drivers") or ()
    return [driver for driver in drivers if driver.get("driverID") == DRIVER]


def _holds(workflow: Mapping[str, Any]) -> bool:
    """Whether our driver keeps a Workflow in its present state."""
    state = workflow.get("status", {}).get("state")
    return any(driver.get("watchState") == state and not driver.get("completed") for driver in _ours(workflow))


def _completed(driver: Mapping[str, Any], workflow: Mapping[str, Any]) -> Mapping[str, Any]:
    """An entry of status.drivers, completed if it is ours and of the present state: DWS refuses a change of other states'."""
    if driver.get("driverID") != DRIVER or driver.get("watchState") != workflow["status"]["state"]:
        return driver
    return {**driver, "completed": True, "status": "Completed", "lastHB": int(time.time())}
