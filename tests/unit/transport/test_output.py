"""A script's output: bounded in memory, and read in linear time."""

from __future__ import annotations

import tracemalloc

import pytest

from dws_on_csm.transport import output
from dws_on_csm.transport.output import BEFORE, LIMIT, LONGEST, MOST, Lines, Stream, tail
from tests.unit.growth import assert_no_square


def fed(size: int, piece: int) -> None:
    """Feed a stream with `size` bytes before the mark, and as many after it, in pieces."""
    stream = Stream("token", "key", None)
    for _ in range(size // piece):
        stream.feed(b"x" * piece)
    stream.feed(b"\ntoken 1\n")
    for _ in range(size // piece):
        stream.feed(b"y" * piece)
        stream.line(b"ready ")
    assert stream.started and len(stream.content()) == size


def test_the_mark_is_sought_in_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight times as much before the mark, in small pieces, takes about eight times as long, and not 64 times."""
    monkeypatch.setattr(output, "BEFORE", 1 << 30)
    monkeypatch.setattr(Stream, "line", lambda self, head: None)
    assert_no_square(lambda size: fed(size, 20), 200_000)


@pytest.mark.parametrize("started", [False, True])
def test_memory_is_bounded(started: bool) -> None:
    """Only the bytes up to the limit are kept, and the rest is reported."""
    stream = Stream("token", "key", None)
    limit = LIMIT if started else BEFORE
    if started:
        stream.feed(b"token 1\n")
    tracemalloc.start()
    try:
        for _ in range(limit // 100_000 * 3 + 30):
            stream.feed(bytes(100_000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(stream.content() if started else stream.before) == limit
    assert peak < 3 * limit + 1_000_000
    assert "output cut after" in stream.flood and "16 MB" in stream.flood


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_mark_that_comes_in_pieces_is_found(cut: int) -> None:
    """The mark is found across pieces, also after text that looks like it."""
    stream = Stream("token", "key", None)
    for piece in (b"token\ntoken x token ", b"token 77\n"[:cut], b"token 77\n"[cut:], b"rest"):
        stream.feed(piece)
    assert stream.number == 77 and stream.content() == b"rest"


def test_lines_are_cut_and_counted() -> None:
    """A line without end is shown up to a limit, and so are many lines."""
    seen: list[str] = []
    lines = Lines(seen.append)
    for _ in range(10):
        lines.feed(b"x" * 100_000)
    assert 1 <= len(seen) <= 10 and {len(one) for one in seen} == {LONGEST}
    seen.clear()
    stream = Stream("token", "key", seen.append)
    stream.feed(b"token 1\n" + b"a\n" * (MOST + 1000))
    assert len(seen) == MOST and f"{MOST} lines" in stream.flood


def test_a_line_is_known_once_it_is_whole() -> None:
    """The awaited word counts at the beginning of a complete line."""
    stream = Stream("token", "key", None)
    stream.feed(b"token 1\nnot ready 1\n")
    assert stream.line(b"ready ") is None
    stream.feed(b"ready at las")
    assert stream.line(b"ready ") is None
    stream.feed(b"t\nready again\n")
    assert stream.line(b"ready ") == b"at last"
    first = Stream("token", "key", None)
    first.feed(b"token 1\nready now\n")
    assert first.line(b"ready ") == b"now"


def test_the_last_lines_of_much() -> None:
    """The last lines are found without reading the whole output."""
    assert tail(b"x" * 5_000_000 + b"\nlast\n", lines=1) == ("last",)


@pytest.mark.parametrize("cut", range(1, 12))
def test_what_comes_behind_the_end_is_dropped(cut: int) -> None:
    """The output ends with the mark, in pieces or whole, also where it looks like one before; the exit code is the mark's."""
    stream = Stream("token", "key", None)
    end = b"key ends 7\nbye\n"
    for piece in (b"token 1\n", b"ke key ends x ke", end[:cut], end[cut:], b"key ends 9\n"):
        stream.feed(piece)
    stream.end()
    assert (stream.content(), stream.ended) == (b"ke key ends x ke", 7)


def test_what_everybody_on_the_host_can_read_ends_no_output() -> None:
    """The token is in argv there: a text of somebody else's with it is a part of the output."""
    stream = Stream("token", "key", None)
    stream.feed(b"token 1\ntoken ends 0\ntoken 5\nrest\nkey ends 3\n")
    assert (stream.content(), stream.ended, stream.number) == (b"token ends 0\ntoken 5\nrest\n", 3, 1)


def test_how_far_a_command_comes_is_known() -> None:
    """The login shell's mark has its path; what follows are the words of what comes next, without the marks."""
    stream = Stream("token", "key", None)
    stream.feed(b"welcome\ntoken login /bin/zsh\nsudo says token asks me: this\n")
    assert (stream.reached, stream.shell, stream.words()) == ("login", "/bin/zsh", b"sudo says  this\n")
    stream.feed(b"token rights\n")
    assert (stream.reached, stream.words()) == ("rights", b"")
