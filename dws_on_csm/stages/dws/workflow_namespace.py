"""The namespace that Workflows are created in: that it is there, and that none is left in the one before."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from dws_on_csm.config.site import Site
from dws_on_csm.model.actions import Action, CallApi
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.step import ApiLook, Check, Constant, Finding, Stage, Step, StepContext, Value
from dws_on_csm.stages.dws import workflows

LISTED = 5
"""Workflows that are named; of more the number is told."""


def state(cluster: Cluster, site: Site) -> str:
    """Whether it is "there", "missing" or "being deleted". Raises ClusterError."""
    return _state(cluster, site.access.namespace)


def _state(cluster: Cluster, name: str) -> str:
    found = cluster.get(f"/api/v1/namespaces/{name}")
    if found is None:
        return "missing"
    return "being deleted" if "deletionTimestamp" in found["metadata"] else "there"


def _look(ctx: StepContext) -> ApiLook:
    """It, and in which namespaces Workflows are: {"state", "workflows": namespace -> names}."""

    def read(cluster: Cluster) -> Value:
        return {"state": state(cluster, ctx.site), "workflows": _by_space(cluster)}

    return ApiLook(read)


def _by_space(cluster: Cluster) -> dict[str, list[str]]:
    """Namespace -> the names of the Workflows in it."""
    found: dict[str, list[str]] = {}
    for one in workflows.read(cluster):
        found.setdefault(one["namespace"], []).append(one["name"])
    return found


def judge(ctx: StepContext, have: Value) -> Sequence[Finding]:
    """It has to be there, or may be made; and no Workflow may be where the kubeconfigs that are in use name another one."""
    return [*_there(ctx, have["state"]), *_left(ctx, have["workflows"])]


def _there(ctx: StepContext, found: str) -> Iterator[Finding]:
    site = ctx.site
    if found == "there" or (found == "missing" and site.access.create_namespace):
        return
    text = f"the namespace {site.access.namespace}, where Workflows are to be created (access.namespace), is {found}"
    fix = "correct access.namespace, or set access.create_namespace: true, and it is made"
    yield Finding(
        "namespace-missing", text, fix if found == "missing" else "wait until it is gone, or name another one"
    )


def _left(ctx: StepContext, found: dict[str, list[str]]) -> Iterator[Finding]:
    new = ctx.site.access.namespace
    for old, hosts in _in_use(ctx).items():
        if old == new or not (some := found.get(old)):
            continue
        text = (
            f"{_some(some)} in the namespace {old}, which the kubeconfig on {', '.join(hosts)} names: "
            f"with {new} (access.namespace) there the plugin finds these Workflows no more, and nobody ends them"
        )
        fix = f"set access.namespace back to {old} until their jobs are through (`invoke workflows` lists them)"
        yield Finding("workflows-in-old-namespace", text, fix)


def moved(spaces: Mapping[str, tuple[str, str]]) -> Check:
    """The check `spaces`: where a rollback brings back a kubeconfig that names another namespace, that one is there, and no
    Workflow is in the one that is named now.

    spaces   controller -> the namespace that its kubeconfig names now, and the one that it names afterwards
    """

    def read(cluster: Cluster) -> Value:
        there = {new: _state(cluster, new) for _, new in spaces.values()}
        return {"states": there, "workflows": _by_space(cluster)}

    def judge(ctx: StepContext, have: Value) -> Sequence[Finding]:
        told = []
        for old, new in sorted(set(spaces.values())):
            hosts = ", ".join(host for host, both in spaces.items() if both == (old, new))
            if have["states"][new] != "there":
                text = f"the namespace {new}, which the former kubeconfig on {hosts} names, is {have['states'][new]}"
                told.append(Finding("namespace-missing", text, f"`kubectl create namespace {new}` on the master"))
            if some := have["workflows"].get(old):
                text = (
                    f"{_some(some)} in the namespace {old}, which the kubeconfig on {hosts} names: the former one, which would "
                    f"come back, names {new}, and there the plugin finds these Workflows no more, and nobody ends them"
                )
                fix = "wait until their jobs are through (`invoke workflows` lists them), and run again"
                told.append(Finding("workflows-in-old-namespace", text, fix))
        return told

    return Check(
        "spaces", "master", lambda ctx: ApiLook(read) if spaces else Constant({"states": {}, "workflows": {}}), judge
    )


def _some(found: Sequence[str]) -> str:
    return ", ".join(found[:LISTED]) + (f" and {len(found) - LISTED} more" if len(found) > LISTED else "")


def _in_use(ctx: StepContext) -> dict[str, list[str]]:
    """Namespace -> the controllers that this run may change and whose kubeconfig names it."""
    used: dict[str, list[str]] = {}
    for host, found in ctx.facts.found.get("access.kubeconfig", {}).items():
        if "mode" in found and ctx.site.active(host):
            used.setdefault(found.get("namespace") or "default", []).append(host)
    return used


CHECK = Check("namespace", "master", _look, judge)


def _make(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    """It is made, and not kept in mind as an object of this run: a rollback would take away whatever is in it by then."""
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ctx.site.access.namespace}}

    def ask(cluster: Cluster) -> bytes:
        return json.dumps(cluster.apply(manifest)["metadata"]["name"]).encode()

    return [CallApi(f"create the namespace {ctx.site.access.namespace}", ask)]


STAGE = Stage(
    "namespace",
    ("preflight",),
    (
        Step(
            "made",
            "master",
            lambda ctx: ApiLook(lambda cluster: state(cluster, ctx.site)),
            lambda ctx: "there",
            _make,
            hint="`kubectl get namespaces` on the master shows it",
        ),
    ),
)
"""Where the site file says so: before anything needs it. No undeploy and no rollback takes it away."""
