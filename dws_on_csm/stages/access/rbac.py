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
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.step import (
    ApiLook,
    Check,
    Fact,
    Finding,
    NotYetKnown,
    Refused,
    ShellLook,
    Step,
    StepContext,
    Value,
)
from dws_on_csm.stages.access import external_role, kubeconfig
from dws_on_csm.stages.dws import manifests, slurm_clusters
from dws_on_csm.stages.facts import (
    API_SERVER,
    AUTHORITY,
    BINDING,
    KUBECONFIG,
    PREFLIGHT_KUBECONFIG,
    ROLE,
    ApiServer,
    Binding,
    Kubeconfig,
    Role,
)
from dws_on_csm.stages.pod import service_account

KEEP_DWS = "invoke undeploy --keep-dws"
"""Removes what one Slurm has, and leaves DWS to the others."""

BINDINGS = f"{names.RBAC}/clusterrolebindings"


# --- role and binding


OLD_SUBJECTS: Fact[Binding | None] = Fact("access", "old-subjects")
"""The binding after the controllers got their kubeconfigs."""


def role(ctx: StepContext) -> str:
    """The name of the plugin's ClusterRole. Raises NotYetKnown where somebody else deploys DWS, and neither it nor a binding to it
    was seen."""
    if not ctx.site.external:
        return names.role(ctx.site)
    if ctx.facts.known(ROLE):
        return (ctx.facts.one(ROLE) or external_role.own())["name"]
    bound = ctx.facts.one(BINDING)
    if not bound or bound["role"] not in names.ROLES:
        raise NotYetKnown(ROLE.stage)
    return bound["role"]


def _look_role(ctx: StepContext) -> ApiLook:
    if ctx.site.external:
        return ROLE.api(external_role.read)
    return ROLE.api(lambda cluster: _rules(cluster.get(f"{names.RBAC}/clusterroles/{names.role(ctx.site)}")))


def _rules(role: Mapping[str, Any] | None) -> Role | None:
    return {"rules": role["rules"]} if role else None


def _want_role(ctx: StepContext) -> Value:
    if ctx.site.external:
        return _want_found_role(ctx)
    manifest = manifests.role(ctx)
    if manifest:
        return {"rules": manifest["rules"]}
    # deployed with the rest from 0.1.1 on: the stage deploy sees to what it says
    return ctx.facts.one(ROLE)


def _want_found_role(ctx: StepContext) -> Role:
    """The role that somebody else brought, as it is; without one, the role that this tool makes. Raises Refused where theirs does
    not let the plugin work."""
    have = ctx.facts.one(ROLE)
    if not have or have["own"]:
        return external_role.own()
    if lacking := plugin_role.lacking(have["rules"]):
        text = f"ClusterRole {have['name']} does not allow the plugin to {', '.join(lacking)} Workflows, so #DW jobs would fail"
        fix = "ask those who deploy DWS to give it the rules of DWS's config/rbac/workload_manager_role.yaml"
        raise Refused(Finding("role-lacks-rights", text, fix))
    return have


def _accepted_role(ctx: StepContext, have: Value, want: Value) -> str:
    return "role-differs" if have and plugin_role.harmless(have["rules"], want["rules"]) else ""


