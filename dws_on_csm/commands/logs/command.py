"""`invoke logs`: the plugin's log entries of every controller and those of DWS's pods, merged by time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from dws_on_csm.commands.logs.entries import Entry, job_pattern, start_time
from dws_on_csm.commands.logs.explanations import explanation, is_noise
from dws_on_csm.commands.logs.merge import new_entries, past
from dws_on_csm.commands.logs.sources import Sources, sources
from dws_on_csm.commands.workflows import waits
from dws_on_csm.config.site import Site
from dws_on_csm.display import console
from dws_on_csm.display.paint import painter, printed
from dws_on_csm.display.style import Row
from dws_on_csm.model.errors import READ_ERRORS, error_text
from dws_on_csm.model.exit_codes import CONVERGED, FAILED, USAGE
from dws_on_csm.model.printable import escaped, plain_line
from dws_on_csm.redaction import redact
from dws_on_csm.runner import commands_to_paste
from dws_on_csm.stages.dws import workflows


def logs(site: Site, job: str | None, back: str, follow: bool, every: bool = False) -> int:
    """Print the entries since `back` ("10m"), of `job` alone if one is given; with `follow` also the new ones. The exit code.

    every   also the entries that say nothing
    """
    try:
        since, wanted = request(site, job, back)
    except ValueError as error:
        console.note(error)
        return USAGE
    show = _shower(every)
    with sources(site, since, follow) as opened:
        try:
            shown = [show(entry) for entry in filter(wanted, past(opened))]
            if not any(shown):
                opened.note(nothing_found(since, job, follow))
            if folded := shown.count(False):
                opened.note(f"{folded} x `Reconciling Workflow` of DWS's controller: not shown; --all shows them")
            printed(_present(site, opened, job))
            for entry in filter(wanted, new_entries(opened) if follow else ()):
                show(entry)
        except KeyboardInterrupt:
            if not follow:
                raise
    return FAILED if opened.missing else CONVERGED


def request(site: Site, job: str | None, back: str) -> tuple[float, Callable[[Entry], bool]]:
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


def nothing_found(since: float, job: str | None, follow: bool) -> str:
    """That there are no entries, in words."""
    about = f" about job {job}" if job else ""
    then = "new entries will be shown, until Ctrl-C" if follow else "use --since to go further back"
    return f"no log entries{about} since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(since))}; {then}"


# --- for people

_COLOURS = ("cyan", "magenta", "blue", "green", "yellow")


def _present(site: Site, opened: Sources, job: str | None) -> Iterator[Row]:
    """The Workflows, or the job's alone, that wait for a storage driver now: since when, its error, and whom to ask."""
    if opened.cluster is None:
        return
    try:
        listed = workflows.read(opened.cluster)
    except READ_ERRORS as error:
        opened.note(f"Workflows cannot be listed, so it is unknown which of them wait: {error_text(error)}")
        return
    for workflow in listed:
        if workflows.awaited(workflow) and job in (None, workflow["job"]):
            yield [(f"now  Workflow {workflows.label(workflow)}", "bold")]
            yield from waits(workflow, time.time())
            yield [("    fix  ", "dim"), (escaped(commands_to_paste.with_site(workflows.ask(workflow), site)), "")]


def _shower(every: bool) -> Callable[[Entry], bool]:
    """A function that prints an entry, after its date where that changes, and returns whether it did: `every`, also noise."""
    paint = painter()
    day, colours = [""], dict[str, str]()

    def show(entry: Entry) -> bool:
        if not every and is_noise(entry):
            return False
        date = time.strftime("%A, %Y-%m-%d (%z)", time.localtime(entry.at))
        if date != day[0]:
            day[0] = date
            paint([(date, "bold")])
        colour = colours.setdefault(entry.source, _COLOURS[len(colours) % len(_COLOURS)])
        for row in entry_rows(entry, colour):
            paint(row)
        return True

    return show


def entry_rows(entry: Entry, colour: str) -> Iterator[Row]:
    """An entry's rows on the terminal."""
    stamp = time.strftime("%H:%M:%S", time.localtime(entry.at)) + f".{int(entry.at * 1000) % 1000:03}"
    text = redact.text(entry.text.rstrip("\n"))  # as one text: a private key has several lines
    first, *more = map(plain_line, text.split("\n"))
    style = "bold red" if "error" in first.lower() else ""
    yield [(f"{stamp}  {entry.source}  ", colour), (first, style)]
    yield from ([(f"{'':14}", ""), (line, "dim")] for line in more)
    if meaning := explanation(entry):
        yield [(f"{'':14}", ""), (f"note: {meaning}", "bold yellow")]
