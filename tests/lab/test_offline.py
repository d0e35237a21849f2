"""A site without a way out: a bundle made outside installs it; and sites with a proxy, or with files on the operator's machine."""

import hashlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.bundle import bundle_file
from dws_on_csm.model.actions import STATE
from lab.model import Lab
from tests.lab import outside, product, scene
from tests.lab.conftest import On
from tests.lab.product import Answer
from tests.lab.scene import BACKUP, MASTER, PRIMARY

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]
WORKAREA = "/root/dws-on-csm"
DAMAGED = "dws-image-0.0.20.tar"
STAGES = {"workarea", "images", "deploy", "access", "plugin", "slurm", "verify"}


@dataclass(frozen=True)
class Offline:
    """A site that was installed from a bundle while nothing outside could be reached.

    damaged   the attempt with a bundle of which one byte is different; `touched` is what that left on the hosts
    done      the install
    """

    bundle: Path
    damaged: Answer
    touched: str
    done: Answer


@pytest.fixture(scope="module")
def bundle(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for the lab, made on a connected machine."""
    target = tmp_path_factory.mktemp("made") / "site.bundle"
    outside.make_bundle(lab, scene.site_file(lab), target, {"SOURCE_DATE_EPOCH": "1700000000"})
    return target


@pytest.fixture(scope="module")
def offline(lab: Lab, bundle: Path) -> Offline:
    """The pristine site, installed."""
    scene.pristine(lab)
    site, wrong = scene.site_file(lab), _with_one_other_byte(bundle)
    with outside.cut(lab):
        damaged = product.install(site, f"--bundle={wrong}")
        touched = "".join(scene.everywhere(lab, f"ls -d {STATE} {WORKAREA} || true", MASTER, PRIMARY, BACKUP).values())
        done = product.install(site, f"--bundle={bundle}")
    return Offline(bundle, damaged, touched, done)


def _with_one_other_byte(bundle: Path) -> Path:
    content, found = bytearray(bundle.read_bytes()), bundle_file.load(bundle)
    content[found.offsets[DAMAGED] + 1_000_000] ^= 1
    wrong = bundle.with_name("wrong.bundle")
    wrong.write_bytes(content)
    return wrong


def test_a_damaged_bundle_is_refused_before_anything_is_touched(offline: Offline) -> None:
    """One byte is enough: exit code 3, the part is named, no run begins and no host has anything of it."""
    assert offline.damaged.code == 3
    assert "bundle-damaged" in offline.damaged.err and f"wrong checksums: {DAMAGED}\n" in offline.damaged.err
    assert (offline.damaged.folder, offline.damaged.out, offline.touched) == (None, "", "")


def test_a_site_without_a_way_out_is_installed_from_a_bundle(offline: Offline) -> None:
    """With upstream's cable pulled everything is put right in one run, and proven by a job."""
    assert offline.done.code == 0, offline.done.err
    assert {one.partition(".")[0] for one in offline.done.having("changed")} == STAGES
    assert offline.done.having("failed", "refused", "skipped", "unknown", "would change") == set()


THERE = {
    "the clone describes itself by its tag": (f"git -C {WORKAREA}/dws-0.0.20 describe --tags --dirty", "v0.0.20"),
    "its origin is where it came from": (
        f"git -C {WORKAREA}/dws-0.0.20 remote get-url origin",
        "https://github.com/DataWorkflowServices/dws.git",
    ),
    "so is the plugin's": (
        f"git -C {WORKAREA}/dws-slurm-bb-plugin-0.0.5 remote get-url origin",
        "https://github.com/DataWorkflowServices/dws-slurm-bb-plugin.git",
    ),
    "the kustomize that its Makefile asks for": (f"{WORKAREA}/dws-0.0.20/bin/kustomize version", "v5.1.1"),
    "nothing of the bundle is left": (f"find {STATE}/parts -type f; find {WORKAREA} -name '*.part'", ""),
}


@pytest.mark.parametrize(("command", "says"), THERE.values(), ids=THERE.keys())
def test_what_came_from_the_bundle_is_as_if_it_had_come_from_outside(
    offline: Offline, on: On, command: str, says: str
) -> None:
    """Repositories, their origins, kustomize; and what was brought is gone again."""
    assert on(MASTER, command).strip() == says


def test_the_registry_has_the_images_that_the_bundle_tells_of(offline: Offline, on: On) -> None:
    """The digest of each image's configuration is that in the manifest, which came from the registry outside."""
    parts = bundle_file.load(offline.bundle).manifest.parts
    there = dict(line.split() for line in on(MASTER, f"cat {STATE}/images").splitlines())
    assert there == {
        "registry.local/dws:0.0.20": parts["dws_image"].id,
        "registry.local/kube-rbac-proxy:v0.14.1": parts["kube_rbac_proxy_image"].id,
    }


def test_a_second_run_needs_no_bundle_and_changes_nothing(lab: Lab, offline: Offline) -> None:
    """Everything is as it should be, still without a way out."""
    with outside.cut(lab):
        again = product.install(scene.site_file(lab))
    assert again.code == 0, again.err
    assert again.having("changed", "would change", "unknown", "skipped") == set()


@pytest.mark.matrix
def test_the_same_sources_make_the_same_bundle(lab: Lab, bundle: Path, tmp_path: Path) -> None:
    """Byte for byte, and what bundle.make prints is the checksum that sha256sum says."""
    site, again = scene.site_file(lab), tmp_path / "again.bundle"
    told = outside.make_bundle(lab, site, again, {"SOURCE_DATE_EPOCH": "1700000000"})
    with again.open("rb") as made, bundle.open("rb") as before:
        digest, first = (hashlib.file_digest(file, "sha256").hexdigest() for file in (made, before))
    assert digest == first
    assert f"sha256 {digest}" in told
    assert [path.name for path in tmp_path.iterdir()] == ["again.bundle"]


# --- other ways in


@pytest.fixture
def bare_master(offline: Offline, on: On) -> Iterator[None]:
    """The installed site, whose master has to get everything anew."""
    on(MASTER, f"rm -rf {WORKAREA} {STATE}/images; podman rmi --all --force", deadline=60)
    yield


GOTTEN = {f"{step}@{MASTER}" for step in ("workarea.clone", "workarea.kustomize", "images.pushed", "plugin.repository")}


def test_files_of_the_operators_machine_are_sources_too(
    lab: Lab, offline: Offline, on: On, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A repository, a git bundle, archives of images in OCI's and in docker's format, a kustomize: no way out is needed."""
    sources = _unpacked(lab, offline.bundle, tmp_path)
    request.getfixturevalue("bare_master")
    with outside.cut(lab):
        done = product.install(scene.variant(lab, tmp_path, {"sources": sources}))
    assert done.code == 0, done.err
    assert done.having("changed") >= GOTTEN
    assert on(MASTER, f"git -C {WORKAREA}/dws-0.0.20 describe --tags --dirty").strip() == "v0.0.20"
    assert on(MASTER, f"find {STATE}/parts -type f") == ""


def _unpacked(lab: Lab, bundle: Path, folder: Path) -> dict[str, Any]:
    """A bundle's parts as sources of a site file, one of each kind."""
    subprocess.run(["tar", "-xf", bundle, "-C", folder], check=True, timeout=60)
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True, timeout=60)
    parts = bundle_file.load(bundle).manifest.parts
    repository, archive = folder / "dws", folder / "proxy.docker.tar"
    clone = ["git", "clone", "--quiet", "--mirror", str(folder / parts["dws"].file), str(repository)]
    subprocess.run(clone, check=True, timeout=60)
    save = "podman save --quiet --format docker-archive registry.local/kube-rbac-proxy:v0.14.1"
    with archive.open("wb") as out:
        subprocess.run(["ssh", "-F", lab.state / "ssh_config", MASTER, save], stdout=out, check=True, timeout=60)
    kustomize = parts["kustomize"]
    return {
        "dws": [str(repository)],
        "plugin": [str(folder / parts["plugin"].file)],
        "dws_image": [str(folder / parts["dws_image"].file)],
        "kube_rbac_proxy_image": [str(archive)],
        "kustomize": {"from": str(folder / kustomize.file), "sha256": kustomize.sha256},
    }


@pytest.mark.matrix
@pytest.mark.usefixtures("bare_master")
def test_a_master_behind_a_proxy_gets_everything_through_it(lab: Lab, tmp_path: Path) -> None:
    """git, podman and curl reach the sources through the site file's proxy, where there is no other way."""
    with outside.proxy(lab) as proxy, outside.no_way_from(lab, MASTER):
        master = {"host": MASTER, "proxies": {"https": proxy.url}}
        done = product.install(scene.variant(lab, tmp_path, {"master": master}))
    assert done.code == 0, done.err
    assert done.having("changed") >= GOTTEN
    assert {"github.com", "ghcr.io", "quay.io", "raw.githubusercontent.com"} <= proxy.asked
    assert not {"registry.local", "10.96.0.1"} & proxy.asked
