"""Images from a registry: checked, for the right platform, as an archive with the registry's own content."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.bundle import download, oci
from dws_on_csm.bundle.download import SourceError
from dws_on_csm.bundle.oci import INDEXES, MANIFESTS, Remote, pull
from tests.unit import bundles
from tests.unit.registry_server import Registry, serving

OCI, DOCKER = "application/vnd.oci.image", "application/vnd.docker"
TYPES = {
    MANIFESTS[0]: (f"{OCI}.config.v1+json", f"{OCI}.layer.v1.tar+gzip"),
    MANIFESTS[1]: (f"{DOCKER}.container.image.v1+json", f"{DOCKER}.image.rootfs.diff.tar.gzip"),
}
LAYERS = [gzip.compress(bytes(1000), mtime=0), gzip.compress(b"x" * 1000, mtime=0)]
NAME = "quay.io/brancz/kube-rbac-proxy:v1"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loopback is reached directly, whatever this machine's environment says."""
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serving(Registry()) as found:
        yield found


def image(registry: Registry, kind: str = MANIFESTS[0], tag: str = "", architecture: str = "amd64", **more: Any) -> str:
    """Puts an image of two layers into the registry; the digest of its manifest. `more` goes into its first layer."""
    config = json.dumps({"architecture": architecture, "os": "linux", "made": kind}).encode()
    config_type, layer_type = TYPES[kind]
    layers = [{"mediaType": layer_type, "digest": registry.blob(one), "size": len(one)} for one in LAYERS]
    about = {"mediaType": config_type, "digest": registry.blob(config), "size": len(config)}
    whole = {"schemaVersion": 2, "mediaType": kind, "config": about, "layers": [layers[0] | more, *layers[1:]]}
    return registry.manifest(whole, tag)


def index(registry: Registry, kind: str, *digests: tuple[str, str]) -> None:
    """An index with the tag v1: (architecture, digest of a manifest) each."""
    entries = [{"digest": digest, "platform": {"os": "linux", "architecture": name}} for name, digest in digests]
    registry.manifest({"schemaVersion": 2, "mediaType": kind, "manifests": entries}, "v1")


def pulled(registry: Registry, folder: Path, seconds: float = 30) -> tuple[Path, str, list[tuple[int, int]]]:
    """The archive, the digest that pull returned, and the progress that it reported."""
    said: list[tuple[int, int]] = []
    target, ends = folder / "image.tar", time.monotonic() + seconds
    digest = pull(Remote(registry.base, "a/b"), "v1", NAME, target, ends, lambda *told: said.append(told))
    return target, digest, said


