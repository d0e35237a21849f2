"""Tests as documents and tables name them: by the stem of their file, which is there once, in whichever folder."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent


def path(stem: str) -> Path:
    """The file of that test."""
    (found,) = HERE.rglob(f"{stem}.py")
    return found


def module(stem: str) -> ModuleType:
    """That test's module."""
    return import_module(".".join(("tests.unit", *path(stem).relative_to(HERE).with_suffix("").parts)))
