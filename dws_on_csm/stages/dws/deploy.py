"""DWS in the cluster: `make deploy`, its pods, and a webhook that responds."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypedDict

from dws_on_csm.config.site import Site
from dws_on_csm.domain import names, plugin_role
from dws_on_csm.model.actions import Action, Delete, RunScript
from dws_on_csm.model.cluster_api import Cluster, ClusterError
from dws_on_csm.model.step import ApiLook, Fact, Finding, Refused, Stage, Step, StepContext, Value
from dws_on_csm.stages.dws import (
    cert_manager_overlay,
    external,
    in_use,
    kept_configuration,
    manifest_comparison,
    manifests,
    open_dws,
    other_installer,
    plugin_workflow_version,
    readiness,
    refusals,
    workflow_namespace,
)
from dws_on_csm.stages.dws.manifest_comparison import APPLIED, AS_RENDERED, MISSING, ObjectState
from dws_on_csm.stages.dws.refusals import Refusal
from dws_on_csm.stages.facts import ROLE


def _look_applied(ctx: StepContext) -> ApiLook:
    objects = manifests.wanted(ctx)
    return APPLIED.api(
        lambda cluster: {
            manifests.label(manifest): manifest_comparison.compare(cluster, manifest) for manifest in objects
        }
    )


def _read_applied(ctx: StepContext, objects: Mapping[str, ObjectState]) -> Value:
    """{"as rendered": how many, "missing": names, "not as rendered": names and where}."""
    states = {name: item["state"] for name, item in objects.items()}
    different = [name for name, state in states.items() if state not in (MISSING, AS_RENDERED)]
    return {
        "as rendered": sum(1 for state in states.values() if state == AS_RENDERED),
        "missing": [name for name, state in states.items() if state == MISSING],
        "not as rendered": [f"{name}: {states[name]}{_refused_text(objects[name])}" for name in different],
    }


def _refused_text(item: ObjectState) -> str:
    """Why it is unknown whether admission made the difference; "" where it is known."""
    if not item["refused"]:
        return ""
    return f" (or an admission policy made this difference: the API server refused a dry run of the manifest: {item['refused']})"


def _want_applied(ctx: StepContext) -> Value:
    return {"as rendered": len(manifests.wanted(ctx)), "missing": [], "not as rendered": []}


def _change_applied(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    if others := other_installer.findings(ctx):
        raise Refused(*others)
    actions: list[Action] = []
    webhook = ctx.facts.one(APPLIED).get(_WEBHOOK)
    if _webhook_changes(ctx):
        if webhook and webhook["refused"]:
            raise Refused(_not_recreated(webhook["refused"]))
        # each of its three replicas needs a host of its own: with three workers a rolling update never ends
        actions.append(Delete(f"{readiness.DEPLOYMENTS}/{names.WEBHOOK}"))
    elif webhook and manifest_comparison.replaces_pods(webhook["updated"]):
        raise Refused(_policy_of_creations(webhook["updated"]))
    return [*actions, *(_with_v1(ctx) if cert_manager_overlay.modern(ctx) else _make(ctx))]


_WEBHOOK = f"Deployment {names.WEBHOOK}"


def _not_recreated(why: str) -> Finding:
    text = f"{_WEBHOOK} has to be replaced, but the API server refused a dry run of its creation, so it stays: {why}"
    fix = (
        "correct the policy or webhook that refused it; or set accept: [objects-differ], if the difference is intended"
    )
    return Finding("dry-run-refused", text, fix)


def _policy_of_creations(difference: str) -> Finding:
    text = (
        f"an admission policy changed {_WEBHOOK} when it was created, but does not change updates: `make deploy` would"
    )
    text += f" replace its pods ({difference}), and on three workers such an update never ends"
    fix = f"let the policy act on updates, too; or, while no Workflow exists, run `kubectl -n {names.NAMESPACE} delete deployment"
    return Finding("policy-of-creations", text, f"{fix} {names.WEBHOOK}` on the master, and this command again")


def _accepted_applied(ctx: StepContext, have: Value, want: Value) -> str:
    """The finding that a site may accept where every object exists and the webhook responds: the site may have changed them.

    No object that grants rights is among them, except the plugin's role if it allows nothing more than the manifest's.
    """
    different = {label: item["state"] for label, item in ctx.facts.one(APPLIED).items() if item["state"] != AS_RENDERED}
    gone = {MISSING, manifest_comparison.DELETED} & set(different.values())
    if gone or not ctx.facts.one(readiness.FACT)["answers"]:
        return ""
    granting = [label for label in different if label.partition(" ")[0] in _GRANTING]
    if not granting:
        return "objects-differ"
    alone = len(different) == 1 or "objects-differ" in ctx.site.accept
    role = f"ClusterRole {names.role(ctx.site)}"
    return "role-differs" if alone and granting == [role] and _role_harmless(ctx, role) else ""


_GRANTING = ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")


def _role_harmless(ctx: StepContext, label: str) -> bool:
    have = ctx.facts.one_or_none(ROLE)
    want = next(manifest for manifest in manifests.wanted(ctx) if manifests.label(manifest) == label)
    return have is not None and plugin_role.harmless(have["rules"], want["rules"])


def _accepted(ctx: StepContext) -> bool:
    """Whether the site accepts the differences, so that they stay."""
    have = _read_applied(ctx, ctx.facts.one(APPLIED))
    return bool(have["not as rendered"]) and _accepted_applied(ctx, have, None) in ctx.site.accept


def _webhook_changes(ctx: StepContext) -> bool:
    """Whether the webhook's Deployment exists, and either gets new pods or has no pod that responds."""
    webhook = ctx.facts.one(APPLIED).get(_WEBHOOK)
    if webhook and webhook["state"] == MISSING:
        return False
    if not ctx.facts.one(readiness.FACT)["answers"]:
        return True
    return webhook is not None and manifest_comparison.replaces_pods(webhook["state"])


