"""The earlier runs of a site: from the journals of this checkout, and from the records that runs left on the hosts."""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dws_on_csm.config.site import Host, Site
from dws_on_csm.engine.site_lock import owner
from dws_on_csm.model import render
from dws_on_csm.model.actions import STATE
from dws_on_csm.model.errors import MALFORMED, Unreachable
from dws_on_csm.model.lines import lines, parse_record
from dws_on_csm.model.stage_names import leaves_nothing
from dws_on_csm.runner import journal, masters
from dws_on_csm.runner.connections import Sessions, connect_all

OPENED = "who began it, and what was installed before it"
"""What a run records on the master before its first change."""


@dataclass
class PastRun:
    """An earlier run.

    at         when it began, in seconds since 1970
    code       its exit code; None if it was interrupted, or is still running
    changed    host -> steps that were begun there, or changed something
    undoes     the run before which it restored everything, "" if it was no rollback
    without    the hosts of the site on which it could change nothing: outside its limit, or unreachable
    controllers  those of its site file; none where that was not recorded
    installed  the DWS installation before it; None where it was not read
    kept       whether the hosts have records of what it changed, so that it can be rolled back
    ended      whether a host's log of runs has its line, so that it has ended, though its exit code may be unknown
    unreadable_records
               records of it that can't be read, in words
    """

    id: str
    task: str = "?"
    by: str = "?"
    at: float = 0.0
    code: int | None = None
    message: str = ""
    changed: dict[str, list[str]] = field(default_factory=dict)
    undoes: str = ""
    without: frozenset[str] = frozenset()
    controllers: frozenset[str] = frozenset()
    installed: Mapping[str, Any] | None = None
    kept: bool = False
    ended: bool = False
    unreadable_records: list[str] = field(default_factory=list)

    def note(self, host: str, step: str) -> None:
        """Add a step that was begun on `host`."""
        steps = self.changed.setdefault(host, [])
        if step not in steps and not leaves_nothing(step.partition(".")[0]):
            steps.append(step)

    def unreadable(self, noun: str) -> None:
        """Add a record that can't be read."""
        if noun not in self.unreadable_records:
            self.unreadable_records.append(noun)

    def of_another_slurm(self, controllers: Collection[str]) -> bool:
        """Whether it was made with another Slurm's site file: with none of these controllers. A run without a record of its
        controllers counts as one's own."""
        return bool(controllers and self.controllers) and self.controllers.isdisjoint(controllers)

    @property
    def changes(self) -> dict[str, list[str]]:
        """Host -> steps, without hosts on which nothing lasts."""
        return {host: steps for host, steps in self.changed.items() if steps}

    @property
    def lasts(self) -> bool:
        """Whether its before-images may be needed: it changed something, or was interrupted before it could say so."""
        return bool(self.changes) or (self.kept and self.code is None)


def runs(site: Site, tell: Callable[[str], None]) -> list[PastRun]:
    """All runs that are known, the oldest first. Raises Unreachable where the master can't be reached.

    tell   called with the reason where another master has the records of the site's runs: the list may lack some then
    """
    sessions = connect_all(site, recording_hosts(site))
    try:
        master = sessions.master(site.master.host.name)
        if why := masters.records_elsewhere(site, master.cluster(), master):
            tell(why)
        return joined(of_operator(site), on_hosts(site, sessions))
    finally:
        sessions.close()


# --- on the hosts


def recording_hosts(site: Site) -> tuple[Host, ...]:
    """The hosts on which runs leave records and before-images."""
    return (site.master.host, *site.controllers)


def read_on(site: Site, sessions: Sessions, hosts: Sequence[Host], script: str) -> dict[str, list[str]]:
    """Host -> the lines that `script` prints there, in parallel. Raises Unreachable and what else a session raises."""

    def read(host: Host) -> tuple[str, list[str]]:
        answer = sessions.session(host.name).run(script, deadline=site.deadlines.look)
        if answer.code != 0:
            words = answer.err.decode(errors="replace")
            raise Unreachable(host.name, f"the records of its runs can't be read: {words}", "")
        return host.name, lines(answer.out, "surrogateescape")

    with ThreadPoolExecutor(site.ssh.connections) as pool:
        return dict(pool.map(read, hosts))


def on_hosts(site: Site, sessions: Sessions) -> dict[str, PastRun]:
    """The runs that left records on the master and the controllers, by id; hosts that don't respond are left out."""
    hosts = [host for host in recording_hosts(site) if not isinstance(sessions[host.name], Unreachable)]
    return from_records(site.master.host.name, read_on(site, sessions, hosts, script()))


def script() -> str:
    """The script that prints the records of a host, in lines for add_records()."""
    return render.script("host/history.sh", state=STATE)


def from_records(master: str, lines: Mapping[str, Sequence[str]]) -> dict[str, PastRun]:
    """The runs by id, from the lines that history.sh printed on each host.

    The master alone says what a run was, what was installed before it and how it ended; a controller, what was begun there.
    """
    runs: dict[str, PastRun] = {}
    add_records(runs, master, lines.get(master, ()))
    for host in lines.keys() - {master}:
        for line in lines[host]:
            word, _, rest = line.partition(" ")
            name, _, step = rest.partition(" ")
            if word == "step" and name in runs:
                runs[name].note(host, step)
    return runs


def add_records(runs: dict[str, PastRun], host: str, lines: Sequence[str]) -> None:
    """Add to `runs` what the lines that history.sh printed on `host` say."""
    for line in lines:
        _add_record(runs, host, line)


