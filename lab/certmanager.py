"""cert-manager for the lab's cluster: its manifests, and the images of its pods."""

import json
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from lab import cache, go_builds, images, pki
from lab.layer import fill
from lab.releases import USUAL, Release

OURS = Path(__file__).with_name("certmanager.yaml")
COMPONENTS = ("controller", "webhook", "cainjector")
CA = "cert-manager/cert-manager-webhook-ca"  # the Secret that the webhook and cainjector read the webhook's CA from
SERVICE = {"name": "cert-manager-webhook", "namespace": "cert-manager", "path": "/convert"}


def manifests(v1alpha3: bool = True, release: Release = USUAL, announce: Callable[[str], None] = go_builds.say) -> str:
    """The YAML that `kubectl apply -f -` takes: namespace, CRDs, rights, Deployments, Services, webhooks.

    With `v1alpha3` False the CRDs know v1 alone, as cert-manager's do from 1.6 on; else v1alpha2, v1alpha3 and v1beta1
    as well. The webhook's CA is a new one, and stands where cainjector would put it: a CRD that it had to change later
    would not respond for a while, and cert-manager's controller waits longer after every such refusal. Builds
    cert-manager when the cache does not have it; BuildError when that fails.
    """
    built = go_builds.cert_manager(release, announce)

    def make(folder: Path) -> None:
        crds = [fitted(path, v1alpha3) for path in sorted((built / "crds").glob("crd-*.yaml"))]
        (folder / "crds.yaml").write_text("".join(f"---\n{json.dumps(crd)}\n" for crd in crds))

    entry = cache.entry("cert-manager-crds", (built.name, Path(__file__), str(v1alpha3)), make)
    ca = pki.authority(CA.rpartition("/")[2])
    values = {"CA": b64encode(ca.crt).decode(), "CA_KEY": b64encode(ca.pem).decode(), "VERSION": release.cert_manager}
    return fill((entry / "crds.yaml").read_text() + OURS.read_text(), values)


def archives(release: Release = USUAL, announce: Callable[[str], None] = go_builds.say) -> list[Path]:
    """The images that manifests() asks for, as archives for `ctr -n k8s.io images import`: three files of 30 to 60 MB.

    Builds cert-manager when the cache does not have it; BuildError when that fails.
    """
    built = go_builds.cert_manager(release, announce)

    def make(folder: Path) -> None:
        for part in COMPONENTS:
            images.archive(folder / f"{part}.tar", image(part, release), {f"/{part}": built / part}, [f"/{part}"])

    inputs: list[str | Path] = [built.name, Path(images.__file__), *(image(part, release) for part in COMPONENTS)]
    entry = cache.entry("cert-manager-images", inputs, make)
    return [entry / f"{part}.tar" for part in COMPONENTS]


def image(component: str, release: Release = USUAL) -> str:
    """The name of a component's image; it has no registry behind it, nodes get it from archives()."""
    return f"lab.local/cert-manager-{component}:{release.cert_manager}"


def fitted(template: Path, v1alpha3: bool) -> dict[str, Any]:
    """The CRD in the chart's `template`, with the places that Helm would fill set for this cluster, and @CA@ for its CA."""
    crd: dict[str, Any] = yaml.load(template.read_text(), Loader=yaml.CSafeLoader)
    crd["metadata"] = {"name": crd["metadata"]["name"], "labels": {"app": "cert-manager"}}
    spec = crd["spec"]
    spec["versions"] = [_terse(version) for version in spec["versions"] if v1alpha3 or version["name"] == "v1"]
    if v1alpha3:
        crd["metadata"]["annotations"] = {"cert-manager.io/inject-ca-from-secret": CA}
        client = {"service": SERVICE, "caBundle": "@CA@"}
        spec["conversion"]["webhook"] = {"conversionReviewVersions": ["v1"], "clientConfig": client}
    else:
        spec["conversion"] = {"strategy": "None"}
    return crd


def _terse(schema: Any) -> Any:
    """`schema` without its prose, which is most of a megabyte that the API server would parse at every boot."""
    if isinstance(schema, dict):
        prose = {key for key, value in schema.items() if key == "description" and isinstance(value, str)}
        return {key: _terse(value) for key, value in schema.items() if key not in prose}
    return [_terse(item) for item in schema] if isinstance(schema, list) else schema
