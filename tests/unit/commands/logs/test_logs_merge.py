"""Logs are merged by time, whatever arrives first, with a bound on memory."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pytest

from dws_on_csm.commands.logs import merge
from dws_on_csm.commands.logs.entries import Entry
from dws_on_csm.commands.logs.merge import MAX_CHARACTERS, MAX_ENTRIES, WINDOW, new_entries, past
from dws_on_csm.commands.logs.sources import Sources
from dws_on_csm.model.cluster_api import ClusterError

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Say:
    """Set when all entries before it were taken."""

    told: threading.Event


@dataclass
class Log:
    """A prepared host log: entries, pauses, events to wait for, and notes."""

    what: list[float | threading.Event | Say | Entry] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ends: bool = True
    cut: str = ""

    def past(self) -> Iterator[Entry]:
        return (one for one in self.what if isinstance(one, Entry))

    def new_entries(self) -> Iterator[Entry]:
        for one in self.what:
            if isinstance(one, Entry):
                yield one
            elif isinstance(one, Say):
                one.told.set()
            elif isinstance(one, threading.Event):
                assert one.wait(60)
            else:
                time.sleep(one)
        if self.ends:
            raise EOFError("slurmctl1: the connection broke")


def sources(*logs: Any) -> Sources:
    return Sources(hosts=list(logs))


def test_existing_entries_come_in_order() -> None:
    """Entries of several logs are shown in the order of their times."""
    one = Log([Entry(1, "a", "1"), Entry(3, "a", "3")])
    two = Log([Entry(2, "b", "2"), Entry(4, "b", "4")])
    assert [entry.text for entry in past(sources(one, two))] == ["1", "2", "3", "4"]


def test_what_comes_late_is_put_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry waits for earlier ones of other logs, for a time; here until there is no more room."""
    monkeypatch.setattr(merge, "WINDOW", 100.0)
    monkeypatch.setattr(merge, "MAX_ENTRIES", 3)
    told = threading.Event()
    slow = Log([told, Entry(1, "slow", "1")])
    fast = Log([Entry(2, "fast", "2"), Entry(4, "fast", "4"), Say(told)])
    assert [entry.text for entry in islice(new_entries(sources(slow, fast)), 1)] == ["1"]


def test_what_comes_even_later_comes_when_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry that is later than the window is shown when it arrives."""
    monkeypatch.setattr(merge, "WINDOW", 0.1)
    shown = threading.Event()
    found = sources(Log([shown, Entry(3, "slow", "3")]), Log([Entry(2, "fast", "2"), Entry(4, "fast", "4")]))
    texts: list[str] = []
    for entry in new_entries(found):
        texts.append(entry.text)
        if entry.text == "4":
            shown.set()
    assert texts == ["2", "4", "3"]


def test_a_log_that_breaks_off_is_reported_and_the_others_continue(capsys: pytest.CaptureFixture[str]) -> None:
    """The end of one source is noted; the command ends when no source is left."""
    found = sources(Log(), Log([WINDOW / 2, Entry(1, "b", "still")], ends=False))
    assert [entry.text for entry in new_entries(found)] == ["still"]
    assert "note: slurmctl1: the connection broke" in capsys.readouterr().err
    assert found.missing


def test_what_ends_when_nothing_more_is_wanted_is_no_news(capsys: pytest.CaptureFixture[str]) -> None:
    """Stopping to follow ends the connections, which needs no note."""
    found = sources(Log())
    found.closing = True
    assert list(new_entries(found)) == []
    assert (capsys.readouterr().err, found.missing) == ("", False)


def test_no_more_is_read_than_is_shown() -> None:
    """The reader of a log that writes faster than it is shown waits: the number of waiting entries is bounded."""
    read = [0]

    class Endless(Log):
        def new_entries(self) -> Iterator[Entry]:
            while True:
                read[0] += 1
                yield Entry(read[0], "a", "x" * 100)

    shown = list(islice(new_entries(sources(Endless())), 3 * MAX_ENTRIES))
    assert len(shown) == 3 * MAX_ENTRIES
    assert read[0] <= len(shown) + 2 * MAX_ENTRIES + 10


def test_large_entries_that_are_held_have_a_bound_together() -> None:
    """The size of all waiting entries together is bounded."""
    read = [0]

    class Large(Log):
        def new_entries(self) -> Iterator[Entry]:
            while read[0] < 2000:
                read[0] += 1
                yield Entry(read[0], "a", "x" * 60_000)

    shown = list(islice(new_entries(sources(Large(), Large())), 150))
    assert len(shown) == 150 and (read[0] - len(shown)) * 60_000 <= 2 * MAX_CHARACTERS + 10 * 60_000


class Api:
    """An API server that does not respond at first, then has one pod, and later another one."""

    def __init__(self) -> None:
        self.asked = 0
        self.followed: list[str] = []

    def get(self, path: str) -> dict[str, Any]:
        self.asked += 1
        if self.asked == 1:
            raise ClusterError(0, "connection refused")
        names = ["dws-webhook-1-a"] if self.asked == 2 else ["dws-webhook-1-a", "dws-webhook-1-b"]
        status = {"name": "webhook", "restartCount": 0, "state": {"running": {}}}
        return {
            "items": [
                {"metadata": {"name": n}, "spec": {"nodeName": "w1"}, "status": {"containerStatuses": [status]}}
                for n in names
            ]
        }

    def await_event(self, path: str, seconds: float) -> bool:
        threading.Event().wait(0.05)
        return True

    def lines(self, path: str, seconds: float, **query: str) -> Iterator[str | None]:
        assert query["follow"] == "true"
        pod = path.split("/")[-2]
        self.followed.append(pod)
        yield f"2026-01-31T12:00:00.5Z 2026-01-31T12:00:00Z\tINFO\tsaid by {pod}"
        yield None
        threading.Event().wait(60)


def test_pods_that_come_are_followed_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An API server that does not respond is asked again, and each new pod is read once, from the end of the past entries."""
    monkeypatch.setattr(merge, "POLL", 0.05)
    api = Api()
    found = Sources(cluster=api)  # type: ignore[arg-type]
    entries = list(islice(new_entries(found), 2))
    assert {entry.text for entry in entries} == {"INFO  said by dws-webhook-1-a", "INFO  said by dws-webhook-1-b"}
    assert {entry.source for entry in entries} == {"webhook@w1"}
    assert sorted(api.followed) == ["dws-webhook-1-a", "dws-webhook-1-b"]
    assert "retrying every" in capsys.readouterr().err


class Failing(Api):
    """One pod is gone when its log is requested; the other one's answer breaks off twice first."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 2
        self.broken = 0

    def lines(self, path: str, seconds: float, **query: str) -> Iterator[str | None]:
        if path.split("/")[-2].endswith("a"):
            raise ClusterError(404, "pods not found")
        self.broken += 1
        if self.broken < 3:
            raise ClusterError(0, "the answer broke off")
        yield from super().lines(path, seconds, **query)


def test_a_vanished_pod_is_no_missing_source(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pods come and go while logs are followed: an interrupted answer is noted once and retried."""
    monkeypatch.setattr(merge, "POLL", 0.05)
    found = Sources(cluster=Failing())  # type: ignore[arg-type]
    (entry,) = islice(new_entries(found), 1)
    assert entry.text == "INFO  said by dws-webhook-1-b"
    assert capsys.readouterr().err == "note: webhook@w1: the answer broke off (retrying)\n"
    assert not found.missing
