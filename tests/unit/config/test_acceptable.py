"""Which findings a site may accept: every one that there is, is said to be one or not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dws_on_csm.config import acceptable
from dws_on_csm.domain import compatibility
from dws_on_csm.stages.dws import in_use

FABFILE = Path(acceptable.__file__).parents[1]

MADE = {
    "workflow-{fate}": [f"workflow-{fate}" for fate in in_use.FIXES],
    "kubeconfig-{key}": ["kubeconfig-namespace", "kubeconfig-server"],
    "{short}-edited": ["plugin-edited", "burst-buffer-conf-edited"],
    "{short}-missing": ["plugin-missing", "burst-buffer-conf-missing"],
    "{short}-mode": ["plugin-mode", "burst-buffer-conf-mode"],
    "row.name": [row.name for row in compatibility.TABLE if not row.mended],
    "name": ["workflows-more", "jobs-more"],
    "_finding(one)": ["storage-persistent", "storage-in-use", "storage-unknown-kind"],
}
"""Names that are made where a finding is, as the source has them."""


def _names() -> Iterator[str]:
    """The names of all findings in the source."""
    for path in FABFILE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "Finding" and node.args:
                name = node.args[0]
                text = ast.unparse(name).removeprefix("f").strip("'\"")
                yield from MADE.get(text, [text]) if not isinstance(name, ast.Starred) else ()


def test_every_finding_is_said_to_be_acceptable_or_not() -> None:
    """A new finding is in one of the tables of dws_on_csm/config/acceptable.py, with the reason."""
    known = {*acceptable.LIVED_WITH, *acceptable.WHY_NOT, "nobody-signs"}
    assert set(_names()) - known == set(), "say in dws_on_csm/config/acceptable.py whether a site may live with these"
    assert known - set(_names()) <= {"nobody-signs"}, "no finding has these names any more"
    assert not acceptable.LIVED_WITH.keys() & acceptable.WHY_NOT.keys()


@pytest.mark.parametrize("name", [*acceptable.WHY_NOT])
def test_why_not_is_said(name: str) -> None:
    """What can't be accepted is refused with the reason and not with a name that looks like it."""
    assert acceptable.refusal(name) == f"{name} can't be accepted: {acceptable.WHY_NOT[name]}; do what the finding says"


def test_the_page_lists_what_can_be_accepted() -> None:
    """Whoever looks for the names finds all of them, and no other, on the page of the install."""
    rows = re.findall(
        r"^\| `([a-z0-9.-]+)` \| (.*) \|$", (FABFILE.parent / "docs" / "install.md").read_text(), re.MULTILINE
    )
    assert dict(rows) == dict(acceptable.LIVED_WITH)


def test_what_guards_data_keys_and_slurmctld_can_not_be_accepted() -> None:
    """No word in a site file disarms what keeps data, rights and slurmctld."""
    never = {*in_use.FIXES}
    assert {f"workflow-{fate}" for fate in never} <= acceptable.WHY_NOT.keys()
    assert {"job-in-slurm", "jobs-unknown", "name-revoked", "other-burst-buffer"} <= acceptable.WHY_NOT.keys()
