"""How a run ends after an error that no step expected."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.display.select import Display
from dws_on_csm.engine import plan as engine_plan
from dws_on_csm.engine.reach import Reach
from dws_on_csm.engine.state import DEFECT, Run
from dws_on_csm.model.errors import Lost, SudoRefused
from dws_on_csm.model.events import Done, Event
from dws_on_csm.model.step import ShellLook, Stage, Step, StepContext, Value
from dws_on_csm.runner.options import Options
from dws_on_csm.runner.run import work
from tests.unit.conftest import LocalHost


def a_step(wrong: Exception) -> Step:
    """A step whose `want` raises."""

    def want(place: StepContext) -> Value:
        raise wrong

    return Step("one", "master", lambda place: ShellLook("true", bytes.decode), want)


def worked(host: LocalHost, step: Step) -> list[Done]:
    seen: list[Event] = []
    reach = Reach(lambda name: host, lambda: None, lambda role: "one")
    run = Run("run-1", load(DEFAULT), [Stage("some", (), (step,))], reach, seen.append, {"master": ("one",)})
    with ExitStack() as holding:
        assert work(run, Options(plan=True), Display(seen.append), (), holding) == ""
    return [event for event in seen if isinstance(event, Done)]


def test_a_defect_is_reported_as_a_failed_step(local_host: LocalHost) -> None:
    """The run ends with a report: the error, its step and host, where in the code, and what to do."""
    (done,) = worked(local_host, a_step(KeyError("nowhere")))
    (told,) = done.failures
    assert (done.host, done.stage, done.step, done.outcome) == ("one", "some", "one", "failed")
    assert told.meaning == f"{DEFECT}, in some.one: KeyError: 'nowhere'" and "report" in told.fix
    assert told.tail[0] == "Traceback (most recent call last):" and any("in want" in line for line in told.tail)


def test_a_defect_outside_any_step_is_reported(local_host: LocalHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends with a report, whatever was raised."""

    def plan(run: Run) -> None:
        raise KeyError("nowhere")

    monkeypatch.setattr(engine_plan, "plan", plan)
    (done,) = worked(local_host, a_step(KeyError("else")))
    (told,) = done.failures
    assert (done.host, done.stage, done.step, done.outcome) == ("-", "run", "work", "failed")
    assert told.meaning == f"{DEFECT}: KeyError: 'nowhere'" and "report" in told.fix
    assert told.tail[0] == "Traceback (most recent call last):" and any("in plan" in line for line in told.tail)


def test_a_broken_connection_is_no_defect(local_host: LocalHost) -> None:
    """It is reported with its host and what happened."""
    (done,) = worked(local_host, a_step(Lost("one", "the connection broke")))
    assert (done.host, done.outcome) == ("one", "failed")
    assert [one.meaning for one in done.failures] == ["one: the connection broke"]


def test_a_master_without_roots_rights_is_one_failure(local_host: LocalHost) -> None:
    """Not one for each step: with sudo's words and what to do."""
    seen: list[Event] = []
    refused = SudoRefused("one", "sudo did not accept the password of me: Sorry", "do this")
    reach = Reach(lambda name: local_host, lambda: None, lambda role: "one", refused=lambda host: refused)
    stages = [Stage("some", (), (a_step(KeyError("not reached")),))]
    run = Run("run-1", load(DEFAULT), stages, reach, seen.append, {"master": ("one",)})
    with ExitStack() as holding:
        assert work(run, Options(plan=True), Display(seen.append), (), holding) == ""
    (done,) = [event for event in seen if isinstance(event, Done)]
    assert (done.host, done.stage, done.outcome) == ("one", "run", "failed")
    assert [(told.meaning, told.fix) for told in done.failures] == [(str(refused), "do this")]
