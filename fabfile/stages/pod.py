"""A slurmctld in a pod: where its /etc/slurm comes from, what of it can be made lasting, and how that is changed.

A file that is copied into a pod dies with it. So the plugin and slurm.conf are keys of the ConfigMap that the pod has as
its /etc/slurm, the kubeconfig is a key of a Secret, and one projected volume shows the pod both in the same folder.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from fabfile import names, pods, render
from fabfile.actions import STATE
from fabfile.site import Pod, Site
from fabfile.step import (
    Action,
    Api,
    Ask,
    AskApi,
    Check,
    Cluster,
    Delete,
    Finding,
    Place,
    Secret,
    Sh,
    Stage,
    Step,
    Unknown,
    Value,
)

FACT, MOUNT = "preflight.pod", "pod.mount"
"""Where what `look` finds is kept, by controller: at first, and by the step that may change it."""

SETTLE = 150.0
"""Seconds within which a kubelet brings a pod's files up to date by itself, should it not be told to."""

PLUGIN = ("burst_buffer.lua", "burst_buffer.conf")
FOLDER, FILE = (str(PurePosixPath(names.KUBECONFIG).parent), PurePosixPath(names.KUBECONFIG).name)
OURS = "-slurm-dws"
"""What the name of a Secret of ours ends in, behind the workload's."""
KEY = "kubeconfig"
"""The Secret's key."""

RESTARTED = "dws-on-csm/restarted"
"""An annotation of the pod's template: another value makes another pod."""

Json = Mapping[str, Any]


def of(place: Place) -> Pod | None:
    """The pod that this controller is; None for a host."""
    return next((host.pod for host in place.site.controllers if host.name == place.host), None)


def as_in(place: Place, told: dict[str, Value]) -> dict[str, Value]:
    """What is told of a file; in a pod mode and owner are what its volume gives, and nothing that is wanted."""
    return {key: value for key, value in told.items() if not (of(place) and key in ("mode", "owner"))}


def settle(otherwise: float) -> Callable[[Site], float]:
    """How long a file may take to be as wanted: longer in a pod."""
    return lambda site: SETTLE if any(host.pod for host in site.controllers) else otherwise


def found(place: Place) -> Json:
    """What the last look found of this controller. Raises Unknown if none was made."""
    for fact in (MOUNT, FACT):
        if place.host in (seen := place.facts.found.get(fact, {})):
            answer: Json = seen[place.host]
            return answer
    raise Unknown("preflight")


# --- what is there


def look(place: Place) -> Api:
    """The look of the check `pod`; see `read` for what it finds."""
    pod = of(place)
    assert pod is not None
    return Api(lambda cluster: read(cluster, pod))


def read(cluster: Cluster, pod: Pod) -> Value:
    """The pod, what it is made of, and where its /etc/slurm comes from, as a dict. Raises ClusterError.

    pod         its name; "" where none runs, or several do
    workload    {"kind", "name", "path", "kept", "strategy"} of the Deployment or StatefulSet; kept: by whom, "" by nobody
    owner       KIND/NAME of what the pod belongs to, where that is neither
    volume      the volume that the pod has as /etc/slurm, as its template has it; None where there is none
    subpaths    mounts with a subPath in /etc/slurm
    config_map  {"name", "path", "kept", "immutable"} of the one that has slurm.conf; None where none does
    secret      the name of the Secret that has the kubeconfig, and whether it is mounted already
    group       securityContext.fsGroup, "" where it isn't set
    """
    some = pods.running(cluster, pod)
    if len(some) != 1:
        return {"pod": ""}
    one = some[0]
    workload, owner = _workload(cluster, pod.namespace, one)
    spec = workload["spec"]["template"]["spec"] if workload else one["spec"]
    volume, subpaths = _mounted(spec, pod.container)
    return {
        "pod": one["metadata"]["name"],
        "workload": _described(workload) if workload else None,
        "owner": owner,
        "volume": volume,
        "subpaths": subpaths,
        "config_map": _config_map(cluster, pod.namespace, volume),
        "secret": _secret(volume, workload),
        "group": str(spec.get("securityContext", {}).get("fsGroup", "")),
    }


