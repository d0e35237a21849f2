"""What the clone of dws deploys: its csm overlay as kustomize renders it, read by several stages."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from dws_on_csm.domain import names
from dws_on_csm.model import render
from dws_on_csm.model.lines import lines
from dws_on_csm.model.step import Fact, Finding, NotYetKnown, Refused, ShellLook, StepContext, Value


class Rendered(TypedDict):
    """The objects that the csm overlay of a clone deploys; none before there is a clone."""

    objects: list[dict[str, Any]]


RENDERED: Fact[Rendered] = Fact("workarea", "rendered")

_RENDERED = """
cd {clone} 2>/dev/null && [ -x bin/kustomize ] && [ -z "$(theirs {clone})" ] || exit 0
bin/kustomize build config/csm | python3 -c {program}
[ ! -f config/rbac/workload_manager_role.yaml ] || python3 -c {program} <config/rbac/workload_manager_role.yaml
"""

# CRDs' schemas are long, and nobody edits them by hand: their names and versions say enough.
_TRIM = """
import json, sys, yaml
for one in yaml.load_all(sys.stdin, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    if one and one["kind"] == "CustomResourceDefinition":
        spec = one["spec"]
        spec["versions"] = [{k: v[k] for k in ("name", "served", "storage")} for v in spec["versions"]]
    if one:
        print(json.dumps(one))
"""


def look(ctx: StepContext) -> ShellLook:
    script = _RENDERED.format(clone=shlex.quote(names.clone(ctx.site)), program=shlex.quote(_TRIM))
    script = render.script("lib/as.sh", "lib/git.sh") + script
    return RENDERED.shell(script, lambda out: {"objects": [json.loads(line) for line in lines(out)]})


def objects(ctx: StepContext) -> list[dict[str, Any]]:
    """What the csm overlay of the clone deploys, as objects; CRDs without schemas. Raises Unknown before it is cloned."""
    return [one for one in _all(ctx) if one["metadata"]["name"] != names.ROLE]


def role(ctx: StepContext) -> dict[str, Any] | None:
    """The plugin's ClusterRole as it is applied by hand through DWS 0.1.0; None in later ones, which deploy their own."""
    found = {one["metadata"]["name"]: one for one in _all(ctx)}
    return found.get(names.ROLE) if names.role_by_hand(ctx.site) else None


def _all(ctx: StepContext) -> list[dict[str, Any]]:
    found = ctx.facts.one(RENDERED)["objects"]
    if not found:
        raise NotYetKnown("workarea")
    return found


def judge(ctx: StepContext, have: Value) -> Sequence[Finding]:
    registry, wanted = ctx.site.registry.name, ctx.site.versions.kube_rbac_proxy
    found = []
    for name, source in asked(ctx).items():
        if not name.startswith(f"{registry}/"):
            text = f"the manifests ask for {name}, and the site's registry is {registry}"
            found.append(Finding("image-elsewhere", text, "correct registry.name"))
        if source == "kube_rbac_proxy_image" and not name.endswith(f":{wanted}"):
            text = (
                f"the manifests ask for {name}, and versions.kube_rbac_proxy says {wanted}: what they ask for is pushed"
            )
            found.append(
                Finding("kube-rbac-proxy-version", text, f"set versions.kube_rbac_proxy to {name.rpartition(':')[2]}")
            )
    return found


def asked(ctx: StepContext) -> dict[str, str]:
    """Image -> name of its sources in the site file, for all that the rendered manifests ask for. Raises Unknown, Refused.

    The tag of dws itself comes from git when it is deployed: the overlay leaves it open.
    """
    found: dict[str, str] = {}
    for name in sorted(_images(objects(ctx))):
        base, _, tag = name.rpartition(":") if ":" in name.rsplit("/", 1)[-1] else (name, "", "")
        short = base.rsplit("/", 1)[-1]
        if short == "dws":
            found[f"{base}:{ctx.site.versions.dws}"] = "dws_image"
        elif short == "kube-rbac-proxy":
            found[f"{base}:{tag}"] = "kube_rbac_proxy_image"
        else:
            raise Refused(Finding("image-unknown", f"the manifests ask for {name}", "this tool knows no source for it"))
    return found


def _images(objects: Sequence[Mapping[str, Any]]) -> set[str]:
    specs = [one["spec"]["template"]["spec"] for one in objects if one["kind"] == "Deployment"]
    return {c["image"] for spec in specs for c in [*spec["containers"], *spec.get("initContainers", [])]}
