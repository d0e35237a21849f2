"""An API server whose answers are endless, slow or malformed: memory and time are bounded, and the failure is reported."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dws_on_csm.commands import workflows
from dws_on_csm.commands.doctor.support_archive import known_secrets, object_text
from dws_on_csm.commands.history import rollback
from dws_on_csm.commands.history.host_record import parse_host_record
from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.kube import api_call, proxy
from dws_on_csm.kube.client import Cluster
from dws_on_csm.kube.watch import Changes
from dws_on_csm.model.cluster_api import ClusterError
from dws_on_csm.model.exit_codes import FAILED
from dws_on_csm.runner import past_runs
from dws_on_csm.runner.options import Options
from dws_on_csm.runner.read_only import Reading
from dws_on_csm.transport.remote_shell import RemoteShell

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
BLANKS = b"10000\r\n" + b" " * 0x10000 + b"\r\n"


class Channel:
    """A channel to a server in a thread of this process, through a pair of sockets."""

    eof_received = False

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._ours, theirs = socket.socketpair()
        self.closed = False
        self.settimeout, self.recv, self.sendall = self._ours.settimeout, self._ours.recv, self._ours.sendall
        threading.Thread(target=self._serve, args=(serve, theirs), daemon=True).start()

    def _serve(self, serve: Callable[[socket.socket], None], theirs: socket.socket) -> None:
        with theirs, contextlib.suppress(OSError):
            while theirs.recv(1 << 16):
                serve(theirs)

    def recv_ready(self) -> bool:
        return bool(select.select([self._ours], [], [], 0)[0])

    def close(self) -> None:
        self.closed = True
        self._ours.close()


def cluster(serve: Callable[[socket.socket], None]) -> Cluster:
    """An API whose server handles each request with this function."""
    session = SimpleNamespace(host="ncn-m001", pipe=lambda *words, **more: (Channel(serve), "socket"))
    return Cluster(cast(RemoteShell, session))


def answered(body: bytes, head: bytes = OK) -> Callable[[socket.socket], None]:
    """A server that gives this answer to each request."""
    return lambda theirs: theirs.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)


def endless(theirs: socket.socket) -> None:
    """Endless blanks, which JSON allows."""
    theirs.sendall(CHUNKED)
    while True:
        theirs.sendall(BLANKS)


def trickling(theirs: socket.socket) -> None:
    """Single bytes, each before the pause becomes too long."""
    theirs.sendall(OK + b"Content-Length: 100000\r\n\r\n")
    for _ in range(100_000):
        theirs.sendall(b" ")
        threading.Event().wait(0.02)


def events(theirs: socket.socket) -> None:
    """An endless event of a watch."""
    theirs.sendall(CHUNKED + b'2\r\n{"\r\n')
    while True:
        theirs.sendall(BLANKS.replace(b" ", b"x"))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small limits."""
    monkeypatch.setattr(api_call, "LIMIT", 3_000_000)
    monkeypatch.setattr(api_call, "LONGEST", 3_000_000)


@pytest.mark.parametrize(
    "ask",
    [
        lambda api: api.get("/api/v1/nodes"),
        lambda api: api.names("/api/v1/nodes"),
        lambda api: api.create("/api/v1/nodes", {}),
    ],
)
def test_an_answer_without_an_end_is_not_read_to_it(ask: Callable[[Cluster], Any]) -> None:
    """It is the server's failure, and its connection becomes free for another request."""
    api = cluster(endless)
    for _ in range(5):  # more than the number of connections
        with pytest.raises(ClusterError, match="more than 3 MB"):
            ask(api)


def test_a_trickling_answer_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """No single pause is too long, but the complete answer has a time limit."""
    monkeypatch.setattr(proxy, "WHOLE", 40.0)
    monkeypatch.setattr("dws_on_csm.kube.client.ANSWER", 20.0)
    seconds = count()  # a second passes from read to read, however slow this machine is
    monkeypatch.setattr(proxy, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))
    with pytest.raises(ClusterError, match="is incomplete"):
        cluster(trickling).get("/api/v1/nodes")


def test_an_event_without_an_end_ends_the_watch() -> None:
    """The size of an event is limited, too."""
    with pytest.raises(ClusterError, match="more than 3 MB"):
        next(cluster(events).watch("/api/v1/nodes", 10.0))


def test_a_line_of_a_log_without_an_end_comes_in_pieces() -> None:
    """A container may print anything: a line without an end is passed on in pieces."""
    lines = cluster(events).lines("/api/v1/log")
    seen = [line for line, _ in zip(lines, range(20), strict=False) if line]
    lines.close()
    assert seen and all(len(line) < 300_000 for line in seen)


@pytest.mark.parametrize("later", ["\xb2", "9" * 5000, "-1", "1e3"])
def test_a_time_to_ask_again_that_is_none(later: str) -> None:
    """A malformed Retry-After is the failure of a busy server, and not the end of the run."""
    head = b"HTTP/1.1 429 Later\r\nRetry-After: " + later.encode("latin-1") + b"\r\n"
    with pytest.raises(ClusterError, match="too busy"):
        cluster(answered(b'{"message": "too busy"}', head)).get("/api/v1/nodes")


DEEP = b'{"items":' * 3000 + b"1" + b"}" * 3000
FLAT = b'{"a":' * 300 + b"1" + b"}" * 300


