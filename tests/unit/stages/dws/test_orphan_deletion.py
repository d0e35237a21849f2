"""Orphaned Workflows are deleted only where Slurm, asked after they were seen, says that their jobs were its own and are over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.commands.doctor import probes
from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.domain import names
from dws_on_csm.engine import apply, state
from dws_on_csm.engine import plan as engine_plan
from dws_on_csm.engine.looks import Board
from dws_on_csm.engine.perform import perform
from dws_on_csm.engine.reach import Reach, StepReporter
from dws_on_csm.engine.state import Run
from dws_on_csm.model.events import Done, Event
from dws_on_csm.model.step import Check, Refused, ShellLook, Stage
from dws_on_csm.stages import jobs, undeploy
from dws_on_csm.stages.dws import installed, replace
from tests.unit.conftest import LocalHost
from tests.unit.fake_kubectl import crd
from tests.unit.stages.test_undeploy import CONTROLLER, MASTER, a_place, a_row, a_workflow, slurm_says
from tests.unit.stages.test_undeploy import INSTALLED as THERE

V = "v1alpha2"
WORKFLOWS = f"/apis/{names.GROUP}/{V}/workflows"


def an_object(number: str, uid: str = "") -> dict[str, Any]:
    """A Workflow as the plugin makes it; the clock of the API server is half an hour behind Slurm's."""
    labels = {"origin": "burst_buffer.lua"}
    meta = {"namespace": "default", "name": f"bb{number}", "labels": labels, "uid": uid or f"id-bb{number}"}
    spec = {"jobID": number, "userID": 1500, "desiredState": "PreRun"}
    return {"metadata": {**meta, "creationTimestamp": "2023-11-14T21:43:20Z"}, "kind": "Workflow", "spec": spec}


@dataclass
class World:
    """A cluster with Workflows beside a Slurm with jobs, and the order in which they are asked."""

    squeue: Path
    there: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    deleted: list[tuple[str, str]] = field(default_factory=list)
    past: str = "past=8|1500|1700000000|1700000060\npast=9|1500|1700000000|1700000060\n"
    at: int = 0
    then: Callable[[], None] = lambda: None
    """What happens right before the Workflows are read for the time `at`."""

    def workflow(self, number: str, uid: str = "") -> None:
        self.there[number] = an_object(number, uid)

    def job(self, *numbers: str, answers: bool = True) -> None:
        rows = [a_row("#D", one, "RUNNING", "joe", "1700000000", "N/A") for one in numbers]
        said = "".join(f"job={one}\n" for one in rows)
        part = self.squeue.with_suffix(".part")  # it may be read at that very moment
        part.write_text(f"now=1700000000\n{'answers=yes' if answers else ''}\naccounting=answers\n{self.past}{said}")
        part.replace(self.squeue)

    def get(self, path: str, **query: str) -> Any:
        if path == f"{installed.CRDS}/workflows.{names.GROUP}":
            return crd("workflows", "Workflow", [V], V)
        if path == WORKFLOWS:
            self.asked.append("Workflows")
            if self.asked.count("Workflows") == self.at:
                self.then()
            return {"items": [dict(one) for one in self.there.values()]}
        return next((one for n, one in self.there.items() if path.endswith(f"/bb{n}")), None)

    def delete(self, path: str, deadline: float, uid: str = "") -> None:
        self.deleted.append((path.rpartition("/")[2], uid))
        self.there = {n: one for n, one in self.there.items() if one["metadata"]["uid"] != uid}


@dataclass
class Noting(LocalHost):
    """Notes when Slurm is asked."""

    world: World | None = None

    def run(self, script: str, data: bytes = b"", **more: Any) -> Any:
        if "squeue.said" in script:
            assert self.world is not None
            self.world.asked.append("Slurm")
        return super().run(script, data, **more)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    said = tmp_path / "squeue.said"
    look = ShellLook(f"cat {said}", lambda out: {**jobs.parse(out), "namespace": "default"})
    monkeypatch.setattr("dws_on_csm.stages.jobs.look", lambda place, numbers=(): look)
    made = World(said)
    made.job()
    return made


def a_run(world: World, tmp_path: Path, *stages: Stage) -> tuple[Run, list[Event]]:
    (tmp_path / "host").mkdir(exist_ok=True)
    host = Noting(tmp_path / "host", world=world)
    seen: list[Event] = []
    reach = Reach(lambda name: host, lambda: world, lambda role: MASTER if role == "master" else CONTROLLER)
    roles = {"master": (MASTER,), "submitter": (CONTROLLER,), "controller": (CONTROLLER,)}
    return Run("run-1", load(DEFAULT), stages, reach, seen.append, roles, yes=True), seen


def removal(stage: Stage) -> Stage:
    """Of an undeploy's stages what has to do with Workflows and jobs."""
    wanted = ("workflows", "jobs", "orphans")
    return Stage(stage.name, stage.needs, tuple(one for one in stage.steps if one.name in wanted))


def orphaning() -> tuple[Stage, ...]:
    stages = {one.name: one for one in undeploy.stages(orphans=True)}
    there = Check("installed", "master", installed.CHECK.look, lambda place, have: ())
    first = removal(stages["preflight"])
    return Stage("preflight", (), (there, *first.steps)), removal(
        Stage("undeploy", ("preflight",), stages["undeploy"].steps)
    )