def _change_role(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    if ctx.site.external:
        return [Apply(external_role.manifest(want))]
    manifest = manifests.role(ctx)
    assert manifest is not None
    return [Apply(manifest)]


def _look_binding(ctx: StepContext) -> ApiLook:
    return BINDING.api(read_binding)


def read_binding(cluster: Cluster) -> Binding | None:
    """The plugin's binding; with the subjects of the interim one, if an interrupted run left that. Raises ClusterError."""
    usual, interim = (binding_of(cluster.get(f"{BINDINGS}/{name}")) for name in (names.BINDING, names.INTERIM_BINDING))
    if interim is None:
        return usual
    if usual is None:
        return {**interim, "interim": "instead"}
    return {"role": usual["role"], "subjects": sorted({*usual["subjects"], *interim["subjects"]}), "interim": "beside"}


def binding_of(binding: Mapping[str, Any] | None) -> Binding | None:
    """The role and the subjects in a ClusterRoleBinding's manifest; None where there is none."""
    if binding is None:
        return None
    return {
        "role": binding["roleRef"]["name"],
        "subjects": sorted(map(plugin_role.subject_name, binding.get("subjects") or [])),
    }


def _want_binding(ctx: StepContext) -> Value:
    """The site's own subjects; former ones that a kubeconfig has, until each controller has the new one; and other Slurms'."""
    subjects = _subjects(ctx, BINDING)
    used = former(ctx, [host.name for host in ctx.site.controllers])
    return {"role": role(ctx), "subjects": sorted({*own(ctx), *used, *strangers(ctx, subjects)})}


def own(ctx: StepContext) -> set[str]:
    """The subjects that the site's controllers need: the name in certificates, and the ServiceAccounts of pods that log in with
    those. Raises NotYetKnown before these pods were seen."""
    every = [service_account.on(ctx, host.name) for host in ctx.site.controllers]
    accounts = [controller for controller in every if service_account.chosen(controller)]
    users = {_user(ctx)} if len(accounts) < len(every) else set()
    return users | {service_account.subject(service_account.account(controller)) for controller in accounts}


def _user(ctx: StepContext) -> str:
    return f"User {ctx.site.access.common_name}"


def _ours(ctx: StepContext) -> set[str]:
    """The subjects that nobody but this site uses: its name, and the ServiceAccounts of its pods."""
    return {_user(ctx)} | service_account.known_subjects(ctx)


def _subjects(ctx: StepContext, fact: Fact[Binding | None]) -> set[str]:
    """The subjects of the binding as the step of `fact` saw it."""
    have = ctx.facts.known(fact).get(ctx.host)
    return set(have["subjects"]) if have else set()


def former(ctx: StepContext, hosts: Sequence[str]) -> set[str]:
    """The subjects of the binding that are former names of this site, which a kubeconfig on one of `hosts` still has."""
    used = _names(ctx, ctx.facts.known(KUBECONFIG), hosts)
    return (used & _subjects(ctx, BINDING)) - own(ctx)


def _names(ctx: StepContext, files: Mapping[str, Kubeconfig], hosts: Sequence[str]) -> set[str]:
    """The subjects that the kubeconfigs on these hosts stand for, as far as the cluster's CA says so."""
    users = {f"User {kubeconfig.proven_name(ctx, files[host])}" for host in hosts if host in files}
    by_account = [host for host in hosts if host in files and service_account.in_file(files[host])]
    return users | {text for host in by_account for text in _account_of(service_account.on(ctx, host))}


def _account_of(ctx: StepContext) -> set[str]:
    """The subject of a pod's ServiceAccount; empty where the pod was not seen."""
    try:
        return {service_account.subject(service_account.account(ctx))}
    except NotYetKnown:
        return set()


def strangers(ctx: StepContext, subjects: Collection[str]) -> set[str]:
    """Of `subjects` of the binding those that this site does not name, and that no kubeconfig has, or had when this run began,
    on its controllers: another Slurm may use them."""
    controllers, facts = [host.name for host in ctx.site.controllers], ctx.facts
    looks = [known(fact) for known in (facts.known, facts.at_first) for fact in (KUBECONFIG, PREFLIGHT_KUBECONFIG)]
    return set(subjects) - _ours(ctx).union(*(_names(ctx, files, controllers) for files in looks))


def described(ctx: StepContext, others: Collection[str]) -> str:
    """A sentence about the strangers in the binding."""
    unknown = set(others) - slurm_clusters.known_subjects(ctx)
    uses = "may use" if unknown else "uses"
    listed = "; ".join(slurm_clusters.describe_subjects(ctx, others))
    return f"ClusterRoleBinding {names.BINDING} also gives rights to {listed}: another Slurm {uses} this DWS"


def removal_command(ctx: StepContext, bound: Binding) -> str:
    """The command that removes the strangers from the binding `bound`, for whoever knows that no other Slurm needs them."""
    stay = sorted({*_needed(ctx), *bound["subjects"]} - strangers(ctx, bound["subjects"]))
    options = " ".join(_option(*subject.partition(" ")[::2]) for subject in stay)
    command = f"kubectl create clusterrolebinding {names.BINDING} --clusterrole={shlex.quote(bound['role'])} {options}"
    interim = bound.get("interim")
    command += (
        f" --dry-run=client --output=yaml | kubectl {'create' if interim == 'instead' else 'replace'} --filename=-"
    )
    return f"{command} && kubectl delete clusterrolebinding {names.INTERIM_BINDING}" if interim else command


def _needed(ctx: StepContext) -> set[str]:
    """As `own`; the name in certificates where the pods were not seen."""
    try:
        return own(ctx)
    except NotYetKnown:
        return {_user(ctx)}


def _option(kind: str, name: str) -> str:
    """A subject as an option of `kubectl create clusterrolebinding`."""
    if kind == "ServiceAccount":
        return f"--serviceaccount={shlex.quote(name.replace('/', ':'))}"
    return f"--{kind.lower()}={shlex.quote(name)}"


def shared(due: Callable[[StepContext], bool]) -> Check:
    """The check `shared`: no other Slurm has rights in a DWS that is `due` to be removed."""

    def judge(ctx: StepContext, have: Binding | None) -> Sequence[Finding]:
        others = strangers(ctx, have["subjects"]) if have and due(ctx) else ()
        if not have or not others:
            return ()
        text = f"{described(ctx, others)}; that Slurm's jobs would lose DWS"
        fix = f"to remove only what this Slurm has, run `{KEEP_DWS}`; to remove DWS, first run that with the other Slurm's site "
        fix += "file, or, if that Slurm is gone, remove its name on the master: "
        return (Finding("dws-shared", text, f"{fix}`{removal_command(ctx, have)}`"),)

    return Check("shared", "master", _look_binding, judge)


def _change_binding(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    return bind(have, want["role"], want["subjects"])


def bind(have: Binding | None, role: str, subjects: Sequence[str]) -> Sequence[Action]:
    """Give the role to these subjects ("User NAME") and no others, where the binding is as in `have`.

    A binding's role can't be changed. While the binding is recreated, another one gives the same rights: jobs of other Slurms
    run meanwhile, and if the run is interrupted, the next one reads there whose rights these are.
    """
    usual, over = _binding(names.BINDING, role, subjects), Delete(f"{BINDINGS}/{names.INTERIM_BINDING}")
    interim = have.get("interim", "") if have else ""
    if have and have["role"] != role and interim != "instead":
        meanwhile = _binding(names.INTERIM_BINDING, role, subjects)
        again: list[Action] = [meanwhile, Delete(f"{BINDINGS}/{names.BINDING}"), usual, over]
        return [over, *again] if interim else again
    return [usual, over] if interim else [usual]


def unbind(have: Binding) -> Sequence[Action]:
    """Remove the binding, and the interim one if it is there."""
    both = (names.BINDING, names.INTERIM_BINDING) if "interim" in have else (names.BINDING,)
    return [Delete(f"{BINDINGS}/{name}") for name in both]


def _binding(name: str, role: str, subjects: Sequence[str]) -> Apply:
    """A binding with these subjects and no others: the API server replaces the list as a whole."""
    group = "rbac.authorization.k8s.io"
    return Apply(
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
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
    return sorted(set(have["subjects"]) - own(ctx)) if have else []


def _want_former(ctx: StepContext) -> Value:
    """Those that a controller has which this run must not change, and other Slurms' names."""
    used = former(ctx, [host.name for host in ctx.site.controllers if not ctx.site.active(host)])
    return sorted(used | strangers(ctx, _subjects(ctx, OLD_SUBJECTS)))


def _change_former(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    have_binding = ctx.facts.all(OLD_SUBJECTS)[ctx.host]
    assert have_binding is not None
    return bind(have_binding, have_binding["role"], [*sorted(own(ctx)), *want])


# --- the cluster's CA and address


def _look_cluster(ctx: StepContext) -> ShellLook:
    context = f"--context={shlex.quote(ctx.site.master.context)} " if ctx.site.master.context else ""
    script = f"""
GOGC=400 kubectl config view --minify --raw {context}--output \
    jsonpath='{{.clusters[0].name}} {{.clusters[0].cluster.server}} {{.clusters[0].cluster.certificate-authority-data}}'
echo
cat {shlex.quote(ctx.site.master.pki)}/ca.crt
"""
    return API_SERVER.shell(script, _parse_cluster)


def _look_authority(ctx: StepContext) -> ShellLook:
    return replace(_look_cluster(ctx), body=f"{{ {_look_cluster(ctx).script}\n}} 2>/dev/null || :\n")


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
    status_text=lambda have: (
        f"{', '.join(have)} of {names.BINDING} stay: another Slurm uses DWS, or a controller was left out"
        if have
        else ""
    ),
)
"""The binding has no name that no kubeconfig of this site needs any more."""
