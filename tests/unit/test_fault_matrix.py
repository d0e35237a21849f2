"""The matrix of faults (tests/faults, `make faults`): no step is forgotten, and what a run says is judged as people need it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import cast

import pytest

from dws_on_csm.config.load import ROOT
from dws_on_csm.stages import install
from tests.faults import faults, matrix
from tests.faults.__main__ import chosen
from tests.faults.trial import of_a_controller, unclear
from tests.lab import damages
from tests.lab.watch import OURS, Sample, Watched


def test_each_step_that_changes_something_has_its_row() -> None:
    """A new step needs a row in tests/faults/matrix.py: how a run is brought to it, or why the lab does not come to it."""
    assert matrix.uncovered(matrix.changing()) == []


def test_a_new_step_without_a_row_is_noticed() -> None:
    """The test above fails for a step that the matrix does not know, and for a row of a step that is no more."""
    (first, *rest) = install.STAGES[1].steps
    stage = replace(install.STAGES[1], steps=(replace(first, name="new"), *rest))
    (lacking, forgotten) = matrix.uncovered(matrix.changing((install.STAGES[0], stage)))[:2]
    assert lacking == "workarea.new has neither a row nor a reason"
    assert forgotten.startswith("there is no step")


@pytest.mark.parametrize("reason", [*matrix.NOT_HERE.values(), *faults.NOT_HERE.values()])
def test_a_reason_names_tests(reason: str) -> None:
    """What is not tried here is tried elsewhere, or is said to be the same as something that is."""
    named = re.findall(r"tests/\S+\.py", reason)
    assert all((ROOT / name).exists() for name in named)
    assert named or any(fault.name in reason for fault in faults.FAULTS)


def test_the_page_has_each_fault() -> None:
    """docs/faults.md lists the faults in their order, none twice, and says for how many seconds one is held."""
    table = (ROOT / "docs/faults.md").read_text().partition("| fault |")[2].partition("\n\n")[0]
    rows = [(re.findall(r"`([a-z-]+)`", row.split(" | ")[0]), row) for row in table.splitlines()[2:]]
    assert [name for named, _ in rows for name in named] == [fault.name for fault in faults.FAULTS]
    until = {name: row for named, row in rows for name in named}
    held = {fault.name: f"| {fault.held:.0f} s later |" for fault in faults.FAULTS if fault.held}
    assert [name for name, words in held.items() if words not in until[name]] == []


def test_each_row_has_a_fault_of_each_kind() -> None:
    """Each step is tried with our process killed, a cut connection, a host that stands still, and a second run."""
    for row in matrix.ROWS:
        tried = {cell.fault.name for cell in faults.cells([row])}
        assert {"killed", "interrupted", "terminated", "cut", "unreachable", "paused", "second-run"} <= tried


def test_a_run_begins_where_a_small_file_system_is_to_be_full() -> None:
    """Preflight would refuse it, and no step that writes there would ever begin."""
    assert "disk-full" in cast("list[str]", matrix.SETTINGS["accept"])


def test_slurmctld_starts_where_its_folder_is_to_be_full() -> None:
    """A fault that fills /etc/slurm restarts slurmctld there, before and after the run: no damage of its row removes its plugin."""
    for cell in faults.cells(matrix.ROWS):
        if cell.fault.name == "disk-full" and cell.row.folder == "/etc/slurm":
            assert not [command for _, command in cell.row.damages if f"rm -f {damages.LUA}" in command], cell.name


def test_a_seed_chooses_different_steps_and_faults_first() -> None:
    """The same seed makes the same choice; each fault comes once before one comes for the third time."""
    every = faults.cells(matrix.ROWS)
    picked = chosen(every, 40, 7)
    assert picked == chosen(every, 40, 7) != chosen(every, 40, 8)
    assert {cell.fault.name for cell in picked} == {fault.name for fault in faults.FAULTS}


def test_a_message_without_host_or_cause_or_fix_is_noticed() -> None:
    """A failure names its host, its step, its cause, and what to do."""
    failure = {"command": "make deploy", "code": 1, "tail": ["no space"], "meaning": "", "fix": "free some"}
    step = {"host": "ncn-m001", "stage": "deploy", "step": "applied", "outcome": "failed", "failures": [failure]}
    assert list(unclear((step,), {}, "ncn-m001")) == []
    bare = {**step, "failures": [{**failure, "tail": [], "fix": ""}]}
    assert list(unclear((bare,), {}, "slurmctl1")) == [
        "deploy.applied@ncn-m001: no cause is named",
        "slurmctl1 is named nowhere: deploy.applied@ncn-m001",
        "it does not say what to do",
    ]
    assert list(unclear((), {}, "")) == ["it names no step, and says nothing", "it does not say what to do"]


CONF = "ClusterName=lab\nSlurmctldHost=a\n"
UP = [Sample(1.0, 7, True), Sample(2.0, 7, False), Sample(9.0, 8, True)]


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (Watched([CONF, "\n".join((CONF.rstrip(), *OURS))], UP), []),
        (Watched([CONF, CONF[:15]], UP), ["slurm.conf was torn, or lost a line: 'ClusterName=lab'"]),
        (Watched([CONF, "absent"], UP), ["slurm.conf was torn, or lost a line: 'absent'"]),
        (Watched([CONF], [*UP, Sample(10.0, 0, False)]), ["slurmctld does not respond in the end"]),
        (Watched([CONF], [*UP[:2], Sample(9.0, 7, True)]), ["slurmctld was silent: Gap(seconds=8.0, restarted=False)"]),
        (
            Watched([CONF], [*UP[:2], Sample(90.0, 8, True)]),
            ["slurmctld was silent: Gap(seconds=89.0, restarted=True)"],
        ),
    ],
)
def test_a_torn_slurm_conf_and_a_silent_slurmctld_are_noticed(seen: Watched, said: list[str]) -> None:
    """A text that lacks a line, a file that is away, and a daemon that stays silent fail; our own lines and a restart do not."""
    assert list(of_a_controller(seen, CONF, silent=False)) == said
