"""The step of a rollback that restores single objects of the cluster as they were before a run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from dws_on_csm.domain import dws_objects
from dws_on_csm.kube import objects as kube_objects
from dws_on_csm.model.actions import STATE, Action, Delete, RunScript
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.snapshot import ABSENT, ObjectSnapshot
from dws_on_csm.model.step import ApiLook, Check, Finding, Look, Refused, ShellLook, Step, StepContext, Value
from dws_on_csm.stages.dws import foreign_objects, installed, kept_configuration
from dws_on_csm.stages.rollback import unchanged


def step(things: Sequence[ObjectSnapshot], stage: str, run: str) -> Step:
    """The step `objects` of `stage`, which handles the newest object first. `run`: the first of the runs that are undone.

    DWS's namespace stays if it contains objects of others: they would be deleted with it.
    """
    key = f"{stage}.objects"
    own = [one.label for one in things if one.before is None]

    def change(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
        found = ctx.facts.one(key)
        odd = [one for one in reversed(things) if have[one.label] != want[one.label]]
        # the preflight compared them before anything was changed; compare once more now
        if since_ := [one for one in odd if one.left and found[one.label]["sum"] not in one.left]:
            raise Refused(*(unchanged.object_changed(one, run) for one in since_))
        return [action for one in odd for action in _change(one, found[one.label], run)]

    def want(ctx: StepContext) -> Value:
        seen: Mapping[str, Mapping[str, str]] = next(iter(ctx.facts.found.get(key, {}).values()), {})
        stays = {label: one["text"] for label, one in seen.items() if one["text"].startswith(STAYS)}
        return {one.label: _object_text(one.before) for one in things} | stays

    return Step(
        "objects",
        "master",
        lambda ctx: ApiLook(lambda cluster: {one.label: _observed(cluster, one, own) for one in things}),
        want,
        change,
        read=lambda ctx, found: {label: one["text"] for label, one in found.items()},
        settle_seconds=lambda site: 30.0,
        status_text=lambda have: "; ".join(f"{label} {text}" for label, text in have.items() if text.startswith(STAYS)),
        removes=lambda ctx, have, want: _object_removals(things, have),
        hint="metadata.finalizers of an object shows what delays its removal; other writers may change an object again",
    )


THERE, STAYS = "exists", "stays, because it contains objects of others: "


def _observed(cluster: Cluster, one: ObjectSnapshot, own: Collection[str]) -> dict[str, str]:
    """An object's text for comparison, its fingerprint, and its resourceVersion ("" if it does not exist)."""
    found = cluster.get(one.path)
    text = THERE if found and one.before is None else _object_text(found)
    if text == THERE and one.path == installed.NAMESPACE and (others := foreign_objects.found(cluster, own)):
        text = STAYS + ", ".join(others)
    version = found["metadata"]["resourceVersion"] if found else ""
    return {"text": text, "sum": kube_objects.fingerprint(found), "version": version}


def _object_text(one: Mapping[str, Any] | None) -> str:
    """An object as text for comparison and for a shown difference."""
    return (
        ABSENT
        if one is None
        else json.dumps(kube_objects.lasting(kube_objects.normal(one)), indent=1, sort_keys=True) + "\n"
    )


def _change(one: ObjectSnapshot, seen: Mapping[str, str], run: str) -> Sequence[Action]:
    def still(cluster: Cluster, found: Mapping[str, Any]) -> None:
        if kube_objects.fingerprint(found) != seen["sum"]:
            raise Refused(unchanged.object_changed(one, run))
        if one.path == installed.NAMESPACE and (others := foreign_objects.found(cluster)):
            text = f"{one.label} now contains objects of others: {', '.join(others)}"
            raise Refused(Finding("namespace-in-use", text, "run the same command again: the namespace then stays"))

    version = seen["version"]
    if one.before is None:
        return [Delete(one.path, 180.0, recheck=still)]
    # a binding's role can't be changed
    anew = bool(version) and one.before["kind"].endswith("RoleBinding")
    if version and not anew:
        return [_write(one, "replace", one.path, version)]
    made = _write(one, "create", one.path.rpartition("/")[0], "")
    return [Delete(one.path, recheck=still), made] if anew else [made]


def _write(one: ObjectSnapshot, verb: str, path: str, version: str) -> RunScript:
    """Write the object exactly as it was (kubectl apply would add an annotation). The API refuses an outdated `version`."""
    assert one.before is not None
    meta = {**one.before["metadata"], **({"resourceVersion": version} if version else {})}
    content = json.dumps({**one.before, "metadata": meta}).encode()
    command = f"kubectl --request-timeout 60s {verb} --raw {shlex.quote(path)} --filename - >/dev/null"
    return RunScript(f"restore {one.label}", command, data=content, objects=(one.path,))


def _object_removals(things: Sequence[ObjectSnapshot], have: Value) -> str:
    gone = [one.label for one in things if one.before is None and have[one.label] == THERE]
    return f"in the cluster: {', '.join(gone)}" if gone else ""


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
whole {pending}.part {pending}
"""


def saved(first: str) -> tuple[Check | Step, ...]:
    """The steps that make saved objects available to the install that follows, which restores them (stages/dws/kept_configuration):
    objects of DWS's kinds that the first removal since the run `first` saved and that do not exist now.
    """
    pending = shlex.quote(kept_configuration.pending())

    def lacking(ctx: StepContext) -> Look:
        objects = ctx.facts.one("replace.former")
        return ApiLook(lambda cluster: kept_configuration.missing(cluster, objects))

    def due(ctx: StepContext, found: Value) -> Value:
        coming = {dws_objects.label(one) for one in found}
        return [label for label in ctx.facts.one("replace.lacking") if label not in coming]

    def change(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
        objects = [*ctx.facts.one("replace.saved")]
        objects += [one for one in ctx.facts.one("replace.former") if dws_objects.label(one) in have]
        script, data = _PUT.format(pending=pending), dws_objects.text(objects).encode()
        return [RunScript(f"restore saved configuration: {', '.join(have)}", script, data=data)]

    former = _FORMER.format(state=shlex.quote(STATE), first=shlex.quote(first))
    return (
        Check("former", "master", lambda ctx: ShellLook(former, _items), lambda ctx, have: ()),
        Check("lacking", "master", lacking, lambda ctx, have: ()),
        Step(
            "saved",
            "master",
            lambda ctx: ShellLook(f"cat -- {pending} 2>/dev/null || true", _items),
            lambda ctx: [],
            change,
            read=due,
        ),
    )


def _items(out: bytes) -> Value:
    return json.loads(out)["items"] if out.strip() else []
