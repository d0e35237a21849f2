"""Entries of all logs in order of time: first the past ones, then the new ones."""

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
"""Seconds that an entry waits for earlier ones from other sources before it is shown."""
MAX_ENTRIES = 2000
"""Entries that may wait; then the readers wait."""
MAX_CHARACTERS = 4_000_000
"""Characters that these may have together, for the same reason."""
SOURCE_ERRORS: tuple[type[Exception], ...] = (*READ_ERRORS, EOFError)
"""What reading a source may raise."""
POLL = 5.0
"""Seconds between two searches for new pods, even if the API reports none."""


# --- past entries


def past(sources: Sources) -> Iterator[Entry]:
    """All entries that the logs already have, in order; at most one of each source is in memory."""
    logs: list[Iterable[Entry]] = [log.past() for log in sources.hosts]
    logs += [_guarded(sources, log, _pod_past(sources, log)) for log in sources.pods]
    yield from heapq.merge(*logs, key=attrgetter("at"))
    for log in sources.hosts:
        for text in log.notes:
            sources.note(text)
        if log.cut:
            sources.note_missing(log.cut)


def _pod_past(sources: Sources, log: PodLog) -> Iterator[Entry]:
    assert sources.cluster is not None
    for entry in pod_log.past(sources.cluster, log, sources.since, _clock(sources, log)):
        if entry.at <= sources.opened_at:
            yield entry


def _clock(sources: Sources, log: PodLog) -> Clock:
    return sources.clocks.get(log.node, Clock())


def _guarded(sources: Sources, log: PodLog, entries: Iterator[Entry]) -> Iterator[Entry]:
    try:
        yield from entries
    except READ_ERRORS as error:
        sources.note_missing(f"{log.source}: {error_text(error)}")


# --- new entries


class EntryQueue:
    """Entries between the readers and the display: at most MAX_ENTRIES and MAX_CHARACTERS; a reader that has more waits."""

    def __init__(self) -> None:
        self._entries = deque[Entry]()
        self._size = 0
        self._changed = threading.Condition()

    def put(self, entry: Entry) -> None:
        """Add an entry, once there is room for it."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._entries) < MAX_ENTRIES and self._size < MAX_CHARACTERS)
            self._entries.append(entry)
            self._size += len(entry.text)
            self._changed.notify_all()

    def get(self, seconds: float) -> Entry | None:
        """The next entry; None where none arrives within `seconds`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._entries, seconds):
                return None
            entry = self._entries.popleft()
            self._size -= len(entry.text)
            self._changed.notify_all()
            return entry

    def empty(self) -> bool:
        """Whether there is no entry now."""
        return not self._entries


def new_entries(sources: Sources) -> Iterator[Entry]:
    """Entries as they arrive, put in order within WINDOW seconds; ends when no source is left."""
    queue = EntryQueue()
    threads = [_thread(sources, partial(_read_into, queue, log.new_entries)) for log in sources.hosts]
    if sources.cluster:
        threads.append(_thread(sources, partial(_follow_pods, sources, sources.cluster, queue)))
    waiting: list[tuple[float, int, float, Entry]] = []  # the entry's time, a number, when it arrived
    numbers, size = count(), 0
    while waiting or any(thread.is_alive() for thread in threads) or not queue.empty():
        if entry := queue.get(WINDOW / 5):
            heapq.heappush(waiting, (entry.at, next(numbers), time.monotonic(), entry))
            size += len(entry.text)
        while waiting and (
            len(waiting) >= MAX_ENTRIES or size >= MAX_CHARACTERS or waiting[0][2] <= time.monotonic() - WINDOW
        ):
            entry = heapq.heappop(waiting)[3]
            size -= len(entry.text)
            yield entry


def _thread(sources: Sources, work: Callable[[], None]) -> threading.Thread:
    """Start `work`, whose errors are noted, in a thread that ends with the program."""

    def guarded() -> None:
        try:
            work()
        except SOURCE_ERRORS as error:
            sources.note_missing(str(error) if isinstance(error, EOFError) else error_text(error))

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    return thread


def _read_into(queue: EntryQueue, entries: Callable[[], Iterable[Entry]]) -> None:
    for entry in entries():
        queue.put(entry)


def _follow_pods(sources: Sources, cluster: Cluster, queue: EntryQueue) -> None:
    """Read each container in a thread of its own, new containers as they start; does not end.

    An API server that does not respond is asked again: people follow logs to watch just that.
    """
    readers: dict[tuple[str, str], _Reader] = {}
    away = ""
    while True:
        try:
            for log in pod_log.containers(cluster, sources.controllers_in_pods):
                reader = readers.setdefault((log.pod, log.container), _Reader(sources.opened_at))
                if reader.due(log):
                    reader.restarts = log.restarts
                    read = partial(_new_pod_entries, sources, cluster, log, reader)
                    reader.thread = _thread(sources, partial(_read_into, queue, read))
            cluster.await_event(pod_log.PODS, POLL)
            away = ""
        except READ_ERRORS as error:
            if not away:
                sources.note(f"DWS's pods cannot be listed (retrying every {POLL:.0f} s): {error_text(error)}")
            away = error_text(error)
            threading.Event().wait(POLL)


@dataclass
class _Reader:
    """Who reads a container: the time of its last entry, the number of its restarts, the thread.

    `error`: why it could not be read the last time; "" if it could.
    """

    last: float
    restarts: int = -1
    thread: threading.Thread | None = None
    error: str = ""

    def due(self, log: PodLog) -> bool:
        """Whether nobody reads the container now, and it is running or has restarted since."""
        if self.thread and self.thread.is_alive():
            return False
        return log.running or log.restarts != self.restarts


def _new_pod_entries(sources: Sources, cluster: Cluster, log: PodLog, reader: _Reader) -> Iterator[Entry]:
    """A container's new entries; an error is noted once, and the next search for pods starts another reader."""
    why = ""
    try:
        for entry in pod_log.new_entries(cluster, log, reader.last, _clock(sources, log)):
            reader.last = entry.at
            yield entry
    except READ_ERRORS as error:
        why = error_text(error)
        if why != reader.error:
            sources.note(f"{log.source}: {why} (retrying)")
    reader.error = why