@pytest.fixture
def installed_dws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dws_on_csm.stages.dws.installed.found", lambda place: THERE)


def test_slurm_is_asked_after_the_workflows_were_read(world: World, tmp_path: Path, installed_dws: None) -> None:
    """In an undeploy, an upgrade and the doctor, at the first looks and where a run looks for a second time."""
    for stage in (removal(undeploy.stages(orphans=True)[0]), removal(replace.STAGE), removal(probes.PROBES)):
        run, _ = a_run(world, tmp_path, Stage(stage.name, (), stage.steps))
        for _ in range(2):
            world.asked.clear()
            run.board.site = a_place({}, dws="0.1.9").site
            state.first_looks(run)
            assert world.asked == ["Workflows", "Slurm"], stage.name


@pytest.mark.parametrize("at", range(1, 7))
def test_a_job_that_is_submitted_meanwhile_keeps_its_workflow(
    world: World, tmp_path: Path, installed_dws: None, at: int
) -> None:
    """At whichever look it and its Workflow come, whatever the clocks say: only what was an orphan before goes, by its uid."""

    def submitted() -> None:
        world.workflow("12")
        world.job("12")

    world.workflow("9")
    world.at, world.then = at, submitted
    run, seen = a_run(world, tmp_path, *orphaning())
    state.first_looks(run)
    if engine_plan.findings(run, run.stages[0]):
        apply.install(run)
    assert world.deleted in ([], [("bb9", "id-bb9")])
    assert "12" in world.there or not world.asked.count("Workflows") >= at
    told = [one.meaning for e in seen if isinstance(e, Done) for one in e.failures]
    assert world.deleted or any("job 12 of joe" in one for one in told)


def test_orphans_go(world: World, tmp_path: Path, installed_dws: None) -> None:
    """Each by its uid, where nothing else is there."""
    world.workflow("9")
    run, seen = a_run(world, tmp_path, *orphaning())
    state.first_looks(run)
    apply.install(run)
    assert world.deleted == [("bb9", "id-bb9")]
    assert {e.step: e.outcome for e in seen if isinstance(e, Done)}["orphans"] == "changed"


def deed(world: World, tmp_path: Path, told: tuple[str, ...] = ("9",)) -> None:
    """The step `orphans` at its change, when these had been told as orphans."""
    every = [a_workflow(f"bb{number}") for number in told]
    found = {
        installed.FACT.name: THERE,
        **{f"{stage}.workflows": every for stage in ("preflight", "undeploy")},
        **{f"{stage}.jobs": slurm_says(past={"8": 1500, "9": 1500}) for stage in ("preflight", "undeploy")},
        "undeploy.orphans": every,
    }
    place = a_place(found)
    step = undeploy.orphans_step("undeploy")
    assert step.change is not None and step.read is not None
    actions = step.change(place, step.read(place, every), {})
    host = LocalHost(tmp_path)
    reach = Reach(lambda name: host, lambda: world, lambda role: MASTER)
    perform(
        reach,
        Board(place.site),
        StepReporter("run-1", MASTER, "undeploy", "orphans", list[Event]().append),
        actions,
        {},
    )


@pytest.mark.parametrize(("known", "answers"), [("9", True), ("8", True), ("", False)])
def test_slurm_is_asked_once_more_right_before(world: World, tmp_path: Path, known: str, answers: bool) -> None:
    """Where it knows the job of one of them, or says nothing, none is deleted, and it is said which."""
    world.workflow("8")
    world.workflow("9")
    world.job(*filter(None, [known]), answers=answers)
    with pytest.raises(Refused, match=f"job {known} of joe, RUNNING" if known else "does not respond"):
        deed(world, tmp_path, ("8", "9"))
    assert not world.deleted


@pytest.mark.parametrize("past", ["", "past=9|1600|1700000000|1700000060\n", "past=9|1500|1600000000|1600000060\n"])
def test_a_workflow_of_another_slurms_job_stays(world: World, tmp_path: Path, past: str) -> None:
    """Accounting knows no such job of this user at that time: somebody else's may need it, and none is deleted."""
    world.workflow("8")
    world.workflow("9")
    world.past = f"past=8|1500|1700000000|1700000060\n{past}"
    world.job()
    with pytest.raises(Refused, match=r"default/bb9 .*job 9 of user 1500"):
        deed(world, tmp_path, ("8", "9"))
    assert not world.deleted


def test_another_workflow_of_that_name_stays(world: World, tmp_path: Path) -> None:
    """It has another uid: nobody was told of it."""
    world.workflow("9", uid="later")
    deed(world, tmp_path)
    assert not world.deleted


def test_unconfirmed_orphans_are_refused(world: World, tmp_path: Path) -> None:
    """An orphan that was not there at the first look is one that nobody agreed to."""
    found = {
        "preflight.workflows": [],
        "undeploy.workflows": [a_workflow("bb9")],
        "undeploy.jobs": slurm_says(past={"9": 1500}),
        installed.FACT.name: THERE,
        "undeploy.orphans": [a_workflow("bb9")],
    }
    place = a_place(found)
    step = undeploy.orphans_step("undeploy")
    assert step.change is not None and step.read is not None
    with pytest.raises(Refused, match="appeared while this run was running"):
        step.change(place, step.read(place, found["undeploy.orphans"]), {})
