"""Findings about storage drivers: one that fails or is slow, and storage that a deleted Workflow may have left."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TypedDict

from dws_on_csm.model import render
from dws_on_csm.model.lines import all_values, parse_pairs
from dws_on_csm.model.step import Check, Fact, Finding, ShellLook, StepContext, Value
from dws_on_csm.stages import controller_library
from dws_on_csm.stages.dws import storage_drivers, workflows
from dws_on_csm.stages.dws.workflows import Workflow
from dws_on_csm.stages.pod import discover

DAYS = 3
"""Days of slurmctld's log that are searched. Nothing shows that such storage was freed, so the finding ends with its age."""

MOST = 20
"""Workflows of the log that are reported."""


# --- drivers that keep a Workflow waiting


def drivers(ctx: StepContext, existing: Sequence[Workflow], now: float) -> Iterator[Finding]:
    """The Workflows of this site that a storage driver fails or keeps waiting. `now`: the time, 0 if unknown."""
    for workflow in existing:
        if workflow["namespace"] != ctx.site.access.namespace:
            continue
        waited = now - workflow["since"] if now else 0.0
        awaited = list(zip(workflows.awaited(workflow), workflows.wait_texts(workflow, now), strict=True))
        failed = [text for driver, text in awaited if storage_drivers.failed(driver)]
        slow = [text for driver, text in awaited if waited > storage_drivers.patience(driver)]
        text = f"Workflow {workflows.label(workflow)} {'; it '.join(failed or slow)}"
        if failed:
            yield Finding("driver-error", text, workflows.ask(workflow))
        elif slow:
            yield Finding("driver-slow", text, workflows.ask(workflow))


# --- storage of Workflows that are gone


class Left(TypedDict):
    """A Workflow that the plugin deleted before its storage was freed; `error`: the driver's, "" where Teardown was skipped."""

    workflow: str
    at: str
    error: str


WORKFLOWS: Fact[list[Workflow]] = Fact("doctor", "workflows")
LEFT: Fact[list[Left]] = Fact("doctor", "teardown")


def _look(ctx: StepContext) -> ShellLook:
    settings = {"days": str(DAYS), "reported": str(MOST), "in_pod": "yes" if discover.pod_of(ctx) else ""}
    return LEFT.shell(render.script("controller/doctor_teardown.sh", **settings), parse, controller_library.text(ctx))


def parse(out: bytes) -> list[Left]:
    """The look's lines. Others write slurmctld's log: a line of another form counts as none."""
    values = all_values(parse_pairs(out, "replace"), "left")
    matches = (re.fullmatch(r"(bb\d+) (\d{4}-\d\d-\d\dT\S+) ?(.*)", value, re.ASCII | re.DOTALL) for value in values)
    found: list[Left] = [{"workflow": match[1], "at": match[2], "error": match[3]} for match in matches if match]
    return found


def judge_left(ctx: StepContext, found: Value) -> Sequence[Finding]:
    """Storage that may be left: the plugin deleted its Workflow before it was freed."""
    # the plugin's deletion may have failed, too: then the Workflow has findings of its own
    listed = {workflow["name"] for workflow in ctx.facts.one_or_none(WORKFLOWS) or ()}
    return [_left(left) for left in found if left["workflow"] not in listed]


_UNASKED = "set_desired_state: "
"""Begins the plugin's error where it could not even ask for Teardown, as without the API server."""


def _left(left: Left) -> Finding:
    number = left["workflow"].removeprefix("bb")
    error = left["error"].replace("`", "'")[: storage_drivers.LONGEST]
    shows, ask = "names the storage driver that failed", "those who run it"
    if error.startswith(_UNASKED):
        why = f"without its Teardown, which it could not ask for ({error.removeprefix(_UNASKED)})"
        shows, ask = "shows what it had asked for before", "those who run the site's storage drivers"
    else:
        why = f"although its Teardown has failed ({error})" if error else "before any storage driver ran its Teardown"
    text = (
        f"the plugin deleted Workflow {left['workflow']} (job {number}) at {left['at']}, {why}: its storage may be left"
    )
    fix = f"run `invoke logs --job {number} --since {DAYS}d`, which {shows}, and ask {ask} whether storage of this job is left"
    return Finding("storage-left", text, fix)


CHECK = Check(LEFT.step, "controller", _look, judge_left)
