"""One watch on all Workflows, for all threads that wait for a state of one of them."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dws_on_csm.model.cluster_api import ClusterError

ROUND = 60.0
"""Seconds of one watch request; the next one continues it."""

SLICE = 0.5
"""Seconds between two checks whether the run is stopping."""


@dataclass(frozen=True)
class Seen:
    """An event: when it came (monotonic seconds), its type, and the Workflow's state."""

    at: float
    type: str
    desired: str
    state: str
    status: str
    hurry: bool
    waits: bool
    """Whether a driver keeps it in its state."""
    uid: str = ""
    """The Workflow's uid, which another one of the same name does not have."""
    user: str = ""
    """The number of its job's user."""


class Watch:
    """Watches the collection at `path` from now until close()."""

    def __init__(self, cluster: Any, path: str) -> None:
        self._cluster, self._path = cluster, path
        self._events: dict[str, list[Seen]] = defaultdict(list)
        self._news = threading.Condition()
        self._error: ClusterError | None = None
        self._over = False
        listed = cluster.get(path, limit="1")
        if listed is None:
            raise ClusterError(404, f"{path}: not found")
        version = str(listed["metadata"]["resourceVersion"])
        threading.Thread(target=self._work, args=(version,), daemon=True, name=f"watch {path}").start()

    def events(self, name: str) -> Sequence[Seen]:
        """The Workflow's events so far."""
        with self._news:
            return tuple(self._events[name])

    def until(
        self, name: str, reached: Callable[[Sequence[Seen]], bool], seconds: float, stop: threading.Event
    ) -> bool:
        """Whether `reached` is true of a Workflow's events within `seconds`. Raises ClusterError if the watch failed.

        False at once when `stop` is set.
        """
        deadline_at = time.monotonic() + seconds
        with self._news:
            while not reached(self._events[name]):
                left = deadline_at - time.monotonic()
                if self._error:
                    raise self._error
                if left <= 0 or stop.is_set():
                    return False
                self._news.wait(min(left, SLICE))
        return True

    def close(self) -> None:
        """End the watch."""
        self._over = True

    def _work(self, version: str) -> None:
        try:
            while not self._over:
                for event in self._cluster.watch(self._path, ROUND, version):
                    version = event["object"]["metadata"]["resourceVersion"]
                    self._take(event["object"]["metadata"]["name"], seen(event))
        except ClusterError as error:
            with self._news:
                self._error = error
                self._news.notify_all()

    def _take(self, name: str, event: Seen) -> None:
        with self._news:
            self._events[name].append(event)
            self._news.notify_all()


def seen(event: Mapping[str, Any]) -> Seen:
    """What matters of a watch's event."""
    spec, status = event["object"].get("spec", {}), event["object"].get("status", {})
    state = status.get("state", "")
    waits = any(driver["watchState"] == state and not driver.get("completed") for driver in status.get("drivers") or ())
    hurry = bool(spec.get("hurry", False))
    desired, uid = spec.get("desiredState", ""), event["object"]["metadata"].get("uid", "")
    user = str(spec.get("userID", ""))
    return Seen(time.monotonic(), event["type"], desired, state, status.get("status", ""), hurry, waits, uid, user)
