"""Confirmation before a run removes anything, and that nothing else is removed: the real sh, the real lock."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.display import console
from dws_on_csm.display.select import Display
from dws_on_csm.engine.reach import Reach
from dws_on_csm.engine.site_lock import hold
from dws_on_csm.engine.state import Run
from dws_on_csm.model.actions import RunScript
from dws_on_csm.model.events import Done, Event
from dws_on_csm.model.step import Removal, Restart, ShellLook, Stage, Step, StepContext, Value
from dws_on_csm.runner.confirmation import NOT_CONFIRMED, NOT_RESTARTED, confirmed_by_yes
from dws_on_csm.runner.journal import identifier
from dws_on_csm.runner.options import Options
from dws_on_csm.runner.run import work
from tests.unit.conftest import LocalHost

pytestmark = pytest.mark.slow


def taking(name: str = "x") -> Step:
    """A step that removes what the file `list` names; each entry is words=thing."""

    def takes(place: StepContext, have: Value, want: Value) -> Sequence[Removal]:
        return [Removal(one.partition("=")[0], frozenset({one})) for one in have]

    return Step(
        name,
        "master",
        lambda place: ShellLook("cat list", lambda out: out.decode().split()),
        lambda place: [],
        lambda place, have, want: [RunScript("take them away", f"echo {' '.join(have)} >>gone; : >list")],
        removes=takes,
    )


@pytest.fixture
def terminal(local_host: LocalHost, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Makes a terminal with these answers; each may do something first. Returns the lines shown there."""
    told: list[str] = []
    monkeypatch.setattr(console, "note", lambda *lines: told.extend(map(str, lines)))

    def of(*answers: Callable[[], str]) -> list[str]:
        left = list(answers)
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr(console, "ask", lambda question: left.pop(0)())
        return told

    return of


def worked(host: LocalHost, *stages: Stage, yes: bool = False) -> tuple[str, list[Done]]:
    seen: list[Event] = []
    reach = Reach(lambda name: host, lambda: None, lambda role: "one")
    hosts: dict[str, tuple[str, ...]] = {"master": ("one",), "submitter": ()}
    run = Run(identifier(time.time()), load(DEFAULT), stages, reach, seen.append, hosts, yes=yes)
    with ExitStack() as holding:
        refused = work(run, Options(yes=yes), Display(seen.append), (), holding)
    return refused, [event for event in seen if isinstance(event, Done)]


def other_run(host: LocalHost, text: str) -> Callable[[], str]:
    """An answer yes, after another run has changed the list."""

    def answer() -> str:
        with hold(host, identifier(time.time())):
            (host.folder / "list").write_text(text)
        return "y"

    return answer


STAGES = (Stage("first", (), ()), Stage("second", ("first",), (taking(),)))


@pytest.mark.parametrize(("last", "gone"), [("y", ["b=2", "a=7"]), ("n", [])])
def test_what_came_while_somebody_was_asked_is_asked_as_well(
    local_host: LocalHost, terminal: Callable[..., list[str]], last: str, gone: list[str]
) -> None:
    """With the lock it is read again: another thing under a confirmed name is new, and needs confirmation."""
    (local_host.folder / "list").write_text("a=1 b=2")
    told = terminal(other_run(local_host, "b=2 a=7"), lambda: last)
    refused, _ = worked(local_host, *STAGES)
    assert told == ["This run will remove:", "  a", "  b", "This run will also remove:", "  a"]
    assert refused == ("" if gone else NOT_CONFIRMED)
    assert _gone(local_host.folder) == gone


def test_who_is_asked_hears_what_else_a_change_means(local_host: LocalHost, terminal: Callable[..., list[str]]) -> None:
    """Side effects of a change, such as starting a stopped service, are shown with the question."""
    (local_host.folder / "list").write_text("a=1")
    step = replace(taking(), side_effect=lambda place, have, want: "something starts")
    told = terminal(lambda: "n")
    worked(local_host, Stage("first", (), ()), Stage("second", ("first",), (step,)))
    effects = ["Other effects on these hosts:", "  one: something starts"]
    assert told == ["This run will remove:", "  a", *effects]


def test_removals_that_vanished_are_not_asked_about_again(
    local_host: LocalHost, terminal: Callable[..., list[str]]
) -> None:
    """Fewer removals than confirmed need no other question."""
    (local_host.folder / "list").write_text("a=1 b=2")
    told = terminal(other_run(local_host, "b=2"))
    assert worked(local_host, *STAGES)[0] == ""
    assert told == ["This run will remove:", "  a", "  b"] and _gone(local_host.folder) == ["b=2"]


