"""The live screen on a terminal, redrawn while a run lasts, and the final screen that stays."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.text import Text

from dws_on_csm.display import final, screen
from dws_on_csm.display.console import drawn_on, styled
from dws_on_csm.display.progress import Progress, take
from dws_on_csm.display.style import Row
from dws_on_csm.model.events import Event

RATE = 8
"""Frames per second."""

LONGEST = 60
"""How many lines of a difference a plan shows on a terminal without --diff; elsewhere it shows all."""


class _Frame:
    """The current progress in the size of the terminal, as `Live` asks for it at each frame."""

    def __init__(self, progress: Progress, lock: threading.Lock) -> None:
        self.progress, self.lock = progress, lock

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        with self.lock:
            rows = screen.frame(self.progress, options.size.width, options.size.height - 1, time.time())
        yield Group(*(styled(row, no_wrap=True, overflow="ellipsis") for row in rows))


class Screen:
    """A live screen on `stream`; `show` takes events from any thread."""

    def __init__(self, stream: TextIO, task: str, diff: bool | None = None) -> None:
        self.progress, self.diff = Progress(task=task), diff
        self._lock = threading.Lock()
        self.console = drawn_on(stream, force_terminal=True)
        self._frame = _Frame(self.progress, self._lock)
        self._live = self._new()

    def _new(self) -> Live:
        return Live(self._frame, console=self.console, refresh_per_second=RATE, transient=True)

    def start(self) -> None:
        """Begin to draw."""
        self._live.start()

    def stop(self) -> None:
        """Stop drawing, and erase what was drawn."""
        self._live.stop()

    def show(self, event: Event) -> None:
        """Add an event; the next frame shows it."""
        with self._lock:
            take(self.progress, event, time.time())

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Free the terminal for a question; the current state stays above it."""
        self._live.transient = False
        self._live.stop()
        try:
            yield
        finally:
            self._live = self._new()  # the former one would erase as many lines as it had drawn: the question
            self._live.start(refresh=True)

    def finish(self) -> None:
        """Stop drawing, and print the final screen."""
        self.stop()
        self.last()

    def last(self) -> None:
        """Print the final screen."""
        with self._lock:
            rows = final.rows(self.progress, 0 if self.diff else LONGEST, self.diff is not False)
        for row in rows:
            for line in wrapped(row, self.console):
                self.console.print(line, soft_wrap=True)


@contextmanager
def screen_on(stream: TextIO, task: str, diff: bool | None = None) -> Iterator[Screen]:
    """A live screen while the `with` lasts, then the final screen, however the run ended. `diff`: see select."""
    shown = Screen(stream, task, diff)
    shown.start()
    try:
        yield shown
    finally:
        shown.finish()


def wrapped(row: Row, console: Console) -> list[Text]:
    """The row in as many lines as it needs; further lines are indented to the text of the first."""
    text = styled(row)
    indent = _indent(row) if cell_len(text.plain) > console.width else 0
    if not indent or indent > console.width // 2:
        return list(text.wrap(console, console.width)) or [text]
    head, rest = text.divide([indent])
    lines = rest.wrap(console, console.width - indent)
    return [head + lines[0], *(Text(" " * indent) + line for line in lines[1:])]


def _indent(row: Row) -> int:
    """The column where the row's text begins: after a label, or two characters after the leading blanks."""
    first = row[0][0]
    return len(first) if first.endswith(" ") else len(first) - len(first.lstrip()) + 2
