"""What DWS's kinds hold: data of users, and configuration that somebody made. Pure, by what upstream's schemas say.

Its text also runs on the master, in front of templates/master/closing.py and last_look.py, so that the look before a
deletion is this one:
nothing but the standard library, in the words of Python 3.6.
"""

import calendar
import json
import re
import shlex
import time
from typing import Any, Callable, Collection, Dict, List, Optional, Set

GROUP = "dataworkflowservices.github.io"

PERSISTENT = "persistentstorageinstances"
"""What `#DW create_persistent` leaves. When one is deleted, the storage driver destroys its file system."""

CONFIGURATION = (
    "clientmounts",
    "computes",
    "directivebreakdowns",
    "dwdirectiverules",
    "servers",
    "storages",
    "systemconfigurations",
    "systemstatuses",
)
"""Kinds that are known to hold no data of users, unless they are in use. Of any other kind each object counts as data."""

LASTING = ("name", "namespace", "labels", "annotations", "uid")
"""What of an object's metadata is kept."""

OWNERS_UNKNOWN = "owners-unknown"
"""The name of the finding that some kind of objects can't be listed. A site may live with it."""

OWNER = GROUP + "/owner.uid"
"""The label by which DWS finds what it made: the uid of its maker, which has another one when it is there again. DWS sets it."""

Object = Dict[str, Any]
Kinds = Dict[str, List[Object]]
"""The objects of each kind by its plural ("storages"), Workflows too: what goes with one is a job's, and not persistent."""


def data(kinds: Kinds) -> List[Dict[str, Any]]:
    """What users would lose: kind, name (NAMESPACE/NAME), uid, plural, created, and in words what, owner and size;
    and the uids "of" what it goes with, which is nothing for a PersistentStorageInstance.

    An object that goes together with another one of these isn't told by itself: its owner's words name it. A
    PersistentStorageInstance always is, and what owns itself through others is, too: whoever makes an object can name any
    owner. Workflows, and what goes with one of them, have their own guards.
    """
    jobs = of_jobs(kinds)
    found = [one for plural in sorted(kinds) for one in kinds[plural] if used(plural, one) and uid(one) not in jobs]
    uids = {uid(one) for one in found}
    persistent = {uid(one) for one in _instances(kinds)}
    told = {uid(one) for one in found if uid(one) in persistent or not (owners(one) & uids)}
    covered = below(kinds, told)
    for one in found:
        if uid(one) not in covered:
            told.add(uid(one))
            covered = below(kinds, told)
    return [_told(one, kinds) for one in found if uid(one) in told]


def kept(kinds: Kinds, own: Set[str]) -> List[Object]:
    """What is to be there again, as it can be created anew. `own`: labels of objects that DWS's manifests have themselves.

    Left out: what is being deleted, and what goes with an owner that doesn't stay.
    """
    staying = [
        (plural, one)
        for plural in sorted(kinds)
        for one in kinds[plural]
        if plural != "workflows"
        and not used(plural, one)
        and "deletionTimestamp" not in one["metadata"]
        and label(one) not in own
    ]
    uids = {uid(one) for _, one in staying}
    return [_anew(one) for _, one in staying if owners(one) <= uids]


def of_jobs(kinds: Kinds) -> Set[str]:
    """The uids of the Workflows that are there, and of what they, or what belongs to them, own.

    Persistent storage, and what it owns, is never among them, whatever owns or labels it. A Workflow that is being deleted
    guards nothing any more: what is left of it counts as data.
    """
    persistent = below(kinds, {uid(one) for one in _instances(kinds)})
    workflows = {uid(one) for one in kinds.get("workflows", []) if "deletionTimestamp" not in one["metadata"]}
    return below(kinds, workflows, persistent, _workflow)


def ending(kinds: Kinds, dying: bool = False) -> Dict[str, str]:
    """The uids of the objects that end when DWS goes, each with its label: what others own through them ends as well.

    Workflows, and what belongs to one, have their own guards: DWS and drivers free what was made for a job. What has lost the
    last of its owners is going in any case. `dying`: only those that are being deleted.
    """
    every = [one for plural in sorted(kinds) for one in kinds[plural]]
    there, jobs = {uid(one) for one in every}, of_jobs(kinds)
    some = [one for one in every if one["kind"] != "Workflow" and uid(one) not in jobs and not _left_alone(one, there)]
    return {uid(one): label(one) for one in some if not dying or "deletionTimestamp" in one["metadata"]}


def _left_alone(one: Object, there: Set[str]) -> bool:
    """Whether all that an object names as its owners were objects of DWS, of which none is `there` any more."""
    refs = one["metadata"].get("ownerReferences") or []
    return bool(refs) and all(_of_dws(ref) for ref in refs) and not owners(one) & there


