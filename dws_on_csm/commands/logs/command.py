"""`invoke logs`: the plugin's log entries of every controller and those of DWS's pods, merged by time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from dws_on_csm.commands.logs.entries import Entry, job_pattern, start_time
from dws_on_csm.commands.logs.merge import new_entries, past
from dws_on_csm.commands.logs.sources import sources
from dws_on_csm.config.site import Site
from dws_on_csm.display import console
from dws_on_csm.display.paint import painter
from dws_on_csm.display.style import Row
from dws_on_csm.model.printable import plain_line
from dws_on_csm.redaction import redact
from dws_on_csm.runner.exit_codes import CONVERGED, FAILED, USAGE


def logs(site: Site, job: str | None, back: str, follow: bool) -> int:
    """Print the entries since `back` ("10m"), of `job` alone if one is given; with `follow` also the new ones. The exit code."""
    try:
        since, wanted = _request(site, job, back)
    except ValueError as error:
        console.note(error)
        return USAGE
    show = _shower()
    with sources(site, since, follow) as opened:
        try:
            if not sum(show(entry) for entry in filter(wanted, past(opened))):
                opened.note(_nothing_found(since, job, follow))
            for entry in filter(wanted, new_entries(opened) if follow else ()):
                show(entry)
        except KeyboardInterrupt:
            if not follow:
                raise
    return FAILED if opened.missing else CONVERGED


def _request(site: Site, job: str | None, back: str) -> tuple[float, Callable[[Entry], bool]]:
    """The time to start from, and whether an entry is wanted. ValueError says what is wrong with the options."""
    if job and not job.isdigit():
        raise ValueError(
            f"--job {job}: expected a job number. A task of an array has its own number: `squeue -o %A` shows it."
        )
    hosts = [host.name for host in (*site.controllers, site.master.host)]
    if not any(map(site.active, hosts)):
        raise ValueError(
            f"These hosts have no such logs. Choose among the controllers and the master: {', '.join(hosts)}"
        )
    pattern = job_pattern(job) if job else None
    return start_time(back, time.time()), lambda entry: pattern is None or bool(pattern.search(entry.text))


def _nothing_found(since: float, job: str | None, follow: bool) -> str:
    """That there are no entries, in words."""
    about = f" about job {job}" if job else ""
    then = "new entries will be shown, until Ctrl-C" if follow else "use --since to go further back"
    return f"no log entries{about} since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(since))}; {then}"


# --- for people

_COLOURS = ("cyan", "magenta", "blue", "green", "yellow")


def _shower() -> Callable[[Entry], bool]:
    """A function that prints an entry, after its date where that changes, and returns True."""
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
    text = redact.text(entry.text.rstrip("\n"))  # as one text: a private key has several lines
    first, *more = map(plain_line, text.split("\n"))
    style = "bold red" if "error" in first.lower() else ""
    yield [(f"{stamp}  {entry.source}  ", colour), (first, style)]
    yield from ([(f"{'':14}", ""), (line, "dim")] for line in more)
