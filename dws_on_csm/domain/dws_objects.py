"""The objects of DWS's kinds: which are data of users, and which are configuration. Pure, by upstream's schemas.

This text also runs on the master, in front of templates/master/closing.py and last_look.py, so that the last check before a
deletion is the same code: only the standard library, in Python 3.6.
"""

import calendar
import json
import re
import shlex
import time
from typing import Any, Callable, Collection, Dict, List, Optional, Set

GROUP = "dataworkflowservices.github.io"

PERSISTENT = "persistentstorageinstances"
"""The results of `#DW create_persistent`. When one is deleted, the storage driver destroys its file system."""

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
"""Kinds without data of users, unless they are in use. Each object of any other kind counts as data."""

LASTING = ("name", "namespace", "labels", "annotations", "uid")
"""The metadata that is preserved."""

OWNERS_UNKNOWN = "owners-unknown"
"""The finding that a kind of objects cannot be listed. A site may accept it."""

OWNER = GROUP + "/owner.uid"
"""DWS's label on objects that it created: the uid of their creator. A recreated creator has another uid. DWS sets the label."""

Object = Dict[str, Any]
Kinds = Dict[str, List[Object]]
"""Plural of a kind ("storages") -> its objects. Workflows too: objects that belong to one are a job's, and not persistent."""


def data(kinds: Kinds) -> List[Dict[str, Any]]:
    """The data that users would lose. Each has kind, name (NAMESPACE/NAME), uid, plural, created; in words: what, owner, size;
    "of": the uids of its direct and indirect owners, empty for a PersistentStorageInstance.

    An object that is deleted together with another entry has no entry of its own: the owner's words name it. Always an entry: a
    PersistentStorageInstance, and an object in a circle of owners, since whoever creates an object can name any owner. Workflows,
    and objects that belong to one, have guards of their own.
    """
    jobs = of_jobs(kinds)
    lost = [
        item
        for plural in sorted(kinds)
        for item in kinds[plural]
        if is_user_data(plural, item) and uid(item) not in jobs
    ]
    uids = {uid(item) for item in lost}
    persistent = {uid(item) for item in _instances(kinds)}
    entries = {uid(item) for item in lost if uid(item) in persistent or not (owners(item) & uids)}
    covered = with_dependents(kinds, entries)
    for item in lost:
        if uid(item) not in covered:
            entries.add(uid(item))
            covered = with_dependents(kinds, entries)
    return [_entry(item, kinds) for item in lost if uid(item) in entries]


def preserved(kinds: Kinds, own: Set[str]) -> List[Object]:
    """The configuration that is to exist again later, in a form that can be created. `own`: labels of objects in DWS's manifests.

    Left out: objects that are being deleted, and objects whose owner is not preserved.
    """
    staying = [
        (plural, item)
        for plural in sorted(kinds)
        for item in kinds[plural]
        if plural != "workflows"
        and not is_user_data(plural, item)
        and "deletionTimestamp" not in item["metadata"]
        and label(item) not in own
    ]
    uids = {uid(item) for _, item in staying}
    return [_creatable(item) for _, item in staying if owners(item) <= uids]


def of_jobs(kinds: Kinds) -> Set[str]:
    """The uids of the Workflows, and of all objects that they own, directly or indirectly.

    Persistent storage, and objects that it owns, are never among them, whatever their owners and labels. A Workflow that is being
    deleted protects nothing any more: its leftovers count as data.
    """
    persistent = with_dependents(kinds, {uid(item) for item in _instances(kinds)})
    workflows = {uid(item) for item in kinds.get("workflows", []) if "deletionTimestamp" not in item["metadata"]}
    return with_dependents(kinds, workflows, persistent, _workflow)


def removed_with_dws(kinds: Kinds, dying: bool = False) -> Dict[str, str]:
    """uid -> label of the objects that end with DWS: Kubernetes then deletes also what they own in other API groups.

    Workflows, and objects that belong to one, have guards of their own: DWS and drivers free what was created for a job. An object
    whose last owner is gone is deleted in any case. `dying`: only objects that are being deleted.
    """
    every = [item for plural in sorted(kinds) for item in kinds[plural]]
    present, jobs = {uid(item) for item in every}, of_jobs(kinds)
    removed = [
        item for item in every if item["kind"] != "Workflow" and uid(item) not in jobs and not _ownerless(item, present)
    ]
    return {uid(item): label(item) for item in removed if not dying or "deletionTimestamp" in item["metadata"]}


