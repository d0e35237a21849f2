"""What the plugin may do in the cluster, and the kubeconfig with which it proves who it is."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from dws_on_csm.domain import certificates, names
from dws_on_csm.model.actions import Action, Apply, Delete
from dws_on_csm.model.step import ApiLook, Check, Finding, ShellLook, Stage, Step, StepContext, Value
from dws_on_csm.stages.access import kubeconfig
from dws_on_csm.stages.dws import manifests, workflow_namespace

RBAC = "/apis/rbac.authorization.k8s.io/v1"


# --- role and binding


def _look_role(ctx: StepContext) -> ApiLook:
    return ApiLook(lambda cluster: _rules(cluster.get(f"{RBAC}/clusterroles/{names.role(ctx.site)}")))


def _rules(role: Mapping[str, Any] | None) -> Value:
    return {"rules": role["rules"]} if role else None


def _want_role(ctx: StepContext) -> Value:
    made = manifests.role(ctx)
    if made:
        return {"rules": made["rules"]}
    # deployed with the rest from 0.1.1 on: the stage deploy sees to what it says
    return ctx.facts.one("access.role")


def _change_role(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    made = manifests.role(ctx)
    assert made is not None
    return [Apply(made)]


def _look_binding(ctx: StepContext) -> ApiLook:
    return ApiLook(lambda cluster: _bound(cluster.get(f"{RBAC}/clusterrolebindings/{names.BINDING}")))


def _bound(binding: Mapping[str, Any] | None) -> Value:
    if binding is None:
        return None
    return {
        "role": binding["roleRef"]["name"],
        "subjects": sorted(f"{s['kind']} {s['name']}" for s in binding.get("subjects", [])),
    }


def _want_binding(ctx: StepContext) -> Value:
    """The site's name, and for now former ones that a kubeconfig still has: nobody loses anything before he has the new."""
    controllers = [host.name for host in ctx.site.controllers]
    return {"role": names.role(ctx.site), "subjects": sorted({_own(ctx), *former(ctx, controllers)})}


def _own(ctx: StepContext) -> str:
    return f"User {ctx.site.access.common_name}"


def former(ctx: StepContext, hosts: Sequence[str]) -> set[str]:
    """Subjects of the binding, as it was seen, that aren't the site's and that a kubeconfig on one of `hosts` has."""
    bound = ctx.facts.found.get("access.binding", {}).get(ctx.host) or {"subjects": []}
    found = ctx.facts.found.get("access.kubeconfig", {})
    used = {f"User {certificates.common_name(kubeconfig.certificate(found[host]))}" for host in hosts if host in found}
    return (used & set(bound["subjects"])) - {_own(ctx)}


def _change_binding(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    made = [binding(want["role"], want["subjects"])]
    # a binding's role can't be changed
    anew = have is not None and have["role"] != want["role"]
    return [Delete(f"{RBAC}/clusterrolebindings/{names.BINDING}"), *made] if anew else made


def binding(role: str, subjects: Sequence[str]) -> Apply:
    """The binding with these subjects ("User NAME") and no others: the API server replaces the list as a whole."""
    group = "rbac.authorization.k8s.io"
    return Apply(
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": names.BINDING},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
            "subjects": [
                {"apiGroup": group, "kind": kind, "name": name}
                for kind, _, name in (s.partition(" ") for s in subjects)
            ],
        }
    )


def _read_former(ctx: StepContext, found: Value) -> Value:
    return sorted(set(found["subjects"]) - {_own(ctx)}) if found else []


def _want_former(ctx: StepContext) -> Value:
    """Only those that a controller has which this run must not change."""
    return sorted(former(ctx, [host.name for host in ctx.site.controllers if not ctx.site.active(host)]))


def _change_former(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    return [binding(ctx.facts.all("access.old-subjects")[ctx.host]["role"], [_own(ctx), *want])]


# --- the cluster's CA and address


def _look_cluster(ctx: StepContext) -> ShellLook:
    context = f"--context={shlex.quote(ctx.site.master.context)} " if ctx.site.master.context else ""
    script = f"""
kubectl config view --minify --raw {context}--output \
    jsonpath='{{.clusters[0].name}} {{.clusters[0].cluster.server}} {{.clusters[0].cluster.certificate-authority-data}}'
echo
cat {shlex.quote(ctx.site.master.pki)}/ca.crt
"""
    return ShellLook(script, _parse_cluster)


def _parse_cluster(out: bytes) -> Value:
    first, _, ca = out.decode().partition("\n")
    name, server, data = [*first.split(" "), "", "", ""][:3]
    return {"name": name, "server": server, "trusts": base64.b64decode(data).decode() or ca, "ca": ca}


def _judge_cluster(ctx: StepContext, have: Value) -> Sequence[Finding]:
    if have["server"].startswith("https://") and "BEGIN CERTIFICATE" in have["ca"]:
        return ()
    text = f"{ctx.site.master.kubeconfig} names no https server, or {ctx.site.master.pki}/ca.crt is no certificate"
    return (Finding("cluster-unclear", text, "set master.kubeconfig, master.context and master.pki"),)


STAGE = Stage(
    "access",
    ("workarea", "pod"),
    (
        Check("cluster", "master", _look_cluster, _judge_cluster),
        Step("role", "master", _look_role, _want_role, _change_role),
        Step("binding", "master", _look_binding, _want_binding, _change_binding),
        workflow_namespace.CHECK,
        kubeconfig.STEP,
        Step("old-subjects", "master", _look_binding, _want_former, _change_former, read=_read_former),
    ),
)