_OWNERS = {"ReplicaSet": "replicasets", "Deployment": "deployments", "StatefulSet": "statefulsets"}


def _workload(cluster: Cluster, namespace: str, one: Json) -> tuple[Json | None, str]:
    """The Deployment or StatefulSet that made the pod, or what else it belongs to, in words."""
    owner = _controller(one)
    while owner and owner["kind"] in _OWNERS:
        path = _path(namespace, owner["kind"], owner["name"])
        thing = cluster.get(path)
        if thing is not None and owner["kind"] != "ReplicaSet":
            return {**thing, "kind": owner["kind"]}, ""
        owner = _controller(thing) if thing else None
    return None, f"{owner['kind']}/{owner['name']}" if owner else "nothing"


def _path(namespace: str, kind: str, name: str) -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/{_OWNERS[kind]}/{name}"


def _controller(one: Json) -> Json | None:
    return next((owner for owner in one["metadata"].get("ownerReferences", ()) if owner.get("controller")), None)


def _described(workload: Json) -> Value:
    spec, meta = workload["spec"], workload["metadata"]
    strategy = spec.get("strategy") or spec.get("updateStrategy") or {}
    return {
        "kind": workload["kind"],
        "name": meta["name"],
        "path": _path(meta["namespace"], workload["kind"], meta["name"]),
        "kept": kept(workload),
        "strategy": strategy.get("type", ""),
    }


def kept(one: Json) -> str:
    """By whom an object is kept as it is, so that what we change in it would be undone; "" by nobody."""
    meta = one["metadata"]
    if owner := _controller(one):
        return f"{owner['kind']} {owner['name']}"
    labels, notes = meta.get("labels") or {}, meta.get("annotations") or {}
    if "meta.helm.sh/release-name" in notes:
        return f"Helm release {notes['meta.helm.sh/release-name']}"
    return "Helm" if labels.get("app.kubernetes.io/managed-by") == "Helm" else ""


def _mounted(spec: Json, container: str) -> tuple[Value, Value]:
    mine: Json = next((one for one in spec["containers"] if one["name"] == container), {})
    mounts = [
        one for one in mine.get("volumeMounts", ()) if f"{one['mountPath'].rstrip('/')}/".startswith(f"{FOLDER}/")
    ]
    subpaths = [one["mountPath"] for one in mounts if one.get("subPath") or one.get("subPathExpr")]
    whole = [
        one["name"] for one in mounts if one["mountPath"].rstrip("/") == FOLDER and one["mountPath"] not in subpaths
    ]
    return next((one for one in spec.get("volumes", ()) if one["name"] in whole), None), subpaths


def sources(volume: Json | None) -> list[dict[str, Any]]:
    """What a volume is made of, as a projected volume has it: [{"configMap": {...}}, {"secret": {...}}]."""
    if volume and "projected" in volume:
        return list(volume["projected"].get("sources") or ())
    if volume and "configMap" in volume:
        return [{"configMap": {key: value for key, value in volume["configMap"].items() if key != "defaultMode"}}]
    return []


def _config_map(cluster: Cluster, namespace: str, volume: Json | None) -> Value:
    for one in sources(volume):
        name = one.get("configMap", {}).get("name")
        path = f"/api/v1/namespaces/{namespace}/configmaps/{name}"
        thing = cluster.get(path) if name else None
        if thing and "slurm.conf" in (thing.get("data") or {}):
            return {"name": name, "path": path, "kept": kept(thing), "immutable": bool(thing.get("immutable"))}
    return None


