"""The Kubernetes API as steps and actions see it: what can be asked of it, and how it fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from dws_on_csm.model.errors import RemoteError


class Cluster(Protocol):
    """The Kubernetes API as stages see it; paths as in the API (`/api/v1/nodes`), objects as parsed JSON."""

    def get(self, path: str, **query: str) -> dict[str, Any] | None:
        """The object or list at `path`; None where there is none (404)."""

    def metadata(self, path: str) -> list[dict[str, Any]]:
        """The metadata of the objects in the collection at `path`, without the objects. Raises ClusterError, 404 too."""

    def create(self, path: str, body: Mapping[str, Any], **query: str) -> dict[str, Any]:
        """POST; `dryRun="All"` for a server-side dry run. Raises ClusterError with the server's own message."""

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """A JSON merge patch; with a resourceVersion in it only as long as nobody else has changed the object."""

    def apply(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Server-side apply of one object, field manager dws-on-csm."""

    def delete(self, path: str, deadline: float, uid: str = "", version: str = "") -> None:
        """Delete the object and wait until it is gone; none there is fine. `uid`: only the one that has it; `version`: only as
        long as that is its resourceVersion."""

    def await_event(self, path: str, seconds: float) -> bool:
        """Wait until something below `path` has changed since the last call for it; False after `seconds`.

        The first call for a path only marks the present and returns True.
        """


CONFLICT = 409
"""The status of what was refused because the object is another one, or another version of it, than was named."""


class ClusterError(RemoteError):
    """The API server refused or failed; `status` is the HTTP code (0: not reached), the message the server's own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
