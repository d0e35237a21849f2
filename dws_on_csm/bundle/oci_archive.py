"""An OCI archive of one image: an image layout in a tar, of which the same image makes the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

OCI = "application/vnd.oci.image"
INDEX, MANIFEST = f"{OCI}.index.v1+json", f"{OCI}.manifest.v1+json"


def write(target: Path, name: str, manifest: bytes, parts: Mapping[str, bytes | Path]) -> None:
    """Write the archive of the image `name` (with its tag) with this manifest; `parts`: digest -> content, or its file."""
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
    entry = {"mediaType": MANIFEST, "digest": digest, "size": len(manifest), "annotations": names}
    with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as tar:
        _add(tar, "oci-layout", compact({"imageLayoutVersion": "1.0.0"}))
        _add(tar, "index.json", compact({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}))
        for which, content in sorted({digest: manifest, **parts}.items()):
            _add(tar, f"blobs/{which.replace(':', '/')}", content)


def compact(value: Mapping[str, Any]) -> bytes:
    """The one JSON text of a value: keys in order, no white space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _add(tar: tarfile.TarFile, name: str, content: bytes | Path) -> None:
    header = tarfile.TarInfo(name)
    header.size = content.stat().st_size if isinstance(content, Path) else len(content)
    with content.open("rb") if isinstance(content, Path) else io.BytesIO(content) as data:
        tar.addfile(header, data)
