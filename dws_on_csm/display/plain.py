"""The display without a terminal: one line per event of interest, with its time and the elapsed time.

What is awaited has a line at least every PATIENCE seconds. A failure has one line when it happens, and all that is
known about it at the end, where it is looked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

from dws_on_csm.display import tables
from dws_on_csm.display.failures import alike, block
from dws_on_csm.display.progress import Progress, Work, fold, take
from dws_on_csm.display.style import changed, counted, duration, plural, short, text
from dws_on_csm.model.events import OUTCOMES, Awaiting, Began, Done, Event, Line, Opened, Renamed, Stopping, Summary
from dws_on_csm.model.printable import escaped, first_few, more_text

QUIET = ("ok", "skipped")
"""Outcomes that are reported once per stage, not per step and host, unless they have a note."""


PATIENCE = 30.0
"""Seconds without a line after which there is one about what is running."""

NAMED = 3
"""How many of the running or skipped steps a line names."""


@dataclass
class _Log:
    """What was written so far.

    whole   differences are shown whole, also those of new files
    output  what actions print is shown
    last    when the last line was written
    """

    write: Callable[[str], object]
    clock: Callable[[], float]
    whole: bool = True
    output: bool = False
    last: float = 0.0
    progress: Progress = field(default_factory=Progress)
    stages: int = 10
    hosts: int = 8
    quiet: dict[str, dict[tuple[str, str], Done]] = field(default_factory=dict)
    said: dict[tuple[str, str, str], str] = field(default_factory=dict)


@dataclass(frozen=True)
class Lines:
    """A display that writes lines like `19:05:12  +3.4s  deploy  ncn-m001  webhook  changed (19.2s)`."""

    log: _Log

    def show(self, event: Event) -> None:
        """Write the lines of an event."""
        log = self.log
        take(log.progress, event, log.clock())
        for line in _told(log, event):
            log.write(line + "\n")

    def tick(self) -> None:
        """Write what is running, if there was no line for PATIENCE seconds. For a caller that calls it every second or so."""
        log, now = self.log, self.log.clock()
        busy = [(stage.name, work) for stage in log.progress.stages.values() for work in stage.busy.values()]
        if log.progress.summary is None and busy and now - log.last >= PATIENCE:
            log.write(_running(log, busy, now) + "\n")


def consumer(
    write: Callable[[str], object], clock: Callable[[], float] = time.time, whole: bool = True, output: bool = False
) -> Lines:
    """A display of lines. `whole`: differences are shown whole; otherwise, new files as their number of lines.

    `output`: what actions print is shown too.
    """
    return Lines(_Log(write, clock, whole, output))


def _running(log: _Log, busy: list[tuple[str, Work]], now: float) -> str:
    """The line about the steps that run, the longest first."""
    busy.sort(key=lambda pair: pair[1].began)
    stage, work = busy[0]
    waits = f"waiting: {work.why}" if work.why else escaped(work.title)
    more = f"; {more_text(len(busy) - 1, 'running')}" if busy[1:] else ""
    return _line(log, stage, work.host, f"{work.step}: {waits} (for {duration(now - work.began)} so far){more}")


def _told(log: _Log, event: Event) -> Iterator[str]:
    match event:
        case Opened():
            yield from _opened(log, event)
        case Renamed():
            yield _line(log, log.progress.task, "", f"the run id is now {event.run}, by the master's clock")
        case Stopping():
            yield _line(
                log, log.progress.task, "", "stopping: what runs on the hosts is ended; a second signal leaves at once"
            )
        case Began():
            yield from _through(log, event.stage)
            yield from _news(log, event, escaped(event.title))
        case Line() if log.output:
            yield _line(log, event.stage, event.host, f"{event.step} | {escaped(event.text)}")
        case Awaiting():
            left = (
                duration(event.deadline) if event.deadline < 10 else duration(round(event.deadline)).replace(".0s", "s")
            )
            yield from _news(log, event, f"waiting: {escaped(event.why)}", f" (up to {left} more)")
        case Done():
            yield from _done(log, event)
        case Summary():
            yield from _summary(log, event)


def _line(log: _Log, stage: str, host: str, rest: str) -> str:
    now = log.last = log.clock()
    stamp = time.strftime("%H:%M:%S", time.localtime(now))
    elapsed = "+" + duration(now - (log.progress.began or now))
    return f"{stamp}  {elapsed:>7}  {stage:<{log.stages}}  {host:<{log.hosts}}  {rest}".rstrip()


def _opened(log: _Log, event: Opened) -> Iterator[str]:
    names = {host for hosts in event.hosts.values() for host in hosts}
    log.stages = max((len(name) for name in event.stages), default=log.stages)
    log.hosts = min(max((len(name) for name in names), default=log.hosts), 24)
    yield _line(log, event.task, "", f"{event.run}: {plural(len(names), 'host')}, {plural(len(event.stages), 'stage')}")


def _news(log: _Log, event: Began | Awaiting, news: str, detail: str = "") -> Iterator[str]:
    """A line, unless the last line of this step and host was the same."""
    key = (event.stage, event.step, event.host)
    if log.said.get(key) != news:
        log.said[key] = news
        yield _line(log, event.stage, event.host, f"{event.step}: {news}{detail}")


def _done(log: _Log, done: Done) -> Iterator[str]:
    if done.outcome in QUIET and (done.outcome == "skipped" or not done.note):
        log.quiet.setdefault(done.stage, {})[done.step, done.host] = done
        return
    yield from _through(log, done.stage)
    took = f" ({duration(done.seconds)})" if done.seconds >= 0.05 else ""
    first = next((failure.meaning or failure.command for failure in done.failures), "")
    note = "".join(f": {escaped(part)}" for part in (done.note, first.partition("\n")[0]) if part)
    yield _line(log, done.stage, done.host, f"{done.step}: {done.outcome}{took}{note}")
    yield from (text(changed(line, "    ")) for line in (done.diff if log.whole else short(done.diff)))


def _through(log: _Log, stage: str) -> Iterator[str]:
    """Report what was right already in the stages that `stage` needs: they are complete, as it begins."""
    for name in log.progress.stages[stage].needs if stage in log.progress.stages else ():
        yield from _through(log, name)
        yield from _silent(log, name)


def _silent(log: _Log, stage: str) -> Iterator[str]:
    """One line for everything that was right in a stage, and one for each reason to skip something."""
    silent = list(log.quiet.pop(stage, {}).values())
    if right := [done.host for done in silent if done.outcome == "ok"]:
        yield _line(log, stage, fold(right), f"{len(right)} ok")
    skipped = sorted((done for done in silent if done.outcome == "skipped"), key=lambda done: done.note)
    for note, group in groupby(skipped, key=lambda done: done.note):
        same = list(group)
        steps = first_few(list(dict.fromkeys(done.step for done in same)), NAMED, ", ", "steps")
        yield _line(log, stage, fold(done.host for done in same), f"{steps}: skipped: {escaped(note)}")


def _tables(log: _Log, stage: str) -> Iterator[str]:
    """The tables of a complete stage."""
    for table in tables.merged(log.progress.stages[stage].done):
        yield _line(log, stage, "", "measured:")
        yield from (text(row) for row in tables.rows(table))


def _summary(log: _Log, end: Summary) -> Iterator[str]:
    for stage in list(log.progress.stages):
        yield from _silent(log, stage)
        yield from _tables(log, stage)
    yield from _failures(log)
    counts = text(counted({name: end.counts.get(name, 0) for name in OUTCOMES})) or "nothing"
    sizes = f"{plural(end.hosts, 'host')}, {plural(end.connections, 'connection')}, {plural(end.commands, 'command')}"
    yield _line(log, log.progress.task, "", f"{counts} on {sizes} in {duration(end.seconds)}; exit code {end.exit}")
    if end.message:
        yield _line(log, log.progress.task, "", escaped(end.message))
    for lacking in end.lacking:
        yield _line(log, log.progress.task, "", escaped(lacking))
    if end.next:
        yield _line(log, log.progress.task, "", f"continue with: {escaped(end.next)}")
    if end.report:
        yield _line(log, log.progress.task, "", f"report: {escaped(end.report)}")


def _failures(log: _Log) -> Iterator[str]:
    """The failures, with equal ones of several hosts together."""
    for done, hosts in alike(done for stage in log.progress.stages.values() for done in stage.bad):
        yield from ("    " + text(row) for row in block(done, hosts))
