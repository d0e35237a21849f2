"""New keys and certificates, one controller after the other; the plugin keeps working with the old ones until then."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from dws_on_csm.config.site import Site
from dws_on_csm.domain import certificates
from dws_on_csm.model.step import Check, Fact, Finding, NotYetKnown, Stage, StepContext, Value
from dws_on_csm.stages import verify
from dws_on_csm.stages.access import kubeconfig, rbac, signing
from dws_on_csm.stages.dws import workflow_namespace
from dws_on_csm.stages.facts import Kubeconfig, KubeconfigCertificate
from dws_on_csm.stages.pod import service_account
from dws_on_csm.stages.slurm import pod_checks

MADE = "key and certificate"


# --- the state before the rotation

BEFORE = Check("before", "controller", kubeconfig.look, lambda ctx, have: ())
"""The kubeconfigs at the beginning of the run; they are read once."""
FORMER: Fact[Kubeconfig] = Fact("preflight", BEFORE.name)


def before(ctx: StepContext) -> Mapping[str, Kubeconfig]:
    """Host -> its kubeconfig at the beginning. Raises NotYetKnown until every controller that responds was read."""
    former = ctx.facts.known(FORMER)
    if not all(host.name in former for host in ctx.site.controllers if host.name not in ctx.site.absent):
        raise NotYetKnown(FORMER.stage)
    return former


def _judge_before(ctx: StepContext, have: Kubeconfig) -> Sequence[Finding]:
    """A rotation keeps the common name: refuse where the site file has another one."""
    own, common_name = ctx.site.access.common_name, certificates.common_name(kubeconfig.certificate(have))
    if common_name in ("", own) or not ctx.site.active(ctx.host):
        return ()
    text = f"the kubeconfig on {ctx.host} is for {common_name}, and access.common_name is {own}"
    return (Finding("other-name", text, "run `invoke install`: it changes the name, with a new key and certificate"),)


# --- rotation


def stages(site: Site) -> tuple[Stage, ...]:
    """The rotation: one controller first, and the others after the plugin has used the new certificate there."""
    step = replace(kubeconfig.STEP, read=_read, want=_want, status_text=validity_text(site), hint=_HINT)
    return (
        Stage(
            "preflight",
            (),
            (signing.CHECK, workflow_namespace.CHECK, pod_checks.KNOWN, replace(BEFORE, judge=_judge_before)),
        ),
        Stage("access", ("preflight",), (rbac.CLUSTER_CHECK, workflow_namespace.CHECK, step), serial=True),
        replace(verify.STAGE, needs=("access",)),
    )


_HINT = "the former kubeconfig is still in place; `invoke install` corrects everything but its certificate"


def _read(ctx: StepContext, file: Kubeconfig) -> Value:
    """The state as an install reads it, and whether the certificate was replaced in this run."""
    have = kubeconfig.read(ctx, file)
    if have is None or service_account.chosen(ctx):
        return have
    same = kubeconfig.certificate(file) == kubeconfig.certificate(before(ctx)[ctx.host])
    return have | {MADE: "the former ones" if same else "new"}


def _want(ctx: StepContext) -> Value:
    want = kubeconfig.wanted(ctx)
    return want if service_account.chosen(ctx) else want | {MADE: "new"}


def validity_text(site: Site) -> Callable[[Value], str]:
    """Return the function that says until when a new certificate is valid, and whether that is less than access.days."""

    def text_of(have: Value) -> str:
        if have and "logs in with" in have:
            return f"{have['logs in with']}, which the kubelet renews: nothing to rotate"
        if not have or not have["valid"] or have.get(MADE) == "the former ones":
            return ""
        days = have["valid"]["days left"]
        text = f"valid until {have['valid']['until']}, {days} days"
        # the first day has begun already
        return (
            text
            if days >= site.access.days - 1
            else f"{text}; access.days asks for {site.access.days}: {_capped(site)}"
        )

    return text_of


def _capped(site: Site) -> str:
    """Why a certificate is valid for less than access.days."""
    if site.access.signer == "ca":
        return "the cluster's CA ends then, or it was signed before access.days was changed"
    return (
        "the cluster limits their lifetime (--cluster-signing-duration of kube-controller-manager, or its CA ends then)"
    )


def proven_names(ctx: StepContext, files: Iterable[KubeconfigCertificate]) -> set[str]:
    """The common names in these kubeconfigs, each as a look returned it, that the cluster's CA signed."""
    return {name for file in files if (name := kubeconfig.proven_name(ctx, file))}
