"""`invoke bundle.make`: fetch everything that an install takes from outside, and write it as one bundle.

Each part comes from the first of its sources that works.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from dws_on_csm.bundle import bundle_file, download, git, oci, sources
from dws_on_csm.bundle.download import Progress, SourceError
from dws_on_csm.config.bundle_contents import Manifest, Part
from dws_on_csm.config.site import Site
from dws_on_csm.model.errors import MALFORMED, error_text
from dws_on_csm.model.lines import lines
from dws_on_csm.model.step import Finding, Refused
from dws_on_csm.model.this_program import version

T = TypeVar("T")

RELEASES = "https://github.com/kubernetes-sigs/kustomize/releases/download/kustomize%2F"
"""kustomize's releases, each with its checksums.txt."""


@dataclass(frozen=True)
class BuildContext:
    """The site with its sources and versions, a folder for files, and the display of the progress.

    begin   called with the title of each download; returns the function that is called with its bytes
    """

    site: Site
    folder: Path
    begin: Callable[[str], Progress]


def make(site: Site, target: Path, begin: Callable[[str], Progress]) -> Manifest:
    """Write the bundle for this site to `target`; replaces an older bundle only when the new one is complete.

    Raises Refused where no source of a part works, SourceError where git fails, OSError where the target cannot be written.
    """
    if target.is_dir():
        raise Refused(Finding("file-is-folder", f"{target} is a folder", "pass the name of the file to write"))
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.absolute().parent) as folder:
        context = BuildContext(site, Path(folder), begin)
        manifest = _fetch(context)
        bundle_file.write(target, manifest, context.folder)
    return manifest


def _fetch(context: BuildContext) -> Manifest:
    """Fetch all parts. The small repository of dws comes first: it shows a wrong version before any image is downloaded."""
    versions = context.site.versions
    dws = repository(context, "dws", f"dws-{versions.dws}.bundle")
    kustomize_version = _wanted_kustomize(context)
    _check_proxy(context)
    proxy_file = f"kube-rbac-proxy-{versions.kube_rbac_proxy}.tar"
    parts = {
        "dws": dws,
        "plugin": repository(context, "plugin", f"dws-slurm-bb-plugin-{versions.plugin}.bundle"),
        "dws_image": image(context, "dws_image", f"dws-image-{versions.dws}.tar"),
        "kube_rbac_proxy_image": image(context, "kube_rbac_proxy_image", proxy_file),
        "kustomize": _kustomize(context, kustomize_version),
    }
    names = {"dws": versions.dws, "plugin": versions.plugin, "kube_rbac_proxy": versions.kube_rbac_proxy}
    return Manifest({**names, "kustomize": kustomize_version}, _made(), parts)


def _made() -> Mapping[str, str]:
    """When and by which program the bundle is made; SOURCE_DATE_EPOCH replaces the time, for reproducible bytes."""
    at = float(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)),
        "by": f"{version()}, {git.text(['--version'], 10.0).strip()}",
    }


def _wanted_kustomize(context: BuildContext) -> str:
    """The version of kustomize in the Makefile of dws, with its v. Raises Refused."""
    tag = f"v{context.site.versions.dws}"
    text = git.text(["-C", str(context.folder / "dws.git"), "show", f"{tag}:Makefile"], 60.0)
    match = re.search(r"^KUSTOMIZE_VERSION *\??= *(\S+)", text, re.MULTILINE)
    if not match:
        fix = "check that sources.dws is the right repository: its Makefile should set KUSTOMIZE_VERSION"
        raise Refused(Finding("kustomize-unknown", f"the Makefile of dws {tag} sets no KUSTOMIZE_VERSION", fix))
    return match[1]


def _check_proxy(context: BuildContext) -> None:
    """Raises Refused where the manifests of dws name another tag of kube-rbac-proxy than the site file."""
    tag, wanted = f"v{context.site.versions.dws}", context.site.versions.kube_rbac_proxy
    search = ["grep", "--no-color", "-h", "-o", "-E", "kube-rbac-proxy:[0-9A-Za-z._-]+", tag, "--", "config"]
    out = git.text(["-C", str(context.folder / "dws.git"), *search], 60.0, codes=(0, 1))  # 1: no match
    tags = {line.partition(":")[2] for line in lines(out)}
    if tags and wanted not in tags:
        text = (
            f"dws {tag} asks for kube-rbac-proxy {' or '.join(sorted(tags))}, but versions.kube_rbac_proxy is {wanted}"
        )
        raise Refused(Finding("kube-rbac-proxy-version", text, f"set versions.kube_rbac_proxy to {min(tags)}"))


def first_that_works(sources: Sequence[str], name: str, take: Callable[[str], T]) -> T:
    """What the first working source gives; Refused with the errors of all sources."""
    errors = []
    for source in sources:
        try:
            return take(source)
        except SourceError as error:
            errors.append(str(error))
        except MALFORMED as error:
            errors.append(f"{source}: {error_text(error)}")
    fix = f"check that this machine reaches it; correct sources.{name} and the versions in the site file"
    raise Refused(Finding("source-failed", "; ".join(errors), fix))


