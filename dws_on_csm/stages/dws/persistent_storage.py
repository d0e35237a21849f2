"""Persistent storage is data of users: it stands in the way of whatever takes DWS away, unless its deletion was typed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypedDict

from dws_on_csm.config.site import is_count
from dws_on_csm.domain import dws_objects
from dws_on_csm.model.actions import Action, CallApi, Delete
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.step import Check, Constant, Fact, Finding, Refused, Removal, Step, StepContext, Value
from dws_on_csm.stages.dws import installed, workflows
from dws_on_csm.stages.facts import dependents


class Storage(TypedDict):
    """What DWS holds: data of users (see dws_objects.data), and the labels of what is saved before DWS is removed."""

    data: list[dict[str, Any]]
    kept: list[str]


FACT: Fact[Storage] = Fact("preflight", "storage")
"""Names or a number that somebody typed refer to what the first look of a run returned."""

OPTION = "--delete-persistent-storage"

NOTHING: Storage = {"data": [], "kept": []}


def read(cluster: Cluster) -> Storage:
    """What DWS holds, of whichever kinds it has. Raises ClusterError."""
    kinds = installed.contents(cluster)
    data = [{**item, "path": _path(item, kinds)} for item in dws_objects.data(kinds)]
    return {"data": data, "kept": [dws_objects.label(item) for item in dws_objects.preserved(kinds, set())]}


def _path(item: Mapping[str, Any], kinds: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Where the API has it."""
    version = next(each["apiVersion"] for each in kinds[item["plural"]] if dws_objects.uid(dict(each)) == item["uid"])
    space, _, short = item["name"].rpartition("/")
    return f"/apis/{version}/{f'namespaces/{space}/' if space else ''}{item['plural']}/{short}"


def check(due: Callable[[StepContext], bool], looks: Callable[[StepContext], bool]) -> Check:
    """The check `storage` of preflight: no data of users is there where DWS is `due` to go, unless its deletion was typed."""

    def judge(ctx: StepContext, have: Storage) -> Sequence[Finding]:
        return refusals(ctx.site.deletes, _first(ctx), have["data"]) if due(ctx) else ()

    return Check(FACT.step, "master", lambda ctx: FACT.api(read) if looks(ctx) else Constant(NOTHING), judge)


def _first(ctx: StepContext) -> Sequence[Mapping[str, Any]]:
    """What the first look of this run found."""
    return next(iter(ctx.facts.at_first(FACT).values()), NOTHING)["data"]


def refusals(typed: str, first: Sequence[Mapping[str, Any]], present: Sequence[Mapping[str, Any]]) -> Sequence[Finding]:
    """What stands in the way of deleting all of `present`, when this was typed.

    It speaks of what the `first` look of this run found, and of nothing that came later under the same name, or in the place of
    one that has gone since.
    """
    uids = {item["uid"] for item in present}
    left = [item for item in first if item["uid"] in uids]
    return [*(objections(typed, first) if left else ()), *_since(present, {item["uid"] for item in first})]


def agreed(ctx: StepContext) -> bool:
    """Whether the deletion of all that the preflight found was typed, or it found nothing."""
    return not refusals(ctx.site.deletes, _first(ctx), ctx.facts.one(FACT)["data"])


def objections(typed: str, present: Sequence[Mapping[str, Any]]) -> Sequence[Finding]:
    """What stands in the way of deleting all of `present`, when this was typed for it: every one by name, none left out."""
    left = [item for item in present if not _typed(typed, item, present)]
    if not left:
        return ()
    every = ",".join(item["name"] for item in present)
    fix = f"to delete {_it(present)} with all data, give undeploy or install {OPTION}={every}, or {OPTION}={number(present)}"
    findings = [Finding(_finding(item), dws_objects.describe(dict(item)), "keep it, or ask its owner") for item in left]
    why = "its deletion destroys data of users, so --yes does not confirm it"
    if typed:
        why += f"; {typed!r} names neither all of it nor its number, which is {number(present)}"
    return (*findings, Finding("storage-not-agreed", why, fix))


def number(present: Sequence[Mapping[str, Any]]) -> str:
    """How many these are, with a word that only these have: as many others are not meant when it is typed later."""
    every = "\n".join(sorted(str(item["uid"]) for item in present))
    return f"{len(present)}:{hashlib.sha256(every.encode()).hexdigest()[:8]}"


def _it(present: Sequence[Any]) -> str:
    return "it" if len(present) == 1 else f"all {len(present)} of them"


def _finding(item: Mapping[str, Any]) -> str:
    if item["plural"] == dws_objects.PERSISTENT:
        return "storage-persistent"
    return "storage-in-use" if item["plural"] in dws_objects.CONFIGURATION else "storage-unknown-kind"


