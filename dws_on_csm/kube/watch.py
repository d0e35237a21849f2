"""Changes in the cluster: one watch for each path, open as long as callers wait for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from typing import Any, Protocol

from dws_on_csm.model.cluster_api import ClusterError
from dws_on_csm.model.errors import MALFORMED

UNUSED = 15.0  # seconds after the last wait() until the watch ends
ROUND = 20.0  # seconds of one watch request
GONE = 410  # the status for a resource version that the server has dropped


class Watching(Protocol):
    """The part of the API client that a watch needs."""

    def get(self, path: str, **query: str) -> dict[str, Any] | None: ...
    def watch(self, path: str, seconds: float, resource_version: str = "") -> Generator[dict[str, Any]]: ...


class Changes:
    """A count of the events of the collection at `path`, by a thread of its own."""

    def __init__(self, api: Watching, path: str) -> None:
        self._api = api
        self._path = path
        self._news = threading.Condition()
        self._count = 0
        self._seen: dict[int, int] = {}
        self._asked = time.monotonic()
        self._error: ClusterError | None = None
        self.over = False
        threading.Thread(target=self._work, daemon=True, name=f"watch {path}").start()

    def wait(self, seconds: float) -> bool:
        """Whether an event came since this thread's last call, or comes within `seconds`. Raises ClusterError."""
        me = threading.get_ident()
        with self._news:
            self._asked = time.monotonic()
            before = self._seen.get(me, self._count)
            self._news.wait_for(lambda: self._count > before or self.over, seconds)
            self._seen[me] = self._count
            if self._error:
                raise self._error
            return self._count > before

    def _work(self) -> None:
        try:
            self._follow()
        except ClusterError as error:
            self._error = error
        except MALFORMED as error:
            self._error = ClusterError(0, f"{self._path}: an event can't be read: {type(error).__name__}: {error}")
        finally:
            with self._news:
                self.over = True
                self._news.notify_all()

    def _follow(self) -> None:
        version = ""
        while time.monotonic() - self._asked < UNUSED:
            version = version or self._version()
            try:
                for event in self._api.watch(self._path, ROUND, version):
                    version = event["object"]["metadata"]["resourceVersion"]
                    self._tell()
            except ClusterError as error:
                if error.status != GONE:
                    raise
                version = ""

    def _version(self) -> str:
        listed = self._api.get(self._path, limit="1")
        if listed is None:
            raise ClusterError(404, f"{self._path}: not found")
        return str(listed["metadata"]["resourceVersion"])

    def _tell(self) -> None:
        with self._news:
            self._count += 1
            self._news.notify_all()
