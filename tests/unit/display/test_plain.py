"""The plain display: one line an event of interest."""

from __future__ import annotations

import io
import os
import re
import threading
from dataclasses import replace

import pytest

from dws_on_csm.display import plain, select
from dws_on_csm.model.events import Awaiting, Began, Done, Event, Failure, Line, Opened, Stopping, Summary
from tests.unit.sample_run import FAILURE, RUNS, START, events

pytestmark = pytest.mark.slow


def told(happened: list[Event]) -> list[str]:
    """The lines that these events make; a second goes by with each event."""
    lines: list[str] = []
    clock = iter(range(10**6))
    ticks = {"now": START}

    def now() -> float:
        return ticks["now"]

    consume = plain.consumer(lambda text: lines.extend(text.splitlines()), now).show
    for event in happened:
        ticks["now"] = START + next(clock)
        consume(event)
    return lines


def opened() -> Opened:
    return Opened("r", "install", {"master": ("m1",), "nodes": ("n1", "n2")}, {"a": (), "b": ("a",)}, START)


def test_line() -> None:
    """A line has the time, the seconds so far, stage, host, step, and how it went."""
    lines = told([opened(), Done("m1", "a", "clone", "changed", START, 19.2, ("+ tag: v1",))])
    assert re.fullmatch(r"\d\d:\d\d:\d\d +\+1\.0s  a  m1  clone: changed \(19\.2s\)", lines[1])
    assert lines[2] == "    + tag: v1"


def test_a_run_that_stops_says_so() -> None:
    """A line says that a signal was heard, and what a second one does."""
    lines = told([opened(), Stopping(START)])
    assert lines[1].endswith("stopping: what runs on the hosts is ended; a second signal leaves at once")


def test_right_already() -> None:
    """What was right already takes one line a stage, told once a stage that needs it begins."""
    rights: list[Event] = [Done(h, "a", s, "ok", START, 0.0) for h in ("n1", "n2") for s in ("x", "y")]
    lines = told([opened(), *rights, Began("n1", "b", "z", "put /z", START)])
    assert [line.split("  ")[-2:] for line in lines[1:]] == [["n[1-2]", "4 ok"], ["n1", "z: put /z"]]


def test_skipped() -> None:
    """Steps that were skipped for the same reason share a line with all their hosts, and nothing is lost at the end."""
    lines = told(events("failed"))
    (line,) = [line for line in lines if "activation: skipped" in line]
    assert "slurmctl[1-2]" in line
    assert "needs deploy" in line


def test_a_failure_says_at_once_what_it_means() -> None:
    """The line of the step that failed has the meaning: the rest of the run may take minutes."""
    (line,) = [line for line in told(events("failed")) if "manifests: failed" in line]
    assert line.endswith(f"manifests: failed (2.6s): {FAILURE.meaning}")


def test_the_skipped_steps_of_a_stage_share_a_line() -> None:
    """Steps that were skipped for one reason are in one line, with the first names and the number of the others."""
    steps = ("conf", "daemon", "activation", "lua", "kubeconfig")
    skipped: list[Event] = [Done(h, "b", s, "skipped", START, 0.0, (), "needs a") for h in ("n1", "n2") for s in steps]
    lines = told([opened(), *skipped, Done("n2", "b", "z", "skipped", START, 0.0, (), "another"), ended()])
    assert [line.split("  ")[-2:] for line in lines if "skipped: " in line] == [
        ["n2", "z: skipped: another"],
        ["n[1-2]", "conf, daemon, activation and 2 more steps: skipped: needs a"],
    ]


def ended() -> Summary:
    return Summary("r", 1, {"skipped": 11}, 2, 2, 2, 5.0)


def test_what_runs_has_a_line_every_half_minute() -> None:
    """A log without a new line for minutes looks like a run that hangs; one that has ended says nothing more."""
    lines: list[str] = []
    now = {"is": START}
    shown = plain.consumer(lambda text: lines.extend(text.splitlines()), lambda: now["is"])
    for event in (
        opened(),
        Began("n1", "a", "pull", "podman pull x", START),
        Awaiting("n2", "a", "pods", "0 of 3", 90),
    ):
        shown.show(event)
    before = len(lines)
    for second in range(1, 91):
        now["is"] = START + second
        shown.tick()
    assert [line.split("  ")[-1] for line in lines[before:]] == [
        f"pull: podman pull x (for {time} so far); and 1 more running" for time in ("30.0s", "1m00s", "1m30s")
    ]
    shown.show(Done("n1", "a", "pull", "ok", START, 90.0))
    shown.show(ended())
    before, now["is"] = len(lines), START + 500
    shown.tick()
    assert len(lines) == before


