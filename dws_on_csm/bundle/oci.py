"""Pull an image from a registry (its HTTP API, version 2) into an OCI archive: the same image makes the same bytes.

Without credentials, or with the token that a registry gives to anonymous users. All content is checked against its digest.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from dws_on_csm.bundle import download
from dws_on_csm.bundle.download import Progress, SourceError

PLATFORM = ("linux", "amd64")
"""The platform of CSM's masters and workers."""

_OCI = "application/vnd.oci.image"
_DOCKER = "application/vnd.docker"
INDEXES = (f"{_OCI}.index.v1+json", f"{_DOCKER}.distribution.manifest.list.v2+json")
MANIFESTS = (f"{_OCI}.manifest.v1+json", f"{_DOCKER}.distribution.manifest.v2+json")

AS_OCI = {
    MANIFESTS[1]: MANIFESTS[0],
    f"{_DOCKER}.container.image.v1+json": f"{_OCI}.config.v1+json",
    f"{_DOCKER}.image.rootfs.diff.tar.gzip": f"{_OCI}.layer.v1.tar+gzip",
    f"{_DOCKER}.image.rootfs.diff.tar": f"{_OCI}.layer.v1.tar",
}
"""Docker's media type -> OCI's for the same content, whose bytes do not change."""


@dataclass(frozen=True)
class Remote:
    """A repository in a registry: `https://quay.io`, `brancz/kube-rbac-proxy`."""

    base: str
    repository: str

    def url(self, kind: str, which: str) -> str:
        """The URL of a manifest or blob."""
        return f"{self.base}/v2/{self.repository}/{kind}/{which}"


def remote(name: str) -> Remote:
    """The repository of an image's name without a tag."""
    host, _, repository = name.partition("/")
    if host == "docker.io":
        host, repository = "registry-1.docker.io", repository if "/" in repository else f"library/{repository}"
    return Remote(f"https://{host}", repository)


def pull(source: Remote, tag: str, name: str, target: Path, deadline_at: float, progress: Progress) -> str:
    """Write the image to the archive `target`, in which `name` (with its tag) names it; return the digest of its configuration.

    It must be complete at `deadline_at` (time.monotonic). Raises SourceError.
    """
    headers = _token(source, tag)
    manifest, content = _manifest(source, tag, headers)
    config, layers = manifest["config"], manifest["layers"]
    _check_parts(source, tag, [config, *layers])
    url = source.url("blobs", config["digest"])
    configuration, _ = download.read(url, headers)
    _check_digest(url, configuration, config["digest"])
    _check_platform(source, tag, _parsed(url, configuration))
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        blobs = _layers(source, layers, headers, Path(folder), deadline_at, progress)
        _write_archive(target, name, content, {config["digest"]: configuration, **blobs})
    return str(config["digest"])


def _token(source: Remote, tag: str) -> dict[str, str]:
    """The headers of all requests: none, or the token for anonymous users where the registry requires one."""
    try:
        download.read(source.url("manifests", tag), {"Accept": ", ".join((*INDEXES, *MANIFESTS))})
        return {}
    except SourceError as error:
        scheme, _, rest = error.headers.get("WWW-Authenticate", "").partition(" ")
        if error.status != 401 or scheme.lower() != "bearer":
            raise
        challenge = dict(re.findall(r'(\w+)="([^"]*)"', rest))
    realm = challenge.get("realm", "")
    if source.base.startswith("https://") and not realm.startswith("https://"):
        raise SourceError(f"{source.base}: its tokens come from {realm or 'nowhere'}, which is not https://")
    query = {"service": challenge.get("service", ""), "scope": f"repository:{source.repository}:pull"}
    url = f"{realm}?{urlencode(query)}"
    answer = _parsed(url, download.read(url)[0])
    return {"Authorization": f"Bearer {answer.get('token') or answer.get('access_token')}"}


def _manifest(source: Remote, tag: str, headers: Mapping[str, str]) -> tuple[dict[str, Any], bytes]:
    """The image's manifest for our platform in OCI's media types: parsed, and as bytes; an OCI manifest keeps its bytes."""
    manifest, kind, content = _fetch(source, tag, headers)
    if kind in INDEXES:
        fitting = [entry for entry in manifest["manifests"] if _platform(entry.get("platform", {})) == PLATFORM]
        if not fitting:
            raise SourceError(f"{source.url('manifests', tag)}: it has no image for {'/'.join(PLATFORM)}")
        manifest, kind, content = _fetch(source, fitting[0]["digest"], headers)
    if kind == MANIFESTS[0]:
        return manifest, content
    if kind != MANIFESTS[1]:
        raise SourceError(f"{source.url('manifests', tag)}: unsupported media type {kind or '(none)'}")
    layers = [_as_oci(layer) for layer in manifest["layers"]]
    as_oci = {**_as_oci(manifest), "mediaType": MANIFESTS[0], "config": _as_oci(manifest["config"]), "layers": layers}
    return as_oci, _compact(as_oci)


