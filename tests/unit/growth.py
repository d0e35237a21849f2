"""How the time that something takes grows with the size of what it is given: a ratio, which holds on any machine."""

from __future__ import annotations

import time
from collections.abc import Callable

SHORTEST = 0.004
"""Seconds below which the clock and the machine say more than the size does."""


def assert_no_square(work: Callable[[int], object], size: int) -> None:
    """That `work` of eight times `size` takes less than 30 times as long: the square of it would be 64 times."""
    if (long := _seconds(work, 8 * size)) >= 30 * SHORTEST:
        short = max(min(_seconds(work, size) for _ in range(3)), SHORTEST)
        tries = 2
        while long >= 30 * short and tries:
            long, tries = min(long, _seconds(work, 8 * size)), tries - 1
        assert long < 30 * short


def _seconds(work: Callable[[int], object], size: int) -> float:
    began = time.process_time()
    work(size)
    return time.process_time() - began
