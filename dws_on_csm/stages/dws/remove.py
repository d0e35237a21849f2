"""The removal of an installed version of DWS from the cluster: its clone at its tag, then `make undeploy`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dws_on_csm.domain import dws_objects, names
from dws_on_csm.model import render
from dws_on_csm.model.actions import Action, RunScript
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.step import (
    ApiLook,
    Check,
    Constant,
    Fact,
    Finding,
    Look,
    NotYetKnown,
    Refused,
    Removal,
    Step,
    StepContext,
    Value,
)
from dws_on_csm.stages.dws import (
    cert_manager_overlay,
    closing,
    installed,
    manifests,
    open_dws,
    plugin_workflow_version,
    workarea,
)

Due = Callable[[StepContext], str]
"""The version to be removed, as its clone is called; "" for none. Raises NotYetKnown before the cluster was looked at."""

Describe = Callable[[StepContext, Value, Value], str]


# --- the clone of that version


def clone_steps(stage: str, due: Due) -> tuple[Step | Check, ...]:
    """Steps of `stage`: the clone of the version that is `due` for removal, its kustomize, and its rendered manifests."""
    clone, kustomize = (
        _only_if(due, stage, step)
        for step in workarea.STAGE.steps
        if isinstance(step, Step) and step.name in (workarea.CLONE.step, workarea.KUSTOMIZE.step)
    )
    return _with_local_changes(clone, stage), kustomize, _rendered(due, stage)


def _only_if(due: Due, stage: str, step: Step) -> Step:
    """A step of the stage workarea for the version that is due; where none is due, nothing is looked at."""

    def at(ctx: StepContext) -> StepContext:
        return installed.as_of(ctx, due(ctx), stage)

    def look(ctx: StepContext) -> Look:
        return step.look(at(ctx)) if due(ctx) else Constant(None)

    def want(ctx: StepContext) -> Value:
        return step.want(at(ctx)) if due(ctx) else None

    def change(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
        assert step.change is not None
        return step.change(at(ctx), have, want)

    return replace(step, look=look, want=want, change=change)


def _with_local_changes(clone: Step, stage: str) -> Step:
    """Files of the clone that somebody changed stay: they may be what was deployed, and no image gets its tag from this clone."""

    def want(ctx: StepContext) -> Value:
        wanted, have = clone.want(ctx), ctx.facts.one(Fact[workarea.Clone | None](stage, clone.name))
        return {**wanted, "modified": have["modified"]} if wanted and have else None

    def change(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
        assert clone.change is not None
        actions = clone.change(ctx, have, want)
        absent = have["at"] == "absent"
        return [
            replace(action, title=f"its clone is missing: {action.title}")
            if absent and isinstance(action, RunScript)
            else action
            for action in actions
        ]

    return replace(clone, want=want, change=change)


def _rendered(due: Due, stage: str) -> Check:
    def look(ctx: StepContext) -> Look:
        return manifests.look(installed.as_of(ctx, due(ctx), stage)) if due(ctx) else Constant({"objects": []})

    return Check(manifests.RENDERED.step, "master", look, lambda ctx, have: ())


# --- the version itself


def removed_step(
    due: Due, workarea_stage: str, describe: Describe, confirm_after: str = "", *, again: bool = False
) -> Step:
    """The step `removed`: nothing of the version that is due is in the cluster, except its namespace.

    workarea_stage   the stage that has its clone
    describe         the removal in words, for the confirmation
    confirm_after    the stage after which `describe` can tell everything
    again            another version follows, so that preserved objects are put back there (see kept_configuration)
    """

    def at(ctx: StepContext) -> StepContext:
        return installed.as_of(ctx, due(ctx), workarea_stage)

    def look(ctx: StepContext) -> Look:
        if not due(ctx):
            return Constant(None)
        ctx.facts.one(Fact[manifests.Rendered](workarea_stage, manifests.RENDERED.step))
        objects = _paths(at(ctx))
        return ApiLook(lambda cluster: _remains(cluster, objects))

    def want(ctx: StepContext) -> Value:
        return {"DWS": "none", "CRDs": {}, "objects": []} if due(ctx) else None

    def change(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
        version = installed.version_text(ctx)
        if have["DWS"] not in ("none", version):
            text = f"DWS {have['DWS']} is installed now, but it was DWS {version} when this run began"
            fix = "run the same command again: it uses the clone of that version, and prompts for confirmation"
            raise Refused(Finding("not-agreed", text, fix))
        common = plugin_workflow_version.common(ctx, _served(have)) if again else names.WORKFLOW_VERSION
        return undeploy_actions(at(ctx), version, have, common, again=again)

    return Step(
        "removed",
        "master",
        look,
        want,
        change,
        settle_seconds=lambda site: site.deadlines.command,
        status_text=_removed_status,
        removes=lambda ctx, have, want: [Removal(describe(ctx, have, want), _things(have))],
        side_effect=lambda ctx, have, want: ORDER,
        confirm_after=confirm_after or workarea_stage,
        hint="do what the lines above say, and run the same command again to continue; an object that stays waits for the"
        " finalizers in its metadata.finalizers",
    )


def _paths(ctx: StepContext) -> dict[str, str]:
    """Label -> API path of the objects to remove, without CRDs: by the clone's manifests, or else what all versions have."""
    try:
        objects = manifests.wanted(ctx)
    except NotYetKnown:
        return installed.TRACES | _CLOSED
    stays = ("Namespace", "CustomResourceDefinition")
    own = {
        manifests.label(manifest): manifests.api_path(manifest) for manifest in objects if manifest["kind"] not in stays
    }
    return own | installed.TRACES | _CLOSED


