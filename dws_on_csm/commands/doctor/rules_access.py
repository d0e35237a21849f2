"""Findings about the plugin's access: its certificate, its kubeconfig, its role and binding. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from dws_on_csm.commands import certificate_fixes
from dws_on_csm.commands.doctor.diagnosis import SBATCH_FAILS, repair_fix
from dws_on_csm.domain import certificates, names, plugin_role
from dws_on_csm.model.printable import first_few
from dws_on_csm.model.step import Finding, NotYetKnown, StepContext, Value
from dws_on_csm.stages.access import kubeconfig, rbac
from dws_on_csm.stages.dws import slurm_clusters
from dws_on_csm.stages.facts import API_SERVER, KUBECONFIG
from dws_on_csm.stages.pod import discover, service_account
from dws_on_csm.stages.slurm import slurm_user


def role(ctx: StepContext, have: Value) -> Iterator[Finding]:
    """The ClusterRole: whether it lets the plugin work, and nothing else. Judged also where its manifest is unknown."""
    name, fix = rbac.role(ctx), repair_fix(ctx, "access")
    if have is None:
        text = f"the ClusterRole {name} does not exist: the plugin has no rights, so {SBATCH_FAILS}"
        yield Finding("role-lacks-rights", text, fix)
        return
    if lacking := plugin_role.lacking(have["rules"]):
        text = f"ClusterRole {name} does not allow the plugin to {', '.join(lacking)} Workflows, so #DW jobs fail"
        yield Finding("role-lacks-rights", text, fix)
    elif (want := _wanted(ctx, have)) != have:
        yield _other_rules(ctx, sorted(plugin_role.allowed(have["rules"]) - plugin_role.allowed(want["rules"])), fix)


def _other_rules(ctx: StepContext, excess: list[str], fix: str) -> Finding:
    """The role lets the plugin work, but differs from DWS's: it also allows `excess`, or only looks different."""
    name, version = rbac.role(ctx), ctx.site.versions.dws
    if not excess:
        return Finding("role-differs", f"ClusterRole {name} has other rules than DWS {version} gives it", fix)
    text = f"ClusterRole {name} allows the plugin more than DWS {version} does: {first_few(excess)}"
    return Finding("role-too-wide", text, fix)


def _wanted(ctx: StepContext, have: Value) -> Value:
    """The role as the manifests have it; as it is where the manifests could not be read, and where somebody else keeps it."""
    try:
        return have if ctx.site.external else rbac.ROLE_STEP.want(ctx)
    except NotYetKnown:
        return have


