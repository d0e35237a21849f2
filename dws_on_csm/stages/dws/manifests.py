"""DWS's manifests: the csm overlay of the clone as kustomize renders it, and where a live object differs from it."""

from __future__ import annotations

import inspect
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from dws_on_csm.domain import crd_versions, names
from dws_on_csm.domain.workflow_version import Version
from dws_on_csm.model.lines import lines
from dws_on_csm.model.step import Fact, Finding, NotYetKnown, Refused, ShellLook, StepContext, Value
from dws_on_csm.stages.dws import cert_manager_overlay, clone_library


class Rendered(TypedDict):
    """The objects that the csm overlay of a clone deploys; none before there is a clone.

    workflows   the versions of the CRD workflows, with what their schemas have
    """

    objects: list[dict[str, Any]]
    workflows: NotRequired[dict[str, Version]]


RENDERED: Fact[Rendered] = Fact("workarea", "rendered")

_RENDERED = """
only_roots && [ -x bin/kustomize ] || exit 0
role=config/rbac/workload_manager_role.yaml
[ -f "$role" ] || role=
# GOGC: it needs a third more memory for less than a second, and half the time of the processor
GOGC=800 bin/kustomize build config/csm | python3 -c {program} ${{role:+"$role"}} || [ -z "$role" ]
"""

# Reads its standard input, then the files that it is given. CRDs' schemas are long, and nobody edits them by hand: their names and
# versions say enough. Of Workflows it also prints which fields each version has.
TRIM = f"""
import json, sys, yaml
{inspect.getsource(crd_versions)}
def manifests():
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    yield from yaml.load_all(sys.stdin.buffer, loader)
    for path in sys.argv[1:]:
        with open(path, "rb") as file:
            yield from yaml.load_all(file, loader)
for one in manifests():
    if one and one["kind"] == "CustomResourceDefinition":
        spec = one["spec"]
        if spec["names"]["plural"] == "workflows":
            print(json.dumps({{"workflows": described(one)}}))
        spec["versions"] = [{{k: v[k] for k in ("name", "served", "storage")}} for v in spec["versions"]]
    if one:
        print(json.dumps(one))
"""


def look(ctx: StepContext) -> ShellLook:
    return RENDERED.shell(_RENDERED.format(program=shlex.quote(TRIM)), parse, clone_library.text(ctx))


def parse(out: bytes) -> Rendered:
    """The manifests in the output of the look. Raises ValueError."""
    documents = [json.loads(line) for line in lines(out)]
    workflows = [document["workflows"] for document in documents if "workflows" in document]
    objects = [document for document in documents if "workflows" not in document]
    return {"objects": objects, "workflows": workflows[0] if workflows else {}}


def objects(ctx: StepContext) -> list[dict[str, Any]]:
    """The objects that the csm overlay of the clone deploys; CRDs without schemas. Raises NotYetKnown before it is cloned."""
    return [manifest for manifest in _all(ctx) if manifest["metadata"]["name"] != names.ROLE]


def role(ctx: StepContext) -> dict[str, Any] | None:
    """The plugin's ClusterRole as it is applied by hand through DWS 0.1.0; None in later ones, which deploy their own."""
    by_name = {manifest["metadata"]["name"]: manifest for manifest in _all(ctx)}
    return by_name.get(names.ROLE) if names.role_by_hand(ctx.site) else None


def _all(ctx: StepContext) -> list[dict[str, Any]]:
    rendered = ctx.facts.one(RENDERED)["objects"]
    if not rendered:
        raise NotYetKnown(RENDERED.stage)
    return rendered


def versions(objects: Sequence[Mapping[str, Any]]) -> dict[str, set[str]]:
    """The versions that the CRDs among rendered objects serve, by plural."""
    return {
        manifest["metadata"]["name"].partition(".")[0]: {v["name"] for v in manifest["spec"]["versions"] if v["served"]}
        for manifest in objects
        if manifest["kind"] == "CustomResourceDefinition"
    }


