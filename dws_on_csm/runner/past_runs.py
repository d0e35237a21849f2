"""The runs that a site has seen: from the operator's own journals, and from what runs left on the hosts for colleagues."""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dws_on_csm.config.site import Host, Site
from dws_on_csm.engine.site_lock import owner
from dws_on_csm.model import events, render
from dws_on_csm.model.actions import STATE
from dws_on_csm.model.errors import MALFORMED, Unreachable
from dws_on_csm.model.lines import lines, parse_record
from dws_on_csm.runner import journal
from dws_on_csm.runner.connections import Sessions, connect_all

OPENED = "who began it, and what was installed before it"
"""What a run writes on the master before it changes anything."""


@dataclass
class Past:
    """A run of the past.

    at         when it began, in seconds since 1970
    code       its exit code; None if it was cut off, or is still at work
    changed    host -> steps that were begun or put right there
    undoes     the run before which it put everything back, "" where that isn't what it did
    without    the hosts of the site on which it could change nothing: left out by a limit, or not there
    installed  what of DWS there was before it; None where nobody looked
    kept       whether what it changed is known on the hosts, so that it can be rolled back
    ended      whether a host's log of runs has its line: how it ended may not be known any more
    unread     records of it that can't be read, in words; what they would say is not known here
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
    installed: Mapping[str, Any] | None = None
    kept: bool = False
    ended: bool = False
    unread: list[str] = field(default_factory=list)

    def note(self, host: str, step: str) -> None:
        """A step was at work on `host`."""
        steps = self.changed.setdefault(host, [])
        if step not in steps and step.partition(".")[0] not in (*events.PROOFS, *journal.PASSING):
            steps.append(step)

    def unreadable(self, what: str) -> None:
        """There is a record of it that can't be read."""
        if what not in self.unread:
            self.unread.append(what)

    @property
    def changes(self) -> dict[str, list[str]]:
        """Host -> steps, hosts on which nothing lasts left out."""
        return {host: steps for host, steps in self.changed.items() if steps}

    @property
    def lasts(self) -> bool:
        """Whether it changed something, or was cut off before anybody could say: its before-images may be wanted."""
        return bool(self.changes) or (self.kept and self.code is None)


# --- on the hosts


def reading(site: Site, sessions: Sessions, hosts: Sequence[Host], script: str) -> dict[str, list[str]]:
    """Host -> the lines that `script` prints there, all at once. Raises Unreachable and what else a session raises."""

    def one(host: Host) -> tuple[str, list[str]]:
        session = sessions[host.name]
        if isinstance(session, Unreachable):
            raise session
        answer = session.run(script, deadline=site.deadlines.look)
        if answer.code != 0:
            raise Unreachable(host.name, f"its history can't be read: {answer.err.decode(errors='replace')}", "")
        return host.name, lines(answer.out, "surrogateescape")

    with ThreadPoolExecutor(site.ssh.connections) as pool:
        return dict(pool.map(one, hosts))


def on_hosts(site: Site, sessions: Sessions) -> dict[str, Past]:
    """The runs of which something is known on the master and the controllers, by id; hosts that don't answer are left out.

    What a run was, what was there before it and how it ended, the master alone says. A controller says what was begun on
    that controller.
    """
    hosts = [host for host in known(site) if not isinstance(sessions[host.name], Unreachable)]
    return told(site.master.host.name, reading(site, sessions, hosts, script()))


def script() -> str:
    """The script that prints what is known on a host, in lines for `take`."""
    return render.script("host/history.sh", state=STATE)


def told(master: str, lines: Mapping[str, Sequence[str]]) -> dict[str, Past]:
    """The runs of which the hosts tell with these lines of history.sh, by id."""
    runs: dict[str, Past] = {}
    take(runs, master, lines.get(master, ()))
    for host in lines.keys() - {master}:
        for line in lines[host]:
            _begun(runs, host, line)
    return runs


def _begun(runs: Mapping[str, Past], host: str, line: str) -> None:
    """A controller's line: a step that was begun there in a run that the master knows."""
    word, _, rest = line.partition(" ")
    name, _, step = rest.partition(" ")
    if word == "step" and name in runs:
        runs[name].note(host, step)


def known(site: Site) -> tuple[Host, ...]:
    """The hosts on which runs leave what was there before."""
    return (site.master.host, *site.controllers)


def take(runs: dict[str, Past], host: str, lines: Sequence[str]) -> None:
    """Put what the lines of templates/host/history.sh say of runs, as `host` printed them, into `runs`."""
    for line in lines:
        _take(runs, host, line)


def _take(runs: dict[str, Past], host: str, line: str) -> None:
    word, _, rest = line.partition(" ")
    if word == "log":
        _logged(runs, rest)
        return
    name, _, rest = rest.partition(" ")
    run = runs.setdefault(name, Past(name))
    if word == "step":
        run.note(host, rest)
    elif not (_opened if word == "opened" else _event)(run, parse_record(rest)):
        run.unreadable(f"{OPENED if word == 'opened' else 'a line of its journal'}, on {host}")