def binding(ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
    """The ClusterRoleBinding: whom it gives the role."""
    text = f"the ClusterRoleBinding {names.BINDING} does not exist: the plugin has no rights, so {SBATCH_FAILS}"
    if have:
        text = f"ClusterRoleBinding {names.BINDING} gives {have['role']} to {', '.join(have['subjects']) or 'nobody'}; "
        text += f"it should give {want['role']} to {', '.join(want['subjects'])}"
        if "interim" in have:
            text += f"; an interrupted run left ClusterRoleBinding {names.INTERIM_BINDING}"
    yield Finding("binding-wrong", text, repair_fix(ctx, "access"))


def shared(ctx: StepContext, have: Value) -> Iterator[Finding]:
    """The names in the binding that this site did not put there, as far as all controllers' kubeconfigs were seen."""
    seen = ctx.facts.known(KUBECONFIG)
    others = rbac.strangers(ctx, have["subjects"]) if have else ()
    # one that is recorded is known to be another Slurm's: no problem of this one
    if set(others) - slurm_clusters.known_subjects(ctx) and all(host.name in seen for host in ctx.site.controllers):
        fix = "set accept: [binding-shared] if another Slurm uses it; otherwise run "
        fix += f"`{rbac.removal_command(ctx, have)}` on the master"
        yield Finding("binding-shared", rbac.described(ctx, others), fix)


def file(ctx: StepContext, have: Value) -> Iterator[Finding]:
    """The kubeconfig on a controller: each of its parts is judged, whatever the others are like."""
    host, fix = ctx.host, certificate_fixes.new_kubeconfig(ctx.site, ctx.host)
    if "mode" not in have:
        text = f"{names.KUBECONFIG} is missing on {host}: the plugin cannot log in to the cluster, so {SBATCH_FAILS}"
        yield Finding("kubeconfig-missing", text, fix)
        return
    if service_account.in_file(have):
        yield from _by_account(ctx)
        yield from _settings(ctx, have, fix)
        return
    if _account_wanted(ctx):
        text = f"the kubeconfig in {host} has a certificate, but the plugin must log in with ServiceAccount "
        text += f"{service_account.account(ctx)} ({service_account.way(ctx).why})"
        yield Finding("kubeconfig-other-login", text, certificate_fixes.INSTALL)
    if discover.pod_of(ctx) and int(have["mode"], 8) & 0o007:
        text = f"{names.KUBECONFIG} in {host} has mode {have['mode']}: every user in the pod can read the private key"
        group = f"set securityContext.fsGroup: {have['slurm_group']} (SlurmUser's group) in the pod's template"
        yield Finding("kubeconfig-open", text, f"{group}; then run `invoke install`")
    elif not discover.pod_of(ctx) and int(have["mode"], 8) & 0o077:
        text = (
            f"{names.KUBECONFIG} on {host} has mode {have['mode']}: other users than SlurmUser can read the private key"
        )
        fix_open = (
            f"{fix}. Somebody may have copied the key: set a new access.common_name, then run `invoke certs.revoke`"
        )
        yield Finding("kubeconfig-open", text, fix_open)
    yield from _certificate(ctx, kubeconfig.certificate(have), fix)
    if not kubeconfig.has_its_key(have):
        text = f"the key in {names.KUBECONFIG} on {host} is not that of the certificate beside it, so {SBATCH_FAILS}"
        yield Finding("certificate-key", text, fix)
    yield from _settings(ctx, have, fix)


def _account_wanted(ctx: StepContext) -> bool:
    """Whether the plugin must log in with its pod's ServiceAccount; False where that is unknown."""
    try:
        return service_account.chosen(ctx)
    except NotYetKnown:
        return False


def _by_account(ctx: StepContext) -> Iterator[Finding]:
    """A kubeconfig that names the pod's token: whether the site wants that. Whether the token can be read, preflight tells."""
    if not _account_wanted(ctx):
        text = f"the kubeconfig in {ctx.host} names the token of a ServiceAccount, but the plugin must log in with a certificate"
        yield Finding("kubeconfig-other-login", text, certificate_fixes.INSTALL)


def _certificate(ctx: StepContext, pem: bytes, fix: str) -> Iterator[Finding]:
    """The certificate in the kubeconfig: missing, expired, of another name or CA."""
    host = ctx.host
    cas = [master["ca"].encode() for master in ctx.facts.known(API_SERVER).values()]
    try:
        certificate = certificates.within_ca(pem, b"".join(cas))
    except ValueError:
        text = f"{names.KUBECONFIG} on {host} has no readable certificate, so {SBATCH_FAILS}"
        yield Finding("certificate-missing", text, fix)
        return
    until, new = f"{certificate.until:%Y-%m-%d %H:%M} UTC", certificate_fixes.new_certificate(pem, b"".join(cas))
    if certificate.days_left < 0:
        text = f"the plugin's certificate on {host} expired on {until}, so {SBATCH_FAILS}"
        yield Finding("certificate-expired", text, new)
    elif certificate.days_left < kubeconfig.WARN:
        text = f"the plugin's certificate on {host} expires in {certificate.days_left} days, on {until}; "
        text += f"from then on {SBATCH_FAILS}"
        yield Finding("certificate-ends-soon", text, new)
    if certificate.common_name != ctx.site.access.common_name:
        text = f"the plugin's certificate on {host} is for {certificate.common_name}, "
        text += f"but access.common_name in the site file is {ctx.site.access.common_name}"
        yield Finding("certificate-foreign", text, certificate_fixes.NEW_NAME)
    if any(not certificates.signed_by(pem, ca) for ca in cas):
        text = f"the plugin's certificate on {host} is not signed by this cluster's CA: "
        text += f"the API server rejects it, so {SBATCH_FAILS}"
        yield Finding("certificate-foreign", text, certificate_fixes.NEW_CERTIFICATE)


def _settings(ctx: StepContext, file: Value, fix: str) -> Iterator[Finding]:
    """The kubeconfig's namespace, server and CA."""
    wanted = {"namespace": ctx.site.access.namespace, "server": _server(ctx)}
    for key, want in wanted.items():
        have = file.get(key, "default" if key == "namespace" else "")
        if want and have != want:
            text = f"the kubeconfig on {ctx.host} has the {key} {have or '(none)'}; it should be {want}"
            yield Finding(f"kubeconfig-{key}", text, fix)
    if effect := _WRONG_CA.get(trust := kubeconfig.trust(ctx, file)):
        yield Finding("kubeconfig-ca", f"the kubeconfig on {ctx.host} trusts {trust}: {effect}", fix)


_WRONG_CA = {
    kubeconfig.OF_OTHER: f"kubectl does not trust the API server, so {SBATCH_FAILS}",
    kubeconfig.TOO_FEW: f"once the API server has a certificate of one of the others, {SBATCH_FAILS}",
    kubeconfig.TOO_MANY: "kubectl would trust an API server with a certificate of that CA, too",
}
"""What follows where the kubeconfig trusts something else than the cluster's CA."""


def _server(ctx: StepContext) -> str:
    """The API server's URL that the kubeconfig should have; "" where it is unknown."""
    try:
        return kubeconfig.server(ctx)
    except NotYetKnown:
        return ""


def rights(ctx: StepContext) -> Iterator[Finding]:
    """What the API server lets SlurmUser do with this kubeconfig, where it answered."""
    present = slurm_user.permissions(ctx.facts.all(KUBECONFIG)[ctx.host]["may"])
    if present.lacking:
        text = f"the plugin on {ctx.host} {slurm_user.permissions_text(present)}: its ClusterRole or ClusterRoleBinding does "
        text += "not allow it"
        master = ctx.site.master.host.name
        yield Finding("role-lacks-rights", text, repair_fix(ctx, "access", master))
    elif present.secrets:
        if service_account.in_file(ctx.facts.all(KUBECONFIG)[ctx.host]):
            return  # what else the ServiceAccount may do, somebody else gave it
        name = ctx.site.access.common_name
        text = f"the plugin on {ctx.host} may read Secrets, which it does not need"
        fix = f"find the role binding that gives this right to {name}, and remove {name} from it: "
        fix += "`kubectl get clusterrolebindings,rolebindings -A -o wide` on the master lists them"
        yield Finding("role-too-wide", text, fix)
