"""Take the plugin's rights from the ServiceAccounts of a site's pods, and prove that they have none left.

There is no name to give up, and so nothing to record: an install binds the accounts again. A token itself ends with its pod.
"""

from __future__ import annotations

from collections.abc import Sequence

from dws_on_csm.domain import names
from dws_on_csm.model.actions import Action
from dws_on_csm.model.step import Check, Fact, Finding, NotYetKnown, Stage, Step, StepContext, Value
from dws_on_csm.stages.access import kubeconfig, rbac, revocation_proof
from dws_on_csm.stages.facts import Binding, Kubeconfig
from dws_on_csm.stages.pod import service_account
from dws_on_csm.stages.slurm import controller, pod_checks, slurm_user


def accounts(ctx: StepContext) -> tuple[str, ...]:
    """The ServiceAccounts of all controllers' pods, NAMESPACE/NAME. Raises NotYetKnown until each pod was seen."""
    every = (service_account.account(service_account.on(ctx, host.name)) for host in ctx.site.controllers)
    return tuple(sorted(set(every)))


def _users(ctx: StepContext) -> tuple[str, ...]:
    """The same as the API server names their users (Kubernetes' documentation, "User impersonation")."""
    return tuple(f"system:serviceaccount:{name.replace('/', ':')}" for name in accounts(ctx))


UNBOUND: Fact[Binding | None] = Fact("access", "unbound")
REFUSED: Fact[Kubeconfig] = Fact("revoked", "refused")


def _left(ctx: StepContext, have: Binding | None) -> Value:
    subjects = {service_account.subject(name) for name in accounts(ctx)}
    return sorted(subjects & set(have["subjects"])) if have else []


def _unbind(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    bound = ctx.facts.on(UNBOUND, ctx.host)
    assert bound is not None
    return rbac.bind(bound, bound["role"], [subject for subject in bound["subjects"] if subject not in have])


_EFFECT = "#DW jobs are refused, and Workflows stay as they are, until `invoke install` gives the rights back"


def _whole(ctx: StepContext, have: Binding | None) -> Sequence[Finding]:
    """Pods may share an account: all controllers or none."""
    return controller.limit_leaves_out_controllers(
        ctx, "may have the same ServiceAccount, and would lose its rights too"
    )


def _read_refused(ctx: StepContext, file: Kubeconfig) -> Value:
    present = slurm_user.permissions(file["may"])
    return {
        "SlurmUser": slurm_user.permissions_text(present)
        if present.lacking or present.refused
        else "may work on Workflows"
    }


_NOTHING = slurm_user.permissions_text(slurm_user.Permissions("", ("create", "delete", "get", "patch")))


def _want_refused(ctx: StepContext) -> Value:
    """The token has no rights; where there is no kubeconfig, nothing can be tried with it."""
    seen = ctx.facts.on(REFUSED, ctx.host)
    return {"SlurmUser": _NOTHING} if service_account.in_file(seen) else _read_refused(ctx, seen)


def stages() -> tuple[Stage, ...]:
    """The removal of their rights."""
    whole = Check("names", "master", rbac.BINDING_STEP.look, _whole)
    read = Check("kubeconfig", "controller", kubeconfig.look, lambda ctx, have: ())
    unbound = Step(
        UNBOUND.step,
        "master",
        rbac.BINDING_STEP.look,
        lambda ctx: [],
        _unbind,
        read=_left,
        removes=lambda ctx, have, want: f"{' and '.join(have)} of {names.BINDING}: {_EFFECT}" if have else "",
    )
    refused = Step(
        REFUSED.step,
        "controller",
        kubeconfig.look,
        _want_refused,
        read=_read_refused,
        settle_seconds=lambda site: 15.0,
        hint="another binding gives the pod's ServiceAccount rights: run `kubectl get clusterrolebindings,rolebindings -A -o wide`",
    )
    return (
        Stage("preflight", (), (pod_checks.KNOWN, whole)),
        Stage("access", ("preflight",), (rbac.CLUSTER_CHECK, read, unbound)),
        Stage("revoked", ("access",), (revocation_proof.rights(_users), refused)),
    )


def by_account(every: Sequence[StepContext]) -> bool:
    """Whether all these controllers' plugins log in with their pods' ServiceAccounts; False where that is unknown."""
    try:
        return all(service_account.chosen(ctx) for ctx in every)
    except NotYetKnown:
        return False
