"""An image out of a registry (its HTTP API, version 2) as an OCI archive: the same image makes the same bytes.

Without credentials, or with the token that a registry gives to anybody. Everything is checked against its digest.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from dws_on_csm.bundle import download, oci_archive
from dws_on_csm.bundle.download import Progress, SourceError
from dws_on_csm.bundle.oci_archive import OCI

PLATFORM = ("linux", "amd64")
"""What CSM's masters and workers are."""

_DOCKER = "application/vnd.docker"
INDEXES = (oci_archive.INDEX, f"{_DOCKER}.distribution.manifest.list.v2+json")
MANIFESTS = (oci_archive.MANIFEST, f"{_DOCKER}.distribution.manifest.v2+json")

AS_OCI = {
    MANIFESTS[1]: MANIFESTS[0],
    f"{_DOCKER}.container.image.v1+json": f"{OCI}.config.v1+json",
    f"{_DOCKER}.image.rootfs.diff.tar.gzip": f"{OCI}.layer.v1.tar+gzip",
    f"{_DOCKER}.image.rootfs.diff.tar": f"{OCI}.layer.v1.tar",
}
"""Docker's media types as OCI calls the same content: what they are of stays as it is, byte for byte."""


@dataclass(frozen=True)
class Remote:
    """A repository in a registry: `https://quay.io`, `brancz/kube-rbac-proxy`."""

    base: str
    repository: str

    def url(self, kind: str, which: str) -> str:
        """Where a manifest or blob of it is."""
        return f"{self.base}/v2/{self.repository}/{kind}/{which}"


def remote(name: str) -> Remote:
    """The repository that an image's name without a tag means."""
    host, _, repository = name.partition("/")
    if host == "docker.io":
        host, repository = "registry-1.docker.io", repository if "/" in repository else f"library/{repository}"
    return Remote(f"https://{host}", repository)


def pull(source: Remote, tag: str, name: str, target: Path, ends: float, progress: Progress) -> str:
    """Write the image to `target`, named `name` (with its tag) in there; returns the digest of its configuration.

    It must be there before `ends` (of time.monotonic). Raises SourceError.
    """
    headers = _token(source, tag)
    manifest, told = _manifest(source, tag, headers)
    config, layers = manifest["config"], manifest["layers"]
    _known(source, tag, [config, *layers])
    about, _ = download.read(source.url("blobs", config["digest"]), headers)
    _checked(source.url("blobs", config["digest"]), about, config["digest"])
    _ours(source, tag, _parsed(source.url("blobs", config["digest"]), about))
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        blobs = _layers(source, layers, headers, Path(folder), ends, progress)
        oci_archive.write(target, name, told, {config["digest"]: about, **blobs})
    return str(config["digest"])


def _token(source: Remote, tag: str) -> dict[str, str]:
    """The header to ask with: none, or the token for anybody, where the registry wants one."""
    try:
        download.read(source.url("manifests", tag), {"Accept": ", ".join((*INDEXES, *MANIFESTS))})
        return {}
    except SourceError as error:
        scheme, _, rest = error.headers.get("WWW-Authenticate", "").partition(" ")
        if error.status != 401 or scheme.lower() != "bearer":
            raise
        asked = dict(re.findall(r'(\w+)="([^"]*)"', rest))
    realm = asked.get("realm", "")
    if source.base.startswith("https://") and not realm.startswith("https://"):
        raise SourceError(f"{source.base}: its tokens come from {realm or 'nowhere'}, which is not https://")
    query = {"service": asked.get("service", ""), "scope": f"repository:{source.repository}:pull"}
    url = f"{realm}?{urlencode(query)}"
    given = _parsed(url, download.read(url)[0])
    return {"Authorization": f"Bearer {given.get('token') or given.get('access_token')}"}


def _manifest(source: Remote, tag: str, headers: Mapping[str, str]) -> tuple[dict[str, Any], bytes]:
    """The image's manifest for our platform, in OCI's words: parsed, and as it is to be; an OCI one as it came."""
    found, kind, content = _fetched(source, tag, headers)
    if kind in INDEXES:
        fits = [one for one in found["manifests"] if _platform(one.get("platform", {})) == PLATFORM]
        if not fits:
            raise SourceError(f"{source.url('manifests', tag)}: no image for {'/'.join(PLATFORM)} is in it")
        found, kind, content = _fetched(source, fits[0]["digest"], headers)
    if kind == MANIFESTS[0]:
        return found, content
    if kind != MANIFESTS[1]:
        raise SourceError(f"{source.url('manifests', tag)}: {kind or 'no media type'} is no image that can be taken")
    layers = [_oci(layer) for layer in found["layers"]]
    as_oci = {**_oci(found), "mediaType": MANIFESTS[0], "config": _oci(found["config"]), "layers": layers}
    return as_oci, oci_archive.compact(as_oci)


def _fetched(source: Remote, which: str, headers: Mapping[str, str]) -> tuple[dict[str, Any], str, bytes]:
    """A manifest or index: parsed, its media type, and as it came."""
    url = source.url("manifests", which)
    content, told = download.read(url, {**headers, "Accept": ", ".join((*INDEXES, *MANIFESTS))})
    digest = which if which.startswith("sha256:") else told.get("Docker-Content-Digest", "")
    if digest:
        _checked(url, content, digest)
    found = _parsed(url, content)
    return found, found.get("mediaType") or told.get_content_type(), content


def _platform(found: Mapping[str, str]) -> tuple[str, str]:
    return found.get("os", ""), found.get("architecture", "")


def _oci(part: Mapping[str, Any]) -> dict[str, Any]:
    kind = part.get("mediaType", "")
    return {**part, "mediaType": AS_OCI.get(kind, kind)}


def _known(source: Remote, tag: str, parts: Sequence[Mapping[str, Any]]) -> None:
    for part in parts:
        if not part["mediaType"].startswith(OCI) or "nondistributable" in part["mediaType"] or part.get("urls"):
            raise SourceError(
                f"{source.url('manifests', tag)}: a part is {part['mediaType']}, which can't be taken along"
            )
        if not re.fullmatch("sha256:[0-9a-f]{64}", part["digest"]):
            raise SourceError(f"{source.url('manifests', tag)}: {part['digest']} is no sha256")


def _ours(source: Remote, tag: str, config: Mapping[str, Any]) -> None:
    if _platform(config) != PLATFORM:
        text = f"is for {'/'.join(_platform(config))}, and {'/'.join(PLATFORM)} is needed"
        raise SourceError(f"{source.url('manifests', tag)}: {text}")


def _parsed(url: str, content: bytes) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(content)
    except ValueError as error:
        raise SourceError(f"{url}: not the JSON that a registry answers with: {error}") from None
    return found


def _checked(url: str, content: bytes, digest: str) -> None:
    seen = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if seen != digest:
        raise SourceError(f"{url}: what came has the digest {seen}, and not {digest}")


def _layers(
    source: Remote,
    layers: Sequence[Mapping[str, Any]],
    headers: Mapping[str, str],
    folder: Path,
    ends: float,
    progress: Progress,
) -> dict[str, Path]:
    """Digest -> file of every layer."""
    sizes = {str(layer["digest"]): int(layer["size"]) for layer in layers}
    files: dict[str, Path] = {}
    for digest in sizes:
        before, total = sum(sizes[one] for one in files), sum(sizes.values())
        files[digest] = folder / digest.removeprefix("sha256:")

        def so_far(done: int, _: int, before: int = before, total: int = total) -> None:
            progress(before + done, total)

        download.save(source.url("blobs", digest), files[digest], digest[7:], ends, so_far, headers)
    return files
