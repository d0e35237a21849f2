"""The versions that were tried: the pages that are made from them, and what a run says of others."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs import versions
from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.domain import tested


@pytest.mark.parametrize("path", versions.PAGES, ids=lambda path: path.name)
def test_pages_have_the_present_tables(path: Path) -> None:
    """Run `python -m docs.versions` after a change of the data."""
    text = path.read_text(encoding="utf-8")
    assert versions.page(path) == text
    assert all("\n".join(table()) in text for table in versions.PAGES[path])


@pytest.mark.parametrize(
    ("part", "version", "how"),
    [
        ("kubernetes", "v1.33.13", "lab"),
        ("kubernetes", "1.21.12", "documents"),
        ("kubernetes", "1.330.0", None),
        ("slurm", "24.11.5", "lab"),
        ("slurm", "24.5.1", "hand"),  # 24.05, as numbers
        ("slurm", "24.1", None),
        ("dws", "0.0.20", "hand"),
        ("dws", "0.0.2", None),
        ("dws", "0.1.13", None),
        ("slurm", "", None),
    ],
)
def test_a_version_is_compared_by_its_numbers(part: str, version: str, how: str | None) -> None:
    """A row stands for all versions that begin with its numbers, and for no other."""
    row = tested.row(part, version)
    assert (row.how if row else None) == how


def test_a_run_notes_what_was_never_tried() -> None:
    """Nothing is said of what was tried, or of what is not known; the note leads to the page."""
    assert tested.note({"dws": "0.0.20", "plugin": "0.0.5", "kubernetes": "1.33.1", "slurm": ""}) == ""
    note = tested.note({"dws": "0.1.99", "kubernetes": "1.21.12", "slurm": "24.11.5"})
    assert note == "never tried with this tool: DWS 0.1.99, Kubernetes 1.21.12 (docs/versions.md)"


def test_the_default_versions_were_tried() -> None:
    """A new site gets a pair that was seen to work."""
    site = load(DEFAULT)
    assert (site.versions.dws, site.versions.plugin) in tested.pairs()
