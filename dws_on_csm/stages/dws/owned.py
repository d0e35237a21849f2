"""What objects of DWS own in other API groups: Kubernetes deletes it together with them, so it stands in the way of their end."""

from __future__ import annotations

import inspect
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dws_on_csm.domain import dws_objects
from dws_on_csm.model import render
from dws_on_csm.model.step import Check, Constant, Finding, Look, ShellLook, StepContext, Value
from dws_on_csm.stages.dws import in_use, persistent_storage, stuck_crds

Due = Callable[[StepContext], object]

NOTHING: Mapping[str, Any] = {"owned": [], "unasked": []}


def program() -> str:
    """What finds it, as a program for the master's Python: functions alone."""
    return f"{inspect.getsource(dws_objects)}\n{render.read('master/dependents.py')}"


def check(due: Due) -> Check:
    """The check `owned` of a stage: nothing of others goes together with objects of DWS where these are `due` to go, or where
    CRDs are being deleted and what holds them back is set free.

    What belongs to persistent storage whose deletion was typed goes with it (see `persistent_storage.step`, which tells it).
    """

    def look(ctx: StepContext) -> Look:
        goes = bool(due(ctx))
        return _look(not goes) if goes or stuck_crds.there(ctx) else Constant(NOTHING)

    def agreed(ctx: StepContext) -> bool:
        return persistent_storage.agreed(ctx) if due(ctx) else stuck_crds.agreed(ctx)

    def judge(ctx: StepContext, have: Value) -> Sequence[Finding]:
        told = [one for one in have["owned"] if not (one["data"] and agreed(ctx))]
        return [*map(_finding, told), *(_unknown(one) for one in have["unasked"] if not one["down"])]

    return Check("owned", "master", look, judge)


def _look(dying: bool) -> ShellLook:
    """`dying`: only what belongs to objects that are being deleted."""
    return ShellLook(f"python3 -c {shlex.quote(f'{program()}{chr(10)}look_for_owned({dying})')}", json.loads)


def _finding(one: Mapping[str, Any]) -> Finding:
    return Finding("storage-owned", dws_objects.owned(dict(one)), dws_objects.freeing(dict(one)))


def _unknown(one: Mapping[str, Any]) -> Finding:
    fix = f"see why on the master; where nothing of it belongs to DWS: accept: [{dws_objects.OWNERS_UNKNOWN}] in the site file"
    return Finding("owners-unknown", dws_objects.unknown_told(dict(one)), fix)


def describe_unasked(ctx: StepContext) -> list[str]:
    """In words the API groups that could not be asked, as far as that was seen before anything was done."""
    found = next(iter(ctx.facts.found.get(f"{in_use.FIRST}.owned", {}).values()), NOTHING)
    return [dws_objects.unknown_told(one) for one in found["unasked"]]


assert dws_objects.OWNERS_UNKNOWN == "owners-unknown"