def _secret(volume: Json | None, workload: Json | None) -> Value:
    for one in sources(volume):
        for item in one.get("secret", {}).get("items") or ():
            if item["path"] == FILE:
                return {"name": one["secret"]["name"], "key": item["key"], "mounted": True}
    return {
        "name": f"{workload['metadata']['name'] if workload else 'slurmctld'}{OURS}",
        "key": KEY,
        "mounted": False,
    }


# --- what stands in the way


def judge(place: Place, have: Value) -> Sequence[Finding]:
    """Everything about this pod that can't be made lasting, each with the place to change it."""
    pod = of(place)
    assert pod is not None
    if not have["pod"]:
        return ()  # told when it was connected to
    return [*_workload_findings(place, pod, have), *_folder_findings(place, have), *_kept_findings(place, pod, have)]


def _workload_findings(place: Place, pod: Pod, have: Value) -> Iterator[Finding]:
    workload = have["workload"]
    if workload is None:
        text = f"pod {have['pod']} belongs to {have['owner']}, and not to a Deployment or StatefulSet: a change would go with it"
        yield Finding("pod-workload", text, f"run slurmctld in a Deployment or StatefulSet; {_by_hand(pod, have)}")
    elif workload["strategy"] == "OnDelete":
        text = f"{workload['kind']} {workload['name']} has the update strategy OnDelete: a changed template makes no new pod"
        yield Finding("pod-on-delete", text, "set spec.updateStrategy.type to RollingUpdate")
    if place.site.slurm.folder != FOLDER:
        text = f"slurm.folder is {place.site.slurm.folder}, and in a pod everything is in the one folder {FOLDER}"
        yield Finding("pod-folder", text, f"set slurm.folder to {FOLDER}, and mount it there")


def _folder_findings(place: Place, have: Value) -> Iterator[Finding]:
    volume, config_map = have["volume"], have["config_map"]
    if have["subpaths"]:
        text = f"{', '.join(have['subpaths'])} of pod {have['pod']} is mounted with a subPath: it never gets what is changed"
        yield Finding("pod-subpath", text, f"mount the whole ConfigMap as {FOLDER}")
    if volume is None or not sources(volume):
        kind = ", ".join(sorted(set(volume) - {"name"})) if volume else "the image itself"
        text = f"{FOLDER} of pod {have['pod']} is from {kind}, and not from a ConfigMap"
        yield Finding("pod-folder", text, f"put slurm.conf into a ConfigMap, and mount that as {FOLDER}")
    elif config_map is None:
        text = f"none of the ConfigMaps that pod {have['pod']} has as {FOLDER} has a key slurm.conf"
        yield Finding("pod-folder", text, "name that key as the file is named")
    elif config_map["immutable"]:
        text = f"ConfigMap {config_map['name']} is immutable"
        yield Finding("pod-immutable", text, "make it anew without `immutable: true`")


def _kept_findings(place: Place, pod: Pod, have: Value) -> Iterator[Finding]:
    for one, what in ((have["workload"], "workload"), (have["config_map"], "ConfigMap")):
        if one and one["kept"]:
            kind = one.get("kind", what)
            text = f"{kind} {pod.namespace}/{one['name']} is kept by {one['kept']}: what is changed in it is undone sooner or later"
            yield Finding(
                "pod-kept", text, f"change it there: {_by_hand(pod, have)}; then accept this finding by its name"
            )


def _by_hand(pod: Pod, have: Value) -> str:
    """What the site has to bring about where we can't."""
    name = have["config_map"]["name"] if have["config_map"] else "the ConfigMap with slurm.conf"
    secret = have["secret"]["name"]
    return (
        f"burst_buffer.lua, burst_buffer.conf and BurstBufferType=burst_buffer/lua in {name}, and {FOLDER} as a projected "
        f"volume of it and of Secret {secret} (key {KEY} as {FILE}, optional), all in namespace {pod.namespace}"
    )


CHECK = Check("pod", "pod", look, judge)
KNOWN = replace(CHECK, judge=lambda place, have: ())
"""The same look, where nothing new is to be mounted."""


