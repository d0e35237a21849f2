"""`invoke logs`: what the plugin said on every controller and what DWS's pods said, on one clock and in one order."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator

from fabfile.inventory import Site
from fabfile.logs_entries import Entry, about, since
from fabfile.logs_merge import coming, past, sources
from fabfile.paint import painter
from fabfile.run import CONVERGED, FAILED, SITE_FILE
from fabfile.theme import Row
from fabfile.visible import output


def logs(site: Site, job: str | None, back: str, follow: bool) -> int:
    """Print the entries since `back` ("10m"), those about `job` alone if one is given; with `follow` those that come too."""
    try:
        began = since(back, time.time())
    except ValueError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return SITE_FILE
    show = _shower(job)
    with sources(site, began, follow) as found:
        try:
            for entry in past(found):
                show(entry)
            if follow:
                for entry in coming(found):
                    show(entry)
        except KeyboardInterrupt:
            if not follow:
                raise
    return FAILED if found.missing else CONVERGED


# --- for people

_COLOURS = ("cyan", "magenta", "blue", "green", "yellow")


def _shower(job: str | None) -> Callable[[Entry], None]:
    """Prints entries, those about `job` alone if one is given, with the date where it changes."""
    paint, wanted = painter(), about(job) if job else None
    day, colours = [""], dict[str, str]()

    def show(entry: Entry) -> None:
        if wanted and not wanted.search(entry.text):
            return
        date = time.strftime("%A, %Y-%m-%d (%z)", time.localtime(entry.at))
        if date != day[0]:
            day[0] = date
            paint([(date, "bold")])
        colour = colours.setdefault(entry.source, _COLOURS[len(colours) % len(_COLOURS)])
        for row in _rows(entry, colour):
            paint(row)

    return show


def _rows(entry: Entry, colour: str) -> Iterator[Row]:
    stamp = time.strftime("%H:%M:%S", time.localtime(entry.at)) + f".{int(entry.at * 1000) % 1000:03}"
    first, *more = (output(line) for line in entry.text.rstrip("\n").split("\n"))
    wrong = "bold red" if "error" in first.lower() else ""
    yield [(f"{stamp}  {entry.source}  ", colour), (first, wrong)]
    yield from ([(f"{'':14}", ""), (line, "dim")] for line in more)
