"""Which rows of a table `make test` tries: a sample. `make matrix` tries all of them."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import pytest

T = TypeVar("T")


def sample(rows: Iterable[T], kept: Callable[[T], bool], name: Callable[[T], str] = str) -> list[Any]:
    """The rows as parameters of a test; those that are not `kept` have the mark `matrix`."""
    return [pytest.param(row, id=name(row), marks=() if kept(row) else pytest.mark.matrix) for row in rows]