def _interrupts(ctx: StepContext) -> bool:
    """Whether a webhook that responds is replaced: meanwhile running Workflows cannot continue, and their jobs fail."""
    return ctx.facts.one(readiness.FACT)["answers"] and _webhook_changes(ctx) and not _accepted(ctx)


def _applied_side_effect(ctx: StepContext, have: Value, want: Value) -> str:
    if not _interrupts(ctx):
        return ""
    return "DWS's webhook is replaced, but only while no Workflow exists; until its new pods respond, sbatch rejects #DW jobs"


def _make(ctx: StepContext) -> Sequence[Action]:
    command = "make deploy OVERLAY=csm"
    if names.version_key(ctx.site.versions.dws) < (0, 0, 20):
        # until 0.0.19 make sets the tag of an image that the overlay does not use; the overlay's image keeps an older tag
        command += f" IMAGE_TAG_BASE={shlex.quote(ctx.site.registry.name)}/dws"
    script = f"cd {shlex.quote(names.clone(ctx.site))}\n{command}\n"
    return [RunScript(command, script, ctx.site.deadlines.command, objects=_different_paths(ctx))]


def _different_paths(ctx: StepContext) -> tuple[str, ...]:
    """The paths of the objects that are not as rendered: an apply changes them."""
    states = ctx.facts.one(APPLIED)
    return tuple(
        manifests.api_path(manifest)
        for manifest in manifests.wanted(ctx)
        if states[manifests.label(manifest)]["state"] != AS_RENDERED
    )


def _with_v1(ctx: StepContext) -> Sequence[Action]:
    """Apply the csm overlay with cert-manager's v1 in place of v1alpha3."""
    folder = cert_manager_overlay.folder(ctx.site)
    script = f"{shlex.quote(names.clone(ctx.site))}/bin/kustomize build {shlex.quote(folder)} | kubectl apply -f -\n"
    title = f"kustomize build {folder} | kubectl apply -f -"
    return [RunScript(title, script, ctx.site.deadlines.command, objects=_different_paths(ctx))]


# --- webhook


class Admission(TypedDict):
    """What the API server answers to a Workflow in a dry run.

    refusal   the rule of the cluster that refused it, if one did
    seconds   how long that took; `waiting`: the webhooks for which the API server waited in vain
    """

    webhook: str
    refusal: Refusal | None
    seconds: float
    waiting: list[refusals.Waiting]


ADMISSION: Fact[Admission] = Fact("deploy", "webhook")