def _instances(kinds: Kinds) -> List[Object]:
    return kinds.get(PERSISTENT, [])


def below(
    kinds: Kinds, first: Set[str], never: Collection[str] = (), more: Callable[[Object], str] = lambda one: ""
) -> Set[str]:
    """The uids `first` and those of what they own, at whatever remove, without those that `never` are. `more`: another owner."""
    uids = set(first)
    rest = [one for plural in kinds for one in kinds[plural] if uid(one) not in never]
    while True:
        new = {uid(one) for one in rest if uid(one) not in uids and (owners(one) | {more(one)}) & uids}
        if not new:
            return uids
        uids |= new


def _workflow(one: Object) -> str:
    """The uid of the Workflow for which a driver made an object, by the label that DWS has for it; "none" for none."""
    return str((one["metadata"].get("labels") or {}).get(GROUP + "/workflow.uid", "none"))


def used(plural: str, one: Object) -> bool:
    """Whether an object stands for data of users."""
    if plural == "workflows":
        return False
    if plural == "servers":
        return bool(_storages(one))
    if plural == "clientmounts":
        mounts = part(one, "status", "mounts") or []
        return part(one, "spec", "desiredState") == "mounted" or any(m.get("state") == "mounted" for m in mounts)
    return plural not in CONFIGURATION


def _anew(one: Object) -> Object:
    """An object without what the API server, DWS and drivers write themselves; its uid tells later whether it ever went."""
    meta = {key: value for key, value in one["metadata"].items() if key in LASTING}
    if OWNER in (meta.get("labels") or {}):
        meta["labels"] = {key: value for key, value in meta["labels"].items() if key != OWNER}
    others = [ref for ref in one["metadata"].get("ownerReferences") or [] if not _of_dws(ref)]
    if others:
        meta["ownerReferences"] = others
    made = {key: value for key, value in one.items() if key not in ("metadata", "status")}
    made["metadata"] = meta
    return made


# --- what is said of an object


def label(one: Object) -> str:
    """`Storage default/rabbit-1`: how people call an object."""
    return "{} {}".format(one["kind"], name(one))


def name(one: Object) -> str:
    """NAMESPACE/NAME, or NAME."""
    meta = one["metadata"]
    return "{}/{}".format(meta["namespace"], meta["name"]) if meta.get("namespace") else str(meta["name"])


def uid(one: Object) -> str:
    """The object's own, which another one of its name does not have."""
    return str(one["metadata"].get("uid", ""))


def owners(one: Object) -> Set[str]:
    """The uids of the objects of DWS with which it goes."""
    return {ref["uid"] for ref in one["metadata"].get("ownerReferences") or [] if _of_dws(ref)}


def _of_dws(ref: Object) -> bool:
    return str(ref["apiVersion"]).partition("/")[0] == GROUP


def part(one: Object, *keys: str) -> Any:
    """What is at these keys; None where nothing is."""
    found: Any = one
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _storages(servers: Object) -> List[str]:
    """The names of the Storages of which a Servers has allocations, wanted or made."""
    wanted = [s["name"] for one in part(servers, "spec", "allocationSets") or [] for s in one.get("storage") or []]
    made = [name for one in part(servers, "status", "allocationSets") or [] for name in one.get("storage") or {}]
    return sorted({*wanted, *made})


def _told(one: Object, kinds: Kinds) -> Dict[str, Any]:
    plural = next(plural for plural, some in kinds.items() if one in some)
    children = [s for s in kinds.get("servers", []) if uid(one) in owners(s)]
    where = sorted({ctx for s in [one, *children] if s["kind"] == "Servers" for ctx in _storages(s)})
    words = [_what(plural, one)]
    words += [f"with {label(child)}" for child in children]
    words += ["on Storage {}".format(", ".join(where))] if where else []
    return {
        "kind": one["kind"],
        "plural": plural,
        "name": name(one),
        "uid": uid(one),
        "created": one["metadata"].get("creationTimestamp", ""),
        "owner": _owner(one),
        "size": _size(one, children),
        "what": ", ".join(filter(None, words)),
        "of": [] if plural == PERSISTENT else sorted(_makers(one, kinds)),
    }


def _makers(one: Object, kinds: Kinds) -> Set[str]:
    """The uids of what an object goes with, at whatever remove, be it gone by now."""
    every = {uid(other): other for some in kinds.values() for other in some}
    found = set()  # type: Set[str]
    rest = [one]
    while rest:
        some = rest.pop()
        new = (owners(some) | {_workflow(some)}) - found - {"none"}
        found |= new
        rest += [every[other] for other in new if other in every]
    return found


