"""DWS in the cluster: `make deploy`, its deployments available, its webhook answering."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from fabfile import names
from fabfile.actions import Action, Delete, Sh
from fabfile.api import Cluster, ClusterError
from fabfile.inventory import Site
from fabfile.stages import manifests, overlay
from fabfile.step import Api, Place, Stage, Step, Value

PODS = f"/api/v1/namespaces/{names.NAMESPACE}/pods"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{names.NAMESPACE}/deployments"

PLURALS = {
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "CustomResourceDefinition": "customresourcedefinitions",
    "Namespace": "namespaces",
}
"""Kinds without a namespace that the overlay has; the plural of every other is its name in lower case and an s."""


def path(one: Mapping[str, Any]) -> str:
    """Where the API has an object: `/apis/apps/v1/namespaces/dws-system/deployments/dws-webhook`."""
    version, kind, meta = one["apiVersion"], one["kind"], one["metadata"]
    base = f"/apis/{version}" if "/" in version else f"/api/{version}"
    within = f"/namespaces/{meta['namespace']}" if "namespace" in meta else ""
    return f"{base}{within}/{PLURALS.get(kind, kind.lower() + 's')}/{meta['name']}"


def differs(want: Any, have: Any, at: str = "") -> str:
    """The first place where the live object isn't as its manifest says, or "". What the server adds doesn't count."""
    if isinstance(want, Mapping) and isinstance(have, Mapping):
        found = (
            differs(value, have.get(key), f"{at}.{key}") for key, value in want.items() if value not in (None, {}, [])
        )
        return next(filter(None, found), "")
    if isinstance(want, list) and isinstance(have, list) and len(want) == len(have):
        return next(
            filter(None, (differs(w, h, f"{at}[{i}]") for i, (w, h) in enumerate(zip(want, have, strict=True)))), ""
        )
    return "" if want == have else f"{at.lstrip('.')} is {json.dumps(have)}, not {json.dumps(want)}"


def wanted(place: Place) -> list[dict[str, Any]]:
    """The objects that are to be in the cluster, with their image tags and with the cert-manager version that is served."""
    made = json.dumps(manifests.objects(place))
    version = place.site.versions.dws
    for name in manifests.asked(place):
        base = name.rpartition(":")[0]
        if base.endswith("/dws"):
            made = re.sub(rf'"{re.escape(base)}(:[^"]*)?"', f'"{base}:{version}"', made)
    if overlay.modern(place):
        made = made.replace('"cert-manager.io/v1alpha3"', '"cert-manager.io/v1"')
    found: list[dict[str, Any]] = json.loads(made)
    return found


def _label(one: Mapping[str, Any]) -> str:
    return f"{one['kind']} {one['metadata']['name']}"


def _look_applied(place: Place) -> Api:
    objects = wanted(place)
    return Api(lambda cluster: {_label(one): _state(cluster, one) for one in objects})


def _read_applied(place: Place, found: Value) -> Value:
    """{"as rendered": how many, "missing": names, "not as rendered": names and where}."""
    odd = [f"{name}: {state}" for name, state in found.items() if state not in ("missing", "as rendered")]
    return {
        "as rendered": sum(1 for state in found.values() if state == "as rendered"),
        "missing": [name for name, state in found.items() if state == "missing"],
        "not as rendered": odd,
    }


def _state(cluster: Cluster, one: Mapping[str, Any]) -> str:
    have = cluster.get(path(one))
    if have is None:
        return "missing"
    if "deletionTimestamp" in have["metadata"]:
        return "being deleted"
    trimmed = {key: value for key, value in one.items() if key != "status"}
    return differs(trimmed, have) or "as rendered"


def _want_applied(place: Place) -> Value:
    return {"as rendered": len(wanted(place)), "missing": [], "not as rendered": []}


def _change_applied(place: Place, have: Value, want: Value) -> Sequence[Action]:
    actions: list[Action] = []
    if _webhook_changes(place, have):
        # its three replicas need three hosts each to themselves: with three workers a rolling update never ends
        actions.append(Delete(f"{DEPLOYMENTS}/{names.WEBHOOK}"))
    return [*actions, *(_with_v1(place) if overlay.modern(place) else _make(place))]


def _webhook_changes(place: Place, have: Value) -> bool:
    """Whether the webhook's Deployment is there, and either differs from its manifest or has never become available."""
    label = f"Deployment {names.WEBHOOK}"
    if label in have["missing"]:
        return False
    ready = place.facts.one("deploy.available")[names.WEBHOOK]
    return not _all(ready) or any(one.startswith(f"{label}: ") for one in have["not as rendered"])


def _make(place: Place) -> Sequence[Action]:
    command = "make deploy OVERLAY=csm"
    if names.version_key(place.site.versions.dws) < (0, 0, 20):
        # through 0.0.19 it puts its version into an image of another name than the overlay has, whose own tag is an older one
        command += f" IMAGE_TAG_BASE={shlex.quote(place.site.registry.name)}/dws"
    script = f"cd {shlex.quote(names.clone(place.site))}\n{command}\n"
    return [Sh(command, script, place.site.deadlines.command, objects=_odd(place))]


def _odd(place: Place) -> tuple[str, ...]:
    """The paths of the objects that aren't as rendered: those that an apply changes."""
    found = place.facts.one("deploy.applied")
    return tuple(path(one) for one in wanted(place) if found[_label(one)] != "as rendered")


def _with_v1(place: Place) -> Sequence[Action]:
    """The csm overlay with cert-manager's v1 put back."""
    folder = overlay.folder(place.site)
    script = f"{shlex.quote(names.clone(place.site))}/bin/kustomize build {shlex.quote(folder)} | kubectl apply -f -\n"
    title = f"kustomize build {folder} | kubectl apply -f -"
    return [Sh(title, script, place.site.deadlines.command, objects=_odd(place))]


