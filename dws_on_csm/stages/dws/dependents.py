"""Objects of other API groups that objects of DWS own: Kubernetes deletes them together, so DWS must not be removed."""

from __future__ import annotations

import inspect
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dws_on_csm.domain import dws_objects
from dws_on_csm.model import render
from dws_on_csm.model.step import Check, Constant, Finding, Look, ShellLook, StepContext
from dws_on_csm.stages.dws import in_use, persistent_storage, stuck_crds
from dws_on_csm.stages.facts import Dependents, dependents

Due = Callable[[StepContext], object]

NOTHING: Dependents = {"owned": [], "unasked": []}


def program() -> str:
    """The text of the program that finds them, for the master's Python: functions alone."""
    return f"{inspect.getsource(dws_objects)}\n{render.read('master/dependents.py')}"


def check(due: Due) -> Check:
    """The check `owned` of a stage: no other object is deleted together with objects of DWS where these are `due` to go, or
    where the step `stuck` releases some.

    Objects of persistent storage whose deletion somebody typed go with it (see `persistent_storage.step`, which names them).
    """

    def look(ctx: StepContext) -> Look:
        is_due = bool(due(ctx))
        return _look(not is_due) if is_due or stuck_crds.there(ctx) else Constant(NOTHING)

    def agreed(ctx: StepContext) -> bool:
        return persistent_storage.agreed(ctx) if due(ctx) else stuck_crds.agreed(ctx)

    def judge(ctx: StepContext, have: Dependents) -> Sequence[Finding]:
        others = [dependent for dependent in have["owned"] if not (dependent["data"] and agreed(ctx))]
        return [
            *(
                Finding(
                    "storage-owned", dws_objects.describe_owned(dict(dependent)), dws_objects.owned_fix(dict(dependent))
                )
                for dependent in others
            ),
            *(_unknown(unlisted) for unlisted in have["unasked"] if not unlisted["down"]),
        ]

    return Check("owned", "master", look, judge)


def _look(dying: bool) -> ShellLook:
    """`dying`: only what belongs to objects that are being deleted."""
    return ShellLook(f"python3 -c {shlex.quote(f'{program()}{chr(10)}look_for_owned({dying})')}", json.loads)


def _unknown(unlisted: Mapping[str, Any]) -> Finding:
    fix = f"find the cause on the master; if DWS owns nothing there, accept: [{dws_objects.OWNERS_UNKNOWN}] in the site file"
    return Finding("owners-unknown", dws_objects.describe_unlisted(dict(unlisted)), fix)


def describe_unasked(ctx: StepContext) -> list[str]:
    """The API groups that could not be checked before this run changed anything, in words."""
    answer = ctx.facts.one_or_none(dependents(in_use.FIRST)) or NOTHING
    return [dws_objects.describe_unlisted(unlisted) for unlisted in answer["unasked"]]


assert dws_objects.OWNERS_UNKNOWN == "owners-unknown"
