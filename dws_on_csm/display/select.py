"""Select the displays of a run: a live screen on a terminal, plain lines elsewhere, and JSON lines on request."""

from __future__ import annotations

import codecs
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TextIO

from dws_on_csm.display import plain
from dws_on_csm.display.console import writer
from dws_on_csm.display.progress import Progress, take
from dws_on_csm.display.style import text
from dws_on_csm.model import event_json
from dws_on_csm.model.events import Event, Summary


@dataclass(frozen=True)
class Display:
    """Shows a run: called with each event, from any thread. `paused()` frees the terminal for a question."""

    show: Callable[[Event], None]
    paused: Callable[[], AbstractContextManager[None]] = nullcontext
    finish: Callable[[], None] = lambda: None
    """Restores the terminal and prints the final screen, for a process that exits at once."""

    def __call__(self, event: Event) -> None:
        """Show an event."""
        self.show(event)


def is_terminal(stream: TextIO) -> bool:
    """Whether `stream` is a terminal for a live screen: it can move its cursor and prints UTF-8."""
    unicode = codecs.lookup(stream.encoding or "ascii").name == "utf-8"
    return unicode and stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


@contextmanager
def consumer(
    task: str,
    *,
    json: bool = False,
    terminal: bool = False,
    diff: bool | None = None,
    verbose: bool = False,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> Iterator[Display]:
    """The display of a run of `task` while the `with` lasts.

    `json`: write JSON lines, and nothing else, to `out` (standard output); lines for people go to `err`. `terminal`: `out`
    is one (see `is_terminal`). `diff`: differences are shown whole; False: new files as
    their number of lines; None: whole, but on a terminal the first lines. `verbose`: lines, also on a terminal, with all that
    actions print. The run continues when a reader is gone.
    """
    out, err = out or sys.stdout, err or sys.stderr
    lock = threading.Lock()
    live = terminal and not json and not verbose
    with _human(task, live, diff, err if json else out, lock, verbose) as human:
        shows = [*([event_json.consumer(writer(out))] if json else []), human.show]

        def show(event: Event) -> None:
            with lock:
                for each in shows:
                    each(event)

        yield Display(show, human.paused, human.finish)


@contextmanager
def _human(
    task: str, terminal: bool, diff: bool | None, stream: TextIO, lock: threading.Lock, verbose: bool
) -> Iterator[Display]:
    if terminal:
        from dws_on_csm.display.live import screen_on  # late: rich is not needed elsewhere

        with screen_on(stream, task, diff) as screen:
            yield Display(screen.show, screen.paused, screen.finish)
    elif task == "plan":
        yield Display(_plan(writer(stream), diff is not False))
    else:
        lines = plain.consumer(writer(stream), whole=diff is not False, output=verbose)
        with _ticking(lines.tick, lock):
            yield Display(lines.show)


@contextmanager
def _ticking(tick: Callable[[], None], lock: threading.Lock) -> Iterator[None]:
    """Call `tick` every second, under the lock, while the `with` lasts."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(1.0):
            with lock:
                tick()

    thread = threading.Thread(target=work, name="plain lines", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _plan(write: Callable[[str], None], diff: bool) -> Callable[[Event], None]:
    """Show only a plan's differences, so that two plans can be compared."""
    progress = Progress()

    def consume(event: Event) -> None:
        from dws_on_csm.display import final

        take(progress, event, 0.0)
        if isinstance(event, Summary):
            write("".join(text(row) + "\n" for row in final.rows(progress, whole=diff)))

    return consume
