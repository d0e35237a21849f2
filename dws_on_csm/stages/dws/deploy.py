"""DWS in the cluster: `make deploy`, its pods, its webhook answering."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from dws_on_csm.config.site import Site
from dws_on_csm.domain import dws_objects, names
from dws_on_csm.model.actions import Action, Delete, RunScript
from dws_on_csm.model.cluster_api import Cluster, ClusterError
from dws_on_csm.model.step import ApiLook, Stage, Step, StepContext, Value
from dws_on_csm.stages.dws import (
    cert_manager_overlay,
    in_use,
    kept_configuration,
    manifests,
    readiness,
    reopen,
    workflow_namespace,
)


def _look_applied(ctx: StepContext) -> ApiLook:
    objects = manifests.wanted(ctx)
    return ApiLook(lambda cluster: {manifests.label(one): _state(cluster, one) for one in objects})


def _read_applied(ctx: StepContext, found: Value) -> Value:
    """{"as rendered": how many, "missing": names, "not as rendered": names and where}."""
    odd = [f"{name}: {state}" for name, state in found.items() if state not in ("missing", "as rendered")]
    return {
        "as rendered": sum(1 for state in found.values() if state == "as rendered"),
        "missing": [name for name, state in found.items() if state == "missing"],
        "not as rendered": odd,
    }


def _state(cluster: Cluster, one: Mapping[str, Any]) -> str:
    have = cluster.get(manifests.api_path(one))
    if have is None:
        return "missing"
    if "deletionTimestamp" in have["metadata"]:
        return "being deleted"
    trimmed = {key: value for key, value in one.items() if key != "status"}
    template = dws_objects.part(dict(one), *_TEMPLATE.split("."))
    # what makes other pods is told before all else
    pods = manifests.difference({"spec": {"template": template}}, have) if template else ""
    return pods or manifests.difference(trimmed, have) or "as rendered"


def _want_applied(ctx: StepContext) -> Value:
    return {"as rendered": len(manifests.wanted(ctx)), "missing": [], "not as rendered": []}


def _change_applied(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    actions: list[Action] = []
    if _webhook_changes(ctx, have):
        # its three replicas need three hosts each to themselves: with three workers a rolling update never ends
        actions.append(Delete(f"{readiness.DEPLOYMENTS}/{names.WEBHOOK}"))
    return [*actions, *(_with_v1(ctx) if cert_manager_overlay.modern(ctx) else _make(ctx))]


def _webhook_changes(ctx: StepContext, have: Value) -> bool:
    """Whether the webhook's Deployment is there, and either gets other pods or has none that answers."""
    label = f"Deployment {names.WEBHOOK}"
    if label in have["missing"]:
        return False
    answers = ctx.facts.one("deploy.available")["answers"]
    return not answers or any(one.startswith(f"{label}: {_TEMPLATE}") for one in have["not as rendered"])


_TEMPLATE = "spec.template"


def _interrupts(ctx: StepContext) -> bool:
    """Whether a webhook that answers goes for a while: Workflows that are at work can't go on then, and their jobs fail."""
    have = _read_applied(ctx, ctx.facts.one("deploy.applied"))
    return ctx.facts.one("deploy.available")["answers"] and _webhook_changes(ctx, have)


def _means_applied(ctx: StepContext, have: Value, want: Value) -> str:
    if not _interrupts(ctx):
        return ""
    return "DWS's webhook is replaced: until its new pods answer, sbatch refuses jobs with #DW; not while Workflows are there"


def _make(ctx: StepContext) -> Sequence[Action]:
    command = "make deploy OVERLAY=csm"
    if names.version_key(ctx.site.versions.dws) < (0, 0, 20):
        # through 0.0.19 it puts its version into an image of another name than the overlay has, whose own tag is an older one
        command += f" IMAGE_TAG_BASE={shlex.quote(ctx.site.registry.name)}/dws"
    script = f"cd {shlex.quote(names.clone(ctx.site))}\n{command}\n"
    return [RunScript(command, script, ctx.site.deadlines.command, objects=_odd(ctx))]


def _odd(ctx: StepContext) -> tuple[str, ...]:
    """The paths of the objects that aren't as rendered: those that an apply changes."""
    found = ctx.facts.one("deploy.applied")
    return tuple(
        manifests.api_path(one) for one in manifests.wanted(ctx) if found[manifests.label(one)] != "as rendered"
    )


def _with_v1(ctx: StepContext) -> Sequence[Action]:
    """The csm overlay with cert-manager's v1 put back."""
    folder = cert_manager_overlay.folder(ctx.site)
    script = f"{shlex.quote(names.clone(ctx.site))}/bin/kustomize build {shlex.quote(folder)} | kubectl apply -f -\n"
    title = f"kustomize build {folder} | kubectl apply -f -"
    return [RunScript(title, script, ctx.site.deadlines.command, objects=_odd(ctx))]


# --- admits


def _look_admits(ctx: StepContext) -> ApiLook:
    return ApiLook(lambda cluster: {"webhook": _dry_run(cluster, ctx.site)})


def _dry_run(cluster: Cluster, site: Site) -> str:
    workflow = {
        "apiVersion": f"{names.GROUP}/{names.WORKFLOW_VERSION}",
        "kind": "Workflow",
        "metadata": {"name": "dws-on-csm-dry-run", "namespace": site.access.namespace},
        "spec": {
            "desiredState": "Proposal",
            "dwDirectives": [],
            "wlmID": "dws-on-csm",
            "jobID": "0",
            "userID": 0,
            "groupID": 0,
        },
    }
    at = f"/apis/{names.GROUP}/{names.WORKFLOW_VERSION}/namespaces/{site.access.namespace}/workflows"
    try:
        cluster.create(at, workflow, dryRun="All")
    except ClusterError as error:
        if error.status != 404:
            return f"refuses: {error}"
        found = workflow_namespace.state(cluster, site)  # a 404 doesn't say which of the two it is about
        return "no Workflows are served" if found == "there" else f"the namespace {site.access.namespace} is {found}"
    return "admits a Workflow (server-side dry run)"


def _want_admits(ctx: StepContext) -> Value:
    return {"webhook": "admits a Workflow (server-side dry run)"}


STAGE = Stage(
    "deploy",
    ("images", "replace"),
    (
        cert_manager_overlay.STEP,
        *in_use.checks("deploy", _interrupts),
        Step(
            "applied",
            "master",
            _look_applied,
            _want_applied,
            _change_applied,
            read=_read_applied,
            settle_seconds=lambda site: 10.0,
            side_effect=_means_applied,
            hint="run it again: what was created stays. If cert-manager's webhook refused, see the pods in cert-manager",
        ),
        readiness.MINIMUM,
        reopen.STEP,
        Step(
            "webhook",
            "master",
            _look_admits,
            _want_admits,
            settle_seconds=lambda site: 30.0,
            status_text=lambda have: str(have["webhook"]),
            hint="before any #DW job is accepted the namespace has to be there, and DWS's webhook to answer: "
            "see `kubectl -n dws-system logs deploy/dws-webhook`",
        ),
        readiness.AVAILABLE,
        *kept_configuration.STEPS,
    ),
)
