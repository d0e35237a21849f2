# Finds the objects of other API groups that objects of DWS own. Goes after the text of domain/dws_objects.py. Kubernetes' garbage
# collector deletes them together with their owners, also where these are created again a moment later: with another uid.
# It reads the metadata of all objects of each kind that can be listed and deleted, in pages, through a `kubectl proxy` of its
# own: kubectl itself can only ask for complete objects, with the content of Secrets.

import contextlib
import ctypes
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
PAGE, PAGES, LARGEST, LISTS_AT_ONCE = 500, 4000, 64000000, 4
SECONDS = {"start": 20, "answer": 60, "busy": 30}
KILLED_WITH_PARENT = 1  # PR_SET_PDEATHSIG
APISERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


class ApiSilent(Exception):
    """The API server did not give the answer; `status` is its HTTP status (0: no response)."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


class UnixSocketConnection(http.client.HTTPConnection):
    """A connection to a socket in a folder."""

    def __init__(self, path):
        super().__init__("localhost", timeout=SECONDS["answer"])
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


@contextlib.contextmanager
def api():
    """A function that returns the API server's answer for a path, for as long as this lasts. Only root can enter its folder."""
    folder = tempfile.mkdtemp(prefix="dws-on-csm-", dir="/run" if os.access("/run", os.W_OK) else None)
    path, child, came = folder + "/api", None, []

    def exit_on_signal(number, frame):
        came.append(number)
        # ends a wait for an answer at once
        if child:
            child.kill()
        sys.exit(128 + number)

    former = {
        number: signal.signal(number, exit_on_signal) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    }
    try:
        with pathlib.Path(folder, "output").open("wb") as output:
            child = subprocess.Popen(
                ["kubectl", "proxy", "--unix-socket=" + path],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=lambda: ctypes.CDLL(None).prctl(KILLED_WITH_PARENT, signal.SIGKILL),
            )
        if came:  # while Python forked, which ignores what a handler raises in its hooks
            sys.exit(128 + came[0])
        wait_served(path, child, pathlib.Path(folder, "output"))
        yield lambda asked, accept="application/json": ask(path, asked, accept)
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        if child:
            child.kill()
            child.wait()
        shutil.rmtree(folder, ignore_errors=True)


def wait_served(path, child, output):
    ends = time.time() + SECONDS["start"]
    while True:
        with contextlib.suppress(OSError), contextlib.closing(socket.socket(socket.AF_UNIX)) as trial:
            trial.connect(path)
            return
        if child.poll() is not None or time.time() > ends:
            raise ApiSilent(
                0,
                "kubectl proxy does not start: {}".format(
                    output.read_text(encoding="utf-8", errors="replace")[:500].strip()
                ),
            )
        time.sleep(0.02)


def ask(path, asked, accept):
    """The API server's JSON answer for a path; None where nothing is. Asks again where the server is busy. Raises ApiSilent."""
    ends = time.time() + SECONDS["busy"]
    while True:
        status, later, text = answered(path, asked, accept)
        if status != 429 or time.time() > ends:
            break
        time.sleep(min(int(later), 5) if later.isdigit() else 1)
    if status in (404, 405):
        return None
    if status != 200:
        raise ApiSilent(
            status, "{}: {} {}".format(asked, status, " ".join(text[:300].decode(errors="replace").split()))
        )
    try:
        content = json.loads(text.decode())
    except ValueError as error:
        raise ApiSilent(status, f"{asked}: the answer is not JSON, or has more than {LARGEST} bytes") from error
    if not isinstance(content, dict):
        raise ApiSilent(status, f"{asked}: the answer is not a JSON object")
    return content


def answered(path, asked, accept):
    link = UnixSocketConnection(path)
    try:
        link.request("GET", asked, headers={"Accept": accept})
        answer = link.getresponse()
        return answer.status, answer.getheader("Retry-After") or "", answer.read(LARGEST + 1)
    except (OSError, http.client.HTTPException) as error:
        raise ApiSilent(0, f"{asked}: {str(error) or type(error).__name__}") from error
    finally:
        link.close()


