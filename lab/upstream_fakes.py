"""The fakes of DWS, its Slurm plugin and kustomize's release in the lab: repositories, a web tree, images.

upstream/ holds the files: dws/ is v0.0.20, dws-0.0.19/ and dws-0.1.9/ what is different in those, dws-slurm-bb-plugin/
is v0.0.5, dws-controller/ the program in DWS's image. v0.1.17 is v0.1.9 with newer versions of the API. Real repositories can
replace them.
"""

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import yaml

from lab import cache, go_builds
from lab import images as image_format

UPSTREAM = Path(__file__).parent / "upstream"
NOBODY = "A fake"
DWS_IMAGE = "ghcr.io/dataworkflowservices/dws"
# v0.0.19's own manifests ask for 0.0.18 when they are deployed with the csm overlay.
DWS_IMAGE_TAGS = ("0.0.18", "0.0.19", "0.0.20", "0.1.9", "0.1.17")
NEWER = {"v1alpha7": True, "v1alpha6": True, "v1alpha5": False, "v1alpha4": False}
"""The API versions that v0.1.17 knows, and whether it serves them; the first one is stored."""
PROXY_IMAGE = "quay.io/brancz/kube-rbac-proxy:v0.14.1"


def web_tree(target: Path, dws: Path | None = None, plugin: Path | None = None) -> None:
    """Fills `target` with what github.com and raw.githubusercontent.com serve in the lab, a folder for each name.

    Everything is static files. `dws` and `plugin` are real git repositories that replace the fakes.
    """
    repositories(target / "github.com/DataWorkflowServices", dws, plugin)
    script = target / "raw.githubusercontent.com/kubernetes-sigs/kustomize/master/hack/install_kustomize.sh"
    script.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(UPSTREAM / "kustomize/install_kustomize.sh", script)
    # A web server takes the %2F in the release's address for a slash.
    release(target / f"github.com/kubernetes-sigs/kustomize/releases/download/kustomize/v{go_builds.KUSTOMIZE}")


def repositories(target: Path, dws: Path | None = None, plugin: Path | None = None) -> None:
    """Makes bare repositories in `target` that git clones as static files, with and without .git at the end.

    dws.git has the annotated tags v0.0.19, v0.0.20, v0.1.9 and v0.1.17, dws-slurm-bb-plugin.git v0.0.5: always the same commits.
    A git repository in `dws` or `plugin` is served instead.
    """
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for name, given, make in (("dws", dws, dws_history), ("dws-slurm-bb-plugin", plugin, plugin_history)):
            source = given
            if source is None:
                source = Path(scratch) / name
                make(source)
            _publish(source, target / f"{name}.git")


def dws_history(folder: Path) -> None:
    """Makes `folder` a repository with our DWS: v0.0.19, v0.0.20, v0.1.9, then v0.1.17 on its branch master."""
    _begin(folder, "master")
    _copy("dws", folder)
    _copy("dws-0.0.19", folder)
    _release(folder, "v0.0.19", "2024-03-21T16:00:00-05:00")
    _copy("dws", folder)
    _release(folder, "v0.0.20", "2024-04-01T11:00:00-05:00")
    _copy("dws-0.1.9", folder)
    _release(folder, "v0.1.9", "2025-02-06T09:42:00-06:00")
    _serve_newer_versions(folder, "0.1.9", "0.1.17")
    _release(folder, "v0.1.17", "2026-03-05T09:42:00-06:00")


def _serve_newer_versions(folder: Path, tag: str, newer: str) -> None:
    """Gives the CRDs NEWER in place of v1alpha1 and v1alpha2, and Workflows the field forceReady; the tag becomes `newer`."""
    first = next(iter(NEWER))
    for path in (folder / "config/crd/bases").iterdir():
        crd = yaml.safe_load(path.read_text())
        stored = next(version for version in crd["spec"]["versions"] if version["storage"])
        if crd["spec"]["names"]["kind"] == "Workflow":
            spec = stored["schema"]["openAPIV3Schema"]["properties"]["spec"]
            spec["properties"]["forceReady"] = {"type": "boolean", "default": False}
            spec["required"] = [*spec["required"], "forceReady"]
        crd["spec"]["versions"] = [
            {**stored, "name": name, "served": served, "storage": name == first} for name, served in NEWER.items()
        ]
        text = yaml.dump(json.loads(json.dumps(crd)), sort_keys=False)  # by JSON: without anchors
        _rewrite(path, f"{path.read_text().partition(chr(10))[0]}\n{text}")
    for name in ("config/webhook/manifests.yaml", "config/samples/dws_v1alpha2_workflow.yaml"):
        _rewrite(folder / name, (folder / name).read_text().replace("v1alpha2", first))
    kustomization = folder / "config/manager/kustomization.yaml"
    _rewrite(kustomization, kustomization.read_text().replace(tag, newer))


def _rewrite(path: Path, text: str) -> None:
    """Replaces a file by another one: git would take a new text of the same size and time for the one that it knows."""
    path.unlink()
    path.write_text(text)


