"""Container images made from static binaries without running anything, and a registry's storage filled without a push.

An image is one layer in an OCI archive (a tar with an OCI layout): the same files give the same bytes and digest.
"""

import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import file_digest
from pathlib import Path, PurePosixPath
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
EPOCH = "1970-01-01T00:00:00Z"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # as uname has it, as OCI has it


@dataclass(frozen=True)
class Blob:
    """A part of an image, known by the checksum of its bytes; a large one stays in the file `data`."""

    data: bytes | Path
    media_type: str

    @cached_property
    def hex(self) -> str:
        """The checksum, 64 hexadecimal digits."""
        with self.open() as content:
            return file_digest(content, "sha256").hexdigest()

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return self.data.stat().st_size if isinstance(self.data, Path) else len(self.data)

    def open(self) -> io.BufferedIOBase:
        """The bytes, to be read."""
        return self.data.open("rb") if isinstance(self.data, Path) else io.BytesIO(self.data)

    def descriptor(self) -> dict[str, Any]:
        """How another part refers to this one."""
        return {"mediaType": self.media_type, "digest": f"sha256:{self.hex}", "size": self.size}


def archive(target: Path, name: str, files: Mapping[str, Path], entrypoint: Sequence[str], user: int = 65532) -> None:
    """Writes the image `name` (REPOSITORY:TAG, host included) to `target`, an OCI archive that is replaced atomically.

    `files` maps a path in the image to the file it comes from, whose execute bit it keeps; `entrypoint` is what runs,
    as the numeric `user`. `ctr -n k8s.io images import`, `podman load` and `skopeo copy oci-archive:` read it.
    """
    settings = {"Entrypoint": list(entrypoint), "Env": ["PATH=/"], "User": str(user), "WorkingDir": "/"}
    pack(target, name, Blob(_layer(files), LAYER), settings)


def pack(target: Path, name: str, layer: Blob, settings: Mapping[str, Any]) -> None:
    """Writes the image `name`, which is `layer` alone, to `target`, as archive() does.

    `settings` are OCI's: Entrypoint, Env, User, WorkingDir.
    """
    config = Blob(_json(_config(layer, settings)), CONFIG)
    manifest = Blob(_json(_manifest(config, layer)), MANIFEST)
    aside = target.with_name(target.name + ".part")
    with tarfile.open(aside, "w", format=tarfile.USTAR_FORMAT) as tar:
        _add(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(tar, "index.json", _json(_index(manifest, name)))
        for blob in sorted((layer, config, manifest), key=lambda blob: blob.hex):
            _add_blob(tar, blob)
    aside.rename(target)


def digest(image: Path) -> str:
    """The digest of the manifest in the OCI archive `image` ("sha256:..."): what a registry calls the image."""
    with tarfile.open(image) as tar:
        return str(_member_json(tar, "index.json")["manifests"][0]["digest"])


def push_layout(root: Path, name: str, image: Path) -> None:
    """Puts the OCI archive `image` as `name` (REPOSITORY:TAG, without a host) into the storage folder of a registry.

    `root` is what the registry (distribution, API v2) has as its rootdirectory. One that runs sees the image at once.
    """
    repository, _, tag = name.rpartition(":")
    base = root / "docker/registry/v2"
    with tarfile.open(image) as tar:
        (entry,) = _member_json(tar, "index.json")["manifests"]
        manifest = _member_json(tar, _blob_path(entry["digest"]))
        parts = [part["digest"] for part in (manifest["config"], *manifest["layers"])]
        for part in (entry["digest"], *parts):
            _write(base / "blobs/sha256" / _hex(part)[:2] / _hex(part) / "data", _member(tar, _blob_path(part)))
    for part in parts:
        _link(base / f"repositories/{repository}/_layers", part)
    manifests = base / f"repositories/{repository}/_manifests"
    _link(manifests / "revisions", entry["digest"])
    _link(manifests / f"tags/{tag}/index", entry["digest"])
    _write(manifests / f"tags/{tag}/current/link", entry["digest"].encode())  # last: from here on the tag is there


def _layer(files: Mapping[str, Path]) -> bytes:
    buffer = io.BytesIO()
    wanted = {PurePosixPath(path.lstrip("/")): source for path, source in files.items()}
    folders = {folder for path in wanted for folder in path.parents if folder.name}
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        _add_folder(tar, "tmp", 0o1777)
        for folder in sorted(folders - {PurePosixPath("tmp")}):
            _add_folder(tar, str(folder), 0o755)
        for path, source in sorted(wanted.items()):
            _add(tar, str(path), source.read_bytes(), 0o755 if source.stat().st_mode & 0o100 else 0o644)
    return buffer.getvalue()


def _config(layer: Blob, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "created": EPOCH,
        "config": dict(settings),
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.hex}"]},
        "history": [{"created": EPOCH, "created_by": "dws-on-csm lab"}],
    }


def _manifest(config: Blob, layer: Blob) -> dict[str, Any]:
    parts = {"config": config.descriptor(), "layers": [layer.descriptor()]}
    return {"schemaVersion": 2, "mediaType": MANIFEST, **parts}


def _index(manifest: Blob, name: str) -> dict[str, Any]:
    # podman takes the name from the first, containerd from the second.
    names = {"org.opencontainers.image.ref.name": name, "io.containerd.image.name": name}
    return {"schemaVersion": 2, "manifests": [{**manifest.descriptor(), "annotations": names}]}


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _add(tar: tarfile.TarFile, path: str, data: bytes, mode: int = 0o644) -> None:
    header = tarfile.TarInfo(path)
    header.size, header.mode = len(data), mode
    tar.addfile(header, io.BytesIO(data))


def _add_blob(tar: tarfile.TarFile, blob: Blob) -> None:
    header = tarfile.TarInfo(f"blobs/sha256/{blob.hex}")
    header.size, header.mode = blob.size, 0o644
    with blob.open() as content:
        tar.addfile(header, content)


def _add_folder(tar: tarfile.TarFile, path: str, mode: int) -> None:
    header = tarfile.TarInfo(path)
    header.type, header.mode = tarfile.DIRTYPE, mode
    tar.addfile(header)


def _member(tar: tarfile.TarFile, path: str) -> bytes:
    member = tar.extractfile(path)
    assert member is not None, f"{path} is not a file"
    return member.read()


def _member_json(tar: tarfile.TarFile, path: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(_member(tar, path))
    return value


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _blob_path(digest: str) -> str:
    return f"blobs/sha256/{_hex(digest)}"


def _link(folder: Path, digest: str) -> None:
    _write(folder / "sha256" / _hex(digest) / "link", digest.encode())


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
