"""The API client without an API server: threads that share it, deletions, old versions. tests/ssh has a real server."""

import io
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
import urllib3

from dws_on_csm.kube import api_call
from dws_on_csm.kube.client import Cluster
from dws_on_csm.model.cluster_api import SILENT_FIX, ClusterError
from dws_on_csm.transport.remote_shell import RemoteShell

THING = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "x"}}


def test_an_unknown_kind_is_reported_to_all_waiting_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing kind makes the client forget its discovery, since a CRD may define it later; two threads may do so at once."""
    both = threading.Barrier(2, timeout=60)

    class Kinds(list[dict[str, Any]]):
        def __iter__(self) -> Iterator[dict[str, Any]]:
            both.wait()
            return super().__iter__()

    cluster = Cluster(cast(RemoteShell, None))
    monkeypatch.setattr(cluster, "get", lambda path: {"resources": Kinds()})
    with ThreadPoolExecutor(2) as pool:
        for told in [pool.submit(cluster.path, THING) for _ in range(2)]:
            with pytest.raises(ClusterError, match=r"does not serve the kind Thing of example\.com/v1"):
                told.result()


def accepted() -> urllib3.HTTPResponse:
    """The API server's answer to a request that it accepts."""
    return urllib3.HTTPResponse(io.BytesIO(b"{}"), status=200, preload_content=False)


def test_a_successor_with_the_same_name_is_not_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deletion by uid names that object to the server; another object may have its name right after it."""
    asked: list[Any] = []
    cluster = Cluster(cast(RemoteShell, None))

    def answer(client: Any, request: api_call.Request, seconds: float) -> urllib3.HTTPResponse:
        asked.append(request.body)
        return accepted()

    monkeypatch.setattr(api_call, "open_response", answer)
    monkeypatch.setattr(cluster, "get", lambda path, **query: {"metadata": {"name": "x", "uid": "another"}})
    cluster.delete("/api/v1/things/x", 60.0, "the one")
    cluster.delete("/api/v1/things/x", 60.0, "the one", "7")
    assert [one["preconditions"] for one in asked] == [{"uid": "the one"}, {"uid": "the one", "resourceVersion": "7"}]


def test_a_slow_deletion_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A restarted API server no longer has the versions of objects that changed before."""
    old = {"metadata": {"name": "x", "resourceVersion": "7"}}
    answers = iter([old, {"metadata": {"resourceVersion": "900"}, "items": [old]}, None])

    def watch(path: str, seconds: float, version: str, **query: str) -> Generator[dict[str, Any]]:
        if int(version) < 800:
            raise ClusterError(410, "too old resource version")
        yield {"type": "DELETED", "object": old}

    cluster = Cluster(cast(RemoteShell, None))
    monkeypatch.setattr(api_call, "open_response", lambda *request: accepted())
    monkeypatch.setattr(cluster, "get", lambda path, **query: next(answers))
    monkeypatch.setattr(cluster, "watch", watch)
    cluster.delete("/api/v1/things/x")
    assert next(answers, "all asked") == "all asked"


@pytest.mark.parametrize(
    "name",
    ["x/../../../api/v1/secrets/y", "..", ".", "", "x%2f..", "x?dryRun=All", "x#y", "x y", "x\n", "a/./b", "a//b"],
)
def test_a_name_that_somebody_chose_leads_to_no_other_object(name: str) -> None:
    """A name becomes a part of a path; what would make it another path is refused before anything is sent."""
    cluster = Cluster(cast(RemoteShell, None))
    for call in (cluster.get, cluster.delete):
        with pytest.raises(ClusterError, match="is not the path of an API object"):
            call(f"/apis/example.com/v1/namespaces/n/things/{name}")


def test_an_api_server_that_is_down_is_no_answer() -> None:
    """kubectl proxy answers in its place, in plain words: one error with one fix; an API server's own words are kept."""
    down = api_call.failure(
        urllib3.HTTPResponse(status=502), b": dial tcp 10.0.0.1:6443: connect: connection refused\n"
    )
    assert (down.status, down.fix) == (0, SILENT_FIX)
    assert str(down).endswith("on the master: dial tcp 10.0.0.1:6443: connect: connection refused")
    own = urllib3.HTTPResponse(status=500, headers={"Audit-Id": "1"})
    for content in (b'{"kind": "Status", "message": "it panicked"}', b"it panicked"):
        other = api_call.failure(own, content)
        assert (other.status, str(other), other.fix) == (500, "it panicked", "")