def _look_webhook(ctx: StepContext) -> ApiLook:
    version, other = plugin_workflow_version.wanted(ctx), ctx.facts.one_or_none(external.FACT)
    own = {names.NAMESPACE, *([other["namespace"]] if other else ())}

    def read(cluster: Cluster) -> Admission:
        began = time.monotonic()
        text, rejection = dry_run(cluster, ctx.site, version)
        took, space = time.monotonic() - began, ctx.site.access.namespace
        if text == _ADMITS and dry_run(cluster, ctx.site, version, _NO_RULE)[0] == _ADMITS:
            text = UNCHECKED
        return {
            "webhook": text,
            "refusal": refusals.read(cluster, rejection, space, own) if rejection else None,
            "seconds": took,
            "waiting": _waiting(cluster, took) if not rejection else [],
        }

    return ADMISSION.api(read)


_SLOW = 2.0
"""Seconds of a creation from which on somebody is worth naming."""


def _waiting(cluster: Cluster, took: float) -> list[refusals.Waiting]:
    try:
        return refusals.waited_for(cluster, names.GROUP, "workflows", took) if took >= _SLOW else []
    except ClusterError:
        return []  # who may not list them cannot tell


_ADMITS = "admits a Workflow (server-side dry run)"


UNCHECKED = "admits a Workflow with a #DW line that no rule has (server-side dry run)"
"""Nobody looks at new Workflows: the API server admits what DWS's webhooks reject."""

_NO_RULE = ("#DW dws-on-csm-dry-run",)


def dry_run(cluster: Cluster, site: Site, version: str, directives: Sequence[str] = ()) -> tuple[str, str]:
    """What the API server answers to a Workflow with these #DW lines in a dry run; and its message, if it rejects the Workflow."""
    workflow = {
        "apiVersion": f"{names.GROUP}/{version}",
        "kind": "Workflow",
        "metadata": {"name": "dws-on-csm-dry-run", "namespace": site.access.namespace},
        "spec": {
            "desiredState": "Proposal",
            "dwDirectives": [*directives],
            "wlmID": "dws-on-csm",
            "jobID": "0",
            "userID": 0,
            "groupID": 0,
        },
    }
    at = f"/apis/{names.GROUP}/{version}/namespaces/{site.access.namespace}/workflows"
    try:
        cluster.create(at, workflow, dryRun="All")
    except ClusterError as error:
        if error.status != 404:
            return f"rejects a Workflow: {error}", str(error)
        state = workflow_namespace.state(cluster, site)  # a 404 may mean the kind or the namespace
        if state == "there":
            return f"the API server does not serve Workflows of {version}", ""
        return f"the namespace {site.access.namespace} is {state}", ""
    return _ADMITS, ""


def _want_webhook(ctx: StepContext) -> Value:
    return {"webhook": _ADMITS}


WEBHOOK = Step(
    "webhook",
    "master",
    _look_webhook,
    _want_webhook,
    read=lambda ctx, have: {"webhook": have["webhook"]},
    settle_seconds=lambda site: 30.0,
    status_text=lambda have: str(have["webhook"]),
    hint="sbatch accepts #DW jobs once the API server admits a Workflow: `invoke doctor` says what rejects it",
)

EXTERNAL = Stage(
    "deploy",
    ("preflight",),
    (
        open_dws.STEP,
        replace(WEBHOOK, hint="DWS's webhook has to admit a Workflow: ask those who deploy DWS (dws: external)"),
    ),
)
"""Where somebody else deploys DWS: nothing of it is changed. What this tool itself closed is reopened, and its webhook responds."""

STAGE = Stage(
    "deploy",
    ("images", "replace"),
    (
        cert_manager_overlay.STEP,
        *(replace(check, window=True) for check in in_use.checks("deploy", _interrupts)),
        Step(
            APPLIED.step,
            "master",
            _look_applied,
            _want_applied,
            _change_applied,
            read=_read_applied,
            settle_seconds=lambda site: 10.0,
            side_effect=_applied_side_effect,
            window=lambda ctx, have, want: _interrupts(ctx),
            accepted_as=_accepted_applied,
            hint="run the same command again: objects that exist already stay. If cert-manager's webhook rejected the request, see "
            "the pods in the namespace cert-manager",
        ),
        readiness.MINIMUM,
        open_dws.STEP,
        WEBHOOK,
        readiness.AVAILABLE,
        *kept_configuration.STEPS,
    ),
)
