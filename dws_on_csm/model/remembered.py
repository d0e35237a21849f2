"""Results of pure functions that many hosts ask for with equal arguments: computed once, by the first that asks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache, update_wrapper
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def remembered(count: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorates a function whose last `count` results are kept. Arguments are compared by value; equal texts count as one.

    Threads take turns: those that ask for the same while it is computed would otherwise compute it as well, and for other
    arguments nothing is lost, as Python computes in one thread at a time.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        kept = lru_cache(maxsize=count)(function)
        lock = threading.RLock()

        def ask(*args: P.args, **kwargs: P.kwargs) -> T:
            with lock:
                return kept(*args, **kwargs)  # type: ignore[arg-type]

        return update_wrapper(ask, function)

    return decorate