def judge(ctx: StepContext, have: Value) -> Sequence[Finding]:
    """Findings for images that the manifests take from another registry, or with another tag than the site file says."""
    registry, wanted = ctx.site.registry.name, ctx.site.versions.kube_rbac_proxy
    findings = []
    for name, source in image_sources(ctx).items():
        if not name.startswith(f"{registry}/"):
            text = f"DWS's manifests use the image {name}, but the registry of this site is {registry}"
            findings.append(Finding("image-elsewhere", text, "correct registry.name"))
        if source == "kube_rbac_proxy_image" and not name.endswith(f":{wanted}"):
            text = (
                f"DWS's manifests use the image {name}, but versions.kube_rbac_proxy is {wanted}; the image of the manifests is"
                " pushed"
            )
            findings.append(
                Finding("kube-rbac-proxy-version", text, f"set versions.kube_rbac_proxy to {name.rpartition(':')[2]}")
            )
    return findings


def image_sources(ctx: StepContext) -> dict[str, str]:
    """Image -> name of its sources in the site file, for all images of the rendered manifests. Raises NotYetKnown, Refused.

    The tag of the dws image comes from git when DWS is deployed: the overlay leaves it open.
    """
    sources: dict[str, str] = {}
    for name in sorted(_images(objects(ctx))):
        base, _, tag = name.rpartition(":") if ":" in name.rsplit("/", 1)[-1] else (name, "", "")
        short = base.rsplit("/", 1)[-1]
        if short == "dws":
            sources[f"{base}:{ctx.site.versions.dws}"] = "dws_image"
        elif short == "kube-rbac-proxy":
            sources[f"{base}:{tag}"] = "kube_rbac_proxy_image"
        else:
            text = f"DWS's manifests use the image {name}, and this tool knows no source for it"
            raise Refused(Finding("image-unknown", text, "set versions.dws to a version that this tool supports"))
    return sources


def _images(objects: Sequence[Mapping[str, Any]]) -> set[str]:
    specs = [manifest["spec"]["template"]["spec"] for manifest in objects if manifest["kind"] == "Deployment"]
    return {c["image"] for spec in specs for c in [*spec["containers"], *spec.get("initContainers", [])]}


# --- the objects in the cluster

PLURALS = {
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "CustomResourceDefinition": "customresourcedefinitions",
    "Namespace": "namespaces",
}
"""The plurals of the overlay's kinds that have no namespace; the plural of any other kind is its name in lower case and an s."""


def api_path(manifest: Mapping[str, Any]) -> str:
    """The path of an object in the API: `/apis/apps/v1/namespaces/dws-system/deployments/dws-webhook`."""
    version, kind, meta = manifest["apiVersion"], manifest["kind"], manifest["metadata"]
    base = f"/apis/{version}" if "/" in version else f"/api/{version}"
    within = f"/namespaces/{meta['namespace']}" if "namespace" in meta else ""
    return f"{base}{within}/{PLURALS.get(kind, kind.lower() + 's')}/{meta['name']}"


def difference(want: Any, have: Any, at: str = "") -> str:
    """The first difference of a live object from its manifest, or "". Fields that the server adds do not count."""
    if isinstance(want, Mapping) and isinstance(have, Mapping):
        differences = (
            difference(value, have.get(key), f"{at}.{key}")
            for key, value in want.items()
            if value not in (None, {}, [])
        )
        return next(filter(None, differences), "")
    if isinstance(want, list) and isinstance(have, list) and len(want) == len(have):
        return next(
            filter(None, (difference(w, h, f"{at}[{i}]") for i, (w, h) in enumerate(zip(want, have, strict=True)))), ""
        )
    return "" if want == have else f"{at.lstrip('.')} is {json.dumps(have)}, not {json.dumps(want)}"


def wanted(ctx: StepContext) -> list[dict[str, Any]]:
    """The objects as they are wanted in the cluster: with their image tags, and with the cert-manager version that it serves."""
    text = json.dumps(objects(ctx))
    version = ctx.site.versions.dws
    for name in image_sources(ctx):
        base = name.rpartition(":")[0]
        if base.endswith("/dws"):
            text = re.sub(rf'"{re.escape(base)}(:[^"]*)?"', f'"{base}:{version}"', text)
    if cert_manager_overlay.modern(ctx):
        text = text.replace('"cert-manager.io/v1alpha3"', '"cert-manager.io/v1"')
    wanted_objects: list[dict[str, Any]] = json.loads(text)
    return wanted_objects


def label(manifest: Mapping[str, Any]) -> str:
    """The name of an object in messages: `Deployment dws-webhook`."""
    return f"{manifest['kind']} {manifest['metadata']['name']}"
