"""Which findings a site may accept: each finding in the code is in one of the two tables."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from dws_on_csm.config import acceptable
from dws_on_csm.config.load import ROOT
from dws_on_csm.domain import compatibility
from dws_on_csm.stages.dws import in_use
from tests.unit import sources

MADE = {
    "workflow-{fate}": [f"workflow-{fate}" for fate in in_use.FIXES],
    "kubeconfig-{key}": ["kubeconfig-namespace", "kubeconfig-server"],
    "{prefix}-edited": ["plugin-edited", "burst-buffer-conf-edited"],
    "{prefix}-missing": ["plugin-missing", "burst-buffer-conf-missing"],
    "{prefix}-mode": ["plugin-mode", "burst-buffer-conf-mode"],
    "row.name": [row.name for row in compatibility.TABLE if row.fix],
    "name": ["workflows-more", "jobs-more"],
    "_finding(item)": ["storage-persistent", "storage-in-use", "storage-unknown-kind"],
}
"""The source text of a name that is put together -> the names that it makes."""


def finding_names() -> Iterator[str]:
    """The names of all findings in the source."""
    for _, call in sources.calls():
        if sources.called(call) == "Finding" and call.args:
            name = call.args[0]
            text = ast.unparse(name).removeprefix("f").strip("'\"")
            yield from MADE.get(text, [text]) if not isinstance(name, ast.Starred) else ()


def test_every_finding_is_listed_as_acceptable_or_not() -> None:
    """A new finding is in one of the tables of dws_on_csm/config/acceptable.py, with the reason."""
    known = {*acceptable.ACCEPTABLE, *acceptable.WHY_NOT, "nobody-signs"}
    assert set(finding_names()) - known == set(), "add these to dws_on_csm/config/acceptable.py: ACCEPTABLE or _REASONS"
    assert known - set(finding_names()) <= {"nobody-signs"}, "no finding has these names any more"
    assert not acceptable.ACCEPTABLE.keys() & acceptable.WHY_NOT.keys()


@pytest.mark.parametrize("name", [*acceptable.WHY_NOT])
def test_the_reason_is_reported(name: str) -> None:
    """The refusal gives the reason, and does not suggest a similar name."""
    assert (
        acceptable.refusal(name) == f"{name} cannot be accepted: {acceptable.WHY_NOT[name]}; follow the finding's fix"
    )


def test_the_page_lists_what_can_be_accepted() -> None:
    """docs/install.md has all of these names, with the same sentences, and no other."""
    rows = re.findall(r"^\| `([a-z0-9.-]+)` \| (.*) \|$", (ROOT / "docs" / "install.md").read_text(), re.MULTILINE)
    assert dict(rows) == dict(acceptable.ACCEPTABLE)


def test_what_guards_data_keys_and_slurmctld_can_not_be_accepted() -> None:
    """No entry of the site file switches off a guard of data, rights or slurmctld."""
    never = {*in_use.FIXES}
    assert {f"workflow-{fate}" for fate in never} <= acceptable.WHY_NOT.keys()
    assert {"job-in-slurm", "jobs-unknown", "name-revoked", "other-burst-buffer"} <= acceptable.WHY_NOT.keys()