def _fetch(source: Remote, which: str, headers: Mapping[str, str]) -> tuple[dict[str, Any], str, bytes]:
    """A manifest or index: parsed, its media type, and its bytes."""
    url = source.url("manifests", which)
    content, answer = download.read(url, {**headers, "Accept": ", ".join((*INDEXES, *MANIFESTS))})
    digest = which if which.startswith("sha256:") else answer.get("Docker-Content-Digest", "")
    if digest:
        _check_digest(url, content, digest)
    manifest = _parsed(url, content)
    return manifest, manifest.get("mediaType") or answer.get_content_type(), content


def _platform(record: Mapping[str, str]) -> tuple[str, str]:
    return record.get("os", ""), record.get("architecture", "")


def _as_oci(part: Mapping[str, Any]) -> dict[str, Any]:
    kind = part.get("mediaType", "")
    return {**part, "mediaType": AS_OCI.get(kind, kind)}


def _check_parts(source: Remote, tag: str, parts: Sequence[Mapping[str, Any]]) -> None:
    """Raises SourceError for a part that an archive cannot contain."""
    for part in parts:
        if not part["mediaType"].startswith(_OCI) or "nondistributable" in part["mediaType"] or part.get("urls"):
            text = f"a part is {part['mediaType']}, which an archive cannot contain"
            raise SourceError(f"{source.url('manifests', tag)}: {text}")
        if not re.fullmatch("sha256:[0-9a-f]{64}", part["digest"]):
            raise SourceError(f"{source.url('manifests', tag)}: {part['digest']} is not a sha256 digest")


def _check_platform(source: Remote, tag: str, config: Mapping[str, Any]) -> None:
    if _platform(config) != PLATFORM:
        text = f"it is for {'/'.join(_platform(config))}, not {'/'.join(PLATFORM)}"
        raise SourceError(f"{source.url('manifests', tag)}: {text}")


def _parsed(url: str, content: bytes) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(content)
    except ValueError as error:
        raise SourceError(f"{url}: not the JSON of a registry: {error}") from None
    return record


def _check_digest(url: str, content: bytes, digest: str) -> None:
    actual = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if actual != digest:
        raise SourceError(f"{url}: the download has the digest {actual}, not {digest}")


def _layers(
    source: Remote,
    layers: Sequence[Mapping[str, Any]],
    headers: Mapping[str, str],
    folder: Path,
    deadline_at: float,
    progress: Progress,
) -> dict[str, Path]:
    """Digest -> file of every layer."""
    sizes = {str(layer["digest"]): int(layer["size"]) for layer in layers}
    files: dict[str, Path] = {}
    for digest in sizes:
        before, total = sum(sizes[earlier] for earlier in files), sum(sizes.values())
        files[digest] = folder / digest.removeprefix("sha256:")

        def so_far(done: int, _: int, before: int = before, total: int = total) -> None:
            progress(before + done, total)

        download.save(source.url("blobs", digest), files[digest], digest[7:], deadline_at, so_far, headers)
    return files


# --- the archive: an OCI image layout in a tar


def _write_archive(target: Path, name: str, manifest: bytes, parts: Mapping[str, bytes | Path]) -> None:
    """Write the archive of the image `name` (with its tag) with this manifest; `parts`: digest -> content, or its file."""
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
    entry = {"mediaType": MANIFESTS[0], "digest": digest, "size": len(manifest), "annotations": names}
    index = {"schemaVersion": 2, "mediaType": INDEXES[0], "manifests": [entry]}
    with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as tar:
        _add(tar, "oci-layout", _compact({"imageLayoutVersion": "1.0.0"}))
        _add(tar, "index.json", _compact(index))
        for which, content in sorted({digest: manifest, **parts}.items()):
            _add(tar, f"blobs/{which.replace(':', '/')}", content)


def _compact(value: Mapping[str, Any]) -> bytes:
    """The one JSON text of a value: keys sorted, no white space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _add(tar: tarfile.TarFile, name: str, content: bytes | Path) -> None:
    header = tarfile.TarInfo(name)
    header.size = content.stat().st_size if isinstance(content, Path) else len(content)
    with content.open("rb") if isinstance(content, Path) else io.BytesIO(content) as data:
        tar.addfile(header, data)
