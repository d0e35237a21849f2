"""What the plugin may do in the cluster: its ClusterRole, and the ClusterRoleBinding with the names that have it.

Several Slurms may use one DWS, each with a site file and a name of its own in the one ClusterRoleBinding: a name that this site
did not put there is never removed by an install.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dws_on_csm.domain import certificates, names, plugin_role
from dws_on_csm.model.actions import Action, Apply, Delete
from dws_on_csm.model.step import ApiLook, Check, Fact, Finding, ShellLook, Step, StepContext, Value
from dws_on_csm.stages.access import kubeconfig
from dws_on_csm.stages.dws import manifests
from dws_on_csm.stages.facts import (
    API_SERVER,
    AUTHORITY,
    BINDING,
    KUBECONFIG,
    ROLE,
    ApiServer,
    Binding,
    Kubeconfig,
    Role,
)

RBAC = "/apis/rbac.authorization.k8s.io/v1"


# --- role and binding


OLD_SUBJECTS: Fact[Binding | None] = Fact("access", "old-subjects")
"""The binding after the controllers got their kubeconfigs."""


def _look_role(ctx: StepContext) -> ApiLook:
    return ROLE.api(lambda cluster: _rules(cluster.get(f"{RBAC}/clusterroles/{names.role(ctx.site)}")))


def _rules(role: Mapping[str, Any] | None) -> Role | None:
    return {"rules": role["rules"]} if role else None


def _want_role(ctx: StepContext) -> Value:
    manifest = manifests.role(ctx)
    if manifest:
        return {"rules": manifest["rules"]}
    # deployed with the rest from 0.1.1 on: the stage deploy sees to what it says
    return ctx.facts.one(ROLE)


def _accepted_role(ctx: StepContext, have: Value, want: Value) -> str:
    return "role-differs" if plugin_role.harmless(have["rules"], want["rules"]) else ""


def _change_role(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    manifest = manifests.role(ctx)
    assert manifest is not None
    return [Apply(manifest)]


def _look_binding(ctx: StepContext) -> ApiLook:
    return BINDING.api(lambda cluster: _bound(cluster.get(f"{RBAC}/clusterrolebindings/{names.BINDING}")))


def _bound(binding: Mapping[str, Any] | None) -> Binding | None:
    if binding is None:
        return None
    return {
        "role": binding["roleRef"]["name"],
        "subjects": sorted(map(_subject, binding.get("subjects") or [])),
    }


def _subject(subject: Mapping[str, Any]) -> str:
    name = f"{subject['namespace']}/{subject['name']}" if "namespace" in subject else subject["name"]
    return f"{subject['kind']} {name}"


def _want_binding(ctx: StepContext) -> Value:
    """The site's name; former names that a kubeconfig still has, until each controller has the new one; and other Slurms' names."""
    subjects = _subjects(ctx, BINDING)
    used = former(ctx, [host.name for host in ctx.site.controllers])
    return {"role": names.role(ctx.site), "subjects": sorted({_own(ctx), *used, *strangers(ctx, subjects)})}


def _own(ctx: StepContext) -> str:
    return f"User {ctx.site.access.common_name}"


def _subjects(ctx: StepContext, fact: Fact[Binding | None]) -> set[str]:
    """The subjects of the binding as the step of `fact` saw it."""
    have = ctx.facts.known(fact).get(ctx.host)
    return set(have["subjects"]) if have else set()


def former(ctx: StepContext, hosts: Sequence[str]) -> set[str]:
    """The subjects of the binding that are former names of this site, which a kubeconfig on one of `hosts` still has."""
    used = _names(ctx, ctx.facts.known(KUBECONFIG), hosts)
    return (used & _subjects(ctx, BINDING)) - {_own(ctx)}


def _names(ctx: StepContext, files: Mapping[str, Kubeconfig], hosts: Sequence[str]) -> set[str]:
    """The subjects that the kubeconfigs on these hosts stand for, as far as the cluster's CA says so."""
    return {f"User {kubeconfig.proven_name(ctx, files[host])}" for host in hosts if host in files}


def strangers(ctx: StepContext, subjects: Collection[str]) -> set[str]:
    """Of `subjects` of the binding those that this site does not name, and that no kubeconfig has, or had when this run began,
    on its controllers: another Slurm may use them."""
    controllers, facts = [host.name for host in ctx.site.controllers], ctx.facts
    looks = [known(fact) for known in (facts.known, facts.at_first) for fact in (KUBECONFIG, kubeconfig.NAMED)]
    return set(subjects) - {_own(ctx)}.union(*(_names(ctx, files, controllers) for files in looks))


def described(others: Collection[str]) -> str:
    """A sentence about the strangers in the binding."""
    listed = ", ".join(sorted(others))
    return f"ClusterRoleBinding {names.BINDING} also gives rights to {listed}: another Slurm may use this DWS"


