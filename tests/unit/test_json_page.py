"""docs/json.md has every event of --json with all of its keys, and no others."""

from __future__ import annotations

import json
import re
from typing import Any

from dws_on_csm.commands import certificates, look, workflows
from dws_on_csm.commands.discover import command as discover
from dws_on_csm.commands.discover.page import Value
from dws_on_csm.commands.doctor import diagnosis
from dws_on_csm.commands.history import journal
from dws_on_csm.config.load import ROOT
from dws_on_csm.model import event_json
from dws_on_csm.model.events import Done, Failure, Summary
from dws_on_csm.model.step import Finding
from dws_on_csm.runner.past_runs import PastRun
from dws_on_csm.stages.dws.workflows import Workflow

PAGE = (ROOT / "docs/json.md").read_text()
DONE = Done("h", "a", "s", "failed", 1.0, 2.0, ("+ x",), "note", (Failure("c", 2),), (("key",), ("value",)))
SUMMARY = Summary("r", 1, {}, 1, 2, 3, 4.5, "message", "next", "report", ("lacking",))


def described(heading: str) -> list[str]:
    """The keys in the first column of the table below this heading of the page."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    return [key for row in rows for key in re.findall(r"`([^`]+)`", row)]


def records() -> dict[str, dict[str, Any]]:
    """Heading -> a record with all keys that it may have, as the commands write it."""
    lines: list[str] = []
    show = event_json.consumer(lines.append)
    show(DONE)
    show(SUMMARY)
    at = diagnosis.HostFinding("h", Finding("name", "text", "fix"))
    seen = diagnosis.Diagnosis((at,), (), (diagnosis.Unseen("h", "a.s", "why"),), (), 1)
    workflow: Any = dict.fromkeys(Workflow.__annotations__, "")
    jobs: Any = {"jobs": {}}
    every: list[Any] = [
        *map(json.loads, lines),
        look.record(DONE, None),
        *diagnosis.records(seen, 1),
        *discover.records([Value("k")], 0, "", "", [], ""),
        *workflows.workflow_records([workflow], jobs, ["live"], []),
        *certificates.records([certificates.Status("h")], 0),
        journal.run_record(PastRun("r")),
    ]
    headings = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    assert len(headings) == len(every)
    return dict(zip(headings, every, strict=True))


def test_each_event_has_the_keys_that_the_page_describes() -> None:
    """A key that is added, renamed or removed has to be on the page, below the event that has it."""
    for heading, record in records().items():
        assert heading.split()[0] == record.pop("event"), heading
        assert sorted(described(heading)) == sorted(record), heading


def test_each_failure_and_problem_has_the_keys_that_the_page_describes() -> None:
    """Objects inside of an event are described in its row."""
    failure = records()["step"]["failures"][0]
    problem = certificates.Problem("text", "fix").__dict__
    for key, names in (("failures", failure), ("problems", problem)):
        (row,) = re.findall(rf"^\| `{key}` \| (.*) \|$", PAGE, re.MULTILINE)
        assert set(re.findall(r"`([^`]+)`", row)) == set(names)
