"""Small bundles and what they are made of, for tests."""

from __future__ import annotations

import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

from dws_on_csm.bundle import bundle_file
from dws_on_csm.config.bundle_contents import Manifest
from dws_on_csm.config.load import load
from dws_on_csm.config.site import Site

VERSIONS = {"dws": "0.0.20", "plugin": "0.0.5", "kube_rbac_proxy": "v0.14.1", "kustomize": "v5.1.1"}
FILES = {
    "dws": ("dws-0.0.20.bundle", "https://github.com/DataWorkflowServices/dws.git"),
    "plugin": ("dws-slurm-bb-plugin-0.0.5.bundle", "/srv/plugin.git"),
    "dws_image": ("dws-image-0.0.20.tar", "ghcr.io/dataworkflowservices/dws"),
    "kube_rbac_proxy_image": ("kube-rbac-proxy-v0.14.1.tar", "quay.io/brancz/kube-rbac-proxy"),
    "kustomize": ("kustomize-v5.1.1.tar.gz", "https://github.com/kubernetes-sigs/kustomize"),
}
GIT = "git -c user.name=x -c user.email=x@y -c init.defaultBranch=main"


def parts(folder: Path) -> Manifest:
    """A manifest, and its parts in `folder`: a line each, but for those that are there already."""
    folder.mkdir(exist_ok=True)
    for name, _ in FILES.values():
        if not (folder / name).exists():
            (folder / name).write_text(f"this is {name}\n")
    made = {"at": "2026-01-31T12:00:00Z", "by": "a test"}
    return Manifest(
        VERSIONS, made, {role: bundle_file.part(folder / name, source) for role, (name, source) in FILES.items()}
    )


def written(target: Path, folder: Path) -> Path:
    """A bundle of those parts."""
    bundle_file.write(target, parts(folder), folder)
    return target


def site(folder: Path, text: str = "", given: Path | None = None) -> Site:
    """A site of two hosts, with `text` in its file and, if `given`, supplied by that bundle."""
    file = folder / "hosts.yaml"
    file.write_text("master: {host: nowhere.invalid}\ncontrollers: [{host: nowhere2.invalid}]\n" + text)
    found = load(file)
    return replace(found, bundle=bundle_file.load(given)) if given else found


def repository(folder: Path, tag: str = "v0.0.20", **files: str) -> Path:
    """A git repository with these files (underscores in names are dots) at a tag, and a commit after it."""
    folder.mkdir(parents=True)
    for name, text in {"README": "x\n", **files}.items():
        (folder / name.replace("_", ".")).write_text(text)
    release = f"{GIT} commit -qm {tag} && {GIT} tag -am {tag} {tag}"
    script = f"{GIT} init -q . && git add . && {release} && {GIT} commit -q --allow-empty -m later"
    subprocess.run(["sh", "-c", script], cwd=folder, check=True, timeout=30)
    return folder


def member(path: Path, name: str) -> bytes:
    """A file in a tar."""
    with tarfile.open(path) as tar:
        content = tar.extractfile(name)
        assert content
        return content.read()
