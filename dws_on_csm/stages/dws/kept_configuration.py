"""What administrators and drivers had made of DWS's kinds is there again after another version took DWS's place."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dws_on_csm.domain import dws_objects, names
from dws_on_csm.model import actions
from dws_on_csm.model.actions import Action, CallApi, RunScript
from dws_on_csm.model.cluster_api import Cluster, ClusterError
from dws_on_csm.model.step import ApiLook, Constant, ShellLook, Step, StepContext, Value
from dws_on_csm.stages.dws import installed, manifests, replace

_CONVERTED = f"{names.GROUP}/conversion-data"
"""An annotation in which DWS's webhook keeps what an older version has no fields for, `status` too. It comes by itself."""


def pending() -> str:
    """The file on the master with what is still to be put back; there is none where nothing is."""
    return f"{actions.STATE}/put-back.json"


def left() -> str:
    """The file on the master with what was not put back, since somebody had made objects of these names."""
    return f"{actions.STATE}/put-back.left.json"


def _items(out: bytes) -> Value:
    return json.loads(out)["items"] if out.strip() else []


# --- put back


def _look(ctx: StepContext) -> ApiLook:
    objects = ctx.facts.one("deploy.saved")
    return ApiLook(lambda cluster: states(cluster, objects))


def states(cluster: Cluster, objects: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of each object by its label: {"state": "as saved", "missing", or where it differs; "lost": its fields that the DWS that
    is there has no place for, as an older version hasn't: the API server leaves them out}."""
    at = paths(cluster, objects)
    schemas = {above: _schema(cluster, above) for above in {path.rpartition("/")[0] for path in at if path}}
    found = {}
    for path, one in zip(at, objects, strict=True):
        known, lost = _known(_anew(one), schemas.get(path.rpartition("/")[0], {}))
        state = _state(cluster.get(path) if path else None, one, known)
        found[dws_objects.label(one)] = {"state": state, "lost": lost}
    return found


def _state(have: Mapping[str, Any] | None, one: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    if have is None or "deletionTimestamp" in have["metadata"]:
        return "missing"
    if have["metadata"]["uid"] == one["metadata"]["uid"]:
        return "as saved"  # it never went; what somebody changed of it since stays
    notes = {key: text for key, text in (wanted["metadata"].get("annotations") or {}).items() if key != _CONVERTED}
    return (
        manifests.difference({**wanted, "metadata": {**wanted["metadata"], "annotations": notes}}, have) or "as saved"
    )


def _schema(cluster: Cluster, path: str) -> Mapping[str, Any]:
    """The schema by which the API server takes the objects at `path`, where they are listed."""
    parts = path.split("/")
    version, plural = parts[3], parts[-1]
    crd = cluster.get(f"{installed.CRDS}/{plural}.{names.GROUP}") or {"spec": {"versions": []}}
    schemas = {one["name"]: dws_objects.part(one, "schema", "openAPIV3Schema") for one in crd["spec"]["versions"]}
    return schemas.get(version) or {}


def _known(one: Mapping[str, Any], schema: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """An object without the fields that its schema has no place for, and these fields (".spec.mode")."""
    lost: list[str] = []
    own = {key: value for key, value in one.items() if key not in ("apiVersion", "kind", "metadata")}
    known = _pruned(own, schema, "", lost) if schema else own
    return {**{key: one[key] for key in one if key not in own}, **known}, lost


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
            key: _pruned(some, below[key], f"{at}.{key}", lost)
            for key, some in value.items()
            if isinstance(below[key], Mapping)
        }
    if isinstance(value, list):
        return [_pruned(some, schema.get("items", {}), f"{at}[{i}]", lost) for i, some in enumerate(value)]
    return value


def paths(cluster: Cluster, objects: Sequence[dict[str, Any]]) -> list[str]:
    """Where the API has each object; "" where it has no such kind in that version."""
    served = {one["apiVersion"]: _plurals(cluster, one["apiVersion"]) for one in objects}
    return [_path(one, served[one["apiVersion"]].get(one["kind"], "")) for one in objects]


def _plurals(cluster: Cluster, version: str) -> dict[str, str]:
    found = (cluster.get(f"/apis/{version}") or {"resources": []})["resources"]
    return {one["kind"]: one["name"] for one in found if "/" not in one["name"]}


def _path(one: Mapping[str, Any], plural: str) -> str:
    space = one["metadata"].get("namespace")
    within = f"namespaces/{space}/" if space else ""
    return f"/apis/{one['apiVersion']}/{within}{plural}/{one['metadata']['name']}" if plural else ""


def missing(cluster: Cluster, objects: Sequence[dict[str, Any]]) -> list[str]:
    """The labels of those that are not there, whatever is in the others. Raises ClusterError."""
    there = [cluster.get(path) if path else None for path in paths(cluster, objects)]
    return [
        dws_objects.label(one)
        for one, have in zip(objects, there, strict=True)
        if have is None or "deletionTimestamp" in have["metadata"]
    ]


def _theirs(ctx: StepContext, found: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """What is there otherwise than it was saved, and was not made in this run, by label: in what it differs.

    Where its CRD came in this run, DWS or a driver has made it just now, and what was saved takes its place. Where the CRD was
    there before, after a removal that was cut off long ago, it may be newer than what was saved: it stays.
    """
    installed_ = ctx.facts.one_or_none(installed.FACT)
    if installed_ is not None and replace.due(ctx):
        return {}
    older = {crd["kind"] for crd in (installed_ or {"crds": {}})["crds"].values() if not crd["deleting"]}
    return {
        label: one["state"]
        for label, one in found.items()
        if one["state"] not in ("missing", "as saved") and (installed_ is None or label.partition(" ")[0] in older)
    }


def _read(ctx: StepContext, found: Value) -> Value:
    states, theirs = {name: one["state"] for name, one in found.items()}, _theirs(ctx, found)
    odd = [name for name, state in states.items() if state not in ("missing", "as saved") and name not in theirs]
    return {
        "as saved": sum(1 for state in states.values() if state == "as saved"),
        "missing": [name for name, state in states.items() if state == "missing"],
        "not as saved": [f"{name}: {states[name]}" for name in odd],
        "made anew since": [f"{name}: {state}" for name, state in theirs.items()],
    }


def _want(ctx: StepContext) -> Value:
    theirs = [f"{name}: {state}" for name, state in _theirs(ctx, _found(ctx)).items()]
    as_saved = len(ctx.facts.one("deploy.saved")) - len(theirs)
    return {"as saved": as_saved, "missing": [], "not as saved": [], "made anew since": theirs}


def _found(ctx: StepContext) -> Mapping[str, Any]:
    return next(iter(ctx.facts.found.get("deploy.kept", {}).values()), {})


def _why(have: Value) -> str:
    if not have["made anew since"]:
        return ""
    return (
        f"somebody made these anew since they were saved, and they stay as they are: {'; '.join(have['made anew since'])}; "
        f"what was saved lies in {left()}"
    )


def _settle(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    if theirs := _theirs(ctx, _found(ctx)):
        title = f"leave what was saved of {', '.join(theirs)} in {left()}"
        return [RunScript(title, f"mv -f -- {shlex.quote(pending())} {shlex.quote(left())}")]
    return [RunScript("all that was kept is there again", f"rm -f -- {shlex.quote(pending())}")]


def _change(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    found = ctx.facts.one("deploy.kept")
    theirs = _theirs(ctx, found)
    objects = [one for one in ctx.facts.one("deploy.saved") if dws_objects.label(one) not in theirs]
    found = {label: one for label, one in found.items() if label not in theirs}
    every = [_told(name, one["lost"]) for name, one in found.items()]
    return [CallApi(f"put back what is kept: {', '.join(every)}", lambda cluster: put(cluster, objects))]


def _told(name: str, lost: Sequence[str]) -> str:
    fields = ", ".join(one.lstrip(".") for one in lost)
    return f"{name} (without {fields}, which this version of DWS does not have)" if lost else name


def put(cluster: Cluster, objects: Sequence[dict[str, Any]]) -> bytes:
    """Create those that are missing, and give the others what was saved of them. Raises ClusterError."""
    seen = states(cluster, objects)
    for path, one in zip(paths(cluster, objects), objects, strict=True):
        state = seen[dws_objects.label(one)]["state"]
        if not path:
            raise ClusterError(404, f"{one['apiVersion']} {one['kind']} is not served by the DWS that is there now")
        if state == "missing":
            cluster.create(path.rpartition("/")[0], _anew(one))
        elif state != "as saved":
            cluster.patch(path, {key: value for key, value in _anew(one).items() if key not in ("apiVersion", "kind")})
    return b""


def _anew(one: Mapping[str, Any]) -> dict[str, Any]:
    return {**one, "metadata": {key: value for key, value in one["metadata"].items() if key != "uid"}}


STEPS = (
    Step(
        "kept",
        "master",
        _look,
        _want,
        _change,
        read=_read,
        status_text=_why,
        settle_seconds=lambda site: 10.0,
        hint=f"what could not be put back lies in {actions.STATE}/put-back.json on the master; a new run goes on from here, and"
        " where that file is moved away it is let be",
    ),
    Step(
        "saved",
        "master",
        lambda ctx: ShellLook(f"cat {shlex.quote(pending())} 2>/dev/null || true", _items),
        lambda ctx: [],
        _settle,
        read=lambda ctx, found: [dws_objects.label(one) for one in found],
    ),
)
"""Steps of the stage deploy: what a removal saved is there as it was; then nothing is left to be put back."""


# --- told, where no version follows


def told_step(due: Callable[[StepContext], str]) -> Step:
    """The step `kept` of an undeploy: it says where what was saved lies, and how that comes back."""
    newest = f"ls -1 {shlex.quote(actions.STATE)}/before/*/.kept.json 2>/dev/null | tail -n 1"
    script = f'file=$({newest})\n[ -n "$file" ] || exit 0\necho "$file"\ncat -- "$file"\n'
    return Step(
        "kept",
        "master",
        lambda ctx: ShellLook(script, _parse) if due(ctx) else Constant({"file": "", "objects": []}),
        lambda ctx: ctx.facts.one("undeploy.kept"),
        status_text=_where,
    )


def _parse(out: bytes) -> Value:
    file, _, text = out.partition(b"\n")
    return {"file": file.decode(), "objects": [dws_objects.label(one) for one in _items(text)]}


def _where(have: Value) -> str:
    if not have["objects"]:
        return ""
    every = ", ".join(have["objects"])
    return (
        f"saved in {have['file']}: {every}; `kubectl create -f {have['file']}` puts them back once DWS is there again"
    )


assert names.GROUP == dws_objects.GROUP, "dws_objects.py stands alone, and has to say it itself"
