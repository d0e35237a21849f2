"""Lines of logs as entries on one clock: split, dated and selected. Pure, apart from the lines that are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

MAX_LINES, MAX_CHARACTERS = 2000, 64_000
"""Lines and characters after which an entry is shown, although it may continue."""
MAX_SKEW = 10 * 365 * 86400.0
"""Most seconds by which a clock may be wrong; more is no time."""


@dataclass(frozen=True)
class Entry:
    """A log entry of one or several lines: its time (seconds since 1970 by this machine's clock), its source, its text."""

    at: float
    source: str
    text: str


@dataclass(frozen=True)
class Clock:
    """A source's clock: `ahead` seconds ahead of this machine's, in the time zone `zone` where a time stamp has none."""

    ahead: float = 0.0
    zone: timezone = UTC

    def time(self, stamp: str) -> float:
        """A time stamp as seconds since 1970 by this machine's clock. ValueError if it is none."""
        at = datetime.fromisoformat(stamp)
        return (at if at.tzinfo else at.replace(tzinfo=self.zone)).timestamp() - self.ahead

    def time_or_none(self, stamp: str) -> float | None:
        """The same; None for text that only looks like a time stamp: anybody can write such text to a log."""
        try:
            return self.time(stamp)
        except (ValueError, OverflowError):
            return None


def parse_zone(text: str) -> timezone:
    """The time zone of `+0130`, as `date +%z` prints it."""
    sign = -1 if text.startswith("-") else 1
    return timezone(sign * timedelta(hours=int(text[1:3]), minutes=int(text[3:5])))


Head = tuple[float, str]
"""An entry's time, and its first line without the time stamp."""

_HeadOf = Callable[[str, float], Head | None]
_Rest = Callable[[str], str]

_SLURM = re.compile(r"\[(\d{4}-\d\d-\d\dT[^\]\s]*)\] ?(.*)", re.DOTALL)
_POD = re.compile(r"(\d{4}-\d\d-\d\dT\S+) ?(.*)", re.DOTALL)
_OWN_STAMP = re.compile(r"\d{4}-\d\d-\d\d[T ]\S+\s+|[IWEF]\d{4} \S+\s+\d+ ")
"""The time stamp that DWS (zap) or a Kubernetes program (klog) writes itself; the API server's stamp says the same."""
_TOGETHER = 0.05
"""Seconds within which lines without a time stamp of the program belong to the line before."""


def slurm_log_entries(lines: Iterable[str | None], source: str, clock: Clock) -> Iterator[Entry | None]:
    """The entries of slurmctld's log; lines without a time stamp belong to the entry before. None: nothing new for now."""

    def head(line: str, last: float) -> Head | None:
        match = _SLURM.match(line)
        return _head(clock, match[1], match[2]) if match else None

    return _entries(lines, source, head)


def pod_log_entries(lines: Iterable[str | None], source: str, clock: Clock) -> Iterator[Entry | None]:
    """The entries of a pod's log with the API's time stamps; a stack trace belongs to the entry before it."""

    def head(line: str, last: float) -> Head | None:
        match = _POD.match(line)
        if not match:
            return None
        at, text = clock.time_or_none(match[1]), match[2]
        if at is None:
            return None
        own = _OWN_STAMP.match(text)
        if not own and at - last <= _TOGETHER:
            return None
        return at, (text[own.end() :] if own else text).replace("\t", "  ")

    return _entries(lines, source, head, _without_stamp)


def slurmctld_pod_entries(lines: Iterable[str | None], source: str, clock: Clock) -> Iterator[Entry | None]:
    """The plugin's and slurmscriptd's entries in the log of a container that runs slurmctld."""

    def head(line: str, last: float) -> Head | None:
        match = _POD.match(line)
        own = _SLURMCTLD.match(match[2]) if match else None
        return _head(clock, match[1], own[1]) if match and own else None

    for entry in _entries(lines, source, head, _without_stamp):
        if entry is None or _OF_PLUGIN.search(entry.text.partition("\n")[0]):
            yield entry


_SLURMCTLD = re.compile(
    r"(?:slurmctld: (?:\[[^\]]*\] )?|\[(?:\d{4}-\d\d-\d\dT|[A-Z][a-z]{2} [ \d]\d )[^\]]*\] |(?=slurmscriptd: ))(.*)",
    re.DOTALL,
)
"""How an entry begins in a container's log: up to Slurm 24.11 with the program's name, from 25.05 on with the time alone."""
_OF_PLUGIN = re.compile(
    r"\blua|slurm_bb_|burst_buffer|slurmscriptd|"
    r"(etup|eardown|tage.?in|tage.?out|re.?run|ost.?run) for JobId"
)
"""What templates/controller/logs.sh selects in a log file."""


def _head(clock: Clock, stamp: str, text: str) -> Head | None:
    at = clock.time_or_none(stamp)
    return None if at is None else (at, text)


def _without_stamp(line: str) -> str:
    """A line of a pod's log without the API's time stamp."""
    match = _POD.match(line)
    return match[2] if match else line


def _entries(
    lines: Iterable[str | None], source: str, head: _HeadOf, rest: _Rest = lambda line: line
) -> Iterator[Entry | None]:
    at, text, size = 0.0, list[str](), 0
    for line in lines:
        begins = head(line, at) if line is not None else None
        size += len(line or "")
        if text and (line is None or begins or len(text) >= MAX_LINES or size > MAX_CHARACTERS):
            yield Entry(at, source, "\n".join(text))
            text, size = [], len(line or "")
        if line is None:
            yield None
        elif begins:
            at, text = begins[0], [begins[1]]
        elif at:  # lines of an entry that began before the requested time are left out
            text.append(rest(line))
    if text:
        yield Entry(at, source, "\n".join(text))


def job_pattern(job: str) -> re.Pattern[str]:
    """What every entry about a job has: its number as Slurm and the plugin write it, or its Workflow's name."""
    number = re.escape(job)
    return re.compile(rf"\bbb{number}\b|\bjob(?:[ _]?id)?[ :=\"]+{number}\b|\bjobid={number}\b", re.IGNORECASE)


def start_time(text: str, now: float) -> float:
    """`30s`, `10m`, `2h`, `1d` before `now`, or a time (`2026-01-31T12:00`) of this machine; seconds since 1970. ValueError."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    if match := re.fullmatch(r"(\d+)([smhd])", text):
        return now - int(match[1]) * units[match[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise ValueError(f"--since {text}: expected 30s, 10m, 2h, 1d, or a time such as 2026-01-31T12:00") from None