def listed(get, path, accept=METADATA, must=False):
    """The objects of a list, page by page. Raises ApiSilent; where it `must` be there, also if it is not found."""
    after, limit = "", PAGE
    for _ in range(PAGES):
        query = urllib.parse.urlencode([(k, v) for k, v in (("limit", limit), ("continue", after)) if v])
        try:
            answer = get(f"{path}?{query}", accept)
        except ApiSilent as error:
            if error.status != 410 or not after:
                raise
            after, limit = (
                "",
                0,
            )  # the rest of the pages has expired: ask for all objects at once, also for those seen already
            continue
        if answer is None:
            if must or after:
                raise ApiSilent(404, f"{path}: it is not found")
            return
        yield from answer.get("items") or []
        after = (answer.get("metadata") or {}).get("continue") or ""
        if not after:
            return
    raise ApiSilent(0, f"{path}: more than {PAGES} pages")


# --- objects and kinds


def of_dws(get):
    """The objects of DWS's kinds by plural, in the version in which they are stored where that is served."""
    group_versions = (get("/apis/" + GROUP) or {}).get("versions") or []
    served = [get("/apis/" + entry["groupVersion"]) or {} for entry in group_versions]
    plurals = {kind["name"].partition("/")[0] for group in served for kind in group.get("resources") or []}
    kinds = {}
    for plural in sorted(plurals):
        crd = get(f"{CRDS}/{plural}.{GROUP}")
        versions = (
            sorted((v for v in crd["spec"]["versions"] if v["served"]), key=lambda v: not v["storage"]) if crd else []
        )
        if versions:
            group, kind = "{}/{}".format(GROUP, versions[0]["name"]), crd["spec"]["names"]["kind"]
            items = listed(get, f"/apis/{group}/{plural}", "application/json")
            kinds[plural] = [dict(obj, apiVersion=group, kind=kind) for obj in items]
    return kinds


def versions_of_all(get):
    """(group, its versions, the preferred one first) of all API groups but DWS's."""
    yield "", ["v1"]
    for group in (get("/apis") or {}).get("groups") or []:
        if group["name"] != GROUP:
            preferred = group["preferredVersion"]["version"]
            every = [entry["version"] for entry in group["versions"]]
            yield group["name"], sorted(every, key=lambda entry: entry != preferred)


def kinds_of(get, group, version):
    """(kind, plural, path of its list, its name for kubectl) of what can be listed and deleted in a version of a group.

    The version was named by the API: raises ApiSilent also where it is not found.
    """
    root = f"/apis/{group}/{version}" if group else f"/api/{version}"
    served = get(root)
    if served is None:
        raise ApiSilent(404, f"{root}: it is not found")
    for kind in served.get("resources") or []:
        plural = kind["name"]
        passing = plural == "events" and group in ("", "events.k8s.io")
        if "/" not in plural and not passing and {"list", "delete"} <= set(kind["verbs"]):
            yield kind["kind"], plural, f"{root}/{plural}", f"{plural}.{version}.{group}" if group else plural


def elsewhere(get):
    """(group, version) of all that other servers than Kubernetes' own serve: /apis need not name what is away."""
    for item in (get(APISERVICES) or {}).get("items") or []:
        if item["spec"].get("service"):
            yield item["spec"]["group"], item["spec"]["version"]


def known_to_be_down(get, group, version):
    """Whether another server than Kubernetes' own serves it, and Kubernetes reports that server as not available: meanwhile the
    garbage collector cannot delete its objects either."""
    service = get(f"{APISERVICES}/{version}.{group}") or {}
    states = (service.get("status") or {}).get("conditions") or []
    up = any(state["type"] == "Available" and state["status"] == "True" for state in states)
    return bool((service.get("spec") or {}).get("service")) and not up


def side_by_side(work, places):
    """The result of `work` for each of `places`, or the ApiSilent that it raised."""

    def tried(place):
        try:
            return work(*place)
        except ApiSilent as error:
            return error

    with ThreadPoolExecutor(LISTS_AT_ONCE) as pool:
        return list(pool.map(tried, places))