# --- the volume


def mode(place: Place) -> int:
    """Of the kubeconfig in the volume: as tight as SlurmUser can still read it. Such a file is root's and the fsGroup's."""
    seen = place.facts.all("access.kubeconfig").get(place.host)
    if seen is None:
        raise Unknown("access")
    if seen["slurm_user"] == "root":
        return 0o400
    return 0o440 if found(place)["group"] == seen["slurm_group"] else 0o444


def _wanted_volume(place: Place) -> dict[str, Any]:
    """The volume with the plugin's files and the Secret in it; itself where they are."""
    have = found(place)
    volume: dict[str, Any] = have["volume"]
    some = [_with_mode(place, _with_plugin(one, have["config_map"]["name"])) for one in sources(volume)]
    if not have["secret"]["mounted"]:
        item = {"key": have["secret"]["key"], "path": FILE, "mode": mode(place)}
        some.append({"secret": {"name": have["secret"]["name"], "items": [item], "optional": True}})
    if some == sources(volume):
        return volume
    kind = volume.get("projected") or volume.get("configMap") or {}
    return {"name": volume["name"], "projected": {"defaultMode": kind.get("defaultMode", 0o644), "sources": some}}


def _with_mode(place: Place, source: dict[str, Any]) -> dict[str, Any]:
    """A Secret that this tool has mounted is as closed as it can be by now."""
    mine = source.get("secret", {})
    if mine.get("name") != f"{found(place)['workload']['name']}{OURS}":
        return source
    return {"secret": {**mine, "items": [{**item, "mode": mode(place)} for item in mine.get("items") or ()]}}


def _with_plugin(source: dict[str, Any], name: str) -> dict[str, Any]:
    """A source that lists its files lists the plugin's too."""
    mine: dict[str, Any] = source.get("configMap", {})
    if mine.get("name") != name or not mine.get("items"):
        return source
    lacking = [{"key": key, "path": key} for key in PLUGIN if key not in {item["path"] for item in mine["items"]}]
    return {**source, "configMap": {**mine, "items": [*mine["items"], *lacking]}}


def _read_mount(place: Place, have: Value) -> Value:
    return _shown(have["volume"])


def _shown(volume: Json) -> Value:
    """What a volume shows, in words."""
    told = []
    for one in sources(volume):
        for kind, source in one.items():
            items = source.get("items")
            files = ", ".join(f"{i['path']}{_octal(i)}" for i in items) if items else "all its keys"
            told.append(f"{kind} {source.get('name', '')}: {files}")
    return {FOLDER: told}


def _octal(item: Json) -> str:
    return f" (mode {item['mode']:04o})" if "mode" in item else ""


def _change_mount(place: Place, have: Value, want: Value) -> Sequence[Action]:
    volume, wanted = found(place)["volume"], _wanted_volume(place)
    at = ["spec", "template", "spec", "volumes", {"name": volume["name"]}]
    edit = {"object": workload(place), "at": at, "seen": volume, "value": wanted}
    title = f"mount Secret {found(place)['secret']['name']} beside ConfigMap {found(place)['config_map']['name']}"
    return [rollout(place, title, [edit])]


def means(place: Place) -> str:
    """What a rollout does to slurmctld, for a plan."""
    have = found(place)["workload"]
    return f"slurmctld stops while {have['kind']} {have['name']} rolls out ({have['strategy']}), and starts again in a new pod"


def _means_mount(place: Place) -> str:
    open_ = "; every user in the pod can read the kubeconfig: with its securityContext.fsGroup set to SlurmUser's group, only that"
    return means(place) + (open_ if mode(place) == 0o444 else "")


