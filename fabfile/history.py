"""The runs that a site has seen: from the operator's own journals, and from what runs left on the hosts for colleagues."""

from __future__ import annotations

import calendar
import json
import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fabfile import journal, render
from fabfile.actions import STATE
from fabfile.connect import Sessions, connect_all
from fabfile.faults import Unreachable
from fabfile.inventory import Host, Site
from fabfile.lock import owner


@dataclass
class Past:
    """A run of the past.

    at         when it began, in seconds since 1970
    code       its exit code; None if it was cut off, or is still at work
    changed    host -> steps that were begun or put right there
    undoes     the run before which it put everything back, "" where that isn't what it did
    installed  what of DWS there was before it; None where nobody looked
    kept       whether what it changed is known on the hosts, so that it can be rolled back
    ended      whether a host's log of runs has its line: how it ended may not be known any more
    """

    id: str
    task: str = "?"
    by: str = "?"
    at: float = 0.0
    code: int | None = None
    message: str = ""
    changed: dict[str, list[str]] = field(default_factory=dict)
    undoes: str = ""
    installed: Mapping[str, Any] | None = None
    kept: bool = False
    ended: bool = False

    def note(self, host: str, step: str) -> None:
        """A step was at work on `host`."""
        steps = self.changed.setdefault(host, [])
        if step not in steps and step.partition(".")[0] not in journal.PROOFS:
            steps.append(step)

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
        return host.name, answer.out.decode(errors="surrogateescape").splitlines()

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
    return render.script("history.sh", state=STATE)


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
    """Put what the lines of templates/history.sh say of runs, as `host` printed them, into `runs`."""
    for line in lines:
        _take(runs, host, line)


def _take(runs: dict[str, Past], host: str, line: str) -> None:
    word, _, rest = line.partition(" ")
    if word == "opened":
        head = json.loads(rest)
        run = runs.setdefault(head["run"], Past(head["run"]))
        run.task, run.by, run.at, run.undoes = head["task"], head["by"], head["at"], head["undoes"]
        run.installed, run.kept = head["installed"], True
        return
    if word == "log":
        _logged(runs, rest)
        return
    name, _, rest = rest.partition(" ")
    run = runs.setdefault(name, Past(name))
    if word == "step":
        run.note(host, rest)
    else:
        _event(run, json.loads(rest))


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


def _event(run: Past, record: Mapping[str, Any]) -> None:
    if record["event"] == "opened":
        run.task, run.at = record["task"], record["at"]
    elif record["event"] == "summary":
        run.code, run.message = record["exit"], record["message"]
    elif step := journal.change(record):
        run.note(record["host"], step)


# --- at the operator's


def of_operator(site: Site, folder: Path = journal.RUNS) -> dict[str, Past]:
    """The runs of this checkout with this site file, by id; plans are left out, they change nothing."""
    found = {path.parent.name: _own(path) for path in sorted(folder.glob("*/journal.jsonl"))}
    return {
        run: past for run, (past, file) in found.items() if past.task != "plan" and file == str(site.path.absolute())
    }


def _own(path: Path) -> tuple[Past, str]:
    run, file = Past(path.parent.name, by=owner()), ""
    for record in journal.read(path):
        _event(run, record)
        if record["event"] == "opened":
            file = record.get("site", "")
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
    theirs.code = own.code if theirs.code is None else theirs.code
    theirs.message = theirs.message or own.message
    theirs.task = theirs.task if theirs.kept else own.task
    theirs.at = theirs.at or own.at
    theirs.by = theirs.by if theirs.by != "?" else own.by
    return theirs


def last(every: Sequence[Past]) -> Past | None:
    """The run that a rollback undoes unless told otherwise: the last that changed something and isn't undone yet."""
    undone = ""
    for run in reversed(every):
        if run.undoes and run.code == 0 and (not undone or run.id < undone):
            undone = min(undone or run.undoes, run.undoes)
        if run.kept and run.changes and not run.undoes and (not undone or run.id < undone):
            return run
    return None