def _what(plural: str, one: Object) -> str:
    if plural == PERSISTENT:
        state = part(one, "status", "state") or part(one, "spec", "state") or ""
        users = len(part(one, "spec", "consumerReferences") or [])
        words = ["{} file system".format(part(one, "spec", "fsType") or "a"), state.lower()]
        return ", ".join(filter(None, [*words, f"used by {users}" if users else ""]))
    if plural == "servers":
        return "has allocations"
    if plural == "clientmounts":
        paths = [str(mount.get("mountPath", "")) for mount in part(one, "spec", "mounts") or []]
        return "mounted on {} at {}".format(part(one, "spec", "node") or "a node", ", ".join(paths) or "some path")
    return "of a kind that is not known here, and so taken for data"


def _owner(one: Object) -> str:
    user = part(one, "spec", "userID")
    if user is None:
        users = [m.get("userID") for m in part(one, "spec", "mounts") or [] if isinstance(m, dict) and m.get("userID")]
        user = users[0] if users else None
    return f"of user {user}" if user is not None else "of an unknown user"


def _size(one: Object, children: List[Object]) -> str:
    """What is allocated, or else what the #DW line asked for; "" where neither is known."""
    total = sum(_allocated(servers) for servers in [one, *children] if servers["kind"] == "Servers")
    if total:
        return size(total)
    asked = re.search(r"(?:^|\s)capacity=(\S+)", str(part(one, "spec", "dwDirective") or ""))
    return asked.group(1) if asked else ""


def _allocated(servers: Object) -> int:
    return sum(
        int(one.get("allocationSize") or 0) * int(storage.get("allocationCount") or 1)
        for one in part(servers, "spec", "allocationSets") or []
        for storage in one.get("storage") or []
    )


def size(count: int) -> str:
    """So many bytes in words: "1.5 TiB"."""
    left = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if left < 1024:
            return f"{left:.4g} {unit}"
        left /= 1024
    return f"{left:.4g} PiB"


def told(one: Dict[str, Any], now: Optional[float] = None) -> str:
    """One of `data` in words: name, owner, size where it is known, age."""
    words = [one["what"], one["owner"], one["size"] or "of unknown size", _age(one["created"], now)]
    # a path to mount at and the like are what some user wrote
    return re.sub(r"[^ -~]", "?", "{} {}: {}".format(one["kind"], one["name"], ", ".join(filter(None, words))))


def owned(one: Dict[str, Any], now: Optional[float] = None) -> str:
    """In words one object of another API group that an object of DWS owns (see templates/master/dependents.py)."""
    age, more = _age(one["created"], now), ", ".join(one["more"])
    words = [
        "{} {}{}: its owner {} goes with DWS".format(one["kind"], one["name"], age and ", " + age, one["owner"]),
        "Kubernetes deletes it together with its owner" + (f", and with it {more}" if more else ""),
    ]
    return re.sub(r"[^ -~]", "?", "; ".join(words))


def unknown_told(one: Dict[str, Any]) -> str:
    """In words what could not be asked for owners (see templates/master/dependents.py)."""
    if one["down"]:
        return (
            f"{one['what']} could not be asked whether objects of DWS own anything there: Kubernetes says that it is not available."
            " What they own there Kubernetes deletes once it answers again"
        )
    return re.sub(r"[^ -~]", "?", f"whether objects of DWS own any {one['what']} is unknown: {one['why']}")


def freeing(one: Dict[str, Any]) -> str:
    """What to do so that such an object stays, and its content with it. The uid makes the API server refuse any other object."""
    space, _, short = one["name"].rpartition("/")
    at = [one["resource"], short] + (["--namespace", space] if space else [])
    patch = json.dumps({"metadata": {"uid": one["uid"], "ownerReferences": one["others"]}}, separators=(",", ":"))
    keep = ["kubectl", "patch", *at, "--type", "merge", "--patch", patch]
    words = [" ".join(shlex.quote(word) for word in some) for some in (keep, ["kubectl", "delete", *at])]
    fix = "to keep it, take its owner out of it, on the master: `{}`; if nobody needs it: `{}`".format(*words)
    return re.sub(r"[^ -~]", "?", fix)


def _age(created: str, now: Optional[float]) -> str:
    if not created:
        return ""
    seconds = (time.time() if now is None else now) - calendar.timegm(time.strptime(created, "%Y-%m-%dT%H:%M:%SZ"))
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} old"
    return f"{max(0.0, seconds):.0f} s old"


def text(objects: List[Object]) -> str:
    """Objects as a file that `kubectl create -f` takes."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}, indent=1, sort_keys=True) + "\n"
