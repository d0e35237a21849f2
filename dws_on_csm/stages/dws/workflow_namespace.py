"""The namespace of Workflows: it has to exist, and none may be left in the former one."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence

from dws_on_csm.config.site import Site
from dws_on_csm.model.actions import Action, CallApi
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.printable import first_few
from dws_on_csm.model.step import ApiLook, Check, Constant, Finding, Stage, Step, StepContext, Value
from dws_on_csm.stages.dws import workflows
from dws_on_csm.stages.facts import KUBECONFIG

LISTED = 5
"""So many Workflows are named in a message; of more it says the number."""


def state(cluster: Cluster, site: Site) -> str:
    """Whether it is "there", "missing" or "being deleted". Raises ClusterError."""
    return _state(cluster, site.access.namespace)


def _state(cluster: Cluster, name: str) -> str:
    namespace = cluster.get(f"/api/v1/namespaces/{name}")
    if namespace is None:
        return "missing"
    return "being deleted" if "deletionTimestamp" in namespace["metadata"] else "there"


def _look(ctx: StepContext) -> ApiLook:
    """The namespace and the Workflows of all namespaces: {"state", "workflows": namespace -> names}."""

    def read(cluster: Cluster) -> Value:
        return {"state": state(cluster, ctx.site), "workflows": _by_space(cluster)}

    return ApiLook(read)


def _by_space(cluster: Cluster) -> dict[str, list[str]]:
    """Namespace -> the names of the Workflows in it."""
    by_namespace: dict[str, list[str]] = {}
    for workflow in workflows.read(cluster):
        by_namespace.setdefault(workflow["namespace"], []).append(workflow["name"])
    return by_namespace


def judge(ctx: StepContext, have: Value) -> Sequence[Finding]:
    """Findings where the namespace does not exist and may not be created, or where Workflows are left in a former namespace."""
    return [*_judge_state(ctx, have["state"]), *_judge_leftover(ctx, have["workflows"])]


def _judge_state(ctx: StepContext, state: str) -> Iterator[Finding]:
    site = ctx.site
    if state == "there" or (state == "missing" and site.access.create_namespace):
        return
    fix = "correct access.namespace, or set access.create_namespace: true to create it"
    if state != "missing":
        fix = "wait until it is deleted, or set another access.namespace"
    yield _missing(site.access.namespace, "in which the plugin creates Workflows (access.namespace)", state, fix)


def _judge_leftover(ctx: StepContext, by_namespace: dict[str, list[str]]) -> Iterator[Finding]:
    new = ctx.site.access.namespace
    for old, hosts in _in_use(ctx).items():
        if old == new or not (workflow_names := by_namespace.get(old)):
            continue
        fix = f"set access.namespace back to {old} until their jobs are complete (`invoke workflows` lists them)"
        yield _left(workflow_names, old, ", ".join(hosts), f"with {new} (access.namespace)", fix)


def _missing(namespace: str, use: str, state: str, fix: str) -> Finding:
    return Finding("namespace-missing", f"the namespace {namespace}, {use}, is {state}", fix)


def _left(workflow_names: Sequence[str], namespace: str, hosts: str, cause: str, fix: str) -> Finding:
    """Workflows are in the namespace that the kubeconfig on `hosts` names until now; `cause`: what makes it name another one."""
    text = (
        f"{first_few(workflow_names, LISTED, ', ')} in the namespace {namespace}, which the kubeconfig on {hosts} names: "
        f"{cause} the plugin would no longer find these Workflows, and nothing would end them"
    )
    return Finding("workflows-in-old-namespace", text, fix)


def moved(spaces: Mapping[str, tuple[str, str]]) -> Check:
    """The check `spaces`: where a rollback restores a kubeconfig that names another namespace, that namespace exists, and no
    Workflow is in the present one.

    spaces   controller -> the namespace that its kubeconfig names now, and the one that it names after the rollback
    """

    def read(cluster: Cluster) -> Value:
        states = {new: _state(cluster, new) for _, new in spaces.values()}
        return {"states": states, "workflows": _by_space(cluster)}

    def judge(ctx: StepContext, have: Value) -> Sequence[Finding]:
        findings = []
        for old, new in sorted(set(spaces.values())):
            hosts = ", ".join(host for host, both in spaces.items() if both == (old, new))
            if have["states"][new] != "there":
                fix = f"run `kubectl create namespace {shlex.quote(new)}` on the master"
                use = f"which the former kubeconfig on {hosts} names"
                findings.append(_missing(new, use, have["states"][new], fix))
            if workflow_names := have["workflows"].get(old):
                cause = f"the rollback restores a kubeconfig that names {new}; with it"
                fix = "wait until their jobs are complete (`invoke workflows` lists them), then run the same command again"
                findings.append(_left(workflow_names, old, hosts, cause, fix))
        return findings

    return Check(
        "spaces", "master", lambda ctx: ApiLook(read) if spaces else Constant({"states": {}, "workflows": {}}), judge
    )


def _in_use(ctx: StepContext) -> dict[str, list[str]]:
    """Namespace -> the controllers that this run may change and whose kubeconfig names it."""
    used: dict[str, list[str]] = {}
    for host, file in ctx.facts.known(KUBECONFIG).items():
        if "mode" in file and ctx.site.active(host):
            used.setdefault(file.get("namespace") or "default", []).append(host)
    return used


CHECK = Check("namespace", "master", _look, judge)


def _create(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    """Create it, without recording it as an object of this run: a rollback would remove all that is in it by then."""
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
            _create,
            hint="run `kubectl get namespaces` on the master to see it",
        ),
    ),
)
"""Created where the site file says so, before anything needs it. No undeploy and no rollback removes it."""