def _opened(run: Past, head: Mapping[str, Any]) -> bool:
    """Takes what a run wrote before its first change; False where that can't be read."""
    try:
        run.task, run.by, run.at, run.undoes = head["task"], head["by"], _when(head["at"]), head["undoes"]
        run.without = frozenset(_names(head.get("without", [])))
        run.installed, run.kept = head["installed"], True
    except MALFORMED:
        return False
    return True


def _when(value: Any) -> float:
    """A time in seconds since 1970. ValueError for what is none of these centuries, as NaN is."""
    if not 0 <= (at := float(value)) < 1e11:
        raise ValueError(value)
    return at


def _names(value: object) -> list[str]:
    if not (isinstance(value, list) and all(isinstance(one, str) for one in value)):
        raise TypeError
    return value


_LOGGED = re.compile(r"(?P<at>\S+) (?P<run>\S+) (?P<task>.+?) by (?P<by>\S+): .*")
"""A line of a host's log of runs, written at a run's end."""


def _logged(runs: dict[str, Past], line: str) -> None:
    """What a log of runs says counts only where nobody else knows it: who it was, what it was, and that it ended."""
    if not (found := _LOGGED.fullmatch(line)):
        return  # a line that was cut off with its connection
    run = runs.setdefault(found["run"], Past(found["run"]))
    run.ended = True
    run.task = found["task"] if run.task == "?" else run.task
    run.by = found["by"] if run.by == "?" else run.by
    with suppress(ValueError):  # no time of ours: then that is not known
        run.at = run.at or calendar.timegm(time.strptime(found["at"], "%Y-%m-%dT%H:%M:%SZ"))


def _event(run: Past, event: Mapping[str, Any]) -> bool:
    """Takes an event of a run's journal; False where it can't be read."""
    try:
        _taken(run, event)
    except MALFORMED:
        return False
    return True


def _taken(run: Past, event: Mapping[str, Any]) -> None:
    if event["event"] == "opened":
        run.task, run.at = event["task"], _when(event["at"])
    elif event["event"] == "summary":
        run.code, run.message = event["exit"], event["message"]
    elif step := journal.change(event):
        run.note(event["host"], step)


# --- at the operator's


def of_operator(site: Site, folder: Path = journal.RUNS) -> dict[str, Past]:
    """The runs of this checkout with this site file, by id; plans are left out, they change nothing."""
    found = {path.parent.name: _own(path) for path in sorted(folder.glob("*/journal.jsonl"))}
    return {
        run: past for run, (past, file) in found.items() if past.task != "plan" and file == str(site.path.absolute())
    }


def _own(path: Path) -> tuple[Past, str]:
    run, file = Past(path.parent.name, by=owner()), ""
    every, wrong = journal.records(path)
    if wrong:
        run.unreadable(wrong)
    for one in every:
        if not _event(run, one):
            run.unreadable(f"a line of {path}")
        if one.get("event") == "opened":
            file = str(one.get("site", ""))
    return run, file


# --- both


def runs(site: Site) -> list[Past]:
    """All runs that are known, the oldest first. Raises Unreachable where the master can't be reached."""
    sessions = connect_all(site, known(site))
    try:
        if isinstance(master := sessions[site.master.host.name], Unreachable):
            raise master
        return joined(of_operator(site), on_hosts(site, sessions))
    finally:
        sessions.close()


def joined(own: Mapping[str, Past], theirs: Mapping[str, Past]) -> list[Past]:
    """Both as one, by the time at which they began: the hosts know who it was, the operator how it ended."""
    return [_join(own.get(run), theirs.get(run)) for run in sorted({*own, *theirs})]


def _join(own: Past | None, theirs: Past | None) -> Past:
    if own is None or theirs is None:
        found = own or theirs
        assert found is not None
        return found
    for host, steps in own.changed.items():
        for step in steps:
            theirs.note(host, step)
    for one in own.unread:
        theirs.unreadable(one)
    theirs.code = own.code if theirs.code is None else theirs.code
    theirs.message = theirs.message or own.message
    theirs.task = theirs.task if theirs.kept else own.task
    theirs.at = theirs.at or own.at
    theirs.by = theirs.by if theirs.by != "?" else own.by
    return theirs


def headless(run: Past) -> bool:
    """Whether a run changed something, and its record of who began it and what was there before can't be read."""
    return bool(run.changes) and not run.kept and any(one.startswith(OPENED) for one in run.unread)


def last(every: Sequence[Past]) -> Past | None:
    """The run that a rollback undoes unless told otherwise: the last that changed something and isn't undone yet.

    What it changed has to be undone on each host: a rollback that left one out did not undo it there.
    """
    standing = [run for run in every if run.kept and run.changes and not run.undoes]
    return next((run for run in reversed(standing) if not _undone(run, every)), None)


def _undone(run: Past, every: Sequence[Past]) -> bool:
    return all(_undone_on(host, run, every) for host in run.changes)


def _undone_on(host: str, run: Past, every: Sequence[Past]) -> bool:
    """Whether a rollback put back on `host` what the run changed, and was not itself undone there."""
    first = ""
    for one in reversed(every):
        if first and one.id >= first:
            continue
        if one.id <= run.id:
            return False
        if one.undoes and one.code == 0 and host not in one.without:
            first = one.undoes
            if first <= run.id:
                return True
    return False
