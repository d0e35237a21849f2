"""Where entries of logs come from, opened side by side; merged into one order: what is there, then what comes."""

from __future__ import annotations

import heapq
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from operator import attrgetter

from fabfile import logs_hosts, logs_pods
from fabfile.cluster import Cluster, preload
from fabfile.connect import connect_all
from fabfile.faults import Unreachable
from fabfile.inventory import Host, Site
from fabfile.logs_entries import Clock, Entry
from fabfile.logs_hosts import HostLog
from fabfile.logs_pods import PodLog
from fabfile.run import TROUBLE
from fabfile.session import Session
from fabfile.step import ClusterError

WINDOW = 1.0
"""Seconds that an entry waits for earlier ones from elsewhere before it is shown."""
ROOM = 2000
"""Entries that wait at most; then whoever reads more of them waits too."""
ENDS: tuple[type[Exception], ...] = (*TROUBLE, EOFError)
"""How a source may end badly."""
LOOK = 5.0
"""Seconds after which it is looked for new pods, whether the API tells of one or not."""


@dataclass
class Sources:
    """Where entries come from. `missing` is set when one of them can't be read."""

    cluster: Cluster | None = None
    hosts: list[HostLog] = field(default_factory=list)
    pods: list[PodLog] = field(default_factory=list)
    clocks: dict[str, Clock] = field(default_factory=dict)
    began: float = 0.0
    ends: float = 0.0
    """When the past ends for pods: what they say later is what comes."""
    missing: bool = False
    inside: tuple[Host, ...] = ()

    def note(self, text: str) -> None:
        """Something that people have to know about a source."""
        print(f"note: {text}", file=sys.stderr)  # noqa: T201

    def lacks(self, text: str) -> None:
        """A source that can't be read."""
        self.missing = True
        self.note(text)


@contextmanager
def sources(site: Site, began: float, follow: bool) -> Iterator[Sources]:
    """The logs of the site's hosts, opened, and the API for those of pods; only of hosts that `site` is limited to."""
    threading.Thread(target=preload, daemon=True).start()
    found = Sources(began=began)
    wanted = [host for host in (site.master.host, *site.controllers) if site.active(host)]
    with ExitStack() as ends:
        sessions = connect_all(site, wanted)
        ends.callback(sessions.close)
        for host in wanted:
            session = sessions[host.name]
            if isinstance(session, Unreachable):
                found.lacks(str(session))
            elif host.role == "master":
                _open_pods(site, session, found, ends)
            elif not host.pod:
                _open_host(site, session, found, follow, ends)
        found.ends = time.time()
        yield found


def _open_host(site: Site, session: Session, found: Sources, follow: bool, ends: ExitStack) -> None:
    try:
        log = logs_hosts.opened(site, session, found.began, follow)
    except TROUBLE as error:
        found.lacks(str(error))
        return
    ends.callback(log.close)
    for text in log.notes:
        found.note(text)
    log.notes.clear()
    found.hosts.append(log)


def _open_pods(site: Site, session: Session, found: Sources, ends: ExitStack) -> None:
    found.cluster = Cluster(session, site.master.context, watches=logs_pods.STREAMS + 1)
    ends.callback(found.cluster.close)
    found.inside = tuple(host for host in site.controllers if host.pod and site.active(host))
    found.pods = logs_pods.readable(found.cluster, found.lacks, found.inside)
    try:
        ahead = _ahead(session)
        found.clocks = logs_pods.clocks(found.cluster, ahead, [log.node for log in found.pods])
    except TROUBLE as error:
        found.note(f"the nodes' clocks can't be told, their times are taken as they are: {error}")
    for node, clock in found.clocks.items():
        if abs(clock.ahead) > logs_hosts.NOTED:
            found.note(logs_hosts.skewed(node, clock.ahead))


def _ahead(session: Session) -> float:
    """Seconds that a host's clock is ahead of this machine's; 0 where that is too little to be sure of."""
    before = time.time()
    answer = session.run("date +%s.%N", deadline=20.0)
    ahead = float(answer.out) - (before + time.time()) / 2
    return ahead if abs(ahead) > logs_hosts.NOTED else 0.0


# --- what is there


def past(found: Sources) -> Iterator[Entry]:
    """All entries that are there already, in order; no more than one of each source is in memory at once."""
    every: list[Iterable[Entry]] = [log.past() for log in found.hosts]
    every += [_guarded(found, log, _pod_past(found, log)) for log in found.pods]
    yield from heapq.merge(*every, key=attrgetter("at"))
    for log in found.hosts:
        for text in log.notes:
            found.note(text)


def _pod_past(found: Sources, log: PodLog) -> Iterator[Entry]:
    assert found.cluster is not None
    for entry in logs_pods.past(found.cluster, log, found.began, _clock(found, log)):
        if entry.at <= found.ends:
            yield entry


def _clock(found: Sources, log: PodLog) -> Clock:
    return found.clocks.get(log.node, Clock())


def _guarded(found: Sources, log: PodLog, entries: Iterator[Entry]) -> Iterator[Entry]:
    try:
        yield from entries
    except TROUBLE as error:
        found.lacks(f"{log.source}: {error}")


# --- what comes

News = queue.Queue[Entry]


def coming(found: Sources) -> Iterator[Entry]:
    """Entries as they come, put in order within WINDOW seconds; ends when there is no source any more."""
    news = News(ROOM)
    threads = [_thread(found, partial(_into, news, log.coming)) for log in found.hosts]
    if found.cluster:
        threads.append(_thread(found, partial(_follow_pods, found, found.cluster, news)))
    held: list[tuple[float, int, float, Entry]] = []  # when it was said, a number, when it came
    numbers = count()
    while held or any(thread.is_alive() for thread in threads) or not news.empty():
        with suppress(queue.Empty):
            entry = news.get(timeout=WINDOW / 5)
            heapq.heappush(held, (entry.at, next(numbers), time.monotonic(), entry))
        while held and (len(held) >= ROOM or held[0][2] <= time.monotonic() - WINDOW):
            yield heapq.heappop(held)[3]


def _thread(found: Sources, work: Callable[[], None]) -> threading.Thread:
    """Does `work`, which may end badly, in a thread that ends with the program."""

    def guarded() -> None:
        try:
            work()
        except ENDS as error:
            found.lacks(str(error))

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
            for log in logs_pods.found(cluster, found.inside):
                one = reading.setdefault((log.pod, log.container), _Reading(found.ends))
                if one.due(log):
                    one.restarts = log.restarts
                    one.thread = _thread(found, partial(_into, news, partial(_coming, found, cluster, log, one)))
            cluster.await_event(logs_pods.PODS, LOOK)
            away = ""
        except ClusterError as error:
            if not away:
                found.note(f"DWS's pods can't be asked, and are again every {LOOK:.0f} s: {error}")
            away = str(error)
            threading.Event().wait(LOOK)


@dataclass
class _Reading:
    """A container that is read: when its last entry was written, how often it had been started again, who reads."""

    last: float
    restarts: int = -1
    thread: threading.Thread | None = None

    def due(self, log: PodLog) -> bool:
        """Whether nobody reads it, and there is something to come, or something that nobody has read."""
        if self.thread and self.thread.is_alive():
            return False
        return log.running or log.restarts != self.restarts


def _coming(found: Sources, cluster: Cluster, log: PodLog, one: _Reading) -> Iterator[Entry]:
    for entry in logs_pods.coming(cluster, log, one.last, _clock(found, log)):
        one.last = entry.at
        yield entry
