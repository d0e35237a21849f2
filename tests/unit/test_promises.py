"""The documents name tests: each of them is there, and docs/reliability.md names them in one form."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from dws_on_csm.config.load import ROOT
from tests.unit import listed

NAMED = re.compile(r"`(tests/(?:unit|ssh|sites|lab)/[a-z_/]*test_\w+\.py)(?:::(test_\w+))?`")
"""A file of tests, or one test in it, as pytest takes it."""

MORE = "; [security.md](security.md) names the test for each way"


def rows(name: str) -> Iterator[list[str]]:
    """The cells of each row of the tables of a page, heads left out."""
    lines = (ROOT / "docs" / name).read_text().splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("| ") and not following.startswith("|--"):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


@cache
def defined(path: Path) -> frozenset[str]:
    """The names of the tests in a file."""
    if not path.exists():
        return frozenset()
    return frozenset(one.name for one in ast.parse(path.read_text()).body if isinstance(one, ast.FunctionDef))


@pytest.mark.parametrize("row", [*rows("reliability.md")], ids=lambda row: row[0][:60])
def test_each_promise_names_its_tests(row: list[str]) -> None:
    """Tests are named as pytest takes them, `tests/unit/test_x.py::test_y`, or a file whose tests all hold it; all exist."""
    promise, cell = row
    named = cell.removesuffix(MORE).split(", ")
    assert promise and named
    for one in named:
        found = NAMED.fullmatch(one)
        assert found, f"{one}: name it as `tests/unit/test_x.py::test_y`"
        path = ROOT / found[1]
        assert path.exists() and (found[2] is None or found[2] in defined(path)), f"there is no test {one}"


SHORT = re.compile(r"(?:(tests/(?:unit|ssh|sites|lab)/)?(test_\w+)(?:\.py)?)(?:: ([\w, ]+))?")
"""As docs/security.md names them: a file of tests/unit, and tests in it without their first word."""


@pytest.mark.parametrize("row", [row for row in rows("security.md") if "test_" in row[-1]], ids=lambda row: row[0][:60])
def test_each_answer_to_a_threat_names_its_tests(row: list[str]) -> None:
    """The tests that docs/security.md names are there."""
    for some in re.split("; |, (?=test_)", row[-1]):
        if some == "below":
            continue
        found = SHORT.fullmatch(some)
        assert found, some
        path = ROOT / found[1] / f"{found[2]}.py" if found[1] else listed.path(found[2])
        assert path.exists(), path
        for name in (found[3] or "").split(", "):
            assert not name or f"test_{name}" in defined(path), f"there is no test test_{name} in {path}"
