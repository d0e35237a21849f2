"""The state of a run, computed from its events so far; every display shows this."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from dws_on_csm.display.style import BAD
from dws_on_csm.model.events import Awaiting, Began, Done, Event, Line, Opened, Renamed, Stopping, Summary
from dws_on_csm.model.printable import escaped, plain_line


@dataclass
class Work:
    """A step that is running on a host."""

    host: str
    step: str
    title: str
    began: float
    line: str = ""
    """The last line of output."""
    why: str = ""
    """What the step is waiting for, or ""."""
    until: float = 0.0


@dataclass
class StageProgress:
    """The state of a stage. No event marks its end: a stage rests while none of its steps runs."""

    name: str
    needs: tuple[str, ...] = ()
    busy: dict[tuple[str, str], Work] = field(default_factory=dict)
    results: dict[tuple[str, str], Done] = field(default_factory=dict)
    """Step and host -> result; a repeated check replaces the earlier result."""
    counts: Counter[str] = field(default_factory=Counter)
    touched: float = 0.0
    """The time of its last event, in seconds since the epoch."""

    @property
    def done(self) -> list[Done]:
        """All results."""
        return list(self.results.values())

    @property
    def bad(self) -> list[Done]:
        """The results that failed or were refused."""
        return [done for done in self.done if done.outcome in BAD] if any(self.counts[o] for o in BAD) else []


@dataclass
class Progress:
    """A run so far, with its stages in the order of the procedure."""

    run: str = ""
    task: str = ""
    hosts: int = 0
    began: float = 0.0
    stopping: bool = False
    stages: dict[str, StageProgress] = field(default_factory=dict)
    summary: Summary | None = None


def take(progress: Progress, event: Event, now: float) -> None:
    """Add an event to `progress`; `now` is its time, in seconds since the epoch."""
    if not isinstance(event, Opened | Renamed | Stopping | Summary):
        stage(progress, event.stage).touched = now
    match event:
        case Opened():
            progress.run, progress.task, progress.began = event.run, event.task, event.at
            progress.hosts = len({host for hosts in event.hosts.values() for host in hosts})
            progress.stages |= {name: StageProgress(name, tuple(needs)) for name, needs in event.stages.items()}
        case Renamed():
            progress.run = event.run
        case Stopping():
            progress.stopping = True
        case Summary():
            progress.summary = event
        case Done():
            _done(stage(progress, event.stage), event)
        case Began():
            _began(stage(progress, event.stage), event)
        case Line():
            _work(progress, event, now).line = plain_line(event.text)
        case Awaiting():
            work = _work(progress, event, now)
            work.why, work.until = escaped(event.why), now + event.deadline


def stage(progress: Progress, name: str) -> StageProgress:
    """The state of the stage `name`."""
    return progress.stages.setdefault(name, StageProgress(name))


def fold(hosts: Iterable[str]) -> str:
    """The hosts as a node set: `nid[000001-000004]`."""
    from ClusterShell.NodeSet import NodeSet  # late: most runs of `invoke` show nothing

    distinct = list(dict.fromkeys(hosts))
    return distinct[0] if len(distinct) == 1 else str(NodeSet.fromlist(distinct))


def _began(stage: StageProgress, event: Began) -> None:
    work = stage.busy.setdefault((event.step, event.host), Work(event.host, event.step, "", event.at))
    work.title, work.why = escaped(event.title), ""


def _done(stage: StageProgress, event: Done) -> None:
    stage.busy.pop((event.step, event.host), None)
    if (before := stage.results.pop((event.step, event.host), None)) is not None:
        stage.counts[before.outcome] -= 1
    stage.results[event.step, event.host] = event
    stage.counts[event.outcome] += 1


def _work(progress: Progress, event: Line | Awaiting, now: float) -> Work:
    busy = stage(progress, event.stage).busy
    return busy.setdefault((event.step, event.host), Work(event.host, event.step, event.step, now))
