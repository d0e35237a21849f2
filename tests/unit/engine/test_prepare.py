"""A run that only prepares: what belongs into the change window stays as it is, with everything that builds on it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dws_on_csm.engine import apply, state
from dws_on_csm.engine import pending as engine_pending
from dws_on_csm.engine import plan as engine_plan
from dws_on_csm.engine.state import Run
from dws_on_csm.model.events import Done, Event
from dws_on_csm.model.step import Check, Constant, Finding, Restart, Stage, Step
from tests.unit.conftest import LocalHost
from tests.unit.engine.test_apply import a_file, a_run, outcomes

RESTART = Restart("the service", "a second", "Jobs continue.")


def in_window(step: Step) -> Step:
    """The step, whose change belongs into the change window: it restarts a service."""
    return replace(
        step,
        window=lambda ctx, have, want: True,
        restarts=lambda ctx, have, want: RESTART if have != want else None,
    )


def stages(host: LocalHost) -> tuple[Stage, ...]:
    """Files beside a configuration, the configuration, what comes after it in its stage, and a stage that needs it."""
    conf = in_window(a_file(host, "conf", "new"))
    return (
        Stage("files", (), (a_file(host, "plugin", "new"),)),
        Stage("service", ("files",), (conf, a_file(host, "later", "new"))),
        Stage("proof", ("service",), (a_file(host, "proof", "new"),)),
        Stage("apart", ("files",), (a_file(host, "apart", "new"),)),
    )


def prepared(host: LocalHost, *, plan: bool = False) -> tuple[Run, list[Event]]:
    run, seen = a_run(host, *stages(host))
    run.prepare = True
    state.first_looks(run)
    (engine_plan.plan if plan else apply.install)(run)
    return run, seen


LEFT = {"service.conf": "deferred", "service.later": "deferred", "proof.proof": "deferred"}


def test_what_the_window_needs_and_what_builds_on_it_is_left(local_host: LocalHost) -> None:
    """Everything else is done, and nothing of the rest is written."""
    run, seen = prepared(local_host)
    assert outcomes(seen) == {"files.plugin": "changed", "apart.apart": "changed", **LEFT}
    assert sorted(path.name for path in local_host.folder.iterdir()) == ["apart", "plugin"]
    (later,) = engine_pending.pending(run).later
    assert (later.restart, later.hosts) == (RESTART, ("one",))


def test_a_plan_says_the_same(local_host: LocalHost) -> None:
    """It shows what would be done now and what would be left, and changes nothing."""
    _, seen = prepared(local_host, plan=True)
    assert outcomes(seen) == {"files.plugin": "would change", "apart.apart": "would change", **LEFT}
    assert list(local_host.folder.iterdir()) == []


def test_the_second_time_nothing_remains_but_the_window(local_host: LocalHost) -> None:
    """What is left counts neither as a change nor as something to confirm, so that the run asks nothing."""
    prepared(local_host)
    run, seen = a_run(local_host, *stages(local_host))
    run.prepare = True
    state.first_looks(run)
    pending = engine_pending.pending(run)
    assert (pending.changes, pending.restarts, pending.things) == (frozenset(), (), frozenset())
    apply.install(run)
    assert outcomes(seen) == {"files.plugin": "ok", "apart.apart": "ok", **LEFT}


def test_the_install_afterwards_does_the_rest(local_host: LocalHost) -> None:
    """Only what was left is changed."""
    prepared(local_host)
    run, seen = a_run(local_host, *stages(local_host))
    state.first_looks(run)
    assert engine_pending.pending(run).changes == {"service", "proof"}
    apply.install(run)
    assert outcomes(seen) == {"files.plugin": "ok", "apart.apart": "ok", **dict.fromkeys(LEFT, "changed")}


@pytest.mark.parametrize("prepare", [True, False])
def test_a_guard_of_the_window_is_only_noted(local_host: LocalHost, prepare: bool) -> None:
    """A running job stops the install, and not the preparation, which says so."""
    finding = Finding("busy", "a job is running", "wait")
    guard = Check("jobs", "master", lambda ctx: Constant(None), lambda ctx, have: [finding], window=True)
    first = Stage("first", (), (guard,))
    run, seen = a_run(local_host, first)
    run.prepare = prepare
    state.first_looks(run)
    assert engine_plan.findings(run, first) is prepare
    (done,) = [event for event in seen if isinstance(event, Done)]
    assert (done.outcome, "would stop the change window now: busy" in done.note) == (
        "ok" if prepare else "refused",
        prepare,
    )


@pytest.mark.parametrize(("text", "restarts"), [("old", True), ("new", False)])
def test_a_restart_that_an_earlier_step_makes_necessary_is_known(
    local_host: LocalHost, text: str, restarts: bool
) -> None:
    """A service that reads a file at its start restarts if an earlier step of the run will write that file."""
    (local_host.folder / "conf").write_text(text)
    (local_host.folder / "daemon").write_text("new")
    daemon = replace(
        a_file(local_host, "daemon", "new"), restarts=lambda ctx, have, want: replace(RESTART, after="files.conf")
    )
    run, _ = a_run(
        local_host, Stage("files", (), (a_file(local_host, "conf", "new"),)), Stage("service", ("files",), (daemon,))
    )
    state.first_looks(run)
    assert [(one.restart, one.hosts, one.sure) for one in engine_pending.pending(run).restarts] == (
        [(RESTART, ("one",), True)] if restarts else []
    )


def test_steps_of_one_stage_share_a_restart(local_host: LocalHost) -> None:
    """A stage restarts a service once on each host; two stages do it twice."""
    steps = tuple(in_window(a_file(local_host, name, "new")) for name in ("conf", "daemon", "mount"))
    run, _ = a_run(local_host, Stage("mount", (), steps[2:]), Stage("service", ("mount",), steps[:2]))
    state.first_looks(run)
    (restarting,) = engine_pending.pending(run).restarts
    assert (restarting.hosts, restarting.times) == (("one",), 2)
