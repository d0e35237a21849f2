"""Files and objects of the cluster as they were before a run: what is known of them, and the steps that bring them back."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fabfile import before, names, render
from fabfile.actions import STATE, Action, Delete, Remove, Sh
from fabfile.api import Cluster
from fabfile.stages import plugin
from fabfile.step import Api, Check, Finding, Known, Look, Place, Refused, Shell, Stage, Step, Value

ABSENT = "absent"

Dws = Literal["leave", "remove", "install"]
"""What a rollback does about DWS itself: nothing, take it away, or install the version that was there."""


@dataclass(frozen=True)
class File:
    """A file as it was before the first of the runs that are undone.

    run    the one whose before-image that is
    sum    sha256 of the image, or "absent"
    left   what it may be now: the checksums that the last of these runs left, or found
    text   what is in the image; None where it is secret, or nothing was there
    """

    path: str
    run: str
    mode: str
    owner: str
    sum: str
    left: frozenset[str]
    text: bytes | None = None


@dataclass(frozen=True)
class Thing:
    """An object of the cluster as it was before: `before` None: not there. `left` as for a File; empty: not known."""

    path: str
    before: Mapping[str, Any] | None
    left: frozenset[str]

    @property
    def label(self) -> str:
        """`clusterroles/workload-manager`."""
        return "/".join(self.path.split("/")[-2:])


@dataclass(frozen=True)
class Goal:
    """How it was, and so how it is to be again.

    dws      what is to be done about DWS itself: nothing, take it away, or install the version of the site file
    files    host -> path -> how it was; those that stay as they are now are left out
    slurm    whether slurm.conf or the daemons are to be changed at all
    enabled  controller -> whether its slurmctld has the burst buffer afterwards
    off      whether one loses it now
    renew    whether kubeconfigs are to be made anew instead of being put back
    pods     objects that a slurmctld in a pod is made of, or has as its /etc/slurm
    """

    run: str
    dws: Dws
    files: Mapping[str, Mapping[str, File]]
    things: Sequence[Thing]
    enabled: Mapping[str, bool]
    slurm: bool = False
    off: bool = False
    renew: bool = False
    pods: Sequence[Thing] = ()
    roles: Mapping[str, Sequence[str]] = field(default_factory=dict)


def text_of(content: bytes) -> str:
    """A file's text; bytes that are no UTF-8 stay what they are."""
    return content.decode(errors="surrogateescape")


# --- what somebody changed since

_SUMS = """
for file in {paths}; do
    if [ -e "$file" ]; then echo "$(sha256sum <"$file" | cut -d' ' -f1) $file"; else echo "absent $file"; fi
done
"""


def files_since(role: str, goal: Goal) -> Check:
    """A check: the files of the hosts of `role` are as the runs that are undone left them."""

    def look(place: Place) -> Look:
        paths = shlex.join(goal.files.get(place.host, {}))
        return Shell(_SUMS.format(paths=paths), _sums) if paths else Known({})

    def judge(place: Place, have: Value) -> Sequence[Finding]:
        mine = goal.files.get(place.host, {})
        return [_changed(place, path, goal) for path, sum_ in have.items() if sum_ not in mine[path].left]

    return Check(f"since-{role}", role, look, judge)


def _sums(out: bytes) -> Value:
    return {path: sum_ for sum_, _, path in (line.partition(" ") for line in out.decode().splitlines())}


def _changed(place: Place, path: str, goal: Goal) -> Finding:
    text = f"{path} on {place.host} is not as run {goal.run}, or a later one, left it: somebody changed it since"
    image = f"{STATE}/before/{goal.files[place.host][path].run}{path}"
    return Finding("file-changed", text, f"how it was before lies there in {image}: settle it by hand, and run again")


def things_since(goal: Goal) -> Check:
    """A check: so are the objects, as far as it is known what the runs left."""
    watched = [one for one in (*goal.things, *goal.pods) if one.left]

    def judge(place: Place, have: Value) -> Sequence[Finding]:
        odd = [one for one in watched if have[one.path] not in one.left]
        text = "is not as run {} left it: somebody changed it since"
        fix = "compare it with before/RUN/.objects in {} on the master, settle it by hand, and run again"
        return [Finding("object-changed", f"{o.label} {text.format(goal.run)}", fix.format(STATE)) for o in odd]

    def look(place: Place) -> Look:
        return Api(lambda cluster: {one.path: before.fingerprint(cluster.get(one.path)) for one in watched})

    return Check("since-cluster", "master", look if watched else lambda place: Known({}), judge)


