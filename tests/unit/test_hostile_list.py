"""The list of templates that are tried against hostile users."""

from __future__ import annotations

from importlib import import_module

from fabfile import render
from tests.unit.hostile import HELD


def test_every_test_that_is_listed_is_there() -> None:
    """A template whose test was renamed or removed is one without it."""
    assert all((render.TEMPLATES / name).is_file() for name in HELD)
    for module, name in {tuple(one.split(".")) for some in HELD.values() for one in some}:
        assert callable(getattr(import_module(f"tests.unit.{module}"), name, None)), name
