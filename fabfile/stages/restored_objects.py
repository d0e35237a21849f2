"""Single objects of the cluster as they were before a run: the step that brings them back."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from fabfile import before
from fabfile.actions import STATE, Action, Delete, Sh
from fabfile.api import Cluster
from fabfile.stages import kept
from fabfile.stages.earlier import ABSENT, Thing
from fabfile.step import Api, Place, Shell, Step, Value


def step(things: Sequence[Thing], stage: str) -> Step:
    """The step `objects` of `stage`: single objects, the last one that was made first."""

    def change(place: Place, have: Value, want: Value) -> Sequence[Action]:
        versions = {label: version for label, (_, version) in place.facts.one(f"{stage}.objects").items()}
        odd = [one for one in reversed(things) if have[one.label] != want[one.label]]
        return [action for one in odd for action in _change(one, versions[one.label])]

    return Step(
        "objects",
        "master",
        lambda place: Api(lambda cluster: {one.label: _seen(cluster, one) for one in things}),
        lambda place: {one.label: _shown(one.before) for one in things},
        change,
        read=lambda place, found: {label: text for label, (text, _) in found.items()},
        settle=lambda site: 30.0,
        takes=lambda place, have, want: _takes_things(things, have),
        hint="what holds an object back is in its metadata.finalizers; one that is written by others too may change again",
    )


def _seen(cluster: Cluster, one: Thing) -> tuple[str, str]:
    """An object as it is to be compared, and its resourceVersion ("": not there)."""
    found = cluster.get(one.path)
    if found is None:
        return ABSENT, ""
    return "there" if one.before is None else _shown(found), found["metadata"]["resourceVersion"]


def _shown(one: Mapping[str, Any] | None) -> str:
    """An object as a text that can be compared, and shown as a difference."""
    return ABSENT if one is None else json.dumps(before.lasting(before.normal(one)), indent=1, sort_keys=True) + "\n"


def _change(one: Thing, version: str) -> Sequence[Action]:
    if one.before is None:
        return [Delete(one.path, 180.0)]
    # a binding's role can't be changed
    anew = bool(version) and one.before["kind"].endswith("RoleBinding")
    if version and not anew:
        return [_write(one, "replace", one.path, version)]
    made = _write(one, "create", one.path.rpartition("/")[0], "")
    return [Delete(one.path), made] if anew else [made]


def _write(one: Thing, verb: str, path: str, version: str) -> Sh:
    """The object exactly as it was: kubectl itself would change an annotation. A version that is no longer so is refused."""
    assert one.before is not None
    meta = {**one.before["metadata"], **({"resourceVersion": version} if version else {})}
    content = json.dumps({**one.before, "metadata": meta}).encode()
    command = f"kubectl --request-timeout 60s {verb} --raw {shlex.quote(path)} --filename - >/dev/null"
    return Sh(f"put {one.label} back", command, data=content, objects=(one.path,))


def _takes_things(things: Sequence[Thing], have: Value) -> str:
    gone = [one.label for one in things if one.before is None and have[one.label] != ABSENT]
    return f"in the cluster: {', '.join(gone)}" if gone else ""


_SAVED = """
cd {state}/before 2>/dev/null || exit 0
newest=
for run in *; do
    if [ ! "$run" \\< {first} ] && [ -e "$run/.kept.json" ]; then newest=$run; fi
done
[ -n "$newest" ] || exit 0
echo "$newest"
base64 -w 0 "$newest/.kept.json"
echo
[ ! -e {pending} ] || base64 -w 0 {pending}
"""

_PUT = """
cp -- {state}/before/{run}/.kept.json {pending}.part
whole {pending}.part {pending}
"""


def saved(first: str) -> Step:
    """The step `saved`: where nothing of DWS is there, what the last undeploy since the run `first` had saved of its objects is
    at hand for the install that follows, which puts it back (see stages/kept)."""
    settings = {"state": shlex.quote(STATE), "pending": shlex.quote(kept.pending())}
    script = _SAVED.format(first=shlex.quote(first), **settings)
    return Step(
        "saved",
        "master",
        lambda place: Shell(script, _due),
        lambda place: "",
        lambda place, have, want: [
            Sh(f"bring back what was saved in run {have}", _PUT.format(run=shlex.quote(have), **settings))
        ],
    )


def _due(out: bytes) -> str:
    """The run whose objects are to come back; "" where none are, or others are on their way back already."""
    run, saved, pending = [*out.decode().split("\n"), "", "", ""][:3]
    return run if _items(saved) and not _items(pending) else ""


def _items(text: str) -> Sequence[Any]:
    found: Sequence[Any] = json.loads(base64.b64decode(text))["items"] if text else []
    return found
