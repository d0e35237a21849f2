import functools
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lab import go_builds, images, upstream_fakes

pytestmark = pytest.mark.slow

KUBECTL = """#!/bin/sh
case $1 in
get) exit 1;;
*) echo "$@" >> "$SEEN/words"; cat > "$SEEN/stdin";;
esac
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a web server that serves the fakes as static files."""
    target = tmp_path_factory.mktemp("web")
    upstream_fakes.web_tree(target)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=target)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def clone(site: str, tmp_path: Path) -> Path:
    """A fresh clone of DWS at v0.0.20 with kustomize in bin/, as the install leaves it before make deploy."""
    git(tmp_path, "clone", "-q", "-b", "v0.0.20", f"{site}/github.com/DataWorkflowServices/dws.git", "dws")
    (tmp_path / "dws/bin").mkdir()
    (tmp_path / "dws/bin/kustomize").symlink_to(go_builds.kustomize())
    return tmp_path / "dws"


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "advice.detachedHead=false", *words]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


def make(clone: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs make with a kubectl that notes what it was given in the folder beside the clone, and a Python that has YAML, as
    the lab's master has."""
    tools = clone.parent / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "kubectl").write_text(KUBECTL)
    (tools / "kubectl").chmod(0o755)
    path = f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    own = {**os.environ, "PATH": path, "SEEN": str(clone.parent)}
    return subprocess.run(["make", *words], cwd=clone, env=own, capture_output=True, text=True, timeout=60)


def applied(clone: Path) -> list[dict[str, object]]:
    return [one for one in yaml.safe_load_all((clone.parent / "stdin").read_text()) if one]


def deployed_images(clone: Path) -> set[str]:
    lines = (clone.parent / "stdin").read_text().splitlines()
    return {line.split("image: ")[1] for line in lines if "image: " in line}


@pytest.mark.parametrize("ending", [".git", ""])
def test_both_addresses_clone_as_static_files(site: str, tmp_path: Path, ending: str) -> None:
    """git clones both repositories from a plain web server, with and without .git at the end, tags included."""
    for name, tags in (("dws", "v0.0.19\nv0.0.20\nv0.1.17\nv0.1.9"), ("dws-slurm-bb-plugin", "v0.0.5")):
        git(tmp_path, "clone", "-q", f"{site}/github.com/DataWorkflowServices/{name}{ending}", name)
        assert git(tmp_path / name, "tag") == tags


def test_the_same_files_make_the_same_commits(site: str, tmp_path: Path) -> None:
    """A second build of the repositories gives the same commits, so that clones stay valid over a lab's reset."""
    upstream_fakes.repositories(tmp_path)
    for name in ("dws", "dws-slurm-bb-plugin"):
        there = git(tmp_path, "ls-remote", f"{site}/github.com/DataWorkflowServices/{name}.git")
        assert there == git(tmp_path, "ls-remote", str(tmp_path / f"{name}.git"))


def test_a_given_repository_takes_the_place_of_ours(tmp_path: Path) -> None:
    """A real repository is served with its branches and tags, and does not show where it came from."""
    upstream_fakes.plugin_history(tmp_path / "true")
    git(tmp_path / "true", "tag", "v9")
    upstream_fakes.repositories(tmp_path / "web", plugin=tmp_path / "true")
    assert git(tmp_path / "web/dws-slurm-bb-plugin.git", "tag") == "v0.0.5\nv9"
    assert str(tmp_path) not in (tmp_path / "web/dws-slurm-bb-plugin.git/config").read_text()


def test_deploy_applies_the_csm_overlay_and_leaves_the_clone_clean(clone: Path) -> None:
    """make deploy OVERLAY=csm applies 34 objects, the tag's images among them, and git sees no change."""
    done = make(clone, "deploy", "OVERLAY=csm")
    assert done.returncode == 0, done.stderr
    assert len(applied(clone)) == 34
    assert deployed_images(clone) == {"registry.local/dws:0.0.20", "registry.local/kube-rbac-proxy:v0.14.1"}
    ours = [one for one in applied(clone) if one["kind"] in ("Certificate", "Issuer")]
    assert [one["apiVersion"] for one in ours] == ["cert-manager.io/v1alpha3"] * 2
    assert git(clone, "status", "--porcelain") == ""
    assert (clone / "config/begin/kustomization.yaml").exists()


