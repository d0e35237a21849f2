"""The display on a terminal, drawn at many sizes."""

from __future__ import annotations

import io
import re
import sys
from collections import deque
from collections.abc import Iterator
from types import FrameType

import pytest
from rich.console import Console

from dws_on_csm.display import final, live, screen, select
from dws_on_csm.display.progress import Progress, take
from dws_on_csm.display.style import text
from dws_on_csm.model.events import Awaiting, Began, Done, Line, Opened, Stopping, Summary
from tests.unit.sample_run import RUNS, START, events


def standing(name: str, *moments: float) -> Iterator[Progress]:
    """Where a sample run stands at these seconds after its begin, one after the other."""
    progress, events = Progress(), deque(RUNS[name]())
    for moment in moments:
        while events and events[0][0] <= moment:
            at, event = events.popleft()
            take(progress, event, START + at)
        yield progress


def shown(name: str, at: float, height: int = 24, width: int = 100) -> list[str]:
    """The rows of the screen at that second."""
    (progress,) = standing(name, at)
    return [text(row) for row in screen.frame(progress, width, height, START + at)]


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_fits(name: str) -> None:
    """However low the screen is, the rows fit in at every moment of a run."""
    moments = [half / 2 for half in range(60)]
    for at, progress in zip(moments, standing(name, *moments), strict=True):
        for height in (1, 2, 5, 8, 11, 12, 24, 50):
            assert 0 < len(screen.frame(progress, 100, height, START + at)) <= height, (at, height)


def test_what_runs() -> None:
    """A stage at work shows host, step, for how long, what runs there and its last line of output."""
    rows = shown("install", 9.0)
    (at,) = [i for i, row in enumerate(rows) if "manifests" in row]
    assert re.fullmatch(r" +ncn-m001  manifests +1\.8s  make deploy OVERLAY=csm", rows[at])
    assert rows[at + 1].strip() == "│ deployment.apps/object-6 created"


def test_a_run_that_stops_says_so() -> None:
    """After Ctrl-C the screen says at once that it was heard, and what a second one does."""
    (progress,) = standing("install", 9.0)
    before = text(screen.frame(progress, 100, 24, START + 9)[0])
    take(progress, Stopping(START + 9), START + 9)
    after = text(screen.frame(progress, 100, 24, START + 9)[0])
    assert after == f"{before}  stopping; Ctrl-C again leaves at once"


def test_awaited() -> None:
    """What is awaited stands there with its reason and the seconds that are left, counted down."""
    assert any("waiting (up to 118 s): 0 of 3 webhook pods: pulling the image" in row for row in shown("install", 12.0))
    assert any("waiting (up to 117 s): 0 of 3 webhook pods" in row for row in shown("install", 13.0))


def test_narrow() -> None:
    """A reason that is too long for its row goes on below, so that all of it can be read."""
    rows = shown("install", 13.0, width=60)
    (at,) = [i for i, row in enumerate(rows) if "waiting (up to 117 s):" in row]
    assert rows[at + 1].strip() == "0 of 3 webhook pods: pulling the image"
    assert max(map(len, rows)) <= 60


def test_through() -> None:
    """A stage that is through takes one row with its counts and its time; one to come names what it waits for."""
    rows = shown("install", 9.0)
    assert "± images     1 changed  3.3s" in rows
    assert "· slurm      after deploy" in rows


def test_failures_stay() -> None:
    """A failure is on the screen from when it happens on, with what it means, however many hosts are at work."""
    rows = shown("wide", 5.0, 14)
    assert any("nid000051  conf  failed  The disk is full." in row for row in rows)
    assert any(re.search(r"… and \d+ more running", row) for row in rows)


def test_low_screen() -> None:
    """On a low screen stages that are through share a row, and so do those to come; what runs is seen."""
    rows = shown("install", 9.0, 8)
    assert "± 5 changed, 24 ok  preflight, workarea, images, access, plugin".replace("5", "6") in rows
    assert "· slurm, verify" in rows
    assert any("make deploy" in row for row in rows)


