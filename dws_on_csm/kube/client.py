"""The Kubernetes API through the master: the official client over the SSH connection. No credential leaves the master."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Generator, Mapping
from typing import Any

from dws_on_csm.kube import api_call
from dws_on_csm.kube.api_call import ANSWER, JSON, METADATA, NOT_FOUND, Json, Request
from dws_on_csm.kube.proxy import Proxy, pool
from dws_on_csm.kube.watch import Changes
from dws_on_csm.model.cluster_api import ClusterError
from dws_on_csm.model.errors import LockLost
from dws_on_csm.transport.remote_shell import RemoteShell

MANAGER = "dws-on-csm"
"""The field manager of applied objects."""
CONNECTIONS, WATCHES = 2, 2  # with the proxy itself: 5 of the 10 sessions that sshd allows
ODD = 1 << 16  # bytes of a line that is passed on although its end has not come


def preload() -> None:
    """Import the client, which takes a third of a second: in a thread of its own, while SSH connects."""
    import kubernetes.client  # noqa: F401 - later imports find it loaded


class Cluster:
    """The API as parsed JSON, by paths (`/api/v1/nodes`). Every method raises ClusterError; threads may share it.

    `watches`: how many watches and logs may be open at the same time, in addition to other calls.
    """

    def __init__(self, session: RemoteShell, context: str = "", watches: int = WATCHES) -> None:
        from kubernetes.client import ApiClient, Configuration

        named = f" --context={shlex.quote(context)}" if context else ""
        # Named as an option: for a missing $KUBECONFIG kubectl would silently use localhost.
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
        """From now on requests that change something raise LockLost, unless `run` has the site's lock on the master."""
        self._client.set_default_header(api_call.RUN, run)

    def get(self, path: str, **query: str) -> Json | None:
        """The object or list at `path`; None where there is none (404)."""
        status, answer = self._call("GET", path, query)
        return None if status == NOT_FOUND else answer

    def create(self, path: str, body: Mapping[str, Any], **query: str) -> Json:
        """POST to a collection; `dryRun="All"` for a server-side dry run."""
        return self._must("POST", path, query, body)

    def replace(self, path: str, body: Mapping[str, Any], **query: str) -> Json:
        """PUT of an object that exists; `dryRun="All"` for a server-side dry run."""
        return self._must("PUT", path, query, body)

    def patch(self, path: str, body: Mapping[str, Any], **query: str) -> Json:
        """A JSON merge patch."""
        return self._must("PATCH", path, query, body, "application/merge-patch+json")

    def apply(self, manifest: Mapping[str, Any]) -> Json:
        """Server-side apply, which takes over fields that another manager has set."""
        query = {"fieldManager": MANAGER, "force": "true"}
        return self._must("PATCH", self.path(manifest), query, manifest, "application/apply-patch+yaml")

    def delete(self, path: str, deadline: float = 60.0, uid: str = "", version: str = "") -> None:
        """Delete the object and return when it is gone; a missing object is fine. Objects that it owned are deleted a little later.

        With `uid` or `version`, another object of that name or another version of it is a conflict, and stays.
        """
        deadline_at = time.monotonic() + deadline
        # "Foreground" would wait for the garbage collector, which a broken conversion webhook can hold up forever.
        options: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if only := {key: value for key, value in (("uid", uid), ("resourceVersion", version)) if value}:
            options["preconditions"] = only
        status, _ = self._call("DELETE", path, {}, options)
        left = self.get(path) if status != NOT_FOUND else None
        while left and (not uid or left["metadata"]["uid"] == uid):
            if time.monotonic() >= deadline_at:
                finalizers = ", ".join(left["metadata"].get("finalizers", [])) or "none"
                raise ClusterError(504, f"{path} still exists after {deadline:.0f} s (finalizers: {finalizers})")
            self._gone(path, deadline_at - time.monotonic())
            left = self.get(path)

    def watch(self, path: str, seconds: float, resource_version: str = "", **query: str) -> Generator[Json]:
        """Events of the collection at `path` as they come, for `seconds`: {"type", "object"}.

        Without a version the present objects come first, as ADDED. An event of type ERROR raises ClusterError.
        """
        query = {**query, "watch": "1", "timeoutSeconds": str(max(1, round(seconds)))}
        if resource_version:
            query["resourceVersion"] = resource_version
        response = api_call.open_success(self._watching, Request("GET", path, query), seconds + ANSWER)
        try:
            yield from api_call.events(response)
        finally:
            api_call.drop(response)

    def names(self, path: str) -> list[str]:
        """The names of the objects in the collection at `path`, without the objects: of CRDs those would be megabytes."""
        return [item["name"] for item in self.metadata(path)]

    def metadata(self, path: str) -> list[Json]:
        """The metadata of the objects in the collection at `path`: of a Secret without its content."""
        answer = api_call.parse(
            api_call.read_body(api_call.open_success(self._client, Request("GET", path, accept=METADATA)))
        )
        return [item["metadata"] for item in answer["items"]]

    def lines(self, path: str, seconds: float = ANSWER, **query: str) -> Generator[str | None]:
        """The lines of an answer as they come (a pod's log), and None after each piece. A pause may take `seconds` at most."""
        response = api_call.open_success(self._watching, Request("GET", path, query), seconds)
        rest = b""
        try:
            for piece in api_call.body_pieces(response, "answer"):
                *complete, rest = (rest + piece).split(b"\n")
                yield from (line.decode(errors="replace") for line in complete)
                if len(rest) > ODD:
                    yield rest.decode(errors="replace")
                    rest = b""
                yield None
        finally:
            api_call.drop(response)
        if rest:
            yield rest.decode(errors="replace")

    def path(self, manifest: Mapping[str, Any]) -> str:
        """The path of the object in `manifest`, by the server's discovery of its kind."""
        version, kind, meta = manifest["apiVersion"], manifest["kind"], manifest["metadata"]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        kinds = self._kinds.get(version)
        if kinds is None:
            kinds = self._kinds[version] = (self.get(root) or {}).get("resources", [])
        for resource in kinds:
            if resource["kind"] == kind and "/" not in resource["name"]:
                space = f"/namespaces/{meta.get('namespace', 'default')}" if resource["namespaced"] else ""
                return f"{root}{space}/{resource['name']}/{meta['name']}"
        self._kinds.pop(version, None)  # a CRD may define it later
        raise ClusterError(NOT_FOUND, f"the API server does not serve the kind {kind} of {version}")

    def close(self) -> None:
        """End the proxy on the master."""
        self._proxy.close()

    def await_event(self, path: str, seconds: float) -> bool:
        """Wait until the collection at `path` changes, for at most `seconds`. Returns whether it did.

        Changes since this thread's last call for `path` count, too, so no change is missed between calls.
        """
        with self._lock:
            changes = self._changes.get(path)
            if changes is None or changes.over:
                changes = self._changes[path] = Changes(self, path)
        return changes.wait(seconds)

    def _gone(self, path: str, seconds: float) -> None:
        """Return when the object is gone, when it changes, or after `seconds`."""
        collection, _, name = path.rpartition("/")
        named = {"fieldSelector": f"metadata.name={name}"}
        # watched from the list's version: the server may have dropped the version of an object that changed long ago
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
        """Status and answer. 404 is an answer; any other failure raises ClusterError."""
        response = api_call.open_response(self._client, Request(method, path, query, body, kind), ANSWER)
        content = api_call.read_body(response)
        if response.status == NOT_FOUND:
            return response.status, {"message": api_call.error_message(content)}
        if why := api_call.lock_lost(response.status, content):
            raise LockLost(self._session.host, LockLost.text.format(why))
        if not 200 <= response.status < 300:
            raise api_call.failure(response, content)
        return response.status, api_call.parse(content)