def _ownerless(item: Object, present: Set[str]) -> bool:
    """Whether all owners that an object names were objects of DWS, and none of them is `present` any more."""
    refs = item["metadata"].get("ownerReferences") or []
    return bool(refs) and all(_of_dws(ref) for ref in refs) and not owners(item) & present


def _instances(kinds: Kinds) -> List[Object]:
    return kinds.get(PERSISTENT, [])


def with_dependents(
    kinds: Kinds, first: Set[str], never: Collection[str] = (), more: Callable[[Object], str] = lambda item: ""
) -> Set[str]:
    """The uids `first`, and those of all direct and indirect dependents except `never`. `more`: the uid of another owner."""
    uids = set(first)
    rest = [item for plural in kinds for item in kinds[plural] if uid(item) not in never]
    while True:
        new = {uid(item) for item in rest if uid(item) not in uids and (owners(item) | {more(item)}) & uids}
        if not new:
            return uids
        uids |= new


def _workflow(item: Object) -> str:
    """The uid of the Workflow for which a driver created an object, by DWS's label; "none" without one."""
    return str((item["metadata"].get("labels") or {}).get(GROUP + "/workflow.uid", "none"))


def is_user_data(plural: str, item: Object) -> bool:
    """Whether an object is data of users, or in use by them."""
    if plural == "workflows":
        return False
    if plural == "servers":
        return bool(_storages(item))
    if plural == "clientmounts":
        mounts = part(item, "status", "mounts") or []
        return part(item, "spec", "desiredState") == "mounted" or any(m.get("state") == "mounted" for m in mounts)
    return plural not in CONFIGURATION


def _creatable(item: Object) -> Object:
    """An object without the fields of the API server, DWS and drivers; its uid shows later whether it was ever deleted."""
    meta = {key: value for key, value in item["metadata"].items() if key in LASTING}
    if OWNER in (meta.get("labels") or {}):
        meta["labels"] = {key: value for key, value in meta["labels"].items() if key != OWNER}
    others = [ref for ref in item["metadata"].get("ownerReferences") or [] if not _of_dws(ref)]
    if others:
        meta["ownerReferences"] = others
    created = {key: value for key, value in item.items() if key not in ("metadata", "status")}
    created["metadata"] = meta
    return created


# --- objects in words


def label(item: Object) -> str:
    """An object in messages: `Storage default/rabbit-1`."""
    return "{} {}".format(item["kind"], name(item))


def name(item: Object) -> str:
    """NAMESPACE/NAME, or NAME."""
    meta = item["metadata"]
    return "{}/{}".format(meta["namespace"], meta["name"]) if meta.get("namespace") else str(meta["name"])


def uid(item: Object) -> str:
    """The object's uid; a later object of the same name has another one."""
    return str(item["metadata"].get("uid", ""))


def owners(item: Object) -> Set[str]:
    """The uids of its owners among DWS's objects; Kubernetes deletes it with them."""
    return {ref["uid"] for ref in item["metadata"].get("ownerReferences") or [] if _of_dws(ref)}


def _of_dws(ref: Object) -> bool:
    return str(ref["apiVersion"]).partition("/")[0] == GROUP


def part(item: Object, *keys: str) -> Any:
    """The value at a path of keys; None where there is none."""
    value: Any = item
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _storages(servers: Object) -> List[str]:
    """The names of the Storages on which a Servers has allocations, requested or existing."""
    wanted = [
        storage["name"]
        for item in part(servers, "spec", "allocationSets") or []
        for storage in item.get("storage") or []
    ]
    existing = [name for item in part(servers, "status", "allocationSets") or [] for name in item.get("storage") or {}]
    return sorted({*wanted, *existing})


def _entry(item: Object, kinds: Kinds) -> Dict[str, Any]:
    plural = next(plural for plural, objects in kinds.items() if item in objects)
    children = [servers for servers in kinds.get("servers", []) if uid(item) in owners(servers)]
    where = sorted(
        {storage for servers in [item, *children] if servers["kind"] == "Servers" for storage in _storages(servers)}
    )
    words = [_what(plural, item)]
    words += [f"with {label(child)}" for child in children]
    words += ["on Storage {}".format(", ".join(where))] if where else []
    return {
        "kind": item["kind"],
        "plural": plural,
        "name": name(item),
        "uid": uid(item),
        "created": item["metadata"].get("creationTimestamp", ""),
        "owner": _owner(item),
        "size": _size(item, children),
        "what": ", ".join(filter(None, words)),
        "of": [] if plural == PERSISTENT else sorted(_makers(item, kinds)),
    }