def _things(have: Value) -> frozenset[str]:
    """What somebody confirms who confirms the removal of a version: it, its CRDs, and every object of its kinds."""
    objects = {f"{plural} {name}" for plural, crd in have["CRDs"].items() for name in crd.get("objects", ())}
    return frozenset({f"DWS {have['DWS']}", *(f"CRD {plural}" for plural in have["CRDs"]), *objects})


_CLOSED = {f"ValidatingWebhookConfiguration {closing.NAME}": closing.PATH}
"""This tool's own object. It has to be removed together with DWS, because nothing would reopen DWS later."""


def _remains(cluster: Cluster, objects: Mapping[str, str]) -> Value:
    dws = installed.read(cluster)
    return {
        "DWS": dws["tag"] or dws["unfinished"] or "none",
        "CRDs": {plural: _crd(cluster, plural, crd) for plural, crd in dws["crds"].items()},
        "objects": [label for label, path in objects.items() if cluster.get(path)],
    }


def _served(have: Value) -> dict[str, set[str]]:
    """The versions that each CRD serves, by its plural."""
    return {plural: set(crd["served"].split(", ")) for plural, crd in have["CRDs"].items()}


def _crd(cluster: Cluster, plural: str, crd: installed.Crd) -> dict[str, Any]:
    objects = [installed.name(item) for item in installed.objects(cluster, plural, crd)]
    return {
        "served": ", ".join(sorted(crd["served"])),
        **({"objects": objects} if objects else {}),
        **({"deleting": True} if crd["deleting"] else {}),
    }


def _removed_status(have: Value) -> str:
    """The parts of DWS that are still in the cluster, in words; "" where there are none."""
    if not have or have == {"DWS": "none", "CRDs": {}, "objects": []}:
        return ""
    crds = [
        f"CRD {plural}" + (f", which waits for {', '.join(crd['objects'])}" if crd.get("objects") else "")
        for plural, crd in have["CRDs"].items()
    ]
    return f"still in the cluster: {', '.join([*crds, *have['objects']]) or 'the mark of an interrupted undeploy'}"


# --- `make undeploy`, or the same where cert-manager no longer serves v1alpha3

ORDER = (
    "in this order: DWS is closed, so that sbatch rejects #DW jobs with a message"
    " (dws-is-being-removed.submit-again-later); all objects that DWS holds are checked once more, and the removal stops where"
    " one of them must stay; objects to preserve are saved, and deleted exactly as saved; DWS is removed; its API is reopened"
)
"""What the script does, for a plan."""


def undeploy_actions(
    ctx: StepContext, tag: str, have: Value, common: str = names.WORKFLOW_VERSION, *, again: bool = False
) -> Sequence[Action]:
    """The actions that remove version `tag`, of which `have` is in the cluster; `ctx` is as of its clone.

    The namespace is annotated while they run: an interrupted removal is known by that, with the version that it was removing.
    common  the API version in which preserved objects are saved; "" for that in which they are stored
    again   another version follows, so that preserved objects are put back there
    """
    mark = f"{installed.UNFINISHED}={tag}" if installed.found(ctx)["namespace"] else ""
    rest = sorted(set(have["CRDs"]) - manifests.versions(manifests.objects(ctx)).keys())
    settings = {
        "rest": " ".join(f"{plural}.{names.GROUP}" for plural in rest),
        "look": open_dws.PROGRAM + render.read("master/dependents.py") + render.read("master/last_look.py"),
        "asked": json.dumps(
            {
                "closing": closing.CONFIGURATION,
                "own": _own_labels(ctx),
                "common": common,
                "accept": sorted(ctx.site.accept),
            }
        ),
        "closed": closing.NAME,
        "again": "yes" if again else "",
        "namespace": names.NAMESPACE,
        "mark": mark,
    }
    if not cert_manager_overlay.modern(ctx):
        return [_undeploy(ctx, "make undeploy OVERLAY=csm", "make undeploy OVERLAY=csm", settings)]
    # what was deployed with cert-manager's v1 is deleted with it: the csm overlay's own v1alpha3 is not served there
    folder = cert_manager_overlay.folder(ctx.site)
    program = shlex.quote(WITHOUT_NAMESPACE)
    command = (
        f"bin/kustomize build {shlex.quote(folder)} | python3 -c {program} | kubectl delete --ignore-not-found -f -"
    )
    title = f"kustomize build {folder} | kubectl delete -f -, except the namespace"
    return [cert_manager_overlay.put(ctx.site), _undeploy(ctx, title, command, settings)]


def _own_labels(ctx: StepContext) -> list[str]:
    """Labels of the objects of DWS's own kinds in its manifests: they come and go with it."""
    return [
        dws_objects.label(manifest)
        for manifest in manifests.objects(ctx)
        if manifest["apiVersion"].partition("/")[0] == names.GROUP
    ]


WITHOUT_NAMESPACE = """
import sys, yaml
print(yaml.safe_dump_all(one for one in yaml.safe_load_all(sys.stdin.buffer) if one["kind"] != "Namespace"))
"""

LOOKING = 400
"""Seconds for closing, the last check, reopening and putting back, whose calls have deadlines of their own."""


def _undeploy(ctx: StepContext, title: str, command: str, settings: Mapping[str, str]) -> RunScript:
    """The script ends before the deadline of the action, and reports what is still in the cluster."""
    patience = int(ctx.site.deadlines.command)
    more = {"clone": names.clone(ctx.site), "command": command, "patience": str(patience), "group": names.GROUP}
    script = render.script("master/undeploy.sh", **more, **settings)
    return RunScript(
        title, script, patience + 60.0 + LOOKING, objects=(installed.NAMESPACE,) if settings["mark"] else ()
    )
