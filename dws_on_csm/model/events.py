"""The events of a run as data: display, JSON lines, journal and report are all made from these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from signal import Signals
from typing import Literal

Outcome = Literal["ok", "changed", "would change", "unknown", "deferred", "failed", "refused", "skipped"]
"""ok: was right already; changed: is right now; would change: in a plan; unknown: depends on a stage that has not run yet;
deferred: left for the change window, by a run that only prepares."""

OUTCOMES: tuple[Outcome, ...] = (
    "ok",
    "changed",
    "would change",
    "unknown",
    "deferred",
    "failed",
    "refused",
    "skipped",
)

_FORMER: Mapping[str, Outcome] = {"fixed": "changed", "change": "would change"}


def current(outcome: str) -> str:
    """The outcome in today's words; journals on disk may have the words of earlier versions."""
    return _FORMER.get(outcome, outcome)


Table = tuple[tuple[str, ...], ...]
"""Rows of cells; the first names the columns."""


@dataclass(frozen=True)
class Opened:
    """A run begins: its id, its task ("install", "plan"), role -> hosts, stage -> the stages that it needs."""

    run: str
    task: str
    hosts: Mapping[str, tuple[str, ...]]
    stages: Mapping[str, tuple[str, ...]]
    at: float
    site: str = ""
    """The site file."""


@dataclass(frozen=True)
class Renamed:
    """The run has another id from now on, by the master's clock: it is later than that of every run known there."""

    run: str
    at: float


@dataclass(frozen=True)
class Stopping:
    """The run was asked to stop, as by Ctrl-C: nothing more begins, and what runs on the hosts is ended."""

    at: float


@dataclass(frozen=True)
class Began:
    """An action begins on `host`; `title` describes it."""

    host: str
    stage: str
    step: str
    title: str
    at: float


@dataclass(frozen=True)
class Line:
    """A line of an action's output."""

    host: str
    stage: str
    step: str
    text: str


@dataclass(frozen=True)
class Awaiting:
    """A step waits; `why` is the state so far ("0 of 3 webhook pods: pulling the image")."""

    host: str
    stage: str
    step: str
    why: str
    deadline: float
    """Seconds left."""
    at: float = 0.0


@dataclass(frozen=True)
class Failure:
    """What a person needs to understand a failure and to continue."""

    command: str = ""
    code: int | None = None
    tail: tuple[str, ...] = ()
    meaning: str = ""
    fix: str = ""

    def with_cause(self) -> Failure:
        """The same; with what is known of the cause as its meaning where it has neither output nor meaning."""
        if self.meaning.strip() or any(line.strip() for line in self.tail):
            return self
        return replace(self, meaning=_silent_end(self.code))


def _silent_end(code: int | None) -> str:
    """What an exit code alone says, in the shell's and timeout(1)'s numbers. None: there is none."""
    if code is None:
        return "no cause was reported"
    if code == 124:
        return "it printed nothing and ran into its time limit"
    if code > 128 and (ended := {number.value: number.name for number in Signals}.get(code - 128)):
        return f"it printed nothing; a signal ended it ({ended})"
    return "it printed nothing; its exit code is all that is known"


@dataclass(frozen=True)
class Done:
    """A step is finished on a host."""

    host: str
    stage: str
    step: str
    outcome: Outcome
    began: float
    seconds: float
    diff: tuple[str, ...] = ()
    """The difference between the found and the wanted state; its lines begin with "+", "-", "@" or " "."""
    note: str = ""
    failures: tuple[Failure, ...] = ()
    table: Table = ()
    """Measured values; displays join the tables of a stage that have the same columns."""


@dataclass(frozen=True)
class Summary:
    """The end of a run. `exit` is the exit code; `message` one sentence for people."""

    run: str
    exit: int
    counts: Mapping[str, int]
    hosts: int
    commands: int
    connections: int
    seconds: float
    message: str = ""
    next: str = ""
    """The command that continues from here."""
    report: str = ""
    """The path of the run's report."""
    lacking: tuple[str, ...] = ()
    """Records of the run that could not be written, in sentences."""


Event = Opened | Renamed | Stopping | Began | Line | Awaiting | Done | Summary
