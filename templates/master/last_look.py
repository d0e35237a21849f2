# The last look before DWS goes, behind the texts of domain/dws_objects.py, closing.py and dependents.py: whether all that it
# holds may go, and what is kept of it. It closes DWS first, looks, writes what is kept, and deletes that as it was
# written; what is in the way it prints.
# python3 -c TEXT look SAVED PENDING: the file for what is kept, and the one of what is still to be put back, of earlier runs too.
# On its standard input: {"closing": the configuration that closes DWS, "own": labels of what DWS's manifests have,
# "common": an API version, "accept": names of findings that this site lives with}.
# python3 -c TEXT back PENDING: what is kept is there again, since DWS stays.
# Exit code 3: something is there that must not go. 1: somebody did not answer.

import os
import pathlib
import sys
from concurrent.futures import ThreadPoolExecutor

IDLE = ("clientmounts", "servers")
"""Kinds whose objects hold nothing at one moment, and data of users at the next: by a change, which is open to all meanwhile."""

BACK = 20
"""Seconds for putting back what was deleted."""

TRIES = 10
"""How often all is looked at again, where somebody goes on changing what is to go."""

AT_ONCE = 8


def look(saved, pending):
    """Nobody loses what they write meanwhile: what is kept is deleted in the very state in which it was saved, or else all is
    looked at and saved again. Who comes later is told that it is gone."""
    asked = json.load(sys.stdin)
    close(asked["closing"])
    for _ in range(TRIES):
        going = seen(saved, pending, asked)
        changed = [said for some in makers_last(going) for said in deleted(some) if said]
        if not changed:
            return
    print("DWS may still be needed, so it stays: these could not be deleted as they were seen in the")
    print("last look, since somebody changes them all the time. Run again.")
    print("\n".join(changed))
    sys.exit(3)


def seen(saved, pending, asked):
    """What must not go stops it here; what is kept is saved. Returns what is to be deleted as it was seen: (plural, object)."""
    kinds = {plural: objects(plural, crd) for plural, crd in crds().items()}
    there = [label(one) for one in kinds.get("workflows", [])] + [describe(one) for one in data(kinds)]
    if there:
        print("DWS is still needed, so it stays:")
        print("\n".join(there))
        sys.exit(3)
    nothing_owned(removed_with_dws(kinds), asked["accept"])
    common = in_common(kinds, asked["common"])
    now = preserved(common, set(asked["own"]))
    stays = merged(pending, now)
    write(saved, stays)
    # where no version follows it goes when DWS has: a removal that was cut can be followed by an install
    write(pending, stays)
    if stays:
        print("{} objects are saved in {}: {}".format(len(stays), saved, ", ".join(label(one) for one in stays)))
    idle = [(plural, one) for plural in IDLE for one in kinds.get(plural, [])]
    uids = {uid(one) for one in now}
    rest = [(plural, one) for plural in common if plural not in IDLE for one in common[plural] if uid(one) in uids]
    return [(plural, one) for plural, one in idle + rest if "deletionTimestamp" not in one["metadata"]]


def makers_last(going):
    """In groups, one after the other: what is made or owned by something goes before that, which would take it along."""
    rest = list(going)
    while rest:
        makers = {
            maker for _, one in rest for maker in owners(one) | {(one["metadata"].get("labels") or {}).get(OWNER)}
        }
        some = [pair for pair in rest if uid(pair[1]) not in makers] or rest
        yield some
        uids = {uid(one) for _, one in some}
        rest = [pair for pair in rest if uid(pair[1]) not in uids]