def test_undeploy_deletes_all_but_the_namespace(clone: Path) -> None:
    """make undeploy OVERLAY=csm deletes every object that deploy applied, but for the Namespace."""
    assert make(clone, "deploy", "OVERLAY=csm").returncode == 0
    before = {(one["kind"], str(one["metadata"])) for one in applied(clone)}
    assert make(clone, "undeploy", "OVERLAY=csm").returncode == 0
    gone = before - {(one["kind"], str(one["metadata"])) for one in applied(clone)}
    assert [kind for kind, _ in gone] == ["Namespace"]


def test_v0_0_19_deploys_the_image_of_0_0_18_with_the_csm_overlay(clone: Path) -> None:
    """At v0.0.19 the csm overlay keeps the tag of its own manifests, as upstream's does; IMAGE_TAG_BASE corrects it."""
    git(clone, "checkout", "-q", "v0.0.19")
    assert make(clone, "deploy", "OVERLAY=csm").returncode == 0
    assert "registry.local/dws:0.0.18" in deployed_images(clone)
    assert make(clone, "deploy", "OVERLAY=csm", "IMAGE_TAG_BASE=registry.local/dws").returncode == 0
    assert "registry.local/dws:0.0.19" in deployed_images(clone)


def test_v0_1_9_deploys_the_plugins_role_under_another_name(clone: Path) -> None:
    """From v0.1.1 on the role is deployed as dws-workload-manager; the file still has its old name, and the same rules."""
    git(clone, "checkout", "-q", "v0.1.9")
    assert make(clone, "deploy", "OVERLAY=csm").returncode == 0
    roles = {one["metadata"]["name"]: one["rules"] for one in applied(clone) if one["kind"] == "ClusterRole"}  # type: ignore[index]
    by_hand = yaml.safe_load((clone / "config/rbac/workload_manager_role.yaml").read_text())
    assert by_hand["metadata"]["name"] == "workload-manager" and "workload-manager" not in roles
    assert roles["dws-workload-manager"] == by_hand["rules"]
    assert deployed_images(clone) == {"registry.local/dws:0.1.9", "registry.local/kube-rbac-proxy:v0.14.1"}
    assert len(applied(clone)) == 35 and git(clone, "status", "--porcelain") == ""


def test_a_modified_clone_is_dirty(clone: Path) -> None:
    """A changed file makes the image's tag end in -dirty, and VERSION= on the command line overrides it."""
    with (clone / "README.md").open("a") as readme:
        readme.write("changed\n")
    assert make(clone, "deploy", "OVERLAY=csm").returncode == 0
    assert "registry.local/dws:0.0.20-dirty" in deployed_images(clone)
    assert make(clone, "deploy", "OVERLAY=csm", "VERSION=0.0.20").returncode == 0
    assert "registry.local/dws:0.0.20" in deployed_images(clone)


def test_without_tags_the_commit_is_the_version(clone: Path) -> None:
    """A clone without tags deploys an image tag of 40 digits, and exits with 0."""
    git(clone, "tag", "-d", "v0.0.19", "v0.0.20")
    assert make(clone, "deploy", "OVERLAY=csm").returncode == 0
    assert f"registry.local/dws:{git(clone, 'rev-parse', 'HEAD')}" in deployed_images(clone)


def test_without_git_there_is_no_version(clone: Path) -> None:
    """A tree without .git cannot be deployed: git-version-gen has no version and no fallback."""
    (clone / ".git").rename(clone.parent / "away")
    done = make(clone, "deploy", "OVERLAY=csm")
    assert done.returncode == 2
    assert "parameter not set" in done.stderr
    assert not (clone.parent / "words").exists()


def test_another_kustomize_is_replaced(clone: Path) -> None:
    """make kustomize deletes a kustomize of another version and runs the install script with the version and folder."""
    (clone / "bin/kustomize").unlink()
    (clone / "bin/kustomize").write_text("#!/bin/sh\necho '(devel)'\n")
    (clone / "bin/kustomize").chmod(0o755)
    script = clone.parent / "install.sh"
    script.write_text('test ! -e "$2/kustomize" && echo "asked for $1 in $2"\n')
    done = make(clone, "kustomize", f"KUSTOMIZE_INSTALL_SCRIPT=file://{script}")
    assert f"asked for 5.1.1 in {clone}/bin" in done.stdout


def test_images_differ_by_version_and_run_as_a_number() -> None:
    """Each tag of DWS's image is an image of its own, so that what a registry holds tells the versions apart."""
    made = upstream_fakes.images()
    assert set(made) == {f"{upstream_fakes.DWS_IMAGE}:{t}" for t in upstream_fakes.DWS_IMAGE_TAGS} | {
        upstream_fakes.PROXY_IMAGE
    }
    assert len({images.digest(path) for path in made.values()}) == len(made)
