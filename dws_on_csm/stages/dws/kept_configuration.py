"""Objects of DWS's kinds that administrators and drivers made: they are preserved over a change of DWS's version."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from dws_on_csm.domain import dws_objects, names
from dws_on_csm.model import actions
from dws_on_csm.model.actions import Action, CallApi, RunScript
from dws_on_csm.model.cluster_api import Cluster, ClusterError
from dws_on_csm.model.step import ApiLook, Constant, Fact, Step, StepContext, Value
from dws_on_csm.stages.dws import installed, manifests, replace

_CONVERTED = f"{names.GROUP}/conversion-data"
"""An annotation in which DWS's webhook saves fields that an older version does not have. The webhook sets it again."""


def pending() -> str:
    """The file on the master with the objects to put back; it exists only while there are any."""
    return f"{actions.STATE}/put-back.json"


def leftover() -> str:
    """The file on the master with the objects that were not put back, because somebody had created others of these names."""
    return f"{actions.STATE}/put-back.left.json"


class Kept(TypedDict):
    """The state of a saved object.

    state  "as saved", "missing", or its first difference
    lost   its fields that the installed version of DWS does not have: the API server leaves them out
    """

    state: str
    lost: list[str]


KEPT: Fact[dict[str, Kept]] = Fact("deploy", "kept")
SAVED: Fact[list[dict[str, Any]]] = Fact("deploy", "saved")


def _items(out: bytes) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(out)["items"] if out.strip() else []
    return items


# --- put back


def _look(ctx: StepContext) -> ApiLook:
    objects = ctx.facts.one(SAVED)
    return KEPT.api(lambda cluster: states(cluster, objects))


def states(cluster: Cluster, objects: Sequence[dict[str, Any]]) -> dict[str, Kept]:
    """The state of each object by its label."""
    objects = as_served(cluster, objects)
    at = paths(cluster, objects)
    schemas = {above: _schema(cluster, above) for above in {path.rpartition("/")[0] for path in at if path}}
    answer: dict[str, Kept] = {}
    for path, item in zip(at, objects, strict=True):
        known, lost = _known(_without_uid(item), schemas.get(path.rpartition("/")[0], {}))
        state = _state(cluster.get(path) if path else None, item, known)
        answer[dws_objects.label(item)] = {"state": state, "lost": lost}
    return answer