def _typed(typed: str, item: Mapping[str, Any], present: Sequence[Mapping[str, Any]]) -> bool:
    """Whether what was typed covers one of `present`: their number, or a list that has its name, which in another namespace
    nothing else may have unless that is typed too.

    Something may be called "3": a number that is also a name counts as a name.
    """
    if typed.strip() == number(present):  # no name has a colon
        return True
    words = {word.strip() for word in typed.split(",")} - {""}
    short = [name.rpartition("/")[2] for name in {other["name"] for other in present}]
    if is_count(typed) and not words.intersection(short):
        return int(typed) == len(present)
    own = item["name"].rpartition("/")[2]
    return item["name"] in words or (own in words and short.count(own) == 1)


# --- right before DWS goes


def step(stage: str, due: Callable[[StepContext], str]) -> Step:
    """The step `storage` of `stage`: none is left where a version of DWS is due to go. It deletes what was typed, as the first
    look of this run found it, while DWS and the drivers are still there to free it; anything else it refuses. What was made for a
    Workflow that has just gone (`orphans`) goes a moment later: it waits for that, and for nothing else. What else
    Kubernetes deletes with it the check `owned` of that stage has found (see stages/owned)."""
    fact: Fact[Storage] = Fact(stage, "storage")

    def passing(ctx: StepContext, item: Mapping[str, Any]) -> bool:
        """Whether it was made for a Workflow that was there a moment ago, and is gone: its driver frees it a little later."""
        ids = {workflow["id"] for workflow in ctx.facts.one_or_none(workflows.fact(stage)) or ()}
        return not ids.isdisjoint(item["of"]) and item["uid"] not in {known["uid"] for known in _first(ctx)}

    def staying(ctx: StepContext) -> list[Mapping[str, Any]]:
        return [item for item in ctx.facts.one(fact)["data"] if not passing(ctx, item)]

    def change(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
        present = staying(ctx)
        if stop := refusals(ctx.site.deletes, _first(ctx), present):
            raise Refused(*stop)
        # what a PersistentStorageInstance owns its driver frees in the order that it needs
        first = sorted(present, key=lambda item: item["plural"] != dws_objects.PERSISTENT)
        deletions = [Delete(item["path"], ctx.site.deadlines.command, item["uid"]) for item in first]
        if len(present) == len(have):
            return deletions
        title = "wait until storage of the deleted Workflows is freed"
        return [CallApi(title, lambda cluster: freed(cluster, lambda item: passing(ctx, item))), *deletions]

    def takes(ctx: StepContext, have: Value, want: Value) -> Sequence[Removal]:
        present = staying(ctx)
        below = [dependent for dependent in ctx.facts.one(dependents(stage))["owned"] if dependent["data"]]
        things = frozenset(f"{thing['kind']} {thing['name']} ({thing['uid']})" for thing in (*present, *below))
        descriptions = "; ".join(
            [
                *(dws_objects.describe(dict(item)) for item in present),
                *(dws_objects.describe_owned(dict(dependent)) for dependent in below),
            ]
        )
        return (
            [Removal(f"persistent storage, permanently and with all data on it: {descriptions}", things)]
            if present
            else []
        )

    return Step(
        fact.step,
        "master",
        lambda ctx: fact.api(read) if due(ctx) else Constant(NOTHING),
        lambda ctx: [],
        change,
        read=lambda ctx, storage: [dws_objects.describe(item) for item in storage["data"]],
        removes=takes,
        hint="its storage driver has to free it: check that driver's log, then run the same command again to continue",
    )


FREED = 60.0
"""Seconds that a driver has to free what was allocated for a Workflow that is gone."""


def freed(cluster: Cluster, passing: Callable[[Mapping[str, Any]], bool]) -> bytes:
    """Return when none of what is `passing` is there any more. Raises Refused where something stays."""
    ends = time.monotonic() + FREED
    while left := [item for item in read(cluster)["data"] if passing(item)]:
        wait = ends - time.monotonic()
        if wait <= 0:
            raise Refused(*_since(left, ()))
        cluster.await_event(left[0]["path"].rpartition("/")[0], min(2.0, wait))
    return b""


def _since(present: Sequence[Mapping[str, Any]], agreed: Collection[str]) -> Sequence[Finding]:
    fix = f"run the same command again: the names, or the number, for {OPTION} have changed"
    new = [item for item in present if item["uid"] not in agreed]
    return [
        Finding(_finding(item), f"{dws_objects.describe(dict(item))}; it appeared while this run was running", fix)
        for item in new
    ]


def kept(ctx: StepContext) -> list[str]:
    """Labels of what is saved before DWS goes, as far as that was seen before anything was done."""
    return list((ctx.facts.one_or_none(FACT) or NOTHING)["kept"])