def _makers(item: Object, kinds: Kinds) -> Set[str]:
    """The uids of an object's direct and indirect owners, including deleted ones."""
    every = {uid(other): other for objects in kinds.values() for other in objects}
    makers = set()  # type: Set[str]
    rest = [item]
    while rest:
        current = rest.pop()
        new = (owners(current) | {_workflow(current)}) - makers - {"none"}
        makers |= new
        rest += [every[maker] for maker in new if maker in every]
    return makers


def _what(plural: str, item: Object) -> str:
    if plural == PERSISTENT:
        state = part(item, "status", "state") or part(item, "spec", "state") or ""
        users = len(part(item, "spec", "consumerReferences") or [])
        words = ["{} file system".format(part(item, "spec", "fsType") or "a"), state.lower()]
        return ", ".join(filter(None, [*words, f"used by {users}" if users else ""]))
    if plural == "servers":
        return "has allocations"
    if plural == "clientmounts":
        paths = [str(mount.get("mountPath", "")) for mount in part(item, "spec", "mounts") or []]
        return "mounted on {} at {}".format(part(item, "spec", "node") or "a node", ", ".join(paths) or "some path")
    return "of an unknown kind, so it counts as data"


def _owner(item: Object) -> str:
    user = part(item, "spec", "userID")
    if user is None:
        users = [m.get("userID") for m in part(item, "spec", "mounts") or [] if isinstance(m, dict) and m.get("userID")]
        user = users[0] if users else None
    return f"of user {user}" if user is not None else "of an unknown user"


def _size(item: Object, children: List[Object]) -> str:
    """The allocated size, or the size in the #DW line; "" where both are unknown."""
    total = sum(_allocated(servers) for servers in [item, *children] if servers["kind"] == "Servers")
    if total:
        return size(total)
    asked = re.search(r"(?:^|\s)capacity=(\S+)", str(part(item, "spec", "dwDirective") or ""))
    return asked.group(1) if asked else ""


def _allocated(servers: Object) -> int:
    return sum(
        int(item.get("allocationSize") or 0) * int(storage.get("allocationCount") or 1)
        for item in part(servers, "spec", "allocationSets") or []
        for storage in item.get("storage") or []
    )


def size(count: int) -> str:
    """A number of bytes in words: "1.5 TiB"."""
    left = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if left < 1024:
            return f"{left:.4g} {unit}"
        left /= 1024
    return f"{left:.4g} PiB"


def describe(item: Dict[str, Any], now: Optional[float] = None) -> str:
    """An entry of `data` in words: name, owner, size, age."""
    words = [item["what"], item["owner"], item["size"] or "of unknown size", _age(item["created"], now)]
    # Users choose some of these texts, for example the mount path.
    return re.sub(r"[^ -~]", "?", "{} {}: {}".format(item["kind"], item["name"], ", ".join(filter(None, words))))


def describe_owned(item: Dict[str, Any], now: Optional[float] = None) -> str:
    """An object of another API group that an object of DWS owns, in words (see templates/master/dependents.py)."""
    age, more = _age(item["created"], now), ", ".join(item["more"])
    words = [
        "{} {}{}: its owner {} is removed with DWS".format(
            item["kind"], item["name"], age and ", " + age, item["owner"]
        ),
        "Kubernetes deletes it together with its owner" + (f", and also {more}" if more else ""),
    ]
    return re.sub(r"[^ -~]", "?", "; ".join(words))


def describe_unlisted(item: Dict[str, Any]) -> str:
    """A kind or API group whose objects could not be listed, in words (see templates/master/dependents.py)."""
    if item["down"]:
        return (
            f"{item['what']} could not be searched for objects that belong to DWS's objects: Kubernetes reports it as unavailable."
            " Kubernetes deletes such objects as soon as it is available again"
        )
    return re.sub(
        r"[^ -~]", "?", f"{item['what']} could not be searched for objects that belong to DWS's objects: {item['why']}"
    )


def owned_fix(item: Dict[str, Any]) -> str:
    """How to keep or delete an object that an object of DWS owns. The uid makes the API server refuse any other object."""
    space, _, short = item["name"].rpartition("/")
    at = [item["resource"], short] + (["--namespace", space] if space else [])
    patch = json.dumps({"metadata": {"uid": item["uid"], "ownerReferences": item["others"]}}, separators=(",", ":"))
    keep = ["kubectl", "patch", *at, "--type", "merge", "--patch", patch]
    words = [" ".join(shlex.quote(word) for word in command) for command in (keep, ["kubectl", "delete", *at])]
    fix = "to keep it, remove its owner reference, on the master: `{}`; to delete it: `{}`".format(*words)
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
    """Objects as a file for `kubectl create -f`."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}, indent=1, sort_keys=True) + "\n"
