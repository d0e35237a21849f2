"""The images that the lab makes, and how they lie in a registry's storage."""

import json
import tarfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from lab import images

NAME = "quay.io/example/program:v1.2.3"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program"
    path.write_bytes(b"\x7fELF and so on")
    path.chmod(0o755)
    return path


@pytest.fixture
def archive(tmp_path: Path, program: Path) -> Path:
    certificates = tmp_path / "certificates"
    certificates.write_text("-----BEGIN CERTIFICATE-----\n")
    files = {"/bin/program": program, "/etc/ssl/certs/ca-certificates.crt": certificates}
    images.archive(tmp_path / "image.tar", NAME, files, ["/bin/program", "serve"], user=4321)
    return tmp_path / "image.tar"


def members(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def blob(parts: dict[str, bytes], descriptor: dict[str, Any]) -> bytes:
    """The part that a descriptor points to, after its size and checksum were compared."""
    data = parts["blobs/" + descriptor["digest"].replace(":", "/")]
    assert len(data) == descriptor["size"]
    assert f"sha256:{sha256(data).hexdigest()}" == descriptor["digest"]
    return data


def walk(archive: Path) -> tuple[dict[str, Any], dict[str, Any], Path]:
    """The index's one entry, the image's config, and its layer in a file of its own."""
    parts = members(archive)
    (entry,) = json.loads(parts["index.json"])["manifests"]
    manifest = json.loads(blob(parts, entry))
    (layer,) = manifest["layers"]
    unpacked = archive.with_name("layer.tar")
    unpacked.write_bytes(blob(parts, layer))
    return entry, json.loads(blob(parts, manifest["config"])), unpacked


def test_every_part_of_an_archive_has_the_size_and_checksum_that_point_to_it(archive: Path) -> None:
    """From the index down, each descriptor fits what it describes, and nothing else lies in the archive."""
    entry, config, layer = walk(archive)
    assert json.loads(members(archive)["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    assert config["rootfs"]["diff_ids"] == [f"sha256:{sha256(layer.read_bytes()).hexdigest()}"]
    assert len(members(archive)) == 5, "oci-layout, index.json, manifest, config, layer"
    assert images.digest(archive) == entry["digest"]


def test_an_archive_carries_its_name_for_podman_and_for_containerd(archive: Path) -> None:
    """Both annotations name the image in full, or an import would give it no name."""
    entry, _, _ = walk(archive)
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == NAME
    assert entry["annotations"]["io.containerd.image.name"] == NAME


def test_an_image_runs_its_entrypoint_as_a_number(archive: Path) -> None:
    """A kubelet refuses runAsNonRoot for a user that is given by name or not at all."""
    _, config, _ = walk(archive)
    assert config["config"]["User"] == "4321"
    assert config["config"]["Entrypoint"] == ["/bin/program", "serve"]


def test_a_layer_keeps_contents_and_execute_bits_and_belongs_to_root(archive: Path, program: Path) -> None:
    """The program can be run, the certificates can only be read, folders can be entered, /tmp can be written to."""
    _, _, layer = walk(archive)
    with tarfile.open(layer) as tar:
        found = {member.name: member for member in tar}
        assert tar.extractfile("bin/program").read() == program.read_bytes()  # type: ignore[union-attr]
    modes = {name: member.mode for name, member in found.items()}
    assert modes["bin/program"] == 0o755
    assert modes["etc/ssl/certs/ca-certificates.crt"] == 0o644
    assert modes["etc/ssl"] == 0o755
    assert modes["tmp"] == 0o1777
    assert {(member.uid, member.gid) for member in found.values()} == {(0, 0)}


def test_the_same_files_give_the_same_bytes(tmp_path: Path, archive: Path, program: Path) -> None:
    """An archive does not depend on the order, times or owners of its files."""
    program.touch()
    files = {"/etc/ssl/certs/ca-certificates.crt": tmp_path / "certificates", "/bin/program": program}
    images.archive(tmp_path / "again.tar", NAME, files, ["/bin/program", "serve"], user=4321)
    assert (tmp_path / "again.tar").read_bytes() == archive.read_bytes()


def test_other_contents_give_another_digest(tmp_path: Path, archive: Path, program: Path) -> None:
    """An image's digest depends on its content."""
    program.write_bytes(b"\x7fELF and something else")
    images.archive(tmp_path / "other.tar", NAME, {"/bin/program": program}, ["/bin/program"])
    assert images.digest(tmp_path / "other.tar") != images.digest(archive)


def served(root: Path, repository: str, tag: str) -> dict[str, Any]:
    """What a registry on `root` would answer for a tag: it follows the links as distribution does."""
    base = root / "docker/registry/v2"
    folder = base / "repositories" / repository

    def data(digest: str, links: str) -> bytes:
        algorithm, hexadecimal = digest.split(":")
        assert (folder / links / algorithm / hexadecimal / "link").read_text() == digest
        found = (base / "blobs" / algorithm / hexadecimal[:2] / hexadecimal / "data").read_bytes()
        assert sha256(found).hexdigest() == hexadecimal
        return found

    current = (folder / "_manifests/tags" / tag / "current/link").read_text()
    manifest: dict[str, Any] = json.loads(data(current, "_manifests/revisions"))
    data(current, f"_manifests/tags/{tag}/index")
    for part in (manifest["config"], *manifest["layers"]):
        assert len(data(part["digest"], "_layers")) == part["size"]
    return {"digest": current, **manifest}


def test_a_registry_finds_an_image_that_was_put_into_its_storage(tmp_path: Path, archive: Path) -> None:
    """Tag, revision and layer links lead to blobs whose checksums are their names."""
    images.push_layout(tmp_path / "store", "example/program:v1.2.3", archive)
    found = served(tmp_path / "store", "example/program", "v1.2.3")
    assert found["digest"] == images.digest(archive)
    assert found["mediaType"] == "application/vnd.oci.image.manifest.v1+json"


def test_a_tag_moves_to_the_image_that_was_put_there_last(tmp_path: Path, archive: Path, program: Path) -> None:
    """Putting another image under a tag replaces the first, which stays under its other tag."""
    program.write_bytes(b"newer")
    images.archive(tmp_path / "newer.tar", NAME, {"/bin/program": program}, ["/bin/program"])
    for tag, image in (("stable", archive), ("latest", archive), ("latest", tmp_path / "newer.tar")):
        images.push_layout(tmp_path / "store", f"example/program:{tag}", image)
    assert served(tmp_path / "store", "example/program", "latest")["digest"] == images.digest(tmp_path / "newer.tar")
    assert served(tmp_path / "store", "example/program", "stable")["digest"] == images.digest(archive)
