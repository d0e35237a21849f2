"""The overlay that deploys DWS where cert-manager no longer serves v1alpha3 (1.6 and later): it sets v1 again.

It has a folder of its own next to the clone: DWS would be deployed from a changed clone with a -dirty tag.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from dws_on_csm.config.site import Site
from dws_on_csm.model.actions import Action, Put
from dws_on_csm.model.step import ShellLook, Step, StepContext, Value
from dws_on_csm.stages.facts import CLUSTER


def modern(ctx: StepContext) -> bool:
    """Whether cert-manager here no longer serves v1alpha3, which the csm overlay of DWS asks for. Raises NotYetKnown."""
    return "v1alpha3" not in ctx.facts.one(CLUSTER)["cert_manager"]


def folder(site: Site) -> str:
    """The overlay's folder on the master: next to the clone, one for each version."""
    return f"{site.master.workarea}/csm-v1-{site.versions.dws}"


def text(site: Site) -> str:
    """The overlay's kustomization.yaml."""
    import yaml

    set_v1 = [{"op": "replace", "path": "/apiVersion", "value": "cert-manager.io/v1"}]
    patches = [
        {"patch": yaml.safe_dump(set_v1), "target": {"group": "cert-manager.io", "version": "v1alpha3", "kind": kind}}
        for kind in ("Certificate", "Issuer")
    ]
    image = f"{site.registry.name}/dws"
    return "# cert-manager here serves v1 and no longer v1alpha3, which dws's csm overlay asks for\n" + yaml.safe_dump(
        {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [f"../dws-{site.versions.dws}/config/csm"],
            "images": [{"name": image, "newTag": site.versions.dws}],
            "patches": patches,
        },
        sort_keys=False,
    )


def put(site: Site) -> Put:
    """The action that writes it."""
    return Put(_path(site), text(site).encode())


def _path(site: Site) -> str:
    return f"{folder(site)}/kustomization.yaml"


def _look(ctx: StepContext) -> ShellLook:
    return ShellLook(
        f"cat {shlex.quote(_path(ctx.site))} 2>/dev/null || true", lambda out: out.decode(errors="replace")
    )


def _read(ctx: StepContext, file: Value) -> Value:
    """A file that is not needed does not count."""
    return {"path": _path(ctx.site), "text": file} if modern(ctx) and file else None


def _want(ctx: StepContext) -> Value:
    return {"path": _path(ctx.site), "text": text(ctx.site)} if modern(ctx) else None


def _change(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    return [put(ctx.site)]


STEP = Step("overlay", "master", _look, _want, _change, read=_read)
"""The overlay exists where it is needed: DWS is then deployed with it in place of `make deploy`."""
