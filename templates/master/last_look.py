# The last check before DWS is removed: whether all its objects may be deleted, and which of them are preserved. Goes after the
# texts of domain/dws_objects.py, closing.py and dependents.py. It closes DWS, checks, saves the objects to preserve, and deletes
# them exactly as saved; it prints what prevents the removal.
# python3 -c TEXT look SAVED PENDING: the file of saved objects, and the file of all objects to put back, also of earlier runs.
# On its standard input: {"closing": the configuration that closes DWS, "own": labels of the objects in DWS's manifests,
# "common": an API version or "", "accept": names of findings that this site accepts}.
# python3 -c TEXT back PENDING: put the preserved objects back, because DWS stays.
# Exit code 3: an object must not be deleted. 1: a server did not respond.

import os
import pathlib
import sys
from concurrent.futures import ThreadPoolExecutor

IDLE = ("clientmounts", "servers")
"""Kinds whose objects may hold no data now and data of users a moment later: they can be changed while this runs."""

BACK = 20
"""Seconds for putting back the deleted objects."""

TRIES = 10
"""How often everything is checked again while somebody changes objects that are to be deleted."""

AT_ONCE = 8


def look(saved, pending):
    """Check, save and delete. No change that somebody makes meanwhile is lost: an object is deleted only in the state in which it
    was saved, or else everything is checked and saved again. A later change fails, because the object no longer exists."""
    asked = json.loads(sys.stdin.buffer.read().decode())
    close(asked["closing"])
    for _ in range(TRIES):
        going = seen(saved, pending, asked)
        changed = [failure for group in makers_last(going) for failure in deleted(group) if failure]
        if not changed:
            return
    tell("DWS was not removed: somebody keeps changing these objects, so they could not be deleted as they were")
    tell("checked. Run the same command again.")
    tell("\n".join(changed))
    sys.exit(3)


def seen(saved, pending, asked):
    """Stop here where an object must not be deleted; save the objects to preserve. Returns those to delete: (plural, object)."""
    kinds = {plural: objects(plural, crd) for plural, crd in crds().items()}
    there = [label(obj) for obj in kinds.get("workflows", [])] + [describe(entry) for entry in data(kinds)]
    if there:
        tell("DWS was not removed, because these objects still need it:")
        tell("\n".join(there))
        sys.exit(3)
    nothing_owned(removed_with_dws(kinds), asked["accept"])
    common = in_common(kinds, asked["common"])
    now = preserved(common, set(asked["own"]))
    stays = merged(pending, now)
    write(saved, stays)
    # undeploy.sh deletes it at its end where no version follows; after an interrupted removal an install puts its objects back
    write(pending, stays)
    if stays:
        tell("{} objects are saved in {}: {}".format(len(stays), saved, ", ".join(label(obj) for obj in stays)))
    idle = [(plural, obj) for plural in IDLE for obj in kinds.get(plural, [])]
    uids = {uid(obj) for obj in now}
    rest = [(plural, obj) for plural in common if plural not in IDLE for obj in common[plural] if uid(obj) in uids]
    return [(plural, obj) for plural, obj in idle + rest if lasts(obj)]


def makers_last(going):
    """In groups, one after the other: an object before its maker or owner, with which Kubernetes would delete it."""
    rest = list(going)
    while rest:
        makers = {
            maker for _, obj in rest for maker in owners(obj) | {(obj["metadata"].get("labels") or {}).get(OWNER)}
        }
        group = [pair for pair in rest if uid(pair[1]) not in makers] or rest
        yield group
        uids = {uid(obj) for _, obj in group}
        rest = [pair for pair in rest if uid(pair[1]) not in uids]


