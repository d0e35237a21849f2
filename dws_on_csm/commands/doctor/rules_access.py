"""What can be wrong with the plugin's access: its certificate, its kubeconfig, its role and binding. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from dws_on_csm.commands.doctor import rules_cluster
from dws_on_csm.domain import certificates, names
from dws_on_csm.model.step import Finding, NotYetKnown, StepContext, Value
from dws_on_csm.runner.inspect import redo
from dws_on_csm.stages.access import kubeconfig, rbac
from dws_on_csm.stages.pod import discover

VERBS = ("create", "get", "patch", "delete")
"""What the plugin does with Workflows: apply (get, create, patch), read, set the state that is wanted, delete."""


def role(ctx: StepContext, found: Value) -> Iterator[Finding]:
    """The ClusterRole, whatever its manifest says: whether it lets the plugin work."""
    name, fix = names.role(ctx.site), redo(ctx.site, ctx.host, "access")
    if found is None:
        yield Finding("role-lacks-rights", f"there is no ClusterRole {name}: the plugin may do nothing", fix)
        return
    lacking = [verb for verb in VERBS if not any(_allows(rule, verb) for rule in found["rules"] or ())]
    if lacking:
        text = f"ClusterRole {name} lets the plugin not {', '.join(lacking)} Workflows"
        yield Finding("role-lacks-rights", text, fix)
    elif (want := _wanted(ctx, found)) != found:
        yield _other_rules(ctx, sorted(_allowed(found) - _allowed(want)), fix)


def _other_rules(ctx: StepContext, more: list[str], fix: str) -> Finding:
    """The role lets the plugin work, and isn't that of DWS: it allows `more`, or is just another one."""
    name, version = names.role(ctx.site), ctx.site.versions.dws
    if not more:
        return Finding("role-differs", f"the rules of ClusterRole {name} aren't those of DWS {version}", fix)
    text = f"ClusterRole {name} lets the plugin do what that of DWS {version} doesn't: {rules_cluster.some(more)}"
    return Finding("role-too-wide", text, fix)


def _allowed(role: Value) -> set[str]:
    """Every single thing that a role's rules allow, in words."""
    return {
        f"{verb} {what}" for rule in role["rules"] or () for verb in rule.get("verbs") or () for what in _objects(rule)
    }


def _objects(rule: Value) -> Iterator[str]:
    """What a rule is about: RESOURCE or RESOURCE.GROUP, as kubectl names it, and URLs."""
    yield from rule.get("nonResourceURLs") or ()
    for resource in rule.get("resources") or ():
        yield from (f"{resource}.{group}" if group else resource for group in rule.get("apiGroups") or ())


def _allows(rule: Value, verb: str) -> bool:
    said = {"apiGroups": names.GROUP, "resources": "workflows", "verbs": verb}
    return all({word, "*"} & set(rule.get(key) or ()) for key, word in said.items())


def _wanted(ctx: StepContext, found: Value) -> Value:
    """The role as the manifests have it; as it was found where those weren't seen."""
    try:
        step = next(step for step in rbac.STAGE.steps if step.name == "role")
        return step.want(ctx)  # type: ignore[union-attr]
    except NotYetKnown:
        return found


def binding(ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
    """The ClusterRoleBinding: whom it gives the role."""
    text = f"there is no ClusterRoleBinding {names.BINDING}: the plugin may do nothing"
    if have:
        text = f"ClusterRoleBinding {names.BINDING} gives {have['role']} to {', '.join(have['subjects']) or 'nobody'}"
        text += f", and not {want['role']} to {', '.join(want['subjects'])}"
    yield Finding("binding-wrong", text, redo(ctx.site, ctx.host, "access"))


def file(ctx: StepContext, found: Value) -> Iterator[Finding]:
    """The kubeconfig on a controller, by what was found of it: each thing by itself."""
    host, fix = ctx.host, redo(ctx.site, ctx.host, "access")
    if "mode" not in found:
        text = f"there is no {names.KUBECONFIG} on {host}: every #DW sbatch fails"
        yield Finding("kubeconfig-missing", text, fix)
        return
    if discover.of(ctx) and int(found["mode"], 8) & 0o007:
        text = f"{names.KUBECONFIG} in {host} has mode {found['mode']}: every user in the pod can read the key in it"
        group = f"set securityContext.fsGroup: {found['slurm_group']}, SlurmUser's group, in the pod's template"
        yield Finding("kubeconfig-open", text, f"{group}; then `invoke install` closes it")
    elif not discover.of(ctx) and int(found["mode"], 8) & 0o077:
        text = f"{names.KUBECONFIG} on {host} has mode {found['mode']}: others than SlurmUser can read the key in it"
        yield Finding("kubeconfig-open", text, f"{fix}, and `invoke certs.revoke`: somebody may have the key")
    yield from _certificate(ctx, kubeconfig.certificate(found), fix)
    yield from _settings(ctx, found, fix)


def _certificate(ctx: StepContext, pem: bytes, fix: str) -> Iterator[Finding]:
    host = ctx.host
    try:
        seen = certificates.read(pem)
    except ValueError:
        yield Finding("certificate-missing", f"{names.KUBECONFIG} on {host} has no certificate that can be read", fix)
        return
    until = f"{seen.until:%Y-%m-%d %H:%M} UTC"
    if seen.days_left < 0:
        yield Finding("certificate-expired", f"the certificate on {host} ended {until}: every #DW sbatch fails", fix)
    elif seen.days_left < kubeconfig.WARN:
        text = f"the certificate on {host} ends in {seen.days_left} days, {until}; then every #DW sbatch fails"
        yield Finding("certificate-ends-soon", text, "`invoke certs.rotate`")
    if seen.common_name != ctx.site.access.common_name:
        text = f"the certificate on {host} is for {seen.common_name}, and not {ctx.site.access.common_name}"
        yield Finding("certificate-foreign", text, fix)
    cluster = ctx.facts.found.get("access.cluster", {})
    if any(not certificates.signed_by(pem, one["ca"].encode()) for one in cluster.values()):
        text = f"the certificate on {host} is not of this cluster's CA: the API server refuses it"
        yield Finding("certificate-foreign", text, fix)


def _settings(ctx: StepContext, found: Value, fix: str) -> Iterator[Finding]:
    wanted = {"namespace": ctx.site.access.namespace, "server": _server(ctx)}
    for key, want in wanted.items():
        have = found.get(key, "default" if key == "namespace" else "")
        if want and have != want:
            text = f"the kubeconfig on {ctx.host} has {key} {have or '(none)'}, and {want} is wanted"
            yield Finding(f"kubeconfig-{key}", text, fix)
    if not kubeconfig.trusted(ctx, found):
        text = f"the kubeconfig on {ctx.host} trusts another CA than the cluster's: kubectl takes no answer of the API server"
        yield Finding("kubeconfig-ca", text, fix)


def _server(ctx: StepContext) -> str:
    try:
        return kubeconfig.server(ctx)
    except NotYetKnown:
        return ""


def rights(ctx: StepContext, have: Value) -> Iterator[Finding]:
    """What SlurmUser may do with it, where the API server said so."""
    said = have["SlurmUser"]
    if said.startswith("may not "):
        text = f"the plugin on {ctx.host} {said}: ClusterRole or ClusterRoleBinding lack it"
        yield Finding("role-lacks-rights", text, redo(ctx.site, ctx.site.master.host.name, "access"))
    elif said == "may read Secrets":
        text = f"the plugin on {ctx.host} may read Secrets, which it has no need of"
        yield Finding("role-too-wide", text, f"see which binding gives {ctx.site.access.common_name} that")
