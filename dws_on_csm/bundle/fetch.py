"""The parts of a bundle, each fetched from the first of its sources that gives it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from dws_on_csm.bundle import archive, download, git, oci, supply
from dws_on_csm.bundle.download import Progress, SourceError
from dws_on_csm.config.bundle_contents import Part
from dws_on_csm.config.site import Site
from dws_on_csm.model.errors import MALFORMED, error_text
from dws_on_csm.model.lines import lines
from dws_on_csm.model.step import Finding, Refused

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


def _first(sources: Sequence[str], name: str, take: Callable[[str], T]) -> T:
    """What the first source gives that gives anything; Refused with what each of them said."""
    said = []
    for source in sources:
        try:
            return take(source)
        except SourceError as error:
            said.append(str(error))
        except MALFORMED as error:
            said.append(f"{source}: {error_text(error)}")
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
    if (pin := work.site.versions.commit(name)) not in ("", commit):
        text = f"v{version} of {source} is commit {commit}, and the site file pins {pin}"
        raise Refused(Finding("commit-differs", text, f"find out which of both is right; correct versions.{name}"))
    return replace(archive.part(work.folder / file, source), id=commit)


def _local(work: Work, name: str, source: str, ref: str) -> str:
    file = work.folder / f"{name}.given"
    try:
        file.write_bytes(supply.git_bundle(Path(source), ref.removeprefix("refs/tags/"), work.site.deadlines.clone))
    except OSError as error:
        raise SourceError(str(error)) from None
    return str(file)


# --- images


def image(work: Work, name: str, file: str) -> Part:
    """An image as an archive: pulled from a registry, or the file of this machine that the site file names."""
    tag = getattr(work.site.versions, supply.VERSION_OF[name])
    target = work.folder / file

    def take(source: str) -> tuple[str, str]:
        if source.startswith("/"):
            _copied(Path(source), target, work.begin(f"{source}, an archive"))
            return source, ""
        base, _, digest = source.partition("@")
        progress, ends = work.begin(f"{base}:{tag} {digest}".rstrip()), time.monotonic() + work.site.deadlines.image
        return source, oci.pull(oci.remote(base), digest or tag, f"{base}:{tag}", target, ends, progress)

    source, digest = _first(getattr(work.site.sources, name), name, take)
    return replace(archive.part(target, source), id=digest)


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

    return archive.part(target, _first([source], "kustomize", take))


def _published(release: str, file: str) -> str:
    told = lines(download.read(f"{release}checksums.txt")[0])
    found = [line.split()[0] for line in told if line.split()[1:] == [file]]
    if not found:
        raise SourceError(f"{release}checksums.txt has no line for {file}")
    return found[0]


def _same(file: Path, digest: str) -> None:
    if (seen := sha256(file.read_bytes()).hexdigest()) != digest:
        raise SourceError(f"{file.name}: its sha256 is {seen}, and not {digest} as the site file says")