def inside(archive: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The entry of the archive's index, and the manifest that it leads to."""
    (entry,) = json.loads(bundles.member(archive, "index.json"))["manifests"]
    return entry, json.loads(bundles.member(archive, f"blobs/{entry['digest'].replace(':', '/')}"))


@pytest.mark.parametrize("kind", MANIFESTS)
@pytest.mark.parametrize("token", [False, True])
def test_an_image_becomes_an_archive(registry: Registry, tmp_path: Path, kind: str, token: bool) -> None:
    """OCI's and docker's, with and without a token: configuration and layers byte for byte, with OCI's media types."""
    registry.token = token
    known = image(registry, kind, "v1")
    archive, digest, said = pulled(registry, tmp_path)
    entry, manifest = inside(archive)
    assert (entry["digest"] == known) == (kind == MANIFESTS[0])
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == NAME
    assert manifest["config"]["digest"] == digest
    parts = [manifest["config"], *manifest["layers"]]
    assert [part["mediaType"] for part in parts] == [TYPES[MANIFESTS[0]][0], *[TYPES[MANIFESTS[0]][1]] * 2]
    for part in parts:
        content = bundles.member(archive, f"blobs/{part['digest'].replace(':', '/')}")
        assert content == registry.blobs[part["digest"]] and len(content) == part["size"]
    assert said[-1] == (sum(map(len, LAYERS)),) * 2
    assert [path.name for path in tmp_path.iterdir()] == ["image.tar"]


def test_the_same_image_makes_the_same_archive(registry: Registry, tmp_path: Path) -> None:
    """Byte for byte."""
    image(registry, tag="v1")
    (tmp_path / "again").mkdir()
    assert pulled(registry, tmp_path)[0].read_bytes() == pulled(registry, tmp_path / "again")[0].read_bytes()


@pytest.mark.parametrize("kind", INDEXES)
def test_of_many_platforms_ours_is_taken(registry: Registry, tmp_path: Path, kind: str) -> None:
    """linux/amd64, at any place in the index; entries that builders add are ignored."""
    ours = image(registry)
    index(registry, kind, ("arm64", image(registry, architecture="arm64")), ("unknown", "sha256:0"), ("amd64", ours))
    assert inside(pulled(registry, tmp_path)[0])[0]["digest"] == ours


def test_a_token_is_not_carried_to_where_blobs_are_stored(registry: Registry, tmp_path: Path) -> None:
    """The registry redirects to a storage service, which would reject a second authorization."""
    registry.token = True
    image(registry, tag="v1")
    pulled(registry, tmp_path)
    assert [authorization for _, authorization in registry.asked] == ["", "", ""]


WRONG = {
    "another platform alone": (lambda r: image(r, tag="v1", architecture="arm64"), "is for linux/arm64"),
    "no image for us": (lambda r: index(r, INDEXES[0], ("s390x", image(r))), "no image for linux/amd64"),
    "no such tag": (lambda r: None, "HTTP 404"),
    "a part from elsewhere": (lambda r: image(r, tag="v1", urls=["https://x"]), "cannot contain"),
    "a type nobody knows": (
        lambda r: image(r, tag="v1", mediaType="application/x"),
        "application/x, which an archive cannot",
    ),
    "a page of a proxy": (lambda r: r.manifests.update(v1=("text/html", b"<html>log in")), "not the JSON of"),
    "another kind of thing": (
        lambda r: r.manifest({"mediaType": "application/x"}, "v1"),
        "unsupported media type application/x",
    ),
}


@pytest.mark.parametrize(("put", "said"), WRONG.values(), ids=WRONG.keys())
def test_unusable_images_are_reported(registry: Registry, tmp_path: Path, put: Any, said: str) -> None:
    """The error has the URL, and no file is left."""
    put(registry)
    with pytest.raises(SourceError, match=said) as error:
        pulled(registry, tmp_path)
    assert registry.base in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_content_that_differs_from_its_digest_is_refused(registry: Registry, tmp_path: Path) -> None:
    """A layer that was changed in the registry or on the network."""
    image(registry, tag="v1")
    registry.blobs[registry.blob(LAYERS[1])] = LAYERS[0]
    with pytest.raises(SourceError, match=r"the download has the sha256 .*, not "):
        pulled(registry, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_deadline_is_kept(registry: Registry, tmp_path: Path) -> None:
    """An image that is not complete in time is a failure."""
    image(registry, tag="v1")
    with pytest.raises(SourceError, match="timed out"):
        pulled(registry, tmp_path, seconds=-1)


def test_who_answers_to_an_images_name() -> None:
    """The host in its name; docker.io's registry has another host, and its short names get a folder."""
    assert oci.remote("quay.io/brancz/x") == Remote("https://quay.io", "brancz/x")
    assert oci.remote("docker.io/x") == Remote("https://registry-1.docker.io", "library/x")
    assert oci.remote("localhost:5000/a/b").url("blobs", "d") == "https://localhost:5000/v2/a/b/blobs/d"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/y", "None"])
def test_only_http_is_fetched(url: str) -> None:
    """No URL can make a local file part of a bundle."""
    with pytest.raises(SourceError, match="neither"):
        download.read(url)