def _add_record(runs: dict[str, PastRun], host: str, line: str) -> None:
    word, _, rest = line.partition(" ")
    if word == "log":
        _add_log_line(runs, rest)
        return
    name, _, rest = rest.partition(" ")
    run = runs.setdefault(name, PastRun(name))
    if word == "step":
        run.note(host, rest)
    elif not (_add_opened if word == "opened" else _add_event)(run, parse_record(rest)):
        run.unreadable(f"{OPENED if word == 'opened' else 'a line of its journal'}, on {host}")


def _add_opened(run: PastRun, head: Mapping[str, Any]) -> bool:
    """Take what a run recorded before its first change; False where that can't be read."""
    try:
        run.task, run.by, run.at, run.undoes = head["task"], head["by"], _time(head["at"]), head["undoes"]
        run.without = frozenset(_names(head.get("without", [])))
        run.controllers = frozenset(_names(head.get("controllers", [])))
        run.installed, run.kept = head["installed"], True
    except MALFORMED:
        return False
    return True


def _time(value: Any) -> float:
    """A time in seconds since 1970. ValueError for what can't be one, as NaN."""
    if not 0 <= (at := float(value)) < 1e11:
        raise ValueError(value)
    return at


def _names(value: object) -> list[str]:
    if not (isinstance(value, list) and all(isinstance(name, str) for name in value)):
        raise TypeError
    return value


_LOG_LINE = re.compile(r"(?P<at>\S+) (?P<run>\S+) (?P<task>.+?) by (?P<by>\S+): .*")
"""A line of a host's log of runs, written at a run's end."""


def _add_log_line(runs: dict[str, PastRun], line: str) -> None:
    """Take from a host's log of runs what no better record says: that the run ended, what it was, and who made it."""
    if not (match := _LOG_LINE.fullmatch(line)):
        return  # an incomplete line: the connection broke
    run = runs.setdefault(match["run"], PastRun(match["run"]))
    run.ended = True
    run.task = match["task"] if run.task == "?" else run.task
    run.by = match["by"] if run.by == "?" else run.by
    with suppress(ValueError):  # not a time that we wrote: it stays unknown
        run.at = run.at or calendar.timegm(time.strptime(match["at"], "%Y-%m-%dT%H:%M:%SZ"))


def _add_event(run: PastRun, event: Mapping[str, Any]) -> bool:
    """Take an event of a run's journal; False where it can't be read."""
    try:
        if event["event"] == "opened":
            run.task, run.at = event["task"], _time(event["at"])
        elif event["event"] == "summary":
            run.code, run.message = event["exit"], event["message"]
        elif step := journal.changed_step(event):
            run.note(event["host"], step)
    except MALFORMED:
        return False
    return True


# --- in this checkout


def of_operator(site: Site, folder: Path = journal.RUNS) -> dict[str, PastRun]:
    """The runs of this checkout with this site file, by id, without plans."""
    runs = {path.parent.name: _from_journal(path) for path in sorted(folder.glob("*/journal.jsonl"))}
    return {name: run for name, (run, file) in runs.items() if run.task != "plan" and file == str(site.path.absolute())}


def _from_journal(path: Path) -> tuple[PastRun, str]:
    """A run, and its site file."""
    run, file = PastRun(path.parent.name, by=owner()), ""
    records, problem = journal.records(path)
    if problem:
        run.unreadable(problem)
    for record in records:
        if not _add_event(run, record):
            run.unreadable(f"a line of {path}")
        if record.get("event") == "opened":
            file = str(record.get("site", ""))
    return run, file


# --- both


def joined(own: Mapping[str, PastRun], theirs: Mapping[str, PastRun]) -> list[PastRun]:
    """Both, by id, the oldest first. Where both know a run, the hosts say who made it, the own journal how it ended."""
    return [_join(own.get(name), theirs.get(name)) for name in sorted({*own, *theirs})]


def _join(own: PastRun | None, theirs: PastRun | None) -> PastRun:
    if own is None or theirs is None:
        known = own or theirs
        assert known is not None
        return known
    for host, steps in own.changed.items():
        for step in steps:
            theirs.note(host, step)
    for record in own.unreadable_records:
        theirs.unreadable(record)
    theirs.code = own.code if theirs.code is None else theirs.code
    theirs.message = theirs.message or own.message
    theirs.task = theirs.task if theirs.kept else own.task
    theirs.at = theirs.at or own.at
    theirs.by = theirs.by if theirs.by != "?" else own.by
    return theirs


# --- which one a rollback undoes


def headless(run: PastRun) -> bool:
    """Whether a run changed something, and its record of who began it and what was installed before can't be read."""
    return bool(run.changes) and not run.kept and any(record.startswith(OPENED) for record in run.unreadable_records)


def last(runs: Sequence[PastRun], controllers: Collection[str] = ()) -> PastRun | None:
    """The run that a rollback undoes by default: the last that changed something and is not undone on each of its hosts. Runs of
    another Slurm's site file (see PastRun.of_another_slurm) are passed over."""
    standing = [
        run for run in runs if run.kept and run.changes and not run.undoes and not run.of_another_slurm(controllers)
    ]
    return next((run for run in reversed(standing) if not is_undone(run, runs)), None)


def is_undone(run: PastRun, runs: Sequence[PastRun]) -> bool:
    """Whether rollbacks restored all that the run changed."""
    return all(_undone_on(host, run, runs) for host in run.changes)


def _undone_on(host: str, run: PastRun, runs: Sequence[PastRun]) -> bool:
    """Whether a rollback restored on `host` what the run changed, and was not itself undone there."""
    first = ""
    for later in reversed(runs):
        if first and later.id >= first:
            continue
        if later.id <= run.id:
            return False
        if later.undoes and later.code == 0 and host not in later.without:
            first = later.undoes
            if first <= run.id:
                return True
    return False