@pytest.mark.parametrize("body", [DEEP, FLAT, b"[]", b"7", b"null", b"{", b"9" * 9000, b"\xff"])
@pytest.mark.parametrize("status", [b"200 OK", b"500 No"])
def test_an_unusable_answer_is_a_failure_of_the_server(body: bytes, status: bytes) -> None:
    """An answer that is nested too deeply, no object, no JSON or no text is reported as that."""
    with pytest.raises(ClusterError) as error:
        cluster(answered(body, OK.replace(b"200 OK", status))).get("/api/v1/nodes")
    assert len(str(error.value)) < 3000


@pytest.mark.parametrize("key", ["groups", "items", "resources", "versions"])
def test_a_null_list_is_empty(key: str) -> None:
    """Go writes an unset list as null: a CRD's group has it until its first kind is served."""
    answer = b'{"kind": "List", "%s": null}' % key.encode()
    assert cluster(answered(answer)).get("/apis/x") == {"kind": "List", key: []}


@pytest.mark.parametrize("event", [b"[]", b"{}", b'{"type": "ADDED"}', b'{"type": "ERROR", "object": []}', DEEP])
def test_an_unusable_event_ends_the_watch(event: bytes) -> None:
    """A malformed event ends the watch at once."""
    with pytest.raises(ClusterError):
        list(cluster(answered(event + b"\n")).watch("/api/v1/nodes", 10.0))


def test_a_watch_without_readable_events_is_reported() -> None:
    """The waiting thread gets the error, instead of repeating its request."""

    class Watched:
        def get(self, path: str, **query: str) -> dict[str, Any] | None:
            return {"metadata": {"resourceVersion": "1"}}

        def watch(self, path: str, seconds: float, resource_version: str = "") -> Any:
            yield {"type": "ADDED", "object": {"metadata": 5}}

    with pytest.raises(ClusterError, match="can't be read"):
        Changes(Watched(), "/api/v1/nodes").wait(60.0)


class Lies:
    """Malformed answers of an API server and of hosts."""

    host = "ncn-m001"

    def __init__(self, data: Any) -> None:
        self.data = data

    def get(self, path: str) -> Any:
        return self.data

    def run(self, script: str, deadline: float) -> Any:
        return SimpleNamespace(code=0, out=b" \n\n\t\n", err=b"")

    def reading(self) -> Reading:
        reach = SimpleNamespace(session=lambda host: self, cluster=lambda: self)
        return cast(Reading, SimpleNamespace(run=SimpleNamespace(site=load(DEFAULT), reach=reach)))


@pytest.mark.parametrize("secret", [{"data": {"password": 5}}, {"data": {"password": "a"}}, {"data": [1]}, [1]])
def test_an_unusable_secret_does_not_prevent_an_archive(secret: Any) -> None:
    """The archive names the secret that could not be read; blank lines are no checksums of a key."""
    found, unread = known_secrets(Lies(secret).reading())
    assert "could not be read, so the archive was not searched for it: the answer could not be read" in unread
    assert found.redacted("said") == "said"


def test_a_too_deeply_nested_answer_is_reported() -> None:
    """The archive has the error in its place, and all other objects."""
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    assert "/api/v1/nodes: the answer could not be read: RecursionError" in object_text(
        Lies(deep).reading(), "/api/v1/nodes"
    )


def test_unusable_workflows_are_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`invoke workflows` ends with a message and its exit code for any answer of the API."""
    master = SimpleNamespace(cluster=lambda: Lies({"spec": 1}))
    sessions = SimpleNamespace(close=lambda: None, master=lambda name: master)
    monkeypatch.setattr(workflows, "connect", lambda site, hosts: sessions)
    assert workflows.show(load(DEFAULT), True, False) == FAILED
    assert "the answer could not be read" in capsys.readouterr().err


NESTED = "[" * 100_000
HEAD = '{"task": "install", "by": "ada", "at": %s, "undoes": "", "installed": null}'


@pytest.mark.parametrize(
    "record", [NESTED, f'{{"task": {NESTED}', *(HEAD % at for at in ("NaN", "Infinity", "1e300", "-1", "[]"))]
)
def test_a_hosts_unusable_record_is_reported_as_unreadable(record: str) -> None:
    """A record that is nested too deeply, or has no valid time, is unreadable; the other runs are still known."""
    event = f'{{"event": "opened", "task": "x", "at": {record}}}'
    lines = [f"opened a {HEAD % 5}", f"opened b {record}", f"event c {event}"]
    runs = past_runs.from_records("m", {"m": lines})
    assert (runs["a"].at, runs["a"].unreadable_records) == (5.0, [])
    assert runs["b"].unreadable_records and runs["c"].unreadable_records and runs["b"].at == runs["c"].at == 0.0


def test_a_record_of_an_object_that_is_nested_too_deeply_is_passed_over() -> None:
    """Such a record counts as unreadable, by its run."""
    read = parse_host_record([f"object a {NESTED}", 'object b {"path": "/x", "before": null, "step": "s"}'])
    assert set(read.unreadable) == {"a"} and set(read.objects) == {"/x"}


def test_a_rollback_to_what_cannot_be_read_ends_in_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A malformed answer ends in a message, not in a traceback: nothing was rolled back."""

    def connect(*arguments: Any) -> None:
        raise KeyError("items")

    monkeypatch.setattr(rollback, "connect_all", connect)
    assert rollback.rollback(load(DEFAULT), "", Options()) == FAILED
    assert "Nothing was rolled back: the answer could not be read: KeyError: 'items'" in capsys.readouterr().err
