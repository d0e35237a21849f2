"""Logs as entries on one clock: what Slurm and DWS write is cut, dated, picked and merged. Pure, but for what is read from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

LONGEST, LARGEST = 2000, 64_000
"""Lines, and characters, after which an entry is shown although its end has not come."""
FAR = 10 * 365 * 86400.0
"""Seconds by which a clock may be wrong: one that tells of more tells no time."""


@dataclass(frozen=True)
class Entry:
    """What was said at once: when, in seconds since 1970 by this machine's clock; by whom; one line or several."""

    at: float
    source: str
    text: str


@dataclass(frozen=True)
class Clock:
    """How a source tells the time: `ahead` seconds before this machine's clock, in the zone `zone` where it names none."""

    ahead: float = 0.0
    zone: timezone = UTC

    def time(self, stamp: str) -> float:
        """Seconds since 1970 by this machine's clock. ValueError for what is no time."""
        at = datetime.fromisoformat(stamp)
        return (at if at.tzinfo else at.replace(tzinfo=self.zone)).timestamp() - self.ahead

    def told(self, stamp: str) -> float | None:
        """The same; None for what is no time, which others may have written where one should be."""
        try:
            return self.time(stamp)
        except (ValueError, OverflowError):
            return None


def zone(text: str) -> timezone:
    """`+0130` as `date +%z` prints it."""
    sign = -1 if text.startswith("-") else 1
    return timezone(sign * timedelta(hours=int(text[1:3]), minutes=int(text[3:5])))


Head = tuple[float, str]
"""When an entry was written, and its first line without the time."""

_HeadOf = Callable[[str, float], Head | None]
_Rest = Callable[[str], str]

_SLURM = re.compile(r"\[(\d{4}-\d\d-\d\dT[^\]\s]*)\] ?(.*)", re.DOTALL)
_POD = re.compile(r"(\d{4}-\d\d-\d\dT\S+) ?(.*)", re.DOTALL)
_OWN = re.compile(r"\d{4}-\d\d-\d\d[T ]\S+\s+|[IWEF]\d{4} \S+\s+\d+ ")
"""How DWS (zap) or a Kubernetes program (klog) dates its own lines: known already, from whoever kept the line."""
_TOGETHER = 0.05
"""Seconds within which lines that a program did not date belong to the one before."""


def of_slurm(lines: Iterable[str | None], source: str, clock: Clock) -> Iterator[Entry | None]:
    """The entries of slurmctld's log; lines without a time belong to the entry before. None: nothing more for now."""

    def head(line: str, last: float) -> Head | None:
        found = _SLURM.match(line)
        return _begun(clock, found[1], found[2]) if found else None

    return _entries(lines, source, head)


def of_pod(lines: Iterable[str | None], source: str, clock: Clock) -> Iterator[Entry | None]:
    """The entries of a pod's log as the API gives it with time stamps; a stack trace belongs to what it was printed for."""

    def head(line: str, last: float) -> Head | None:
        found = _POD.match(line)
        if not found:
            return None
        at, text = clock.told(found[1]), found[2]
        if at is None:
            return None
        own = _OWN.match(text)
        if not own and at - last <= _TOGETHER:
            return None
        return at, (text[own.end() :] if own else text).replace("\t", "  ")

    return _entries(lines, source, head, bare)


def of_slurmctld(lines: Iterable[str | None], source: str, clock: Clock) -> Iterator[Entry | None]:
    """The entries of a slurmctld that writes to its container's log: those of the plugin and of the script daemon."""

    def head(line: str, last: float) -> Head | None:
        found = _POD.match(line)
        own = _SLURMCTLD.match(found[2]) if found else None
        return _begun(clock, found[1], own[1]) if found and own else None

    for entry in _entries(lines, source, head, bare):
        if entry is None or _OF_PLUGIN.search(entry.text.partition("\n")[0]):
            yield entry


_SLURMCTLD = re.compile(r"slurmctld: (?:\[[^\]]*\] )?(.*)", re.DOTALL)
_OF_PLUGIN = re.compile(
    r"\blua|slurm_bb_|burst_buffer|slurmscriptd|"
    r"(etup|eardown|tage.?in|tage.?out|re.?run|ost.?run) for JobId"
)
"""What templates/controller/logs.sh picks of a log file."""


def _begun(clock: Clock, stamp: str, text: str) -> Head | None:
    at = clock.told(stamp)
    return None if at is None else (at, text)


def bare(line: str) -> str:
    """A line of a pod's log without the API's time stamp."""
    found = _POD.match(line)
    return found[2] if found else line


def _entries(
    lines: Iterable[str | None], source: str, head: _HeadOf, rest: _Rest = lambda line: line
) -> Iterator[Entry | None]:
    at, text, size = 0.0, list[str](), 0
    for line in lines:
        begins = head(line, at) if line is not None else None
        size += len(line or "")
        if text and (line is None or begins or len(text) >= LONGEST or size > LARGEST):
            yield Entry(at, source, "\n".join(text))
            text, size = [], len(line or "")
        if line is None:
            yield None
        elif begins:
            at, text = begins[0], [begins[1]]
        elif at:  # what belongs to an entry before all that was asked for is left out
            text.append(rest(line))
    if text:
        yield Entry(at, source, "\n".join(text))


def about(job: str) -> re.Pattern[str]:
    """What is in every entry about job N: Slurm's and the plugin's ways of naming it, and its Workflow's name."""
    number = re.escape(job)
    return re.compile(rf"\bbb{number}\b|\bjob(?:[ _]?id)?[ :=\"]+{number}\b|\bjobid={number}\b", re.IGNORECASE)


def since(text: str, now: float) -> float:
    """`30s`, `10m`, `2h`, `1d` before `now`, or a time (`2026-01-31T12:00`) of this machine; seconds since 1970. ValueError."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    if found := re.fullmatch(r"(\d+)([smhd])", text):
        return now - int(found[1]) * units[found[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise ValueError(f"{text!r} is no time: 30s, 10m, 2h, 1d, or 2026-01-31T12:00") from None
