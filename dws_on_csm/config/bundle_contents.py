"""The contents of an offline bundle, as data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Part:
    """One part: its file's name in the bundle, size in bytes, sha256, and source.

    id  the commit of a repository, the digest of an image's configuration, or ""
    """

    file: str
    size: int
    sha256: str
    source: str
    id: str = ""


@dataclass(frozen=True)
class Manifest:
    """The manifest of a bundle. `versions` as in a site file, and kustomize's; `made`: when and by which program; parts by role."""

    versions: Mapping[str, str]
    made: Mapping[str, str]
    parts: Mapping[str, Part]


@dataclass(frozen=True)
class Bundle:
    """A bundle that was checked completely, and the offset of each file in it, in bytes."""

    path: Path
    manifest: Manifest
    offsets: Mapping[str, int]

    def read(self, role: str) -> bytes:
        """A part's content. Raises ValueError where the bundle has changed since it was checked."""
        part = self.manifest.parts[role]
        with self.path.open("rb") as file:
            file.seek(self.offsets[part.file])
            content = file.read(part.size)
        if hashlib.sha256(content).hexdigest() != part.sha256:
            raise ValueError(f"{part.file} has changed since it was checked")
        return content
