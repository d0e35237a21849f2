"""Entries of logs merged into one order: what is there, then what comes."""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from operator import attrgetter

from dws_on_csm.commands.logs import pod_log
from dws_on_csm.commands.logs.entries import Clock, Entry
from dws_on_csm.commands.logs.pod_log import PodLog
from dws_on_csm.commands.logs.sources import Sources
from dws_on_csm.kube.client import Cluster
from dws_on_csm.model.errors import READ_ERRORS, error_text

WINDOW = 1.0
"""Seconds that an entry waits for earlier ones from elsewhere before it is shown."""
ROOM = 2000
"""Entries that wait at most; then whoever reads more of them waits too."""
SPACE = 4_000_000
"""Characters that these have at most, for the same end: an entry may have many."""
ENDS: tuple[type[Exception], ...] = (*READ_ERRORS, EOFError)
"""How a source may end badly."""
LOOK = 5.0
"""Seconds after which it is looked for new pods, whether the API tells of one or not."""


# --- what is there


def past(found: Sources) -> Iterator[Entry]:
    """All entries that are there already, in order; no more than one of each source is in memory at once."""
    every: list[Iterable[Entry]] = [log.past() for log in found.hosts]
    every += [_guarded(found, log, _pod_past(found, log)) for log in found.pods]
    yield from heapq.merge(*every, key=attrgetter("at"))
    for log in found.hosts:
        for text in log.notes:
            found.note(text)
        if log.cut:
            found.lacks(log.cut)


def _pod_past(found: Sources, log: PodLog) -> Iterator[Entry]:
    assert found.cluster is not None
    for entry in pod_log.past(found.cluster, log, found.began, _clock(found, log)):
        if entry.at <= found.ends:
            yield entry


def _clock(found: Sources, log: PodLog) -> Clock:
    return found.clocks.get(log.node, Clock())


def _guarded(found: Sources, log: PodLog, entries: Iterator[Entry]) -> Iterator[Entry]:
    try:
        yield from entries
    except READ_ERRORS as error:
        found.lacks(f"{log.source}: {error_text(error)}")


# --- what comes


class News:
    """Entries on their way: of ROOM, and of SPACE characters, at most. Whoever brings more waits."""

    def __init__(self) -> None:
        self._entries = deque[Entry]()
        self._size = 0
        self._changed = threading.Condition()

    def put(self, entry: Entry) -> None:
        """Brings one, when there is room for it."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._entries) < ROOM and self._size < SPACE)
            self._entries.append(entry)
            self._size += len(entry.text)
            self._changed.notify_all()

    def get(self, seconds: float) -> Entry | None:
        """The next one; None where none comes."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._entries, seconds):
                return None
            entry = self._entries.popleft()
            self._size -= len(entry.text)
            self._changed.notify_all()
            return entry

    def empty(self) -> bool:
        """Whether there is none now."""
        return not self._entries


def coming(found: Sources) -> Iterator[Entry]:
    """Entries as they come, put in order within WINDOW seconds; ends when there is no source any more."""
    news = News()
    threads = [_thread(found, partial(_into, news, log.coming)) for log in found.hosts]
    if found.cluster:
        threads.append(_thread(found, partial(_follow_pods, found, found.cluster, news)))
    held: list[tuple[float, int, float, Entry]] = []  # when it was said, a number, when it came
    numbers, size = count(), 0
    while held or any(thread.is_alive() for thread in threads) or not news.empty():
        if entry := news.get(WINDOW / 5):
            heapq.heappush(held, (entry.at, next(numbers), time.monotonic(), entry))
            size += len(entry.text)
        while held and (len(held) >= ROOM or size >= SPACE or held[0][2] <= time.monotonic() - WINDOW):
            entry = heapq.heappop(held)[3]
            size -= len(entry.text)
            yield entry


def _thread(found: Sources, work: Callable[[], None]) -> threading.Thread:
    """Does `work`, which may end badly, in a thread that ends with the program."""

    def guarded() -> None:
        try:
            work()
        except ENDS as error:
            found.lacks(str(error) if isinstance(error, EOFError) else error_text(error))

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    return thread


def _into(news: News, entries: Callable[[], Iterable[Entry]]) -> None:
    for entry in entries():
        news.put(entry)


def _follow_pods(found: Sources, cluster: Cluster, news: News) -> None:
    """Reads each container in a thread of its own, new ones as they come; doesn't end.

    An API server that is away is asked again: that is one of the things for which logs are followed.
    """
    reading: dict[tuple[str, str], _Reading] = {}
    away = ""
    while True:
        try:
            for log in pod_log.found(cluster, found.inside):
                one = reading.setdefault((log.pod, log.container), _Reading(found.ends))
                if one.due(log):
                    one.restarts = log.restarts
                    one.thread = _thread(found, partial(_into, news, partial(_coming, found, cluster, log, one)))
            cluster.await_event(pod_log.PODS, LOOK)
            away = ""
        except READ_ERRORS as error:
            if not away:
                found.note(f"DWS's pods can't be asked, and are again every {LOOK:.0f} s: {error_text(error)}")
            away = error_text(error)
            threading.Event().wait(LOOK)


@dataclass
class _Reading:
    """A container that is read: when its last entry was written, how often it had been started again, who reads.

    `wrong` is why it could not be read the last time; "" if it could.
    """

    last: float
    restarts: int = -1
    thread: threading.Thread | None = None
    wrong: str = ""

    def due(self, log: PodLog) -> bool:
        """Whether nobody reads it, and there is something to come, or something that nobody has read."""
        if self.thread and self.thread.is_alive():
            return False
        return log.running or log.restarts != self.restarts


def _coming(found: Sources, cluster: Cluster, log: PodLog, one: _Reading) -> Iterator[Entry]:
    """What a container says; what can't be read is noted once, and asked for again with the next look at the pods."""
    wrong = ""
    try:
        for entry in pod_log.coming(cluster, log, one.last, _clock(found, log)):
            one.last = entry.at
            yield entry
    except READ_ERRORS as error:
        wrong = error_text(error)
        if wrong != one.wrong:
            found.note(f"{log.source}: {wrong}; it is tried again")
    one.wrong = wrong
