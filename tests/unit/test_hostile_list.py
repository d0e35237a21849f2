"""The list of templates that are tried against hostile users."""

from __future__ import annotations

import re
from importlib import import_module

from fabfile import render
from tests.unit.hostile import HELD


def test_every_test_that_is_listed_is_there() -> None:
    """A template whose test was renamed or removed is one without it."""
    assert all((render.TEMPLATES / name).is_file() for name in HELD)
    for module, name in {tuple(one.split(".")) for some in HELD.values() for one in some}:
        assert callable(getattr(import_module(f"tests.unit.{module}"), name, None)), name


def test_the_page_of_trust_names_tests_that_there_are() -> None:
    """Who reads docs/security.md can look each one up."""
    page = (render.TEMPLATES.parent / "docs/security.md").read_text()
    named = re.findall(r"\b(test_[a-z]+): ([a-z0-9_]+(?:, [a-z0-9_]+)*)", page)
    assert len(named) > 10
    for module, names in named:
        for name in names.split(", "):
            assert callable(getattr(import_module(f"tests.unit.{module}"), f"test_{name}", None)), name