def plugin_history(folder: Path) -> None:
    """Makes `folder` a repository with our plugin: v0.0.5 on its branch main."""
    _begin(folder, "main")
    _copy("dws-slurm-bb-plugin", folder)
    _release(folder, "v0.0.5", "2024-04-02T15:00:00-05:00")


def _copy(name: str, folder: Path) -> None:
    """Copies files of upstream/ with a time of their own: by an older one git would take a new text of the same size for
    the one that it knows."""
    shutil.copytree(UPSTREAM / name, folder, dirs_exist_ok=True, copy_function=shutil.copy)


def release(folder: Path) -> None:
    """Puts our build of kustomize into `folder` as its release has it: an archive, and checksums.txt (SHA-256)."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"kustomize_v{go_builds.KUSTOMIZE}_linux_amd64.tar.gz"
    data = _packed("kustomize", go_builds.kustomize())
    (folder / name).write_bytes(data)
    (folder / "checksums.txt").write_text(f"{hashlib.sha256(data).hexdigest()}  {name}\n")


def images(announce: go_builds.Announce = go_builds.say) -> dict[str, Path]:
    """The images that the world outside has, by full name: OCI archives, from the cache or made now.

    DWS's tags differ in what /version says alone. kube-rbac-proxy is called v0.14.1, which DWS asks for, but is
    v0.14.2, because v0.14.1 is not in Go's checksum database.
    """
    program, proxy = manager(announce), go_builds.kube_rbac_proxy(announce)

    def make(folder: Path) -> None:
        for tag in DWS_IMAGE_TAGS:
            version = folder / f"version-{tag}"
            version.write_text(f"{tag}\n")
            files = {"/manager": program, "/version": version}
            image_format.archive(folder / f"dws-{tag}.tar", f"{DWS_IMAGE}:{tag}", files, ["/manager"])
        name = "/usr/local/bin/kube-rbac-proxy"
        image_format.archive(folder / "kube-rbac-proxy.tar", PROXY_IMAGE, {name: proxy}, [name])

    names = [program.parent.name, proxy.parent.name, *DWS_IMAGE_TAGS]
    entry = cache.entry("fake-images", [*names, Path(image_format.__file__)], make, announce)
    dws = {f"{DWS_IMAGE}:{tag}": entry / f"dws-{tag}.tar" for tag in DWS_IMAGE_TAGS}
    return {**dws, PROXY_IMAGE: entry / "kube-rbac-proxy.tar"}


def manager(announce: go_builds.Announce = go_builds.say) -> Path:
    """The program in DWS's image, a static binary of 40 MB: controller or webhook."""
    return go_builds.go_program("dws-manager", UPSTREAM / "dws-controller", ".", expect="60 s", announce=announce)


def _begin(folder: Path, branch: str) -> None:
    folder.mkdir(parents=True)
    _git(folder, "init", "-q", "--template=", "-b", branch)


def _release(folder: Path, tag: str, date: str) -> None:
    _git(folder, "add", "-A")
    _git(folder, "commit", "-q", "-m", f"{NOBODY} for {tag}", date=date)
    _git(folder, "tag", "-a", "-m", f"{NOBODY} for {tag}", tag, date=date)


def _publish(source: Path, bare: Path) -> None:
    """Makes `bare` a repository with all of `source`, packed, and with the lists that static serving needs."""
    shutil.rmtree(bare, ignore_errors=True)
    _git(bare.parent, "clone", "-q", "--bare", "--no-hardlinks", "--template=", str(source.resolve()), bare.name)
    _git(bare, "remote", "remove", "origin")
    _git(bare, "repack", "-adq")
    _git(bare, "pack-refs", "--all")
    _git(bare, "update-server-info")
    without = bare.with_suffix("")
    without.unlink(missing_ok=True)
    without.symlink_to(bare.name)


def _git(folder: Path, *words: str, date: str = "") -> None:
    """Runs git without the settings of this machine or its user: the same files make the same commits everywhere."""
    own = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.environ["PATH"], "LC_ALL": "C"}
    for who in ("AUTHOR", "COMMITTER"):
        own |= {f"GIT_{who}_NAME": NOBODY, f"GIT_{who}_EMAIL": "nobody@lab.invalid", f"GIT_{who}_DATE": date}
    # A repository that another user owns may be given: it is only read.
    command = ["git", "-c", "core.autocrlf=false", "-c", "safe.directory=*", *words]
    done = subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        raise RuntimeError(f"git {words[0]} in {folder} exited {done.returncode}: {done.stderr.strip()}")


def _packed(name: str, program: Path) -> bytes:
    """A tar.gz with one program; the same bytes for the same program."""
    packed = io.BytesIO()
    header = tarfile.TarInfo(name)
    header.size, header.mode = program.stat().st_size, 0o755
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, compresslevel=6) as stream,
        tarfile.open(fileobj=stream, mode="w") as tar,
        program.open("rb") as data,
    ):
        tar.addfile(header, data)
    return packed.getvalue()