# --- files


def files(goal: Goal, stage: str, role: str, but: set[str]) -> tuple[Stage, ...]:
    """A stage with a step a file, for those of the hosts of `role` that are to be as they were; none, no stage."""
    hosts = goal.roles.get(role, ())
    paths = dict.fromkeys(path for host in hosts for path in goal.files.get(host, {}) if path not in but)
    steps = tuple(_file(goal, role, path) for path in paths)
    return (Stage(stage, ("preflight",), steps),) if steps else ()


_LOOK = """
file={path}
[ -e "$file" ] || exit 0
stat -L -c '%a %U:%G' -- "$file"
sha256sum <"$file" | cut -d' ' -f1
{content}
"""


def _file(goal: Goal, role: str, path: str) -> Step:
    def mine(place: Place) -> File | None:
        return goal.files.get(place.host, {}).get(path)

    def look(place: Place) -> Look:
        content = 'base64 -w 0 "$file"' if path != names.KUBECONFIG else ""
        script = _LOOK.format(path=shlex.quote(path), content=content)
        return Shell(script, _parse) if mine(place) else Known(None)

    def read(place: Place, found: Value) -> Value:
        known = mine(place)
        return _told(found, known.sum == ABSENT) if found and known else found

    def want(place: Place) -> Value:
        known = mine(place)
        return read(place, _described(known)) if known else None

    def change(place: Place, have: Value, want: Value) -> Sequence[Action]:
        known, found = mine(place), place.facts.all(f"{stage}.{name}")[place.host]
        assert known is not None
        if (found["sum"] if found else ABSENT) not in known.left:
            raise Refused(_changed(place, path, goal))
        return [Remove(path)] if known.sum == ABSENT else [*_tried(place, known), _put_back(known)]

    stage, name = "plugin" if role == "controller" else "computes", path.rpartition("/")[2]
    return Step(name, role, look, want, change, read=read, takes=_takes_file(path))


def _parse(out: bytes) -> Value:
    lines = out.decode().splitlines()
    if not lines:
        return {}
    mode, owner = lines[0].split()
    found = {"mode": mode, "owner": owner, "sum": lines[1]}
    return {**found, "text": text_of(base64.b64decode(lines[2]))} if len(lines) > 2 else found


def _told(found: Mapping[str, str], goes: bool) -> Value:
    """Of a file its text; its checksum where that isn't to be shown, or would only be shown to go."""
    left_out = "text" if goes else "sum" if "text" in found else ""
    return {key: value for key, value in found.items() if key != left_out}


def _described(known: File) -> Value:
    if known.sum == ABSENT:
        return {}
    found = {"mode": known.mode, "owner": known.owner, "sum": known.sum}
    return found if known.text is None else {**found, "text": text_of(known.text)}


def _takes_file(path: str) -> Callable[[Place, Value, Value], str]:
    return lambda place, have, want: "" if want else f"{path} on {place.host} (kept there as a before-image)"


def _tried(place: Place, known: File) -> Sequence[Action]:
    """A plugin is loaded before it is put back: with one that doesn't load, slurmctld would not start any more."""
    return plugin.load(place, text_of(known.text)) if known.path.endswith(f"/{plugin.LUA}") and known.text else []


def _put_back(known: File) -> Sh:
    settings = {"path": known.path, "source": f"{STATE}/before/{known.run}{known.path}", "sum": known.sum}
    return Sh(f"put {known.path} back as it was before {known.run}", render.script("put_back.sh", **settings))


# --- objects of the cluster


def objects(things: Sequence[Thing], stage: str) -> Step:
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
    command = f"kubectl {verb} --raw {shlex.quote(path)} --filename - >/dev/null"
    return Sh(f"put {one.label} back", command, data=content, objects=(one.path,))


def _takes_things(things: Sequence[Thing], have: Value) -> str:
    gone = [one.label for one in things if one.before is None and have[one.label] != ABSENT]
    return f"in the cluster: {', '.join(gone)}" if gone else ""
