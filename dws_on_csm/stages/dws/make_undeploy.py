"""`make undeploy` of a version in its clone, or what that comes to where cert-manager's v1alpha3 is served no longer."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from dws_on_csm.domain import dws_objects, names
from dws_on_csm.model import render
from dws_on_csm.model.actions import Action, RunScript
from dws_on_csm.model.step import StepContext, Value
from dws_on_csm.stages.dws import cert_manager_overlay, installed, manifests, persistent_storage, reopen

ORDER = (
    "in this order: DWS is closed, so that sbatch refuses #DW with words (dws-is-being-removed.submit-again-later); all that it"
    " holds is looked at once more, and stops this where it must not go; what is kept is saved, and deleted exactly as it was"
    " saved; DWS goes; it is opened"
)
"""What is done, for a plan."""


def actions(ctx: StepContext, tag: str, have: Value, *, again: bool = False) -> Sequence[Action]:
    """What takes away version `tag`, of which `have` is there; `place` is as of its clone. `again`: what is kept comes back.

    Marked in the cluster while it runs, so that one that was cut off is known, with the version that it took away.
    """
    mark = f"{installed.UNFINISHED}={tag}" if installed.found(ctx)["namespace"] else ""
    rest = sorted(set(have["CRDs"]) - {_plural(one) for one in manifests.objects(ctx) if _plural(one)})
    settings = {
        "rest": " ".join(f"{plural}.{names.GROUP}" for plural in rest),
        "look": reopen.PROGRAM + render.read("master/dependents.py") + render.read("master/last_look.py"),
        "asked": json.dumps(
            {
                "closing": persistent_storage.CLOSING,
                "own": own(ctx),
                "common": names.WORKFLOW_VERSION,
                "accept": sorted(ctx.site.accept),
            }
        ),
        "closed": persistent_storage.CLOSED,
        "again": "yes" if again else "",
        "namespace": names.NAMESPACE,
        "mark": mark,
    }
    return _with_v1(ctx, settings) if cert_manager_overlay.modern(ctx) else _make(ctx, settings)


def own(ctx: StepContext) -> list[str]:
    """Labels of the objects of DWS's own kinds that its manifests have: they come and go with it."""
    return [
        dws_objects.label(one) for one in manifests.objects(ctx) if one["apiVersion"].partition("/")[0] == names.GROUP
    ]


def _plural(one: Mapping[str, Any]) -> str:
    name: str = one["metadata"]["name"]
    return name.partition(".")[0] if one["kind"] == "CustomResourceDefinition" else ""


def _make(ctx: StepContext, settings: Mapping[str, str]) -> Sequence[Action]:
    return [_sh(ctx, "make undeploy OVERLAY=csm", "make undeploy OVERLAY=csm", settings)]


def _with_v1(ctx: StepContext, settings: Mapping[str, str]) -> Sequence[Action]:
    """What was deployed with cert-manager's v1 is deleted with it: the csm overlay's own v1alpha3 nobody serves there."""
    folder = cert_manager_overlay.folder(ctx.site)
    program = shlex.quote(_WITHOUT_NAMESPACE)
    command = (
        f"bin/kustomize build {shlex.quote(folder)} | python3 -c {program} | kubectl delete --ignore-not-found -f -"
    )
    return [
        cert_manager_overlay.put(ctx.site),
        _sh(ctx, f"kustomize build {folder} | kubectl delete -f -, the namespace aside", command, settings),
    ]


_WITHOUT_NAMESPACE = """
import sys, yaml
print(yaml.safe_dump_all(one for one in yaml.safe_load_all(sys.stdin) if one["kind"] != "Namespace"))
"""

LOOKING = 400
"""Seconds for closing, the last look, opening and putting back, whose calls end by themselves."""


def _sh(ctx: StepContext, title: str, command: str, settings: Mapping[str, str]) -> RunScript:
    """It ends by itself before its deadline, and says what is still there."""
    patience = int(ctx.site.deadlines.command)
    more = {"clone": names.clone(ctx.site), "command": command, "patience": str(patience), "group": names.GROUP}
    script = render.script("master/undeploy.sh", **more, **settings)
    return RunScript(
        title, script, patience + 60.0 + LOOKING, objects=(installed.NAMESPACE,) if settings["mark"] else ()
    )