def deleted(group):
    """Delete objects only in the state in which they were checked. For each the failure in words, or ""."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda pair: delete(*pair), group))


def nothing_owned(ends, accepted):
    """Return where Kubernetes deletes no other objects together with these, as far as that can be known; else exit."""
    if not ends:
        return
    try:
        with api() as get:
            owned, unasked = dependents(get, ends)
    except ApiSilent as error:
        tell(f"DWS was not removed: the API server did not list the objects that objects of DWS own: {error}")
        sys.exit(1)
    unknown = [] if OWNERS_UNKNOWN in accepted else [kind for kind in unasked if not kind["down"]]
    if owned or unknown:
        tell("DWS was not removed, because Kubernetes would delete the objects that it owns:")
        texts = [describe_owned(obj) + "; " + owned_fix(obj) for obj in owned]
        tell("\n".join(texts + [describe_unlisted(kind) for kind in unknown]))
        sys.exit(3)
    for kind in unasked:
        tell(describe_unlisted(kind))


def delete(plural, obj):
    """Delete an object only in the state in which it was checked. The failure in words, or ""."""
    meta = obj["metadata"]
    space = "namespaces/{}/".format(meta["namespace"]) if meta.get("namespace") else ""
    state = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
    options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": state, "propagationPolicy": "Background"}
    path = "/apis/{}/{}{}/{}".format(obj["apiVersion"], space, plural, meta["name"])
    done = call(["delete", "--raw", path, "--filename", "-"], json.dumps(options))
    return f"{label(obj)}: {done.stderr.strip()}" if done.returncode else ""


def back(pending):
    """Put back the deleted objects, as far as DWS's kinds exist. The others stay in the file, and are named."""
    saved = json.loads(pathlib.Path(pending).read_text(encoding="utf-8"))["items"]
    there = standing()
    first = left = [obj for obj in saved if label(obj) not in there]
    ends = time.monotonic() + BACK
    while left and time.monotonic() < ends:
        call(["create", "--filename", "-"], text(left))
        there, served = standing(), {crd["spec"]["names"]["kind"] for crd in crds().values() if lasts(crd)}
        left = [obj for obj in left if label(obj) not in there]
        if not any(obj["kind"] in served for obj in left):
            break
        time.sleep(0.5)  # an object is still being deleted, or an API server does not know yet that DWS is open
    again = [label(obj) for obj in first if obj not in left]
    if again:
        tell("put back, because DWS was not removed: {}".format(", ".join(again)))
    if left:
        tell("could not be put back: {}; saved in {}".format(", ".join(label(obj) for obj in left), pending))
        tell("Run the same command again; `invoke install` puts them back.")
    else:
        pathlib.Path(pending).unlink()  # nothing puts back what somebody deletes from now on


def standing():
    """The labels of all objects that exist and are not being deleted."""
    return {label(obj) for plural, crd in crds().items() for obj in objects(plural, crd) if lasts(obj)}


def lasts(obj):
    return "deletionTimestamp" not in obj["metadata"]


def in_common(kinds, common):
    """The objects in a version that the next DWS serves, too. Where there is none, or where DWS is removed in part, and nothing
    converts them any more, they stay in the version in which they are stored.
    """
    converted = {}
    for plural, stored in kinds.items():
        done = call(["get", "--raw", f"/apis/{GROUP}/{common}/{plural}"], "") if stored and common else None
        converted[plural] = (json.loads(done.stdout)["items"] or []) if done and done.returncode == 0 else stored
    return converted


def objects(plural, crd):
    path = f"/apis/{GROUP}/{version(crd)}/{plural}"
    items = json.loads(kubectl(["get", "--raw", path]))["items"] or []
    # the items of a list may leave out what the list says
    kind, group = crd["spec"]["names"]["kind"], f"{GROUP}/{version(crd)}"
    return [dict(obj, apiVersion=obj.get("apiVersion", group), kind=obj.get("kind", kind)) for obj in items]


def merged(pending, stays):
    """The objects to put back, with those of earlier runs that do not exist any more."""
    file = pathlib.Path(pending)
    before = json.loads(file.read_text(encoding="utf-8"))["items"] if file.exists() else []
    there = {label(obj) for obj in stays}
    return stays + [obj for obj in before if label(obj) not in there]


def write(path, objects):
    """Write the file completely or not at all; only root can read it. Exit where that fails: what is not saved is not deleted."""
    try:
        write_synced(pathlib.Path(path), text(objects))
    except OSError as error:
        tell(f"DWS was not removed: {path} could not be written: {error.strerror}")
        sys.exit(1)


def write_synced(place, content):
    place.parent.mkdir(0o700, parents=True, exist_ok=True)
    beside = place.with_name(f"{place.name}.part")
    if beside.exists():
        beside.unlink()
    with os.fdopen(os.open(str(beside), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(place)
    folder = os.open(str(place.parent), os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


{"look": look, "back": back}[sys.argv[1]](*sys.argv[2:])
