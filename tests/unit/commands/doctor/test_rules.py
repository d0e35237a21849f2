"""Findings of steps that differ from what is wanted."""

from __future__ import annotations

import re

import pytest

from dws_on_csm.commands.doctor import rules
from tests.unit.commands.doctor.context import HOST, place, told


def test_burst_buffer_conf_has_its_own_name_and_effect() -> None:
    """The finding says that jobs run without Workflows."""
    want = {"text": "Directive=DW\n", "mode": "644", "owner": "root:root"}
    (found,) = rules.RULES["plugin.conf"](place(), None, want)
    assert found.name == "burst-buffer-conf-missing" and "without a Workflow" in found.text
    have = {"text": "Directive=BB\n", "mode": "600", "owner": "root:root"}
    assert told(rules.RULES["plugin.conf"](place(), have, want)) == [
        "burst-buffer-conf-edited",
        "burst-buffer-conf-mode",
    ]


TIMES = ["2026-01-01 10:00:00", "2026-01-02 10:00:00"]


@pytest.mark.parametrize(
    ("text", "added", "words", "source"),
    [
        ("ClusterName=a\n", [], "", False),
        ("ClusterName=a\n", TIMES[:1], "", False),
        (
            "ClusterName=a\n",
            TIMES,
            "added that line 2 times, last on 2026-01-02, .* as configuration management does",
            True,
        ),
        (
            "# Ansible managed\n",
            TIMES[:1],
            "added that line on 2026-01-01, .* a comment there says 'Ansible managed'",
            True,
        ),
        ("# Ansible managed\n", [], "", False),
    ],
)
def test_a_line_that_something_removes_again(text: str, added: list[str], words: str, source: bool) -> None:
    """By the second time, or by the file's own comment, the fix is to add the line where slurm.conf comes from."""
    (finding,) = rules.RULES["slurm.conf"](place(slurm_daemon={"added": added}), text, text + "BurstBufferType=x\n")
    assert finding.name == "burst-buffer-off" and re.search(words or "without their storage$", finding.text)
    assert ("add the line `BurstBufferType=burst_buffer/lua` to what slurm.conf" in finding.fix) == source
    assert finding.fix.endswith(f"`fab -H {HOST} repair slurm`")


def test_a_step_without_a_rule_is_reported() -> None:
    """A step that is added one day is not forgotten."""
    (found,) = rules.other("new.step")(place(), {"a": 1}, {"a": 2})
    assert found.name == "not-as-wanted" and "new.step" in found.text