def test_late_removals_that_nobody_can_confirm_are_refused(
    local_host: LocalHost, terminal: Callable[..., list[str]]
) -> None:
    """Stages are running by then: the step names what is new, and removes nothing."""
    (local_host.folder / "list").write_text("a=1")
    make = RunScript("somebody is at work beside this run", "echo a=7 >list; : >ready")
    ready = Step(
        "ready",
        "master",
        lambda place: ShellLook("[ -e ready ] && echo yes || echo no", lambda out: out.decode().strip()),
        lambda place: "yes",
        lambda place, have, want: [make],
    )
    terminal(lambda: "y")
    _, done = worked(
        local_host, Stage("zero", (), ()), Stage("first", (), (ready,)), Stage("second", ("first",), (taking(),))
    )
    assert [(one.step, one.outcome) for one in done] == [("ready", "changed"), ("x", "refused")]
    (failure,) = done[-1].failures
    assert failure.command == "not-agreed" and "a=7" in failure.meaning
    assert _gone(local_host.folder) == []


def test_yes_agrees_to_all_that_it_covers(local_host: LocalHost, terminal: Callable[..., list[str]]) -> None:
    """There is no question."""
    (local_host.folder / "list").write_text("a=1 b=2")
    assert worked(local_host, *STAGES, yes=True)[0] == ""
    assert _gone(local_host.folder) == ["a=1", "b=2"]


def test_without_a_terminal_and_without_yes_nothing_goes(
    local_host: LocalHost, terminal: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run shows what it would remove, and does not take the lock."""
    (local_host.folder / "list").write_text("a=1")
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert worked(local_host, *STAGES)[0] == NOT_CONFIRMED
    assert _gone(local_host.folder) == [] and not (local_host.folder / "state").exists()


def _gone(folder: Path) -> list[str]:
    file = folder / "gone"
    return file.read_text().split() if file.exists() else []


@pytest.mark.parametrize(
    ("typed", "yes", "tty", "without_asking"),
    [
        ("3", True, True, False),
        (" 3 ", True, True, False),
        ("3", True, False, True),
        ("3:0a1b2c3d", True, True, True),
        ("a,b,c", True, True, True),
        ("", True, True, True),
        ("", False, True, False),
        ("a", False, True, False),
    ],
)
def test_a_number_alone_is_asked_about_where_somebody_can_answer(
    monkeypatch: pytest.MonkeyPatch, typed: str, yes: bool, tty: bool, without_asking: bool
) -> None:
    """A number alone may count other storage than a person has seen; a printed number and names do not."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: tty, raising=False)
    assert confirmed_by_yes(typed, Options(yes=yes)) is without_asking


# --- restarts


def restarting(host: LocalHost) -> Stage:
    """A stage that restarts a service, which says so by a file."""
    restart = Restart("slurmctld", "about 2 s", "Jobs: 1 running job continues.")
    step = Step(
        "daemon",
        "master",
        lambda place: ShellLook("[ -e restarted ] && echo yes || echo no", lambda out: out.decode().strip()),
        lambda place: "yes",
        lambda place, have, want: [RunScript("restart it", ": >restarted")],
        restarts=lambda place, have, want: restart if have != want else None,
        side_effect=lambda place, have, want: "restarts it",
    )
    return Stage("daemon", ("first",), (step,))


TOLD = ["This run will restart:", "  slurmctld on one: about 2 s", "Jobs: 1 running job continues."]


@pytest.mark.parametrize("answer", ["y", "n"])
def test_a_restart_is_asked_about_once(local_host: LocalHost, terminal: Callable[..., list[str]], answer: str) -> None:
    """On a terminal, before anything is changed: with what it means for the jobs. A no changes nothing."""
    told = terminal(lambda: answer)
    refused, done = worked(local_host, Stage("first", (), ()), restarting(local_host))
    assert told == TOLD
    assert refused == ("" if answer == "y" else NOT_RESTARTED)
    assert (local_host.folder / "restarted").exists() is (answer == "y")
    assert [event.outcome for event in done] == (["changed"] if answer == "y" else [])


def test_removals_and_restarts_are_one_question(local_host: LocalHost, terminal: Callable[..., list[str]]) -> None:
    """Both are shown before the one answer."""
    (local_host.folder / "list").write_text("a=1")
    told = terminal(lambda: "y")
    assert worked(local_host, *STAGES, restarting(local_host))[0] == ""
    assert told == ["This run will remove:", "  a", *TOLD]
    assert _gone(local_host.folder) == ["a=1"] and (local_host.folder / "restarted").exists()


def test_without_a_terminal_a_restart_is_announced_once(
    local_host: LocalHost, terminal: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost by it, so that a run from cron needs no --yes."""
    told = terminal()
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert worked(local_host, Stage("first", (), ()), restarting(local_host))[0] == ""
    assert told == TOLD and (local_host.folder / "restarted").exists()


def test_yes_covers_restarts(local_host: LocalHost, terminal: Callable[..., list[str]]) -> None:
    """There is no question."""
    told = terminal()
    assert worked(local_host, Stage("first", (), ()), restarting(local_host), yes=True)[0] == ""
    assert told == [] and (local_host.folder / "restarted").exists()


def test_a_run_that_restarts_nothing_asks_nothing(local_host: LocalHost, terminal: Callable[..., list[str]]) -> None:
    """A service that is right already is not mentioned."""
    (local_host.folder / "restarted").touch()
    told = terminal()
    assert worked(local_host, Stage("first", (), ()), restarting(local_host))[0] == ""
    assert told == []
