"""What many hosts ask is computed once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dws_on_csm.model.remembered import remembered


def test_threads_that_ask_the_same_wait_for_one_answer() -> None:
    """However many threads ask at once, with equal texts, it is computed once."""
    asked: list[str] = []
    first, released = threading.Event(), threading.Event()

    @remembered(2)
    def shout(text: str) -> str:
        asked.append(text)
        first.set()
        assert released.wait(60)
        return text.upper()

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(shout, "".join(("a", "b"))) for _ in range(8)]
        assert first.wait(60)
        released.set()
        assert {answer.result() for answer in answers} == {"AB"}
    assert asked == ["ab"]


def test_few_results_are_kept_and_no_error_is() -> None:
    """Old results are forgotten, so memory stays bounded; what failed is tried again."""
    asked: list[int] = []

    @remembered(2)
    def half(number: int) -> int:
        asked.append(number)
        if number % 2:
            raise ValueError(number)
        return number // 2

    for number in (2, 4, 2, 6, 8, 2):
        assert half(number) == number // 2
    assert asked == [2, 4, 6, 8, 2]
    for _ in range(2):
        with pytest.raises(ValueError, match="3"):
            half(3)
    assert asked[-2:] == [3, 3]
