"""The step of a rollback that restores single objects of the cluster as they were before a run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypedDict

from dws_on_csm.domain import dws_objects
from dws_on_csm.kube import objects as kube_objects
from dws_on_csm.model.actions import STATE, Action, Delete, RunScript
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.snapshot import ABSENT, ObjectSnapshot
from dws_on_csm.model.step import Check, Fact, Finding, Look, Refused, Removal, Step, StepContext, Value
from dws_on_csm.stages.dws import foreign_objects, installed, kept_configuration
from dws_on_csm.stages.rollback import unchanged


def step(things: Sequence[ObjectSnapshot], stage: str, run: str) -> Step:
    """The step `objects` of `stage`, which handles the newest object first. `run`: the first of the runs that are undone.

    DWS's namespace stays if it contains objects of others: they would be deleted with it.
    """
    fact: Fact[dict[str, Observed]] = Fact(stage, "objects")
    own = [known.label for known in things if known.before is None]

    def change(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
        seen = ctx.facts.one(fact)
        odd = [known for known in reversed(things) if have[known.label] != want[known.label]]
        # the preflight compared them before anything was changed; compare once more now
        if since_ := [known for known in odd if known.left and seen[known.label]["sum"] not in known.left]:
            raise Refused(*(unchanged.object_changed(known, run) for known in since_))
        return [action for known in odd for action in _change(known, seen[known.label], run)]

    def want(ctx: StepContext) -> Value:
        seen = ctx.facts.one_or_none(fact) or {}
        stays = {label: observed["text"] for label, observed in seen.items() if observed["text"].startswith(STAYS)}
        return {known.label: _object_text(known.before) for known in things} | stays

    return Step(
        fact.step,
        "master",
        lambda ctx: fact.api(lambda cluster: {known.label: _observed(cluster, known, own) for known in things}),
        want,
        change,
        read=lambda ctx, objects: {label: observed["text"] for label, observed in objects.items()},
        settle_seconds=lambda site: 30.0,
        status_text=lambda have: "; ".join(f"{label} {text}" for label, text in have.items() if text.startswith(STAYS)),
        removes=lambda ctx, have, want: _object_removals(things, have),
        hint="metadata.finalizers of an object shows what delays its removal; other writers may change an object again",
    )


class Observed(TypedDict):
    """An object's text for comparison, its fingerprint, and its resourceVersion ("" if it does not exist)."""

    text: str
    sum: str
    version: str


THERE, STAYS = "exists", "stays, because it contains objects of others: "


def _observed(cluster: Cluster, known: ObjectSnapshot, own: Collection[str]) -> Observed:
    content = cluster.get(known.path)
    text = THERE if content and known.before is None else _object_text(content)
    if text == THERE and known.path == installed.NAMESPACE and (others := foreign_objects.found(cluster, own)):
        text = STAYS + ", ".join(others)
    version = content["metadata"]["resourceVersion"] if content else ""
    return {"text": text, "sum": kube_objects.fingerprint(content), "version": version}


def _object_text(content: Mapping[str, Any] | None) -> str:
    """An object as text for comparison and for a shown difference."""
    return (
        ABSENT
        if content is None
        else json.dumps(kube_objects.without_controller_fields(kube_objects.normal(content)), indent=1, sort_keys=True)
        + "\n"
    )


def _change(known: ObjectSnapshot, seen: Observed, run: str) -> Sequence[Action]:
    def still(cluster: Cluster, content: Mapping[str, Any]) -> None:
        if kube_objects.fingerprint(content) != seen["sum"]:
            raise Refused(unchanged.object_changed(known, run))
        if known.path == installed.NAMESPACE and (others := foreign_objects.found(cluster)):
            text = f"{known.label} now contains objects of others: {', '.join(others)}"
            raise Refused(Finding("namespace-in-use", text, "run the same command again: the namespace then stays"))

    version = seen["version"]
    if known.before is None:
        return [Delete(known.path, 180.0, recheck=still)]
    # the API refuses to change a binding's role
    recreated = bool(version) and known.before["kind"].endswith("RoleBinding")
    if version and not recreated:
        return [_write(known, "replace", known.path, version)]
    creation = _write(known, "create", known.path.rpartition("/")[0], "")
    return [Delete(known.path, recheck=still), creation] if recreated else [creation]


def _write(known: ObjectSnapshot, verb: str, path: str, version: str) -> RunScript:
    """Write the object exactly as it was (kubectl apply would add an annotation). The API refuses an outdated `version`."""
    assert known.before is not None
    meta = {**known.before["metadata"], **({"resourceVersion": version} if version else {})}
    content = json.dumps({**known.before, "metadata": meta}).encode()
    command = f"kubectl --request-timeout 60s {verb} --raw {shlex.quote(path)} --filename - >/dev/null"
    return RunScript(f"restore {known.label}", command, data=content, objects=(known.path,))


def _object_removals(things: Sequence[ObjectSnapshot], have: Value) -> Sequence[Removal]:
    """The objects one by one: the undeploy before this step removes most of them, and what is left was confirmed all the same."""
    gone = [known.label for known in things if known.before is None and have[known.label] == THERE]
    return [Removal(f"in the cluster: {', '.join(gone)}", frozenset(gone))] if gone else []


# Prints what the first removal since the run `first` had saved.
_FORMER = """
cd {state}/before 2>/dev/null || exit 0
for run in *; do
    if [ ! "$run" \\< {first} ] && [ -e "$run/.kept.json" ]; then cat -- "$run/.kept.json"; break; fi
done
"""

_PUT = """
umask 077
cat >{pending}.part
rename_synced {pending}.part {pending}
"""


FORMER: Fact[list[dict[str, Any]]] = Fact("replace", "former")
"""The objects that the first removal saved."""
LACKING: Fact[list[str]] = Fact("replace", "lacking")
"""The labels of those that do not exist now."""
SAVED: Fact[list[dict[str, Any]]] = Fact("replace", "saved")
"""The objects that the install will put back so far."""


def saved(first: str) -> tuple[Check | Step, ...]:
    """The steps that make saved objects available to the install that follows, which restores them (stages/dws/kept_configuration):
    objects of DWS's kinds that the first removal since the run `first` saved and that do not exist now.
    """
    pending = shlex.quote(kept_configuration.pending())

    def lacking(ctx: StepContext) -> Look:
        objects = ctx.facts.one(FORMER)
        return LACKING.api(lambda cluster: kept_configuration.missing(cluster, objects))

    def due(ctx: StepContext, pending_objects: Value) -> Value:
        coming = {dws_objects.label(item) for item in pending_objects}
        return [label for label in ctx.facts.one(LACKING) if label not in coming]

    def change(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
        objects = [*ctx.facts.one(SAVED)]
        objects += [item for item in ctx.facts.one(FORMER) if dws_objects.label(item) in have]
        script, data = _PUT.format(pending=pending), dws_objects.text(objects).encode()
        return [RunScript(f"restore saved configuration: {', '.join(have)}", script, data=data)]

    former = _FORMER.format(state=shlex.quote(STATE), first=shlex.quote(first))
    return (
        Check(FORMER.step, "master", lambda ctx: FORMER.shell(former, _items), lambda ctx, have: ()),
        Check(LACKING.step, "master", lacking, lambda ctx, have: ()),
        Step(
            SAVED.step,
            "master",
            lambda ctx: SAVED.shell(f"cat -- {pending} 2>/dev/null || true", _items),
            lambda ctx: [],
            change,
            read=due,
        ),
    )


def _items(out: bytes) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(out)["items"] if out.strip() else []
    return items
