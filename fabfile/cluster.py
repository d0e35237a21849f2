"""The Kubernetes API of the master: the official client over the SSH connection. No credential leaves the master."""

from __future__ import annotations

import json
import shlex
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from typing import Any

import urllib3

from fabfile.api import ClusterError
from fabfile.changes import Changes
from fabfile.faults import Lost, Unreachable
from fabfile.kubeproxy import Proxy, pool
from fabfile.session import Session

Json = dict[str, Any]
JSON = "application/json"
Request = tuple[str, str, Mapping[str, str], Mapping[str, Any] | None, str]
"""Method, path, query, body, the body's content type."""
METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""What is asked for where the objects' metadata is enough (Kubernetes 1.15 and later)."""
MANAGER = "dws-on-csm"
"""The field manager of what is applied."""
ANSWER = 60.0  # seconds within which the API server answers a request
CONNECTIONS, WATCHES = 2, 2  # and the proxy itself: 5 of the 10 sessions that sshd allows
NOT_FOUND, LATER = 404, 429
PIECE = 1 << 16  # bytes of an answer that is read in lines


def preload() -> None:
    """Imports the client, which takes a third of a second: for a thread of its own, while SSH connects."""
    import kubernetes.client  # noqa: F401 - imported for its own sake


class Cluster:
    """The API as parsed JSON, by paths (`/api/v1/nodes`). Every method raises ClusterError; threads may share it.

    `watches` is how many answers that go on may be open at once, beside all others.
    """

    def __init__(self, session: Session, context: str = "", watches: int = WATCHES) -> None:
        from kubernetes.client import ApiClient, Configuration

        named = f" --context={shlex.quote(context)}" if context else ""
        # Named outright: of a KUBECONFIG that is not there kubectl says nothing, and turns to localhost.
        self._proxy = Proxy(session, f'kubectl proxy --kubeconfig="$KUBECONFIG"{named}')
        configuration = Configuration(host="http://localhost")  # a name that kubectl proxy accepts
        self._client = ApiClient(configuration)
        self._client.rest_client.pool_manager = pool(self._proxy, CONNECTIONS)
        self._watching = ApiClient(configuration)
        self._watching.rest_client.pool_manager = pool(self._proxy, watches)
        self._kinds: dict[str, list[Json]] = {}
        self._changes: dict[str, Changes] = {}
        self._lock = threading.Lock()

    def get(self, path: str, **query: str) -> Json | None:
        """The object or list at `path`; None where there is none (404)."""
        status, answer = self._call("GET", path, query)
        return None if status == NOT_FOUND else answer

    def create(self, path: str, body: Mapping[str, Any], **query: str) -> Json:
        """POST to a collection; `dryRun="All"` for a server-side dry run."""
        return self._must("POST", path, query, body)

    def patch(self, path: str, body: Mapping[str, Any], **query: str) -> Json:
        """A JSON merge patch."""
        return self._must("PATCH", path, query, body, "application/merge-patch+json")

    def apply(self, manifest: Mapping[str, Any], *, force: bool = True) -> Json:
        """Server-side apply. `force`: fields that somebody else has set to something else become ours."""
        query = {"fieldManager": MANAGER, "force": str(force).lower()}
        return self._must("PATCH", self.path(manifest), query, manifest, "application/apply-patch+yaml")

    def delete(self, path: str, deadline: float = 60.0) -> None:
        """Deletes the object and returns when it is gone; none there is fine. What it owned goes a little later."""
        ends = time.monotonic() + deadline
        # "Foreground" would wait for the garbage collector, which a broken conversion webhook can hold up for ever.
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        status, _ = self._call("DELETE", path, {}, options)
        left = self.get(path) if status != NOT_FOUND else None
        while left:
            if time.monotonic() >= ends:
                finalizers = ", ".join(left["metadata"].get("finalizers", [])) or "none"
                raise ClusterError(504, f"{path} is still there after {deadline:.0f} s (finalizers: {finalizers})")
            self._changed(path, left, ends - time.monotonic())
            left = self.get(path)

    def watch(self, path: str, seconds: float, resource_version: str = "", **query: str) -> Generator[Json]:
        """Events of the collection at `path` as they come, for so many seconds: {"type", "object"}.

        Without a version: first what is there now, as ADDED. An event of type ERROR is raised as a ClusterError.
        """
        query = {**query, "watch": "1", "timeoutSeconds": str(max(1, round(seconds)))}
        if resource_version:
            query["resourceVersion"] = resource_version
        response = self._must_open(self._watching, ("GET", path, query, None, JSON), seconds + ANSWER)
        try:
            yield from _events(response)
        finally:
            response.close()  # its connection is in the middle of an answer, so it is not used again

    def names(self, path: str) -> list[str]:
        """The names of the objects in the collection at `path`, without the objects: CRDs alone would be megabytes."""
        answer = _parsed(self._must_open(self._client, ("GET", path, {}, None, METADATA)).data)
        return [one["metadata"]["name"] for one in answer["items"]]

    def lines(self, path: str, seconds: float = ANSWER, **query: str) -> Generator[str | None]:
        """An answer in lines as they come (a pod's log); None after each piece. It may pause for `seconds`, not more."""
        response = self._must_open(self._watching, ("GET", path, query, None, JSON), seconds)
        rest = b""
        try:
            for chunk in response.stream(amt=PIECE, decode_content=False):
                *whole, rest = (rest + chunk).split(b"\n")
                yield from (line.decode(errors="replace") for line in whole)
                yield None
        except (OSError, urllib3.exceptions.HTTPError) as error:
            raise ClusterError(0, f"the answer broke off: {error}") from error
        finally:
            response.close()
        if rest:
            yield rest.decode(errors="replace")

    def path(self, manifest: Mapping[str, Any]) -> str:
        """The path of the object that `manifest` describes, by what the server says of its kind."""
        version, kind, meta = manifest["apiVersion"], manifest["kind"], manifest["metadata"]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        if version not in self._kinds:
            self._kinds[version] = (self.get(root) or {}).get("resources", [])
        for one in self._kinds[version]:
            if one["kind"] == kind and "/" not in one["name"]:
                space = f"/namespaces/{meta.get('namespace', 'default')}" if one["namespaced"] else ""
                return f"{root}{space}/{one['name']}/{meta['name']}"
        del self._kinds[version]  # a CRD may bring it later
        raise ClusterError(NOT_FOUND, f"the API server knows no {kind} of {version}")

    def close(self) -> None:
        """Ends the proxy on the master."""
        self._proxy.close()

    def await_event(self, path: str, seconds: float) -> bool:
        """Waits until something in the collection at `path` changes, for at most `seconds`; whether it did.

        What has changed since this thread's last call for `path` counts too, so that nothing is missed in between.
        """
        with self._lock:
            changes = self._changes.get(path)
            if changes is None or changes.over:
                changes = self._changes[path] = Changes(self, path)
        return changes.wait(seconds)

    def _changed(self, path: str, seen: Json, seconds: float) -> None:
        """Returns when the object is no longer as `seen`, or after `seconds`."""
        collection, _, name = path.rpartition("/")
        events = self.watch(
            collection, seconds, seen["metadata"]["resourceVersion"], fieldSelector=f"metadata.name={name}"
        )
        try:
            next(events, None)
        finally:
            events.close()

    def _must(
        self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any], kind: str = JSON
    ) -> Json:
        status, answer = self._call(method, path, query, body, kind)
        if status == NOT_FOUND:
            raise ClusterError(status, answer["message"])
        return answer

    def _call(
        self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any] | None = None, kind: str = JSON
    ) -> tuple[int, Json]:
        """Status and answer. 404 is an answer; everything else that is no success is a ClusterError."""
        response = self._open(self._client, (method, path, query, body, kind), ANSWER)
        content = _read(response)
        if response.status == NOT_FOUND:
            return response.status, {"message": _message(content)}
        if not 200 <= response.status < 300:
            raise ClusterError(response.status, _message(content))
        return response.status, _parsed(content)

    def _must_open(self, client: Any, request: Request, seconds: float = ANSWER) -> urllib3.HTTPResponse:
        response = self._open(client, request, seconds)
        if response.status != 200:
            raise ClusterError(response.status, _message(_read(response)))
        return response

    def _open(self, client: Any, request: Request, seconds: float) -> urllib3.HTTPResponse:
        """The response to a request, its body still to be read. What the server puts off is asked again when it says.

        It does so, having done nothing, with the first list of a CRD's objects after that CRD has changed, or when busy.
        """
        ends = time.monotonic() + ANSWER
        while True:
            answer = self._once(client, request, seconds)
            later = answer.headers.get("Retry-After", "")
            if answer.status != LATER or not later.isdigit() or time.monotonic() + int(later) > ends:
                return answer
            answer.drain_conn()
            time.sleep(int(later))

    def _once(self, client: Any, request: Request, seconds: float) -> urllib3.HTTPResponse:
        from paramiko import SSHException

        method, path, query, body, kind = request
        headers = {"Accept": kind if kind == METADATA else JSON, "Content-Type": kind}
        serialized = client.param_serialize(
            method, path, query_params=list(query.items()), header_params=headers, body=body
        )
        try:
            try:
                response = client.call_api(*serialized, _request_timeout=seconds)
            except urllib3.exceptions.ProtocolError:
                if method != "GET":
                    raise
                # A kept connection that ends while it is being used again: what only reads may ask once more.
                response = client.call_api(*serialized, _request_timeout=seconds)
        except (Lost, Unreachable, SSHException, OSError, urllib3.exceptions.HTTPError) as error:
            raise ClusterError(0, f"no answer to {method} {path}: {error}") from error
        answer: urllib3.HTTPResponse = response.response
        return answer


def _read(response: urllib3.HTTPResponse) -> bytes:
    try:
        return response.data
    except (OSError, urllib3.exceptions.HTTPError) as error:
        raise ClusterError(0, f"the answer broke off: {error}") from error


def _parsed(content: bytes) -> Json:
    try:
        parsed: Json = json.loads(content)
    except ValueError as error:
        raise ClusterError(0, f"the answer is no JSON: {content[:200].decode(errors='replace')}") from error
    return parsed


def _message(content: bytes) -> str:
    """The server's own words: of a Status object, or of the proxy in between."""
    try:
        return str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        return content.decode(errors="replace").strip()


def _events(response: urllib3.HTTPResponse) -> Iterator[Json]:
    """The events of a watch, one JSON object a line."""
    rest = b""
    try:
        for chunk in response.stream(amt=None, decode_content=False):
            *lines, rest = (rest + chunk).split(b"\n")
            for event in map(_parsed, lines):
                if event["type"] == "ERROR":
                    raise ClusterError(event["object"].get("code", 0), event["object"].get("message", ""))
                yield event
    except (OSError, urllib3.exceptions.HTTPError) as error:
        raise ClusterError(0, f"the watch broke off: {error}") from error
