"""What several hosts share, as a connection or a question to ssh: tried once, by the first that needs it. The others wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


class TriedOnce(Generic[Key, Result]):
    """What came of each attempt, also of one that failed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[Key, threading.Lock] = {}
        self._results: dict[Key, Result] = {}

    def get(self, key: Key, attempt: Callable[[], Result], seconds: float = -1) -> Result:
        """The result of the attempt for `key`. Raises TimeoutError where another's takes longer than `seconds` (-1: no limit)."""
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        if not lock.acquire(timeout=seconds):
            raise TimeoutError("another host's attempt has not ended")
        try:
            if key not in self._results:
                self._results[key] = attempt()
            return self._results[key]
        finally:
            lock.release()

    def results(self) -> list[Result]:
        """All results so far."""
        return list(self._results.values())
