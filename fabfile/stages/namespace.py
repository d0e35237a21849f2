"""The namespace that Workflows are created in: that it is there, and that none is left in the one before."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from fabfile.actions import Action, AskApi
from fabfile.api import Cluster
from fabfile.inventory import Site
from fabfile.stages import workflows
from fabfile.step import Api, Check, Finding, Place, Stage, Step, Value

LISTED = 5
"""Workflows that are named; of more the number is told."""


def path(site: Site) -> str:
    """Where the API has it."""
    return f"/api/v1/namespaces/{site.access.namespace}"


def state(cluster: Cluster, site: Site) -> str:
    """Whether it is "there", "missing" or "being deleted". Raises ClusterError."""
    found = cluster.get(path(site))
    if found is None:
        return "missing"
    return "being deleted" if "deletionTimestamp" in found["metadata"] else "there"


def _look(place: Place) -> Api:
    """It, and in which namespaces Workflows are: {"state", "workflows": namespace -> names}."""

    def read(cluster: Cluster) -> Value:
        found: dict[str, list[str]] = {}
        for one in workflows.read(cluster):
            found.setdefault(one["namespace"], []).append(one["name"])
        return {"state": state(cluster, place.site), "workflows": found}

    return Api(read)


def judge(place: Place, have: Value) -> Sequence[Finding]:
    """It has to be there, or may be made; and no Workflow may be where the kubeconfigs that are in use name another one."""
    return [*_there(place, have["state"]), *_left(place, have["workflows"])]


def _there(place: Place, found: str) -> Iterator[Finding]:
    site = place.site
    if found == "there" or (found == "missing" and site.access.create_namespace):
        return
    text = f"the namespace {site.access.namespace}, where Workflows are to be created (access.namespace), is {found}"
    fix = "correct access.namespace, or set access.create_namespace: true, and it is made"
    yield Finding(
        "namespace-missing", text, fix if found == "missing" else "wait until it is gone, or name another one"
    )


def _left(place: Place, found: dict[str, list[str]]) -> Iterator[Finding]:
    new = place.site.access.namespace
    for old, hosts in _in_use(place).items():
        if old == new or not (some := found.get(old)):
            continue
        more = f" and {len(some) - LISTED} more" if len(some) > LISTED else ""
        text = (
            f"{', '.join(some[:LISTED])}{more} in the namespace {old}, which the kubeconfig on {', '.join(hosts)} names: "
            f"with {new} (access.namespace) there the plugin finds these Workflows no more, and nobody ends them"
        )
        fix = f"set access.namespace back to {old} until their jobs are through (`invoke workflows` lists them)"
        yield Finding("workflows-in-old-namespace", text, fix)


def _in_use(place: Place) -> dict[str, list[str]]:
    """Namespace -> the controllers that this run may change and whose kubeconfig names it."""
    used: dict[str, list[str]] = {}
    for host, found in place.facts.found.get("access.kubeconfig", {}).items():
        if "mode" in found and place.site.active(host):
            used.setdefault(found.get("namespace") or "default", []).append(host)
    return used


CHECK = Check("namespace", "master", _look, judge)


def _make(place: Place, have: Value, want: Value) -> Sequence[Action]:
    """It is made, and not kept in mind as an object of this run: a rollback would take away whatever is in it by then."""
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place.site.access.namespace}}

    def ask(cluster: Cluster) -> bytes:
        return json.dumps(cluster.apply(manifest)["metadata"]["name"]).encode()

    return [AskApi(f"create the namespace {place.site.access.namespace}", ask)]


STAGE = Stage(
    "namespace",
    ("preflight",),
    (
        Step(
            "made",
            "master",
            lambda place: Api(lambda cluster: state(cluster, place.site)),
            lambda place: "there",
            _make,
            hint="`kubectl get namespaces` on the master shows it",
        ),
    ),
)
"""Where the site file says so: before anything needs it. No undeploy and no rollback takes it away."""