def removal_command(ctx: StepContext, bound: Binding) -> str:
    """The command that removes the strangers from the binding `bound`, for whoever knows that no other Slurm needs them."""
    users = sorted({_own(ctx), *bound["subjects"]} - strangers(ctx, bound["subjects"]))
    options = " ".join(f"--user={shlex.quote(user.partition(' ')[2])}" for user in users)
    command = f"kubectl create clusterrolebinding {names.BINDING} --clusterrole={shlex.quote(bound['role'])} {options}"
    return f"{command} --dry-run=client --output=yaml | kubectl replace --filename=-"


def shared(due: Callable[[StepContext], bool]) -> Check:
    """The check `shared`: no other Slurm has rights in a DWS that is `due` to be removed."""

    def judge(ctx: StepContext, have: Binding | None) -> Sequence[Finding]:
        others = strangers(ctx, have["subjects"]) if have and due(ctx) else ()
        if not have or not others:
            return ()
        text = f"{described(others)}; that Slurm's jobs would lose DWS"
        fix = "make sure that no other Slurm uses DWS, then remove the name on the master and run again: "
        return (Finding("dws-shared", text, f"{fix}`{removal_command(ctx, have)}`"),)

    return Check("shared", "master", _look_binding, judge)


def _change_binding(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    actions = [binding(want["role"], want["subjects"])]
    # a binding's role can't be changed
    recreated = have is not None and have["role"] != want["role"]
    return [Delete(f"{RBAC}/clusterrolebindings/{names.BINDING}"), *actions] if recreated else actions


def binding(role: str, subjects: Sequence[str]) -> Apply:
    """The binding with these subjects ("User NAME") and no others: the API server replaces the list as a whole."""
    group = "rbac.authorization.k8s.io"
    return Apply(
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": names.BINDING},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
            "subjects": [_reference(group, *subject.partition(" ")[::2]) for subject in subjects],
        }
    )


def _reference(group: str, kind: str, name: str) -> dict[str, str]:
    if kind != "ServiceAccount":
        return {"apiGroup": group, "kind": kind, "name": name}
    namespace, _, short = name.partition("/")
    return {"kind": kind, "namespace": namespace, "name": short}


def _read_former(ctx: StepContext, have: Binding | None) -> Value:
    return sorted(set(have["subjects"]) - {_own(ctx)}) if have else []


def _want_former(ctx: StepContext) -> Value:
    """Those that a controller has which this run must not change, and other Slurms' names."""
    used = former(ctx, [host.name for host in ctx.site.controllers if not ctx.site.active(host)])
    return sorted(used | strangers(ctx, _subjects(ctx, OLD_SUBJECTS)))


def _change_former(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    have_binding = ctx.facts.all(OLD_SUBJECTS)[ctx.host]
    assert have_binding is not None
    return [binding(have_binding["role"], [_own(ctx), *want])]


# --- the cluster's CA and address


def _look_cluster(ctx: StepContext) -> ShellLook:
    context = f"--context={shlex.quote(ctx.site.master.context)} " if ctx.site.master.context else ""
    script = f"""
kubectl config view --minify --raw {context}--output \
    jsonpath='{{.clusters[0].name}} {{.clusters[0].cluster.server}} {{.clusters[0].cluster.certificate-authority-data}}'
echo
cat {shlex.quote(ctx.site.master.pki)}/ca.crt
"""
    return API_SERVER.shell(script, _parse_cluster)


def _look_authority(ctx: StepContext) -> ShellLook:
    return replace(_look_cluster(ctx), script=f"{{ {_look_cluster(ctx).script}\n}} 2>/dev/null || :\n")


AUTHORITY_CHECK = Check(AUTHORITY.step, "master", _look_authority, lambda ctx, have: ())
"""Reads the cluster's CA, for whoever has to know which names it signed (kubeconfig.proven_name). Where it can't be read, it signed
none."""


def _parse_cluster(out: bytes) -> ApiServer:
    first, _, text = out.partition(b"\n")
    name, server, data = [*first.decode().split(" "), "", "", ""][:3]
    ca = certificates.bundle(text)
    trusts = certificates.bundle(base64.b64decode(data) + b"\n" + text)
    return {"name": name, "server": server, "trusts": b"".join(trusts).decode(), "ca": b"".join(ca).decode()}


def _judge_cluster(ctx: StepContext, have: Value) -> Sequence[Finding]:
    if have["server"].startswith("https://") and have["ca"]:
        return ()
    text = f"{ctx.site.master.kubeconfig} has no https server, or {ctx.site.master.pki}/ca.crt is not a certificate"
    return (Finding("cluster-unclear", text, "set master.kubeconfig, master.context and master.pki"),)


CLUSTER_CHECK = Check(API_SERVER.step, "master", _look_cluster, _judge_cluster)

ROLE_STEP = Step(ROLE.step, "master", _look_role, _want_role, _change_role, accepted_as=_accepted_role)

BINDING_STEP = Step(BINDING.step, "master", _look_binding, _want_binding, _change_binding)

OLD_SUBJECTS_STEP = Step(
    OLD_SUBJECTS.step,
    "master",
    _look_binding,
    _want_former,
    _change_former,
    read=_read_former,
    status_text=lambda have: f"{', '.join(have)} of {names.BINDING} stay; `invoke doctor` says why" if have else "",
)
"""The binding has no name that no kubeconfig of this site needs any more."""