STAGE = Stage(
    "pod",
    ("preflight",),
    (
        Step(
            "mount",
            "pod",
            look,
            lambda place: _shown(_wanted_volume(place)),
            _change_mount,
            read=_read_mount,
            settle=lambda site: 30.0,
            means=lambda place, have, want: _means_mount(place),
            hint="the pod's template is as it was; `kubectl describe` of the pod says what it waited for",
        ),
    ),
)
"""What the pod's template lacks for a kubeconfig to be seen in the pod."""


# --- a rollout that somebody else began


def _look_rolled(place: Place) -> Api:
    pod, path = of(place), found(place)["workload"]["path"]
    assert pod is not None
    watch = f"/api/v1/namespaces/{pod.namespace}/pods"
    return Api(lambda cluster: {"rolled out": _rolled(cluster, path), "pods": len(pods.running(cluster, pod))}, watch)


def _rolled(cluster: Cluster, path: str) -> bool:
    """Whether the workload's pods are of its template as it is now, and available."""
    one = cluster.get(path)
    if one is None:
        return False
    status, wanted = one.get("status", {}), one["spec"].get("replicas", 1)
    counts = {status.get(key, 0) for key in ("replicas", "updatedReplicas", "readyReplicas")}
    return status.get("observedGeneration", 0) >= one["metadata"]["generation"] and counts == {wanted}


ROLLED = Step(
    "rolled",
    "pod",
    _look_rolled,
    lambda place: {"rolled out": True, "pods": 1},
    settle=lambda site: site.deadlines.slurmctld + 60.0,
    why=lambda have: "" if have["rolled out"] else "the workload rolls out",
    hint="see `kubectl rollout status` of the workload, and `kubectl describe` of its pod",
)
"""The pod is of its template as it is now: a step that only waits."""


# --- changes


def workload(place: Place) -> str:
    """`deployment/slurmctld`, as kubectl takes it."""
    have = found(place)["workload"]
    return f"{have['kind'].lower()}/{have['name']}"


def config(place: Place, keys: Mapping[str, str | None]) -> Sequence[Action]:
    """Keys of the ConfigMap that is the pod's /etc/slurm (None: no such key), and the pod told to look at it now.

    A patch: what is applied as a whole loses the keys that another step applied.
    """
    pod, path = of(place), found(place)["config_map"]["path"]
    assert pod is not None

    def ask(cluster: Cluster) -> bytes:
        cluster.patch(path, {"data": dict(keys)})
        return b""

    said = [f"{'write' if text is not None else 'remove'} {key}" for key, text in keys.items()]
    title = f"{', '.join(said)} in ConfigMap {found(place)['config_map']['name']}"
    return [note(place), AskApi(title, ask, _nothing, objects=(path,)), poke(place, pod)]


def kubeconfig(place: Place, content: Secret) -> Sequence[Action]:
    """The kubeconfig as the Secret that the pod sees, and the pod told to look at it now."""
    pod = of(place)
    assert pod is not None
    return [note(place), _written(place, pod, content), poke(place, pod)]


def _written(place: Place, pod: Pod, content: Secret) -> AskApi:
    secret = found(place)["secret"]
    folder = f"/api/v1/namespaces/{pod.namespace}/secrets"

    def ask(cluster: Cluster) -> bytes:
        data = {secret["key"]: base64.b64encode(content.reveal()).decode()}
        meta = {"name": secret["name"], "namespace": pod.namespace}
        cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "Opaque", "data": data})
        return b""

    return AskApi(
        f"write Secret {pod.namespace}/{secret['name']}", ask, _nothing, objects=(f"{folder}/{secret['name']}",)
    )


def no_kubeconfig(place: Place) -> Sequence[Action]:
    """No such Secret."""
    pod = of(place)
    assert pod is not None
    path = f"/api/v1/namespaces/{pod.namespace}/secrets/{found(place)['secret']['name']}"
    return [note(place), Delete(path), poke(place, pod)]


def _nothing(answer: bytes) -> Sequence[Action]:
    return ()


