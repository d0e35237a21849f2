"""`make undeploy` of a version in its clone, or what that comes to where cert-manager's v1alpha3 is served no longer."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from fabfile import names, render
from fabfile.actions import Action, Apply, Delete, Sh
from fabfile.stages import installed, manifests, overlay
from fabfile.step import Place, Value


def actions(place: Place, tag: str, have: Value) -> Sequence[Action]:
    """What takes away version `tag`, of which `have` is there; `place` is as of its clone.

    Marked in the cluster while it runs, so that one that was cut off is known, with the version that it took away.
    """
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": names.NAMESPACE}}
    marked = {**space, "metadata": {"name": names.NAMESPACE, "annotations": {installed.UNFINISHED: tag}}}
    kept = installed.found(place)["namespace"]
    rest = set(have["CRDs"]) - {_plural(one) for one in manifests.objects(place) if _plural(one)}
    return [
        *([Apply(marked)] if kept else []),
        *(_with_v1(place) if overlay.modern(place) else _make(place)),
        *(Delete(f"{installed.CRDS}/{plural}.{names.GROUP}") for plural in sorted(rest)),
        *([Apply(space)] if kept else []),
    ]


def _plural(one: Mapping[str, Any]) -> str:
    name: str = one["metadata"]["name"]
    return name.partition(".")[0] if one["kind"] == "CustomResourceDefinition" else ""


def _make(place: Place) -> Sequence[Action]:
    return [_sh(place, "make undeploy OVERLAY=csm", "make undeploy OVERLAY=csm")]


def _with_v1(place: Place) -> Sequence[Action]:
    """What was deployed with cert-manager's v1 is deleted with it: the csm overlay's own v1alpha3 nobody serves there."""
    folder = overlay.folder(place.site)
    program = shlex.quote(_WITHOUT_NAMESPACE)
    command = (
        f"bin/kustomize build {shlex.quote(folder)} | python3 -c {program} | kubectl delete --ignore-not-found -f -"
    )
    return [
        overlay.put(place.site),
        _sh(place, f"kustomize build {folder} | kubectl delete -f -, the namespace aside", command),
    ]


_WITHOUT_NAMESPACE = """
import sys, yaml
print(yaml.safe_dump_all(one for one in yaml.safe_load_all(sys.stdin) if one["kind"] != "Namespace"))
"""


def _sh(place: Place, title: str, command: str) -> Sh:
    """It ends by itself before its deadline, and says what is still there."""
    patience = int(place.site.deadlines.command)
    settings = {"clone": names.clone(place.site), "command": command, "patience": str(patience), "group": names.GROUP}
    return Sh(title, render.script("undeploy.sh", **settings), patience + 60.0)