# --- repositories


def repository(context: BuildContext, name: str, file: str) -> Part:
    """A git bundle with the site's tag and its history. The same history makes the same bytes."""
    version, deadline = getattr(context.site.versions, name), context.site.deadlines.clone
    bare, ref = context.folder / f"{name}.git", f"refs/tags/v{version}"
    sources: Sequence[str] = getattr(context.site.sources, name)
    git.text(["init", "--quiet", "--bare", str(bare)], deadline)

    def take(source: str) -> str:
        progress = context.begin(f"{name} v{version} from {source}")
        url = _local_bundle(context, name, source, ref) if source.startswith("/") else source
        git.text(["-C", str(bare), "fetch", "--quiet", "--no-tags", url, f"{ref}:{ref}"], deadline)
        # Deltas of another git, or several threads, would make other bytes each time.
        git.text(["-C", str(bare), "-c", "pack.threads=1", "repack", "-a", "-d", "-f", "-q"], deadline, plain=True)
        create = ["bundle", "create", "--quiet", str(context.folder / file), ref]
        git.text(["-C", str(bare), "-c", "pack.threads=1", *create], deadline, plain=True)
        size = (context.folder / file).stat().st_size
        progress(size, size)
        return source

    source = first_that_works(sources, name, take)
    commit = git.text(["-C", str(bare), "rev-parse", f"{ref}^{{commit}}"], deadline).strip()
    if (pin := context.site.versions.commit(name)) not in ("", commit):
        text = f"v{version} of {source} is commit {commit}, but the site file pins {pin}"
        raise Refused(Finding("commit-differs", text, f"find out which of the two is right; correct versions.{name}"))
    return replace(bundle_file.part(context.folder / file, source), id=commit)


def _local_bundle(context: BuildContext, name: str, source: str, ref: str) -> str:
    """The path of a git bundle made from a local source."""
    file = context.folder / f"{name}.given"
    try:
        file.write_bytes(sources.git_bundle(Path(source), ref.removeprefix("refs/tags/"), context.site.deadlines.clone))
    except OSError as error:
        raise SourceError(str(error)) from None
    return str(file)


# --- images


def image(context: BuildContext, name: str, file: str) -> Part:
    """An image as an archive: pulled from a registry, or the local archive that the site file names."""
    tag = getattr(context.site.versions, sources.VERSION_OF[name])
    target = context.folder / file

    def take(source: str) -> tuple[str, str]:
        if source.startswith("/"):
            _copy(Path(source), target, context.begin(f"{source}, an archive"))
            return source, ""
        base, _, digest = source.partition("@")
        progress = context.begin(f"{base}:{tag} {digest}".rstrip())
        deadline_at = time.monotonic() + context.site.deadlines.image
        return source, oci.pull(oci.remote(base), digest or tag, f"{base}:{tag}", target, deadline_at, progress)

    source, digest = first_that_works(getattr(context.site.sources, name), name, take)
    return replace(bundle_file.part(target, source), id=digest)


def _copy(source: Path, target: Path, progress: Progress) -> None:
    try:
        size = shutil.copyfile(source, target).stat().st_size
    except OSError as error:
        raise SourceError(str(error)) from None
    progress(size, size)


# --- kustomize


def _kustomize(context: BuildContext, version: str) -> Part:
    """kustomize for Linux on amd64: the file that the site file names, or the release, checked by its checksums.txt."""
    given = context.site.sources.kustomize
    release = f"{RELEASES}{version}/"
    source = given.source if given else f"{release}kustomize_{version}_linux_amd64.tar.gz"
    target = context.folder / f"kustomize-{version}{'.tar.gz' if source.endswith('.tar.gz') else ''}"

    def take(source: str) -> str:
        progress = context.begin(f"kustomize {version} from {source}")
        digest = given.sha256 if given else published_sum(release, source.rpartition("/")[2])
        if source.startswith("/"):
            _copy(Path(source), target, progress)
            _check_sum(target, digest)
        else:
            download.save(source, target, digest, time.monotonic() + context.site.deadlines.image, progress)
        return source

    return bundle_file.part(target, first_that_works([source], "kustomize", take))


def published_sum(release: str, file: str) -> str:
    """The checksum of a release's file, from the release's own list. Raises SourceError where the list lacks the file."""
    rows = [line.split() for line in lines(download.read(f"{release}checksums.txt")[0])]
    sums = [row[0] for row in rows if row[1:] == [file]]
    if not sums:
        raise SourceError(f"{release}checksums.txt has no line for {file}")
    return sums[0]


def _check_sum(file: Path, digest: str) -> None:
    if (actual := sha256(file.read_bytes()).hexdigest()) != digest:
        raise SourceError(f"{file.name}: its sha256 is {actual}, not {digest} as in the site file")