def poke(place: Place, pod: Pod) -> AskApi:
    """Annotate the pod: its kubelet then brings its volumes up to date at once, and not within a minute or two
    (Kubernetes' documentation, "Configure a Pod to Use a ConfigMap": mounted ConfigMaps are updated automatically)."""

    def ask(cluster: Cluster) -> bytes:
        for one in pods.running(cluster, pod):
            path = f"/api/v1/namespaces/{pod.namespace}/pods/{one['metadata']['name']}"
            cluster.patch(path, {"metadata": {"annotations": {"dws-on-csm/changed": f"{time.time():.3f}"}}})
        return b""

    return AskApi("have the kubelet bring the pod's files up to date", ask, _nothing)


def note(place: Place) -> Sh:
    """What slurmctld has read is written down before its files get a new time, unless that is known already."""
    slurm = place.site.slurm
    script = render.script("slurmctld.sh", "pod_noted.sh", folder=slurm.folder, unit=slurm.service, state=STATE)
    return Sh("note what slurmctld has read", script + _UNREAD, 60.0)


_UNREAD = """
slurm_path
main=$(main_pid)
if [ -n "$main" ] && [ ! -e "$state/activation" ]; then
    began=$(started "$main")
    { conf_files; echo "$folder/burst_buffer.conf"; } | while IFS= read -r file; do
        [ ! -e "$file" ] || stat -L -c '%.2Z' -- "$file"
    done | awk -v began="$began" '$1 > began { late = 1 } END { exit late }' && noted
fi
:
"""


def rollout(place: Place, title: str, edits: Sequence[Json], back: Sequence[Json] | None = None) -> Ask:
    """The edits (see pod_edit.py) and a new pod, at work on the master and put back unless slurmctld answers in it.

    back    edits that are made then; left out: those that undo `edits`
    """
    pod, have = of(place), found(place)["workload"]
    assert pod is not None
    at = ["spec", "template", "metadata", "annotations", RESTARTED]
    again = {
        "object": workload(place),
        "at": at,
        "seen": ANYTHING,
        "value": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    undone = [_undone(one) for one in reversed(edits)] if back is None else list(back)
    script = _rollout_script(place, pod, [*edits, again], [*undone, {**again, "value": f"{again['value']}-back"}])
    deadline = 2 * (place.site.deadlines.slurmctld + 60.0) + 60.0
    objects = (have["path"], found(place)["config_map"]["path"])
    return Ask(title, "master", script, _nothing, deadline, told=True, objects=objects)


ANYTHING = "*"
"""What an edit may find where it doesn't matter."""


def _undone(edit: Json) -> Json:
    """The edit that takes another one back. What is no text comes back from the API server with its defaults in it."""
    seen = edit["value"] if isinstance(edit["value"], str) else ANYTHING
    return {**edit, "seen": seen, "value": edit["seen"]}


def _rollout_script(place: Place, pod: Pod, following: Sequence[Json], undone: Sequence[Json]) -> str:
    slurm, context = place.site.slurm, place.site.master.context
    inside = {"folder": slurm.folder, "unit": slurm.service, "state": STATE}
    fixed = {
        "state": STATE,
        "host": place.host,
        "namespace": pod.namespace,
        "selector": pod.selector,
        "container": pod.container,
        "workload": workload(place),
        "context": f"--context={context}" if context else "",
        "deadline": str(int(place.site.deadlines.slurmctld)),
        "edit": render.read("pod_edit.py"),
        "answers": render.script("slurmctld.sh", "pod_noted.sh", "pod_answers.sh", **inside),
    }
    settings = {
        "state": STATE,
        "unit": f"dws-on-csm-rollout-{place.host}",
        "program": render.script("pod_activate.sh", **fixed),
        "next": _base64(following),
        "back": _base64(undone),
    }
    return render.script("detach.sh", "pod_follow.sh", **settings)


def _base64(edits: Sequence[Json]) -> str:
    return base64.b64encode(json.dumps(edits).encode()).decode()