def _state(have: Mapping[str, Any] | None, saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    if have is None or "deletionTimestamp" in have["metadata"]:
        return "missing"
    if have["metadata"]["uid"] == saved["metadata"]["uid"]:
        return "as saved"  # it was never deleted; later changes by others stay
    notes = {key: text for key, text in (wanted["metadata"].get("annotations") or {}).items() if key != _CONVERTED}
    return (
        manifests.difference({**wanted, "metadata": {**wanted["metadata"], "annotations": notes}}, have) or "as saved"
    )


def _schema(cluster: Cluster, path: str) -> Mapping[str, Any]:
    """The schema by which the API server validates the objects that it lists at `path`."""
    parts = path.split("/")
    version, plural = parts[3], parts[-1]
    crd = cluster.get(f"{installed.CRDS}/{plural}.{names.GROUP}") or {"spec": {"versions": []}}
    schemas = {
        version["name"]: dws_objects.part(version, "schema", "openAPIV3Schema") for version in crd["spec"]["versions"]
    }
    return schemas.get(version) or {}


def _known(item: Mapping[str, Any], schema: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """An object without the fields that its schema does not have, and the paths of these fields (".spec.mode")."""
    lost: list[str] = []
    own = {key: value for key, value in item.items() if key not in ("apiVersion", "kind", "metadata")}
    known = _pruned(own, schema, "", lost) if schema else own
    return {**{key: item[key] for key in item if key not in own}, **known}, lost


def _pruned(value: Any, schema: Mapping[str, Any], at: str, lost: list[str]) -> Any:
    """As the API server prunes: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/"""
    if schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("x-kubernetes-embedded-resource"):
        return value
    if isinstance(value, Mapping):
        fields, others = schema.get("properties", {}), schema.get("additionalProperties")
        if others is True:
            return value
        below = {key: fields.get(key, others) for key in value}
        lost.extend(f"{at}.{key}" for key in value if not isinstance(below[key], Mapping))
        return {
            key: _pruned(inner, below[key], f"{at}.{key}", lost)
            for key, inner in value.items()
            if isinstance(below[key], Mapping)
        }
    if isinstance(value, list):
        return [_pruned(item, schema.get("items", {}), f"{at}[{i}]", lost) for i, item in enumerate(value)]
    return value


def as_served(cluster: Cluster, objects: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The objects with API versions that the API serves: one that it does not serve any more becomes the version in which the
    installed DWS stores its objects. Fields that this one does not have are left out (_known). Raises ClusterError."""
    group = cluster.get(f"/apis/{names.GROUP}") or {"versions": []}
    served = {version["groupVersion"] for version in group["versions"]}
    if not served or all(item["apiVersion"] in served for item in objects):
        return list(objects)
    stored = {crd["kind"]: f"{names.GROUP}/{crd['storage']}" for crd in installed.crds(cluster).values()}
    return [
        item if item["apiVersion"] in served else {**item, "apiVersion": stored.get(item["kind"], item["apiVersion"])}
        for item in objects
    ]


def paths(cluster: Cluster, objects: Sequence[dict[str, Any]]) -> list[str]:
    """The API path of each object; "" where the API has no such kind in that version."""
    served = {item["apiVersion"]: _plurals(cluster, item["apiVersion"]) for item in objects}
    return [_path(item, served[item["apiVersion"]].get(item["kind"], "")) for item in objects]


def _plurals(cluster: Cluster, version: str) -> dict[str, str]:
    resources = (cluster.get(f"/apis/{version}") or {"resources": []})["resources"]
    return {resource["kind"]: resource["name"] for resource in resources if "/" not in resource["name"]}


def _path(item: Mapping[str, Any], plural: str) -> str:
    space = item["metadata"].get("namespace")
    within = f"namespaces/{space}/" if space else ""
    return f"/apis/{item['apiVersion']}/{within}{plural}/{item['metadata']['name']}" if plural else ""


def missing(cluster: Cluster, objects: Sequence[dict[str, Any]]) -> list[str]:
    """The labels of the objects that do not exist, whatever the others contain. Raises ClusterError."""
    objects = as_served(cluster, objects)
    live = [cluster.get(path) if path else None for path in paths(cluster, objects)]
    return [
        dws_objects.label(item)
        for item, have in zip(objects, live, strict=True)
        if have is None or "deletionTimestamp" in have["metadata"]
    ]


def _theirs(ctx: StepContext, kept_states: Mapping[str, Kept]) -> dict[str, str]:
    """Label -> difference, of the objects that differ from the saved ones, and that were not created during this run.

    Where this run created the CRD, DWS or a driver has just made the object, and the saved one replaces it. Where the CRD existed
    before, after a removal that was interrupted long ago, the object may be newer than the saved one: it stays.
    """
    dws = ctx.facts.one_or_none(installed.FACT)
    if dws is not None and replace.due(ctx):
        return {}
    older = {crd["kind"] for crd in (dws["crds"] if dws else {}).values() if not crd["deleting"]}
    return {
        label: kept["state"]
        for label, kept in kept_states.items()
        if kept["state"] not in ("missing", "as saved") and (dws is None or label.partition(" ")[0] in older)
    }


def _read(ctx: StepContext, kept_states: Value) -> Value:
    states, theirs = {name: kept["state"] for name, kept in kept_states.items()}, _theirs(ctx, kept_states)
    different = [name for name, state in states.items() if state not in ("missing", "as saved") and name not in theirs]
    return {
        "as saved": sum(1 for state in states.values() if state == "as saved"),
        "missing": [name for name, state in states.items() if state == "missing"],
        "not as saved": [f"{name}: {states[name]}" for name in different],
        "recreated by others": [f"{name}: {state}" for name, state in theirs.items()],
    }


def _want(ctx: StepContext) -> Value:
    theirs = [f"{name}: {state}" for name, state in _theirs(ctx, ctx.facts.one_or_none(KEPT) or {}).items()]
    as_saved = len(ctx.facts.one(SAVED)) - len(theirs)
    return {"as saved": as_saved, "missing": [], "not as saved": [], "recreated by others": theirs}


def _kept_status(have: Value) -> str:
    if not have["recreated by others"]:
        return ""
    return (
        f"somebody recreated these objects after they were saved; they stay as they are: {'; '.join(have['recreated by others'])}; "
        f"the saved objects are in {leftover()}"
    )


def _delete_saved(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    if theirs := _theirs(ctx, ctx.facts.one_or_none(KEPT) or {}):
        title = f"move the saved {', '.join(theirs)} to {leftover()}"
        return [RunScript(title, f"mv -f -- {shlex.quote(pending())} {shlex.quote(leftover())}")]
    return [RunScript("delete the saved objects: all of them exist again", f"rm -f -- {shlex.quote(pending())}")]


def _change(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    kept_states = ctx.facts.one(KEPT)
    theirs = _theirs(ctx, kept_states)
    objects = [item for item in ctx.facts.one(SAVED) if dws_objects.label(item) not in theirs]
    kept_states = {label: kept for label, kept in kept_states.items() if label not in theirs}
    labels = [_label_text(label, kept["lost"]) for label, kept in kept_states.items()]
    return [CallApi(f"put back the saved objects: {', '.join(labels)}", lambda cluster: put(cluster, objects))]


def _label_text(label: str, lost: Sequence[str]) -> str:
    fields = ", ".join(field.lstrip(".") for field in lost)
    return f"{label} (without {fields}, which this version of DWS does not have)" if lost else label


def put(cluster: Cluster, objects: Sequence[dict[str, Any]]) -> bytes:
    """Create the missing objects, and give the others their saved fields. Raises ClusterError."""
    objects = as_served(cluster, objects)
    current = states(cluster, objects)
    for path, item in zip(paths(cluster, objects), objects, strict=True):
        state = current[dws_objects.label(item)]["state"]
        if not path:
            raise ClusterError(404, f"{item['apiVersion']} {item['kind']} is not served by the installed DWS")
        if state == "missing":
            cluster.create(path.rpartition("/")[0], _without_uid(item))
        elif state != "as saved":
            cluster.patch(
                path, {key: value for key, value in _without_uid(item).items() if key not in ("apiVersion", "kind")}
            )
    return b""


def _without_uid(item: Mapping[str, Any]) -> dict[str, Any]:
    return {**item, "metadata": {key: value for key, value in item["metadata"].items() if key != "uid"}}


STEPS = (
    Step(
        KEPT.step,
        "master",
        _look,
        _want,
        _change,
        read=_read,
        status_text=_kept_status,
        settle_seconds=lambda site: 10.0,
        hint=f"the objects that could not be put back are in {pending()} on the master; run the same command again to continue,"
        " or move that file elsewhere to give them up",
    ),
    Step(
        SAVED.step,
        "master",
        lambda ctx: SAVED.shell(f"cat {shlex.quote(pending())} 2>/dev/null || true", _items),
        lambda ctx: [],
        _delete_saved,
        read=lambda ctx, saved: [dws_objects.label(item) for item in saved],
    ),
)
"""Steps of the stage deploy: the objects that a removal saved exist as before; then the file of saved objects is deleted."""


# --- reported, where no version follows


class SavedFile(TypedDict):
    """The newest file of saved objects on the master, and the labels of the objects in it; "" and none where there is no file."""

    file: str
    objects: list[str]


SAVED_FILE: Fact[SavedFile] = Fact("undeploy", "kept")


def told_step(due: Callable[[StepContext], str]) -> Step:
    """The step `kept` of an undeploy: it reports the file of saved objects, and how to put them back."""
    newest = f"ls -1 {shlex.quote(actions.STATE)}/before/*/.kept.json 2>/dev/null | tail -n 1"
    script = f'file=$({newest})\n[ -n "$file" ] || exit 0\necho "$file"\ncat -- "$file"\n'
    return Step(
        SAVED_FILE.step,
        "master",
        lambda ctx: SAVED_FILE.shell(script, _parse) if due(ctx) else Constant({"file": "", "objects": []}),
        lambda ctx: ctx.facts.one(SAVED_FILE),
        status_text=_file_text,
    )


def _parse(out: bytes) -> SavedFile:
    file, _, text = out.partition(b"\n")
    return {"file": file.decode(), "objects": [dws_objects.label(item) for item in _items(text)]}


def _file_text(have: SavedFile) -> str:
    if not have["objects"]:
        return ""
    objects = ", ".join(have["objects"])
    command = f"kubectl create -f {shlex.quote(have['file'])}"
    return f"saved in {have['file']}: {objects}; once DWS is installed again, `{command}` puts them back"


assert names.GROUP == dws_objects.GROUP, "dws_objects.py imports nothing, so it has a copy of the name"
