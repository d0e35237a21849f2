"""The display on a terminal: a screen that is drawn again and again while a run lasts, and a last one that stays."""

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
"""Frames a second."""

LONGEST = 60
"""Lines of a difference that a plan shows on a terminal; all of them elsewhere."""


class _Frame:
    """What `Live` asks for at each frame: the progress as it stands, in the terminal's size."""

    def __init__(self, progress: Progress, lock: threading.Lock) -> None:
        self.progress, self.lock = progress, lock

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        with self.lock:
            rows = screen.frame(self.progress, options.size.width, options.size.height - 1, time.time())
        yield Group(*(styled(row, no_wrap=True, overflow="ellipsis") for row in rows))


class Screen:
    """A live display on `stream`; `show` takes events from any thread."""

    def __init__(self, stream: TextIO, task: str) -> None:
        self.progress = Progress(task=task)
        self._lock = threading.Lock()
        self.console = drawn_on(stream, force_terminal=True)
        frame = _Frame(self.progress, self._lock)
        self.live = Live(frame, console=self.console, refresh_per_second=RATE, transient=True)

    def show(self, event: Event) -> None:
        """Takes an event; it is seen with the next frame."""
        with self._lock:
            take(self.progress, event, time.time())

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the terminal to somebody else, for a question; where the run stands stays above it."""
        self.live.transient = False
        self.live.stop()
        try:
            yield
        finally:
            self.live.transient = True
            self.live.start(refresh=True)

    def leave(self) -> None:
        """Draws nothing more, and prints the screen that stays."""
        self.live.stop()
        self.last()

    def last(self) -> None:
        """Prints the screen that stays."""
        with self._lock:
            rows = final.rows(self.progress, LONGEST)
        for row in rows:
            for line in wrapped(row, self.console):
                self.console.print(line, soft_wrap=True)


@contextmanager
def screen_on(stream: TextIO, task: str) -> Iterator[Screen]:
    """A live display while the `with` lasts, and the last screen after it, however the run ended."""
    shown = Screen(stream, task)
    try:
        with shown.live:
            yield shown
    finally:
        shown.last()


def wrapped(row: Row, console: Console) -> list[Text]:
    """The row in as many lines as it takes; the second and further ones begin under the first one's text."""
    text = styled(row)
    indent = _indent(row) if cell_len(text.plain) > console.width else 0
    if not indent or indent > console.width // 2:
        return list(text.wrap(console, console.width)) or [text]
    head, rest = text.divide([indent])
    lines = rest.wrap(console, console.width - indent)
    return [head + lines[0], *(Text(" " * indent) + line for line in lines[1:])]


def _indent(row: Row) -> int:
    """Where the row's own text begins: after a label, or two characters after its blanks."""
    first = row[0][0]
    return len(first) if first.endswith(" ") else len(first) - len(first.lstrip()) + 2
