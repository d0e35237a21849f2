"""`invoke bundle.make`: everything that an install takes from outside, fetched here and written as one bundle."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from fabfile import bundle, download, git, imagepull, supply
from fabfile.bundle import Manifest, Part
from fabfile.download import Progress, SourceError
from fabfile.inventory import ROOT, Site
from fabfile.step import Finding, Refused

T = TypeVar("T")

RELEASES = "https://github.com/kubernetes-sigs/kustomize/releases/download/kustomize%2F"
"""Where kustomize's releases are, each with its checksums.txt."""


@dataclass(frozen=True)
class Work:
    """What is at work: the site whose sources and versions count, a folder for files, and who hears how far it is.

    begin   called with the title of each thing that is fetched; what it returns is told of its bytes
    """

    site: Site
    folder: Path
    begin: Callable[[str], Progress]


def make(site: Site, target: Path, begin: Callable[[str], Progress]) -> Manifest:
    """Write the bundle for this site to `target`; in place of an older one only when it is whole.

    Raises Refused where a source can't be had, SourceError where git fails, and OSError where nothing can be written.
    """
    if target.is_dir():
        raise Refused(Finding("file-is-folder", f"{target} is a folder", "say the name of the file to be made"))
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.absolute().parent) as folder:
        work = Work(site, Path(folder), begin)
        manifest = _gathered(work)
        bundle.write(target, manifest, work.folder)
    return manifest


def _gathered(work: Work) -> Manifest:
    """What doesn't fit together is refused before images are fetched: dws says which kustomize and proxy it wants."""
    versions = work.site.versions
    dws = repository(work, "dws", f"dws-{versions.dws}.bundle")
    asked = wanted_kustomize(work)
    check_proxy(work)
    parts = {
        "dws": dws,
        "plugin": repository(work, "plugin", f"dws-slurm-bb-plugin-{versions.plugin}.bundle"),
        "dws_image": image(work, "dws_image", f"dws-image-{versions.dws}.tar"),
        "kube_rbac_proxy_image": image(
            work, "kube_rbac_proxy_image", f"kube-rbac-proxy-{versions.kube_rbac_proxy}.tar"
        ),
        "kustomize": kustomize(work, asked),
    }
    names = {"dws": versions.dws, "plugin": versions.plugin, "kube_rbac_proxy": versions.kube_rbac_proxy}
    return Manifest({**names, "kustomize": asked}, made(), parts)


def made() -> Mapping[str, str]:
    """When a bundle is made and by what; SOURCE_DATE_EPOCH is taken for the time, for who wants the same bytes twice."""
    at = float(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)),
        "by": f"{project['name']} {project['version']}, {git.says(['--version'], 10.0).strip()}",
    }


def _first(sources: Sequence[str], name: str, take: Callable[[str], T]) -> T:
    """What the first source gives that gives anything; Refused with what each of them said."""
    said = []
    for source in sources:
        try:
            return take(source)
        except SourceError as error:
            said.append(str(error))
    fix = f"see whether this machine reaches it, and correct sources.{name} and the versions in the site file"
    raise Refused(Finding("source-failed", "; ".join(said), fix))


# --- repositories


def repository(work: Work, name: str, file: str) -> Part:
    """A git bundle with the site's tag and what it needs. The same history makes the same bytes."""
    version, deadline = getattr(work.site.versions, name), work.site.deadlines.clone
    bare, ref = work.folder / f"{name}.git", f"refs/tags/v{version}"
    sources: Sequence[str] = getattr(work.site.sources, name)
    git.says(["init", "--quiet", "--bare", str(bare)], deadline)

    def take(source: str) -> str:
        progress = work.begin(f"{name} v{version} from {source}")
        there = _local(work, name, source, ref) if source.startswith("/") else source
        git.says(["-C", str(bare), "fetch", "--quiet", "--no-tags", there, f"{ref}:{ref}"], deadline)
        # deltas as another git made them, or several threads, would make other bytes each time
        git.says(["-C", str(bare), "-c", "pack.threads=1", "repack", "-a", "-d", "-f", "-q"], deadline, plain=True)
        create = ["bundle", "create", "--quiet", str(work.folder / file), ref]
        git.says(["-C", str(bare), "-c", "pack.threads=1", *create], deadline, plain=True)
        size = (work.folder / file).stat().st_size
        progress(size, size)
        return source

    source = _first(sources, name, take)
    commit = git.says(["-C", str(bare), "rev-parse", f"{ref}^{{commit}}"], deadline).strip()
    return replace(bundle.part(work.folder / file, source), id=commit)


