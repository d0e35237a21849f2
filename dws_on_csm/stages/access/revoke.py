"""The permanent removal of a common name's rights. Kubernetes cannot revoke a client certificate, but its name can lose all rights.

The new name gets its rights in addition to the old one, and every controller its new kubeconfig; only then the old name is removed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from dws_on_csm.config import load
from dws_on_csm.config.site import Site
from dws_on_csm.domain import certificates, names
from dws_on_csm.model.actions import Action
from dws_on_csm.model.step import Check, Fact, Finding, Stage, Step, StepContext, Value
from dws_on_csm.stages import verify
from dws_on_csm.stages.access import kubeconfig, rbac, revocation_proof, revoked_names, signing, slurm_record
from dws_on_csm.stages.access.revocation_proof import NamesToRevoke
from dws_on_csm.stages.access.rotate import BEFORE, before, proven_names
from dws_on_csm.stages.dws import in_use, slurm_clusters, workflow_namespace
from dws_on_csm.stages.facts import Binding, KubeconfigCertificate
from dws_on_csm.stages.slurm import controller, pod_checks


def stages(name: str = "") -> tuple[Stage, ...]:
    """The revocation of `name`; "": of all names in use except the site file's."""

    def to_revoke(ctx: StepContext) -> tuple[str, ...]:
        return names_to_revoke(ctx, name)

    former = rbac.OLD_SUBJECTS_STEP
    want_subjects = former.want

    def want(ctx: StepContext) -> Value:
        return sorted({*want_subjects(ctx)} - {f"User {revoked}" for revoked in to_revoke(ctx)})

    old_subjects = replace(
        former, want=want, removes=lambda ctx, have, want: _takes(ctx, sorted({*have} - {*(want or ())}))
    )
    checks = (
        revoked_names.CHECK,
        slurm_clusters.READ,
        rbac.AUTHORITY_CHECK,
        signing.CHECK,
        workflow_namespace.CHECK,
        pod_checks.KNOWN,
        BEFORE,
        revocation_proof.KEPT,
        _names(to_revoke),
    )
    changes = (
        rbac.CLUSTER_CHECK,
        workflow_namespace.CHECK,
        # a recorded name is rejected permanently: so each name is confirmed, too
        replace(_recorded(RECORDED, to_revoke, revoked_names.BEING), removes=_takes_names),
        rbac.BINDING_STEP,
        kubeconfig.STEP,
        old_subjects,
        slurm_record.STEP,
    )
    proofs = (
        revocation_proof.rights(to_revoke),
        revocation_proof.refused(to_revoke),
        _recorded(DONE, to_revoke, revoked_names.DONE),
    )
    return (
        Stage("preflight", (), checks),
        Stage("access", ("preflight",), changes, serial=True),
        Stage("revoked", ("access",), proofs),
        replace(verify.STAGE, needs=("revoked",)),
    )


def names_to_revoke(ctx: StepContext, name: str) -> tuple[str, ...]:
    """The names to revoke: `name`, or else all names that this site's controllers have, and those of their former kubeconfigs that
    are bound or being revoked, except the site file's. Names of another Slurm are revoked only if `name` says so."""
    if name:
        return (name,)
    unfinished = {
        recorded for recorded, text in _record(ctx).items() if revoked_names.state(text) == revoked_names.BEING
    }
    used = proven_names(ctx, before(ctx).values())
    past = (_bound(ctx) | unfinished) & proven_names(ctx, _saved_kubeconfigs(ctx))
    return tuple(sorted((used | past) - {ctx.site.access.common_name}))


def _record(ctx: StepContext) -> dict[str, str]:
    return ctx.facts.one(revoked_names.FACT)


def _bound(ctx: StepContext) -> set[str]:
    binding = ctx.facts.one(NAMES)
    subjects = binding["subjects"] if binding else ()
    return {name for kind, _, name in (subject.partition(" ") for subject in subjects) if kind == "User"}


def _takes_names(ctx: StepContext, have: Value, want: Value) -> str:
    return _takes(ctx, [f"User {name}" for name in sorted(want) if have[name] != want[name]])


def _takes(ctx: StepContext, have: Sequence[str]) -> str:
    return f"{' and '.join(have)} of {names.BINDING}: every kubeconfig of that name is rejected, permanently"


# --- checks before the revocation


NAMES: Fact[Binding | None] = Fact("preflight", "names")


def _names(to_revoke: NamesToRevoke) -> Check:
    def judge(ctx: StepContext, have: Binding | None) -> Sequence[Finding]:
        return [*_covers_all_hosts(ctx), *_bindable(ctx, have), *_nameable(ctx, to_revoke(ctx))]

    return Check(NAMES.step, "master", rbac.BINDING_STEP.look, judge)


