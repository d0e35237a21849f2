"""How the time that something takes grows with the size of what it is given: a ratio, which holds on any machine."""

from __future__ import annotations

import time
from collections.abc import Callable


def assert_no_square(work: Callable[[int], object], size: int) -> None:
    """That `work` of eight times `size` takes less than 30 times as long: the square of it would be 64 times."""
    short = max(_best(work, size), 0.004)  # below that the clock and the machine say more than the size
    assert _best(work, 8 * size, enough=30 * short) < 30 * short


def _best(work: Callable[[int], object], size: int, enough: float = 0.0) -> float:
    """Seconds of this process, the best of three; of one try if that is below `enough`."""
    best = _seconds(work, size)
    for _ in range(2):
        best = best if best < enough else min(best, _seconds(work, size))
    return best


def _seconds(work: Callable[[int], object], size: int) -> float:
    began = time.process_time()
    work(size)
    return time.process_time() - began
