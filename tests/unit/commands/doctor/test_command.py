"""What `invoke doctor` prints of findings, and how it ends."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dws_on_csm.commands.doctor.command import finding_rows, merged_over_hosts, unseen_rows, why_no_archive
from dws_on_csm.commands.doctor.diagnosis import Diagnosis, HostFinding, Unseen, records, with_causes
from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.display import style
from dws_on_csm.model.step import Finding
from tests.unit.commands.doctor.context import MASTER


def test_the_same_finding_on_many_hosts_is_reported_once() -> None:
    """A thousand nodes with the same finding are one paragraph; a node with another one has its own."""
    some = [
        HostFinding(f"nid{n}", Finding("slurm-conf-differs", f"slurm.conf on nid{n} differs: X=1", "fix it"))
        for n in (1, 2, 3)
    ]
    other = HostFinding("nid4", Finding("slurm-conf-differs", "slurm.conf on nid4 differs: Y=1", "fix it"))
    assert [(one.host, one.finding.text) for one in merged_over_hosts((*some, other))] == [
        ("nid[1-3]", "slurm.conf on each of them differs: X=1"),
        ("nid4", "slurm.conf on nid4 differs: Y=1"),
    ]


def test_a_fix_for_several_hosts_can_be_pasted(tmp_path: Path) -> None:
    """The command names every host: a shell runs it once for each, and no placeholder is left."""
    fix = "run `echo fab -H {0} repair slurm >>ran` on {0}; `true` says why"
    some = [HostFinding(host, Finding("slurmctld-stale", f"on {host}", fix.format(host))) for host in ("c1", "c2")]
    (merged,) = merged_over_hosts(some)
    assert "HOST" not in merged.finding.fix and merged.finding.fix.endswith(" on each of them; `true` says why")
    subprocess.run(["sh", "-euc", merged.finding.fix.split("`")[1]], cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "ran").read_text() == "fab -H c1 repair slurm\nfab -H c2 repair slurm\n"


def test_hosts_stay_in_the_order_of_the_site_file() -> None:
    """The master's findings come before the controllers'; those of several hosts come after the first host's own."""
    pairs = [(MASTER, "a"), (MASTER, "b"), ("c1", "same"), ("c1", "own"), ("c2", "same")]
    told = merged_over_hosts(tuple(HostFinding(host, Finding(name, name, "fix it")) for host, name in pairs))
    assert [(one.host, one.finding.name) for one in told] == [
        *((MASTER, "a"), (MASTER, "b"), ("c1", "own"), ("c[1-2]", "same"))
    ]


def shown(verbose: bool, *findings: tuple[str, str]) -> tuple[list[str], list[dict[str, object]]]:
    """What `invoke doctor` prints of these findings (host, name): its lines, and its JSON."""
    every = with_causes([HostFinding(host, Finding(name, f"{name} text", f"{name} fix")) for host, name in findings])
    diagnosis = Diagnosis(findings=every, accepted=(), unseen=(), notes=(), checks=9)
    reading: Any = SimpleNamespace(sessions=SimpleNamespace(open=list), run=SimpleNamespace(site=load(DEFAULT)))
    return [style.text(row) for row in finding_rows(reading, diagnosis, verbose)], list(
        records(diagnosis, int(bool(diagnosis.findings)))
    )


@pytest.mark.parametrize(("findings", "unseen", "code"), [(0, 0, 0), (0, 1, 5), (1, 0, 1), (1, 1, 1)])
def test_a_check_that_could_not_be_made_is_no_all_clear(findings: int, unseen: int, code: int) -> None:
    """It may hide a finding: a timer that goes by the exit code alone has to learn of it. Findings outweigh it."""
    found = with_causes([HostFinding("c1", Finding("a", "a text", "a fix"))] * findings)
    refused = (Unseen("c1", "a.one", "the look was refused"),) * unseen
    assert Diagnosis(findings=found, accepted=(), unseen=refused, notes=(), checks=9).exit_code == code


def test_a_consequence_is_shown_below_its_cause() -> None:
    """By its name in one line, on whichever host it is; the summary counts causes, and says how many findings follow from them."""
    seen = ((MASTER, "cluster-unreachable"), ("c1", "api-unreachable"), ("c1", "disk-full"), ("c2", "api-unreachable"))
    lines, json = shown(False, *seen)
    assert lines[4] == "      follows from this: 2 findings: api-unreachable (c[1-2])"
    assert [line for line in lines if line.startswith("  ✗ ")] == ["  ✗ cluster-unreachable", "  ✗ disk-full"]
    assert lines[-1].startswith("✗ 2 findings; 2 more follow from them (`invoke doctor --verbose` shows them)")
    assert [record.get("follows_from") for record in json] == [
        *(None, "cluster-unreachable", None, "cluster-unreachable", None)
    ]
    assert (json[-1]["findings"], json[-1]["following"]) == (2, 2)


def test_consequences_have_their_texts_with_verbose() -> None:
    """Text and fix of each, still below its cause."""
    lines, _ = shown(True, (MASTER, "pods-not-ready"), (MASTER, "webhook-not-answering"))
    assert lines[4:6] == [
        "      follows from this: webhook-not-answering: webhook-not-answering text",
        "          fix  webhook-not-answering fix",
    ]


def test_a_reason_for_several_missing_checks_is_reported_once() -> None:
    """An API server that is down makes ten checks impossible, and is one line for each host."""
    unseen = tuple(Unseen(MASTER, step, f"the check {step} was refused") for step in ("a.one", "a.two"))
    (row, _) = unseen_rows((*unseen,))
    assert row[1][0] == f"{MASTER}: not checked: a.one, a.two: each was refused"
    (row, _) = unseen_rows(unseen[:1])
    assert row[1][0] == f"{MASTER}: not checked: a.one: it was refused"


@pytest.mark.parametrize(
    ("unseen", "said"),
    [
        (
            (*(f"the check {step} was refused by the API server: no service" for step in ("a.one", "a.two")), ""),
            "Could not tell: 3 checks could not be made, for one reason: each was refused by the API server: no service.",
        ),
        (
            ("the check a.one was refused", "the check a.two did not finish"),
            "Could not tell: 2 checks could not be made.",
        ),
        (("the check a.one was refused",), "Could not tell: 1 check could not be made."),
    ],
)
def test_what_could_not_be_checked_comes_first_where_nothing_was_found(unseen: tuple[str, ...], said: str) -> None:
    """No line that begins as an all-clear: how many checks could not be made, and why, if that is one reason."""
    steps = ("a.one", "a.two", "b.three")
    missing = tuple(
        Unseen(MASTER, step, why or f"the check {step} needs a result of a", waits=not why)
        for step, why in zip(steps, unseen, strict=False)
    )
    diagnosis = Diagnosis(findings=(), accepted=(), unseen=missing, notes=(), checks=9)
    reading: Any = SimpleNamespace(sessions=SimpleNamespace(open=list), run=SimpleNamespace(site=load(DEFAULT)))
    *_, last = finding_rows(reading, diagnosis, False)
    assert style.text(last).startswith(f"? {said} The others found no problem.")


def test_an_archive_that_can_not_be_written_is_known_before(tmp_path: Path) -> None:
    """An existing file, or a missing folder, is reported before any host is checked."""
    (tmp_path / "there.tar.gz").touch()
    assert "already exists" in why_no_archive(tmp_path / "there.tar.gz")
    assert "not a folder" in why_no_archive(tmp_path / "nowhere/support.tar.gz")
    assert why_no_archive(tmp_path / "support.tar.gz") == ""