def _local(work: Work, name: str, source: str, ref: str) -> str:
    file = work.folder / f"{name}.given"
    try:
        file.write_bytes(supply.git_bundle(Path(source), ref.removeprefix("refs/tags/"), work.site.deadlines.clone))
    except OSError as error:
        raise SourceError(str(error)) from None
    return str(file)


def wanted_kustomize(work: Work) -> str:
    """The version of kustomize that the Makefile of dws asks for, with its v. Raises Refused."""
    tag = f"v{work.site.versions.dws}"
    text = git.says(["-C", str(work.folder / "dws.git"), "show", f"{tag}:Makefile"], 60.0)
    found = re.search(r"^KUSTOMIZE_VERSION *\??= *(\S+)", text, re.MULTILINE)
    if not found:
        fix = "see which KUSTOMIZE_VERSION it asks for; another repository in sources.dws may be meant"
        raise Refused(Finding("kustomize-unknown", f"the Makefile of dws {tag} asks for no kustomize", fix))
    return found[1]


def check_proxy(work: Work) -> None:
    """Raises Refused where the manifests of dws name another tag of kube-rbac-proxy than the site file."""
    tag, wanted = f"v{work.site.versions.dws}", work.site.versions.kube_rbac_proxy
    search = ["grep", "--no-color", "-h", "-o", "-E", "kube-rbac-proxy:[0-9A-Za-z._-]+", tag, "--", "config"]
    lines = git.says(
        ["-C", str(work.folder / "dws.git"), *search], 60.0, codes=(0, 1)
    ).splitlines()  # 1: nowhere is one
    said = {line.partition(":")[2] for line in lines}
    if said and wanted not in said:
        text = f"dws {tag} asks for kube-rbac-proxy {' or '.join(sorted(said))}, and versions.kube_rbac_proxy says {wanted}"
        raise Refused(Finding("kube-rbac-proxy-version", text, f"set versions.kube_rbac_proxy to {min(said)}"))


# --- images


def image(work: Work, name: str, file: str) -> Part:
    """An image as an archive: pulled from a registry, or the file of this machine that the site file names."""
    tag = getattr(work.site.versions, supply.VERSION_OF[name])
    target = work.folder / file

    def take(source: str) -> tuple[str, str]:
        if source.startswith("/"):
            _copied(Path(source), target, work.begin(f"{source}, an archive"))
            return source, ""
        progress, ends = work.begin(f"{source}:{tag}"), time.monotonic() + work.site.deadlines.image
        return source, imagepull.pull(imagepull.remote(source), tag, f"{source}:{tag}", target, ends, progress)

    source, digest = _first(getattr(work.site.sources, name), name, take)
    return replace(bundle.part(target, source), id=digest)


def _copied(source: Path, target: Path, progress: Progress) -> None:
    try:
        size = shutil.copyfile(source, target).stat().st_size
    except OSError as error:
        raise SourceError(str(error)) from None
    progress(size, size)


# --- kustomize


def kustomize(work: Work, version: str) -> Part:
    """Its release for Linux on amd64, checked by the release's own checksums; or what the site file names."""
    given = work.site.sources.kustomize
    release = f"{RELEASES}{version}/"
    source = given.source if given else f"{release}kustomize_{version}_linux_amd64.tar.gz"
    target = work.folder / f"kustomize-{version}{'.tar.gz' if source.endswith('.tar.gz') else ''}"

    def take(source: str) -> str:
        progress = work.begin(f"kustomize {version} from {source}")
        digest = given.sha256 if given else _published(release, source.rpartition("/")[2])
        if source.startswith("/"):
            _copied(Path(source), target, progress)
            _same(target, digest)
        else:
            download.save(source, target, digest, time.monotonic() + work.site.deadlines.image, progress)
        return source

    return bundle.part(target, _first([source], "kustomize", take))


def _published(release: str, file: str) -> str:
    lines = download.read(f"{release}checksums.txt")[0].decode().splitlines()
    found = [line.split()[0] for line in lines if line.split()[1:] == [file]]
    if not found:
        raise SourceError(f"{release}checksums.txt has no line for {file}")
    return found[0]


def _same(file: Path, digest: str) -> None:
    if (seen := sha256(file.read_bytes()).hexdigest()) != digest:
        raise SourceError(f"{file.name}: its sha256 is {seen}, and not {digest} as the site file says")