def _covers_all_hosts(ctx: StepContext) -> Sequence[Finding]:
    out = controller.limit_leaves_out_controllers(
        ctx, "would keep a rejected kubeconfig, or the old name would keep its rights"
    )
    return (*out, *in_use.limit_leaves_out_master(ctx, "the old name must lose its rights"))


def _bindable(ctx: StepContext, binding: Binding | None) -> Sequence[Finding]:
    roles = names.ROLES if ctx.site.external else (names.role(ctx.site),)
    if binding and binding["role"] in roles:
        return ()
    text = f"{names.BINDING} does not exist, or gives another role than {' or '.join(roles)}"
    return (Finding("not-installed", text, "run `invoke install` first"),)


def _nameable(ctx: StepContext, to_revoke: Sequence[str]) -> Sequence[Finding]:
    own, record = ctx.site.access.common_name, _record(ctx)
    if own in to_revoke or not to_revoke:
        already = "; already revoked: " + ", ".join(record) if record else ""
        text = f"the site file still names {own}, which the controllers use{already}"
        return (Finding("name-in-use", text, f"{_edit(ctx.site, record)}, and run this again: then {own} is revoked"),)
    known = (
        _bound(ctx) | proven_names(ctx, before(ctx).values()) | set(record) | proven_names(ctx, _saved_kubeconfigs(ctx))
    )
    return [
        Finding(
            "name-unknown",
            f"this site never used the name {name}",
            f"give one of these names: {', '.join(sorted(known))}",
        )
        for name in to_revoke
        if name not in known
    ]


def _edit(site: Site, record: Iterable[str]) -> str:
    """The line to change in the site file."""
    new = fresh(site.access.common_name, set(record))
    line, section = (load.line_of(site.path, key) for key in ("access.common_name", "access"))
    name = site.path.name
    if line:
        return f"change line {line} of {name} to `common_name: {new}`"
    if section:
        return f"add `common_name: {new}` to `access` (line {section} of {name})"
    return f"add `access: {{common_name: {new}}}` to {name}"


def fresh(own: str, taken: set[str]) -> str:
    """A new name with the date of today."""
    base = re.sub(r"-\d{8}(-\d+)?$", "", own)[:50] + time.strftime("-%Y%m%d", time.gmtime())
    every = [base, *(f"{base}-{number}" for number in range(2, len(taken) + 3))]
    return next(candidate for candidate in every if candidate not in {own, *taken})


# --- the record of revoked names


RECORDED: Fact[dict[str, str]] = Fact("access", "recorded")
DONE: Fact[dict[str, str]] = Fact("revoked", "done")
"""Common name -> its record."""


def _recorded(fact: Fact[dict[str, str]], to_revoke: NamesToRevoke, state: str) -> Step:
    """A step: the revoked names are recorded in this state, or in a later one."""

    def read(ctx: StepContext, record: dict[str, str]) -> Value:
        def as_wanted(name: str) -> bool:
            return revoked_names.state(record.get(name, "")) in (state, revoked_names.DONE)

        return {
            name: state if as_wanted(name) else revoked_names.state(record.get(name, "")) or "not recorded"
            for name in to_revoke(ctx)
        }

    def change(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
        record = ctx.facts.one(fact)
        added = {
            name: f"{revoked_names.until(record.get(name, '')) or _until(ctx, name)} {state}" for name in to_revoke(ctx)
        }
        return [revoked_names.written(record | {name: text for name, text in added.items() if have[name] != state})]

    return Step(
        fact.step,
        "master",
        lambda ctx: fact.api(revoked_names.read),
        lambda ctx: dict.fromkeys(to_revoke(ctx), state),
        change,
        read=read,
    )


def _until(ctx: StepContext, name: str) -> str:
    """The last day on which a known certificate of this name is valid, or else one made now would be."""
    pems = [kubeconfig.certificate(file) for file in (*before(ctx).values(), *_saved_kubeconfigs(ctx))]
    ends = [certificates.read(pem).until for pem in pems if certificates.common_name(pem) == name]
    last = max(end.timestamp() for end in ends) if ends else time.time() + ctx.site.access.days * 86400
    return time.strftime("%Y-%m-%d", time.gmtime(last))


def _saved_kubeconfigs(ctx: StepContext) -> list[KubeconfigCertificate]:
    """The kubeconfigs that earlier runs saved, on all controllers."""
    return [file for saved in ctx.facts.all(revocation_proof.SAVED).values() for file in saved.values()]