def deleted(some):
    """Deletes objects as they were seen, and as nothing else. Of each in words why that could not be; "" where it could."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda pair: doom(*pair), some))


def nothing_owned(ends, accepted):
    """Returns where Kubernetes deletes nothing of others together with these objects, as far as that can be known."""
    if not ends:
        return
    try:
        with api() as get:
            found, unasked = dependents(get, ends)
    except Silent as error:
        print(f"The API server does not say what objects of DWS own, so DWS stays: {error}")
        sys.exit(1)
    unknown = [] if OWNERS_UNKNOWN in accepted else [one for one in unasked if not one["down"]]
    if found or unknown:
        print("Kubernetes would delete what objects of DWS own, so DWS stays:")
        texts = [describe_owned(one) + "; " + owned_fix(one) for one in found]
        print("\n".join(texts + [describe_unlisted(one) for one in unknown]))
        sys.exit(3)
    for one in unasked:
        print(describe_unlisted(one))


def doom(plural, one):
    meta = one["metadata"]
    space = "namespaces/{}/".format(meta["namespace"]) if meta.get("namespace") else ""
    state = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
    options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": state, "propagationPolicy": "Background"}
    path = "/apis/{}/{}{}/{}".format(one["apiVersion"], space, plural, meta["name"])
    done = call(["delete", "--raw", path, "--filename", "-"], json.dumps(options))
    return f"{label(one)}: {done.stderr.strip()}" if done.returncode else ""


def back(pending):
    """What was deleted since it was kept is there again, as far as DWS is; what is not, stays in the file, and is named."""
    saved = json.loads(pathlib.Path(pending).read_text())["items"]
    there = standing()
    first = left = [one for one in saved if label(one) not in there]
    ends = time.monotonic() + BACK
    while left and time.monotonic() < ends:
        call(["create", "--filename", "-"], text(left))
        there, served = standing(), {crd["spec"]["names"]["kind"] for crd in crds().values() if lasts(crd)}
        left = [one for one in left if label(one) not in there]
        if not any(one["kind"] in served for one in left):
            break
        time.sleep(0.5)  # one that is still being deleted, or an API server that has not heard yet that DWS is open
    again = [label(one) for one in first if one not in left]
    if again:
        print("put back, since DWS was not removed: {}".format(", ".join(again)))
    if left:
        print("not put back: {}; saved in {}".format(", ".join(label(one) for one in left), pending))
        print("Run again; `invoke install` puts it back.")
    else:
        pathlib.Path(pending).unlink()  # from now on what somebody deletes is meant to go


def standing():
    """The labels of all objects that are there, and are not being deleted."""
    return {label(one) for plural, crd in crds().items() for one in objects(plural, crd) if lasts(one)}


def lasts(one):
    return "deletionTimestamp" not in one["metadata"]


def in_common(kinds, common):
    """The objects in the version that all versions of DWS serve which this tool installs: what is kept may go to another.

    Where nobody converts them any more, since DWS is half gone, they stay in the version in which they are stored.
    """
    found = {}
    for plural, some in kinds.items():
        done = call(["get", "--raw", f"/apis/{GROUP}/{common}/{plural}"], "") if some else None
        found[plural] = (json.loads(done.stdout)["items"] or []) if done and done.returncode == 0 else some
    return found


def objects(plural, crd):
    path = f"/apis/{GROUP}/{version(crd)}/{plural}"
    found = json.loads(kubectl(["get", "--raw", path]))["items"] or []
    # the items of a list may leave out what the list says
    kind, group = crd["spec"]["names"]["kind"], f"{GROUP}/{version(crd)}"
    return [dict(one, apiVersion=one.get("apiVersion", group), kind=one.get("kind", kind)) for one in found]


def merged(pending, stays):
    """What earlier runs had still to put back, and is not there any more, goes on being kept."""
    file = pathlib.Path(pending)
    before = json.loads(file.read_text())["items"] if file.exists() else []
    there = {label(one) for one in stays}
    return stays + [one for one in before if label(one) not in there]


def write(path, objects):
    """The file whole or not at all, root's alone."""
    place = pathlib.Path(path)
    place.parent.mkdir(0o700, parents=True, exist_ok=True)
    beside = place.with_name(f"{place.name}.part")
    if beside.exists():
        beside.unlink()
    with os.fdopen(os.open(str(beside), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text(objects))
        file.flush()
        os.fsync(file.fileno())
    beside.replace(place)
    folder = os.open(str(place.parent), os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


{"look": look, "back": back}[sys.argv[1]](*sys.argv[2:])