def discovered(get):
    """The kinds of all groups, each as kinds_of has it in all its versions; and what could not be checked: see dependents."""
    places = [(group, version) for group, versions in versions_of_all(get) for version in versions]
    places += sorted({place for place in elsewhere(get) if place not in places and place[0] != GROUP})
    every = side_by_side(lambda group, version: list(kinds_of(get, group, version)), places)
    kinds, unasked = {}, []
    for place, answer in zip(places, every):
        if isinstance(answer, ApiSilent):
            down = bool(place[0]) and known_to_be_down(get, *place)
            unasked.append({"what": "/".join(filter(None, place)), "why": str(answer), "down": down})
            continue
        for kind in answer:
            kinds.setdefault((place[0], kind[1]), []).append(kind)
    return list(kinds.values()), unasked


def with_owners(get, *versions):
    """The objects of a kind that name an owner, as `dependents` returns them. Raises ApiSilent where no version can be listed."""
    for number, (kind, _, path, resource) in enumerate(versions):
        try:
            owned = [obj for obj in listed(get, path, must=True) if obj["metadata"].get("ownerReferences")]
        except ApiSilent:
            if number + 1 == len(versions):
                raise
            continue
        return [
            {
                "kind": kind,
                "name": name(obj),
                "uid": uid(obj),
                "created": obj["metadata"].get("creationTimestamp") or "",
                "resource": resource,
                "refs": obj["metadata"]["ownerReferences"],
            }
            for obj in owned
            if "deletionTimestamp" not in obj["metadata"]
        ]
    return []


def dependents(get, ends):
    """The objects that Kubernetes deletes together with `ends` (see dws_objects.removed_with_dws), and what went unchecked.

    For each object that one of them owns: kind, name, uid, created, owner (its label), under (the uids of its owners among them),
    others (its other owners), resource (kubectl's name of its kind), more (labels of all that it owns itself, also indirectly).
    An object that has another owner as well may in fact stay; the administrator who reads the report can decide that.
    For what could not be checked: what, why, down (Kubernetes reports that it is not available).
    """
    if not ends:
        return [], []
    kinds, unasked = discovered(get)
    every = {}
    for kind, answer in zip(kinds, side_by_side(lambda *versions: with_owners(get, *versions), kinds)):
        if isinstance(answer, ApiSilent):
            unasked.append({"what": kind[0][3], "why": str(answer), "down": False})
            continue
        for obj in answer:  # some kinds are served in two groups
            every.setdefault(obj["uid"], obj)
    below_it = {}
    for obj in every.values():
        for ref in obj["refs"]:
            below_it.setdefault(ref["uid"], []).append(obj)
    return [
        dependent(obj, below_it, ends) for obj in every.values() if any(ref["uid"] in ends for ref in obj["refs"])
    ], unasked


def dependent(obj, below_it, ends):
    own = [ref["uid"] for ref in obj["refs"] if ref["uid"] in ends]
    others = [ref for ref in obj["refs"] if ref["uid"] not in ends]
    more, seen = [], {obj["uid"]}
    rest = [obj]
    while rest:
        for other in below_it.get(rest.pop()["uid"], []):
            if other["uid"] not in seen:
                seen.add(other["uid"])
                more.append(other)
                rest.append(other)
    return dict(
        {key: obj[key] for key in ("kind", "name", "uid", "created", "resource")},
        owner=ends[own[0]],
        under=own,
        others=others,
        more=["{} {}".format(other["kind"], other["name"]) for other in more],
    )


def look_for_owned(dying):
    """Print the objects that objects of DWS own as JSON, see `dependents`; for each whether it belongs to data of users."""
    try:
        with api() as get:
            kinds = of_dws(get)
            owned, unasked = dependents(get, removed_with_dws(kinds, dying))
    except ApiSilent as error:
        sys.exit(f"the API server did not list the objects that objects of DWS own: {error}")
    stored = with_dependents(kinds, {entry["uid"] for entry in data(kinds)})
    owned = [dict(obj, data=bool(stored.intersection(obj["under"]))) for obj in owned]
    print(json.dumps({"owned": owned, "unasked": unasked}))
