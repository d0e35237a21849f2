"""The Kubernetes API of the master: the official client over the SSH connection. No credential leaves the master."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Generator, Mapping
from typing import Any

from dws_on_csm.kube import api_call
from dws_on_csm.kube.api_call import ANSWER, JSON, METADATA, NOT_FOUND, Json
from dws_on_csm.kube.proxy import Proxy, pool
from dws_on_csm.kube.watch import Changes
from dws_on_csm.model.cluster_api import ClusterError
from dws_on_csm.model.errors import LockLost
from dws_on_csm.transport.remote_shell import RemoteShell

MANAGER = "dws-on-csm"
"""The field manager of what is applied."""
CONNECTIONS, WATCHES = 2, 2  # and the proxy itself: 5 of the 10 sessions that sshd allows
ODD = 1 << 16  # bytes of a line of an answer that are kept while its end has not come


def preload() -> None:
    """Imports the client, which takes a third of a second: for a thread of its own, while SSH connects."""
    import kubernetes.client  # noqa: F401 - imported for its own sake


class Cluster:
    """The API as parsed JSON, by paths (`/api/v1/nodes`). Every method raises ClusterError; threads may share it.

    `watches` is how many answers that go on may be open at once, beside all others.
    """

    def __init__(self, session: RemoteShell, context: str = "", watches: int = WATCHES) -> None:
        from kubernetes.client import ApiClient, Configuration

        named = f" --context={shlex.quote(context)}" if context else ""
        # Named outright: of a KUBECONFIG that is not there kubectl says nothing, and turns to localhost.
        self._session = session
        self._proxy = Proxy(session, f'kubectl proxy --kubeconfig="$KUBECONFIG"{named}')
        configuration = Configuration(host="http://localhost")  # a name that kubectl proxy accepts
        self._client = ApiClient(configuration)
        self._client.rest_client.pool_manager = pool(self._proxy, CONNECTIONS)
        self._watching = ApiClient(configuration)
        self._watching.rest_client.pool_manager = pool(self._proxy, watches)
        self._kinds: dict[str, list[Json]] = {}
        self._changes: dict[str, Changes] = {}
        self._lock = threading.Lock()

    def fence(self, run: str) -> None:
        """From now on the master passes on what changes something only while `run` has the site's lock: else LockLost."""
        self._client.set_default_header(api_call.RUN, run)

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

    def delete(self, path: str, deadline: float = 60.0, uid: str = "", version: str = "") -> None:
        """Deletes the object and returns when it is gone; none there is fine. What it owned goes a little later.

        With a `uid` another object of its name stays, and is a conflict; with a `version` another state of it.
        """
        ends = time.monotonic() + deadline
        # "Foreground" would wait for the garbage collector, which a broken conversion webhook can hold up for ever.
        options: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if only := {key: value for key, value in (("uid", uid), ("resourceVersion", version)) if value}:
            options["preconditions"] = only
        status, _ = self._call("DELETE", path, {}, options)
        left = self.get(path) if status != NOT_FOUND else None
        while left and (not uid or left["metadata"]["uid"] == uid):
            if time.monotonic() >= ends:
                finalizers = ", ".join(left["metadata"].get("finalizers", [])) or "none"
                raise ClusterError(504, f"{path} is still there after {deadline:.0f} s (finalizers: {finalizers})")
            self._gone(path, ends - time.monotonic())
            left = self.get(path)

    def watch(self, path: str, seconds: float, resource_version: str = "", **query: str) -> Generator[Json]:
        """Events of the collection at `path` as they come, for so many seconds: {"type", "object"}.

        Without a version: first what is there now, as ADDED. An event of type ERROR is raised as a ClusterError.
        """
        query = {**query, "watch": "1", "timeoutSeconds": str(max(1, round(seconds)))}
        if resource_version:
            query["resourceVersion"] = resource_version
        response = api_call.must_open(self._watching, ("GET", path, query, None, JSON), seconds + ANSWER)
        try:
            yield from api_call.events(response)
        finally:
            api_call.dropped(response)

    def names(self, path: str) -> list[str]:
        """The names of the objects in the collection at `path`, without the objects: CRDs alone would be megabytes."""
        return [one["name"] for one in self.metadata(path)]

    def metadata(self, path: str) -> list[Json]:
        """The metadata of the objects in the collection at `path`: of a Secret nothing that is in it."""
        answer = api_call.parsed(api_call.read(api_call.must_open(self._client, ("GET", path, {}, None, METADATA))))
        return [one["metadata"] for one in answer["items"]]

    def lines(self, path: str, seconds: float = ANSWER, **query: str) -> Generator[str | None]:
        """An answer in lines as they come (a pod's log); None after each piece. It may pause for `seconds`, not more."""
        response = api_call.must_open(self._watching, ("GET", path, query, None, JSON), seconds)
        rest = b""
        try:
            for piece in api_call.pieces(response, "answer"):
                *whole, rest = (rest + piece).split(b"\n")
                yield from (line.decode(errors="replace") for line in whole)
                if len(rest) > ODD:
                    yield rest.decode(errors="replace")
                    rest = b""
                yield None
        finally:
            api_call.dropped(response)
        if rest:
            yield rest.decode(errors="replace")

    def path(self, manifest: Mapping[str, Any]) -> str:
        """The path of the object that `manifest` describes, by what the server says of its kind."""
        version, kind, meta = manifest["apiVersion"], manifest["kind"], manifest["metadata"]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        kinds = self._kinds.get(version)
        if kinds is None:
            kinds = self._kinds[version] = (self.get(root) or {}).get("resources", [])
        for one in kinds:
            if one["kind"] == kind and "/" not in one["name"]:
                space = f"/namespaces/{meta.get('namespace', 'default')}" if one["namespaced"] else ""
                return f"{root}{space}/{one['name']}/{meta['name']}"
        self._kinds.pop(version, None)  # a CRD may bring it later
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

    def _gone(self, path: str, seconds: float) -> None:
        """Returns when the object is gone, when something happens to it, or after `seconds`."""
        collection, _, name = path.rpartition("/")
        named = {"fieldSelector": f"metadata.name={name}"}
        # watched from the list's version: the server may have forgotten that of an object that changed long ago
        listed = self.get(collection, **named)
        if not listed or not listed["items"]:
            return
        events = self.watch(collection, seconds, listed["metadata"]["resourceVersion"], **named)
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
        response = api_call.opened(self._client, (method, path, query, body, kind), ANSWER)
        content = api_call.read(response)
        if response.status == NOT_FOUND:
            return response.status, {"message": api_call.message(content)}
        if why := api_call.outrun(response.status, content):
            raise LockLost(self._session.host, LockLost.text.format(why))
        if not 200 <= response.status < 300:
            raise ClusterError(response.status, api_call.message(content))
        return response.status, api_call.parsed(content)
