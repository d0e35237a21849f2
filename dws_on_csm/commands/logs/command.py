"""`invoke logs`: what the plugin said on every controller and what DWS's pods said, on one clock and in one order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from dws_on_csm.commands.logs.entries import Entry, about, since
from dws_on_csm.commands.logs.merge import coming, past
from dws_on_csm.commands.logs.sources import sources
from dws_on_csm.config.site import Site
from dws_on_csm.display import console
from dws_on_csm.display.paint import painter
from dws_on_csm.display.style import Row
from dws_on_csm.model.printable import output
from dws_on_csm.redaction import redact
from dws_on_csm.runner.exit_codes import CONVERGED, FAILED, SITE_FILE


def logs(site: Site, job: str | None, back: str, follow: bool) -> int:
    """Print the entries since `back` ("10m"), those about `job` alone if one is given; with `follow` those that come too."""
    try:
        began, asked = _asked(site, job, back)
    except ValueError as error:
        console.note(error)
        return SITE_FILE
    show = _shower()
    with sources(site, began, follow) as found:
        try:
            if not sum(show(entry) for entry in filter(asked, past(found))):
                found.note(_silence(began, job, follow))
            for entry in filter(asked, coming(found) if follow else ()):
                show(entry)
        except KeyboardInterrupt:
            if not follow:
                raise
    return FAILED if found.missing else CONVERGED


def _asked(site: Site, job: str | None, back: str) -> tuple[float, Callable[[Entry], bool]]:
    """Since when, and whether an entry is asked for. ValueError says what can't be asked for."""
    if job and not job.isdigit():
        raise ValueError(
            f"{job!r} is no job's number; a task of an array has one of its own, as `squeue -o %A` shows it"
        )
    having = [host.name for host in (*site.controllers, site.master.host)]
    if not any(map(site.active, having)):
        raise ValueError(f"there are no such logs: the plugin's and DWS's are had from {', '.join(having)}")
    wanted = about(job) if job else None
    return since(back, time.time()), lambda entry: wanted is None or bool(wanted.search(entry.text))


def _silence(began: float, job: str | None, follow: bool) -> str:
    """That nothing is shown, and is no mistake, in words."""
    what = f" about job {job}" if job else ""
    then = "what comes is shown, until Ctrl-C" if follow else "--since goes further back"
    return f"nothing was said{what} since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(began))}; {then}"


# --- for people

_COLOURS = ("cyan", "magenta", "blue", "green", "yellow")


def _shower() -> Callable[[Entry], bool]:
    """Prints entries, with the date where it changes; True for each."""
    paint = painter()
    day, colours = [""], dict[str, str]()

    def show(entry: Entry) -> bool:
        date = time.strftime("%A, %Y-%m-%d (%z)", time.localtime(entry.at))
        if date != day[0]:
            day[0] = date
            paint([(date, "bold")])
        colour = colours.setdefault(entry.source, _COLOURS[len(colours) % len(_COLOURS)])
        for row in _rows(entry, colour):
            paint(row)
        return True

    return show


def _rows(entry: Entry, colour: str) -> Iterator[Row]:
    stamp = time.strftime("%H:%M:%S", time.localtime(entry.at)) + f".{int(entry.at * 1000) % 1000:03}"
    said = redact.text(entry.text.rstrip("\n"))  # as one text: a key has several lines
    first, *more = map(output, said.split("\n"))
    wrong = "bold red" if "error" in first.lower() else ""
    yield [(f"{stamp}  {entry.source}  ", colour), (first, wrong)]
    yield from ([(f"{'':14}", ""), (line, "dim")] for line in more)