def drawn(name: str, width: int, height: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """Everything that a run writes on a terminal of this size."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", str(height))
    out = io.StringIO()
    with select.consumer(name, terminal=True, out=out) as show:
        for event in events(name):
            show(event)
    return out.getvalue()


_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize(("width", "height"), [(20, 5), (80, 24), (160, 50)])
def test_last_screen(name: str, width: int, height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last screen stays, fits the width and says how the run ended."""
    lines = _ESCAPES.sub("", drawn(name, width, height, monkeypatch).replace("\r", "\n")).splitlines()
    assert max(map(len, lines)) <= width
    told = " ".join(" ".join(lines).split())
    summary = events(name)[-1]
    assert isinstance(summary, Summary)
    assert summary.message in told


def test_failure_on_last_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last screen has the failure with its command, what it means, the fix and how to go on."""
    last = _ESCAPES.sub("", drawn("failed", 160, 50, monkeypatch))
    for piece in ("exit code  2", "command    make deploy", "fix        Set overlay", "continue with  invoke install"):
        assert piece in last


def test_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    """With NO_COLOR nothing is coloured, and outcomes can still be told apart by word and sign."""
    assert re.search(r"\x1b\[[0-9;]*3[1-6]m", drawn("failed", 80, 24, monkeypatch))
    monkeypatch.setenv("NO_COLOR", "1")
    plain = drawn("failed", 80, 24, monkeypatch)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", plain)
    assert "✗ deploy      1 failed, 1 skipped" in _ESCAPES.sub("", plain)


def test_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A live display needs a terminal that can move its cursor and has the signs."""

    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    assert select.is_terminal(Terminal(io.BytesIO(), "utf-8"))
    assert not select.is_terminal(Terminal(io.BytesIO(), "ascii"))
    assert not select.is_terminal(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not select.is_terminal(Terminal(io.BytesIO(), "utf-8"))


@pytest.mark.parametrize("evil", ["\x1b[2J", "\x9b2J", "a\nb", "a\rb", "[red]markup[/]", ":smile:"])
def test_hostile(evil: str) -> None:
    """Nothing that a host says can drive the terminal, and nothing of it is taken for markup."""
    progress = Progress()
    take(progress, Opened("r", "install", {"m": ("m1",)}, {"a": ()}, START), START)
    take(progress, Began("m1", "a", "s", evil, START), START)
    for event in (Line("m1", "a", "s", evil), Awaiting("m1", "a", "t", evil, 1)):
        take(progress, event, START)
    rows = screen.frame(progress, 80, 24, START)
    assert all(text(row).isprintable() for row in rows)
    console = Console(file=io.StringIO(), width=80, markup=False, emoji=False)
    visible = "".join(line.plain for row in rows for line in live.wrapped(row, console))
    assert not evil.isprintable() or evil in visible


def test_cut() -> None:
    """A run that ends without a summary says what ran and that it can be run again."""
    rows = [text(row) for row in final.rows(next(standing("install", 9.0)))]
    assert "    running  ncn-m001  manifests  make deploy OVERLAY=csm" in rows
    assert "Run it again" in rows[-1]


def test_nothing_happened() -> None:
    """A run that was refused before it began leaves no screen."""
    out = io.StringIO()
    with select.consumer("install", terminal=True, out=out):
        pass
    assert not _ESCAPES.sub("", out.getvalue().rpartition("\x1b[?25h")[2]).strip()


def calls(hosts: int) -> int:
    """How many calls a frame of a run takes in which a step runs on each of `hosts` hosts."""
    progress = Progress()
    names = tuple(f"nid{i:06}" for i in range(hosts))
    take(progress, Opened("r", "install", {"computes": names}, {"a": ()}, START), START)
    for host in names:
        for number in range(10):
            take(progress, Done(host, "a", f"s{number}", "ok", START, 0.0), START)
        take(progress, Began(host, "a", "s", "title", START), START)
    counted = 0

    def count(_: FrameType, event: str, __: object) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        screen.frame(progress, 80, 50, START)
    finally:
        sys.setprofile(None)
    return counted


@pytest.mark.slow
def test_cheap() -> None:
    """A frame costs a few dozen calls a host, and nothing that grows faster: seconds would depend on the machine."""
    assert calls(1000) < min(40 * 1000, 12 * calls(100))


def test_a_question_stays_on_the_screen() -> None:
    """What somebody agreed to can be read afterwards: the next frame is drawn below it, and erases nothing above."""
    stream = io.StringIO()
    with live.screen_on(stream, "undeploy") as shown_:
        for at, event in RUNS["install"]():
            if at <= 9:
                shown_.show(event)
        with shown_.paused():
            stream.write("Continue? [y/N] y\n")
    after = stream.getvalue().partition("Continue? [y/N] y\n")[2]
    first_frame = after[: after.index("install")]
    assert not re.search(r"\x1b\[\d*[AFK]", first_frame), first_frame