# --- available


def _look_available(place: Place) -> Api:
    return Api(_read_available, PODS)


def _read_available(cluster: Cluster) -> Value:
    deployments = {name: cluster.get(f"{DEPLOYMENTS}/{name}") for name in (names.CONTROLLER, names.WEBHOOK)}
    found: dict[str, Any] = {name: _ready(one) if one else "missing" for name, one in deployments.items()}
    pods = [] if all(map(_all, found.values())) else waiting(cluster)
    stuck = [one["pod"] for one in pods if one["stuck"]]
    return found | {"because": "; ".join(dict.fromkeys(one["why"] for one in pods)), "stuck": stuck}


def _ready(one: Mapping[str, Any]) -> str:
    status = one.get("status", {})
    current = status.get("observedGeneration", 0) >= one["metadata"]["generation"]
    good = min(status.get("availableReplicas", 0), status.get("updatedReplicas", 0)) if current else 0
    return f"{good} of {one['spec']['replicas']}"


def _all(text: str) -> bool:
    good, _, every = text.partition(" of ")
    return bool(every) and good == every


def waiting(cluster: Cluster) -> list[dict[str, str]]:
    """The pods of DWS that aren't ready, each with why: {"pod", "why", "stuck"} (stuck: it would wait long to try again)."""
    pods = (cluster.get(PODS) or {}).get("items", [])
    return [found for pod in pods if (found := _why(pod))]


def _why(pod: Mapping[str, Any]) -> dict[str, str] | None:
    conditions = {c["type"]: c for c in pod.get("status", {}).get("conditions", [])}
    if conditions.get("Ready", {}).get("status") == "True" or "deletionTimestamp" in pod["metadata"]:
        return None
    states = [
        (s["name"], s["state"]["waiting"])
        for s in pod["status"].get("containerStatuses", [])
        if "waiting" in s["state"]
    ]
    said = [
        f"{name}: {state.get('reason', 'waiting')} {state.get('message', '')}".strip()[:200] for name, state in states
    ]
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        said = [f"not scheduled: {scheduled.get('message', '')}"]
    stuck = any(state.get("reason") in ("ImagePullBackOff", "ErrImagePull", "CrashLoopBackOff") for _, state in states)
    return {
        "pod": pod["metadata"]["name"],
        "why": "; ".join(said) or "started, not ready yet",
        "stuck": "yes" if stuck else "",
    }


def _shown_available(place: Place, found: Value) -> Value:
    return {key: value for key, value in found.items() if key != "stuck"}


def _want_available(place: Place) -> Value:
    deployments = [one for one in manifests.objects(place) if one["kind"] == "Deployment"]
    counts = {one["metadata"]["name"]: one["spec"]["replicas"] for one in deployments}
    return {name: f"{count} of {count}" for name, count in counts.items()} | {"because": ""}


def _change_available(place: Place, have: Value, want: Value) -> Sequence[Action]:
    """Pods that back off are deleted, so that what was wrong with them is tried anew at once; others only need time."""
    return [Delete(f"{PODS}/{pod}") for pod in place.facts.one("deploy.available")["stuck"]]


def _await(have: Value) -> str:
    counts = ", ".join(f"{name} {have[name]}" for name in (names.CONTROLLER, names.WEBHOOK))
    return f"{counts}: {have['because']}" if have["because"] else counts


# --- admits


def _look_admits(place: Place) -> Api:
    return Api(lambda cluster: {"webhook": _dry_run(cluster, place.site)})


def _dry_run(cluster: Cluster, site: Site) -> str:
    workflow = {
        "apiVersion": f"{names.GROUP}/{names.WORKFLOW_VERSION}",
        "kind": "Workflow",
        "metadata": {"name": "dws-on-csm-dry-run", "namespace": site.access.namespace},
        "spec": {
            "desiredState": "Proposal",
            "dwDirectives": [],
            "wlmID": "dws-on-csm",
            "jobID": "0",
            "userID": 0,
            "groupID": 0,
        },
    }
    at = f"/apis/{names.GROUP}/{names.WORKFLOW_VERSION}/namespaces/{site.access.namespace}/workflows"
    try:
        cluster.create(at, workflow, dryRun="All")
    except ClusterError as error:
        return "no Workflows are served" if error.status == 404 else f"refuses: {error}"
    return "admits a Workflow (server-side dry run)"


def _want_admits(place: Place) -> Value:
    return {"webhook": "admits a Workflow (server-side dry run)"}


STAGE = Stage(
    "deploy",
    ("images", "previous"),
    (
        overlay.STEP,
        Step(
            "applied",
            "master",
            _look_applied,
            _want_applied,
            _change_applied,
            read=_read_applied,
            settle=lambda site: 10.0,
            hint="run it again: what was created stays. If cert-manager's webhook refused, see the pods in cert-manager",
        ),
        Step(
            "available",
            "master",
            _look_available,
            _want_available,
            _change_available,
            read=_shown_available,
            settle=lambda site: site.deadlines.deploy,
            why=_await,
            hint="see `kubectl -n dws-system describe pods`; deadlines.deploy is how long it may take",
        ),
        Step(
            "admits",
            "master",
            _look_admits,
            _want_admits,
            settle=lambda site: 30.0,
            why=lambda have: str(have["webhook"]),
            hint="DWS's webhook must answer before any #DW job is accepted: see `kubectl -n dws-system logs deploy/dws-webhook`",
        ),
    ),
)