def test_the_display_of_a_run_watches_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs is reported while no event comes, by the display itself."""
    monkeypatch.setattr(plain, "PATIENCE", 0.0)
    ticked = threading.Event()
    out = io.StringIO()

    def written(text: str) -> None:
        if "so far)" in text:
            ticked.set()

    monkeypatch.setattr(out, "write", written)
    with select.consumer("install", out=out) as show:
        show(opened())
        show(Began("n1", "a", "pull", "podman pull x", START))
        assert ticked.wait(30)


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("verbose", [True, False])
def test_what_actions_print_is_shown_on_request(verbose: bool, terminal: bool) -> None:
    """With --verbose each line of an action's output is one of the run's lines, with its host and step, also on a terminal."""
    out = io.StringIO()
    with select.consumer("install", verbose=verbose, terminal=terminal, out=out) as show:
        show(opened())
        show(Began("m1", "a", "pull", "podman pull x", START))
        show(Line("m1", "a", "pull", "Copying blob \x1b[2Jsha256:1"))
        show(Done("m1", "a", "pull", "changed", START, 1.0))
        show(ended())
    lines = [line.split(maxsplit=4)[2:] for line in out.getvalue().splitlines() if "Copying" in line]
    assert lines == ([["a", "m1", "pull | Copying blob \\x1b[2Jsha256:1"]] if verbose else [])


NEW = ("+ mode: 644", "@ text", *(f"+ line {number}" for number in range(2000)))


@pytest.mark.parametrize("task", ["plan", "install"])
def test_a_new_file_is_its_size_unless_all_is_asked_for(task: str) -> None:
    """A first install has thousands of lines that are all new; what differs from something is always shown whole."""
    edited = (*NEW, "- one line that goes")
    for diff, change, count in ((False, NEW, 0), (True, NEW, 2000), (None, NEW, 2000), (False, edited, 2000)):
        out = io.StringIO()
        with select.consumer(task, diff=diff, out=out) as show:
            show(replace(opened(), task=task))
            show(Done("m1", "a", "lua", "changed" if task == "install" else "would change", START, 1.0, change))
            show(ended())
        shown = out.getvalue()
        assert shown.count("+ line ") == count
        assert ("+ … all new: 2000 lines, " in shown and " kB; --diff shows them" in shown) == (count == 0)


def test_awaiting() -> None:
    """What is awaited is told when its reason changes, with the time that is left, and not again and again."""
    waits: list[Event] = [Awaiting("m1", "a", "pods", why, 90.0) for why in ("0 of 3", "0 of 3", "1 of 3")]
    lines = told([opened(), *waits])
    assert [line.partition("waiting: ")[2] for line in lines[1:]] == [
        "0 of 3 (up to 1m30s more)",
        "1 of 3 (up to 1m30s more)",
    ]


def test_failure() -> None:
    """A failure shows host, step, command, exit code, last output, its meaning, the fix and how to go on: at the end, once."""
    lines = told(events("failed"))
    at = next(number for number, line in enumerate(lines) if "✗ ncn-m001: deploy.manifests failed" in line)
    assert not any("skipped: " in line or "changed (" in line for line in lines[at:])
    assert sum(FAILURE.fix in line for line in lines) == 1
    shown = "\n".join(lines[at:])
    wanted = ["ncn-m001: deploy.manifests failed", FAILURE.command, FAILURE.tail[1], FAILURE.meaning, FAILURE.fix]
    for piece in [*wanted, "exit code  2", "continue with: invoke install --hosts hosts.yaml"]:
        assert piece in shown


@pytest.mark.parametrize("evil", ["\x1b]0;owned\x07", "\x1b[2J", "\x9b2J", "a\nb", "\u202e"])
def test_hostile(evil: str) -> None:
    """Nothing that a host says can drive the terminal or forge a line."""
    failure = Failure(evil, 1, (evil,), evil, evil)
    done = Done("m1", "a", "s", "failed", START, 1.0, (), evil, (failure,))
    harmless = Done("m1", "a", "s", "failed", START, 1.0, (), "x", (Failure("x", 1, ("x",), "x", "x"),))
    events: list[Event] = [opened(), Began("m1", "a", "s", evil, START), Line("m1", "a", "s", evil)]
    lines = told([*events, Awaiting("m1", "a", "s", evil, 1), done])
    assert all(line.isprintable() for line in lines)
    if "\n" not in evil:
        assert len(lines) == 3 + len(told([opened(), harmless])) - 1


@pytest.mark.parametrize("name", RUNS)
def test_reader_goes_away(name: str) -> None:
    """A run goes on when the program that reads its lines ends."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as gone, select.consumer(name, out=gone) as show:
        for event in events(name):
            show(event)


def test_plan() -> None:
    """A plan has no time stamps: hosts with the same difference together, and that nothing was changed."""
    out = io.StringIO()
    with select.consumer("plan", out=out) as show:
        for event in events("plan"):
            show(event)
    shown = out.getvalue()
    assert "~ slurmctl[1-2]  activation" in shown
    assert "+ BurstBufferType=burst_buffer/lua" in shown
    assert "push  known after workarea" in shown
    assert "7 changes and 3 steps that earlier ones decide (unknown) on 3 hosts; nothing was changed." in shown
    assert "  7 would change, 3 unknown, 21 ok" in shown
    assert "(secret)" in shown


def plan_of_nothing(code: int) -> str:
    """What is shown of a plan without a change that ended with this code."""
    out = io.StringIO()
    with select.consumer("plan", out=out) as show:
        for event in events("again"):
            event = replace(event, exit=code) if isinstance(event, Summary) else event
            show(replace(event, task="plan") if isinstance(event, Opened) else event)
    return out.getvalue()


def test_a_plan_shows_what_a_check_says_although_it_is_ok() -> None:
    """What the site accepts, a TLS that is not verified: a plan is where people read it before they install."""
    assert "    ✓ slurmctl1  lua  accepted: lua-unseen (" in plan_of_nothing(0)


def test_a_plan_that_was_refused_does_not_say_that_there_is_nothing_to_do() -> None:
    """It has not seen what there is to do: only one that ended well may say so."""
    assert "Nothing to do; nothing was changed." in plan_of_nothing(0)
    assert "Nothing to do; nothing" not in plan_of_nothing(3)
    assert "Nothing was changed." in plan_of_nothing(3)


def test_a_plan_does_not_call_right_what_it_has_not_seen() -> None:
    """Where no host answered each stage is said not to have been looked at."""
    out = io.StringIO()
    with select.consumer("plan", out=out) as show:
        for event in events("plan"):
            if not isinstance(event, Done):
                show(event)
    assert "· deploy      not checked" in out.getvalue() and "✓" not in out.getvalue().partition("not checked")[2]
