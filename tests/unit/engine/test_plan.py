"""A plan names each cause once, however many steps it keeps from being known."""

from __future__ import annotations

from dataclasses import replace

from dws_on_csm.engine import plan as engine_plan
from dws_on_csm.engine import state
from dws_on_csm.model.events import Done, Event
from dws_on_csm.model.step import Check, Constant, Finding, ShellLook, Stage, Step
from tests.unit.conftest import LocalHost
from tests.unit.engine.test_apply import a_file, a_run, outcomes

ROOT = Finding("not-root", "the login is not root", "use root", explains_others=True)
OTHER = Finding("disk-full", "no space", "make room")


def planned(host: LocalHost, *stages: Stage) -> list[Event]:
    run, seen = a_run(host, *stages)
    state.first_looks(run)
    engine_plan.plan(run)
    return seen


def failing(host: LocalHost, name: str, words: str) -> Step:
    """A step whose look ends with these words."""
    return replace(a_file(host, name, "new"), look=lambda ctx: ShellLook(f"echo '{words}' >&2; exit 1", bytes.decode))


def finding(name: str, *findings: Finding) -> Check:
    """A check with these findings."""
    return Check(name, "master", lambda ctx: Constant(None), lambda ctx, have: findings)


def test_a_cause_for_which_many_steps_are_unknown_is_reported_once(local_host: LocalHost) -> None:
    """The steps that it also concerns are skipped, and say so; another cause is another failure."""
    first = failing(local_host, "first", "permission denied")
    second, other = failing(local_host, "second", "permission denied"), failing(local_host, "other", "no such file")
    seen = planned(local_host, Stage("files", (), (first, second)), Stage("more", (), (other,)))
    assert outcomes(seen) == {"files.first": "failed", "files.second": "skipped", "more.other": "failed"}
    (skipped,) = [event for event in seen if isinstance(event, Done) and event.outcome == "skipped"]
    assert skipped.note == engine_plan.SAME


def test_nothing_else_is_said_of_a_host_where_all_may_follow_from_one_finding(local_host: LocalHost) -> None:
    """Neither checks nor steps add failures that would be gone with it; without it, each is said."""
    file = a_file(local_host, "file", "new")
    for first, expected in ((ROOT, ("skipped", "skipped")), (OTHER, ("refused", "would change"))):
        checks = Stage("checks", (), (finding("login", first), finding("room", OTHER)))
        seen = planned(local_host, checks, Stage("files", (), (file,)))
        assert outcomes(seen) == {"checks.login": "refused", "checks.room": expected[0], "files.file": expected[1]}
