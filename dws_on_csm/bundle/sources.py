"""Where an install gets its parts: from the bundle, from files of this machine, or from what the master reaches itself.

Files are sent to the master for the script that needs them, and removed from there when it is finished.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dws_on_csm.bundle import bundle_file, git
from dws_on_csm.bundle.download import SourceError
from dws_on_csm.config.bundle_contents import Bundle
from dws_on_csm.config.site import Site
from dws_on_csm.model.actions import PARTS, Upload
from dws_on_csm.model.step import Finding, Refused

VERSION_OF = {"dws_image": "dws", "kube_rbac_proxy_image": "kube_rbac_proxy"}
"""Image -> the site's version that is its tag."""


@dataclass(frozen=True)
class Supply:
    """The files to send to the master first, and the sources for its scripts, to be tried in order.

    sources   git URLs, names of images, or paths on the master of the sent files: a git bundle, an image's archive
    origin    the URL that becomes the origin of a clone from a git bundle; "" for none
    """

    uploads: Sequence[Upload]
    sources: Sequence[str]
    origin: str = ""


def settings(site: Site) -> dict[str, str]:
    """The settings of templates/lib/proxy.sh."""
    proxies = site.master.proxies
    return {"proxy": proxies.https, "unproxied": ",".join(proxies.no_proxy)}


def repository(site: Site, name: str) -> Supply:
    """The repository `name` ("dws", "plugin") at the site's tag. Raises Refused for a missing local file."""
    tag = f"v{getattr(site.versions, name)}"
    listed = getattr(site.sources, name)
    urls = [source for source in listed if not source.startswith("/")]
    if site.bundle and site.bundle.manifest.versions[name] == getattr(site.versions, name):
        source = site.bundle.manifest.parts[name].source
        origins = [*urls, *([] if source.startswith("/") else [source])]
        return _bundled(site, name, site.deadlines.clone, (origins or [""])[0])
    supply = _listed(listed, name, site.deadlines.clone, lambda path: partial(git_bundle, path, tag), lambda url: url)
    return Supply(supply.uploads, supply.sources, (urls or [""])[0])


def image(site: Site, name: str, tag: str) -> Supply:
    """The image `name` ("dws_image") with a tag. Raises Refused where the bundle or this machine lacks it."""
    if site.bundle:
        if (has := site.bundle.manifest.versions[VERSION_OF[name]]) != tag:
            text = f"the manifests ask for the tag {tag} of {VERSION_OF[name]}, but {site.bundle.path} has {has}"
            fix = f"set versions.{VERSION_OF[name]} to {tag} and make the bundle again: `invoke bundle.make FILE`"
            raise Refused(Finding("bundle-image", text, fix))
        return _bundled(site, name, site.deadlines.image)
    listed = getattr(site.sources, name)
    return _listed(
        listed,
        name,
        site.deadlines.image,
        lambda path: path.read_bytes,
        lambda base: base if "@" in base else f"{base}:{tag}",
    )


def kustomize(site: Site, version: str) -> Upload | None:
    """The bundle's archive of kustomize, as PARTS/`name`; None without a bundle, or where it has another version."""
    if site.bundle is None or site.bundle.manifest.versions["kustomize"] != version:
        return None
    return _bundled(site, "kustomize", site.deadlines.clone).uploads[0]


def _bundled(site: Site, role: str, deadline: float, origin: str = "") -> Supply:
    assert site.bundle is not None
    part = site.bundle.manifest.parts[role]
    title = f"send {part.file}, {part.size / 1e6:.1f} MB, from {site.bundle.path.name}"
    upload = Upload(part.file, title, partial(_read, site.bundle, role), deadline)
    return Supply([upload], [f"{PARTS}/{part.file}"], origin)


def _read(bundle: Bundle, role: str) -> bytes:
    """A part's content. Raises Refused where the file has changed since it was checked."""
    try:
        return bundle.read(role)
    except ValueError as error:
        raise bundle_file.damaged(bundle.path, str(error)) from error


def _listed(
    listed: Sequence[str],
    name: str,
    deadline: float,
    read: Callable[[Path], Callable[[], bytes]],
    spell: Callable[[str], str],
) -> Supply:
    """The sources of the site file: a local path is sent to the master; everything else is spelled by `spell`."""
    uploads, sources = [], []
    for number, source in enumerate(listed):
        if not source.startswith("/"):
            sources.append(spell(source))
            continue
        if not Path(source).exists():
            raise Refused(
                Finding("source-missing", f"{source} does not exist on this machine", f"correct sources.{name}")
            )
        file = f"{name}-{number}"
        uploads.append(Upload(file, f"send {source}", partial(_read_source, read(Path(source)), name), deadline))
        sources.append(f"{PARTS}/{file}")
    return Supply(uploads, sources)


def _read_source(read: Callable[[], bytes], name: str) -> bytes:
    try:
        return read()
    except (SourceError, OSError) as error:
        fix = f"correct sources.{name}, or the version in the site file"
        raise Refused(Finding("source-unreadable", str(error), fix)) from None


def git_bundle(source: Path, tag: str, deadline: float = 300.0) -> bytes:
    """A git bundle with `tag` and its history: the file `source`, or a bundle of the repository in that folder.

    Raises OSError for an unreadable file, SourceError where git fails.
    """
    if not source.is_dir():
        return source.read_bytes()
    create = ["bundle", "create", "--quiet", "-", f"refs/tags/{tag}"]
    # Only read: its owner does not matter, provided that no program from its own settings runs.
    safe = ["-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"]
    try:
        return git.output([*safe, "-c", "core.alternateRefsCommand=", "-C", str(source), *create], deadline)
    except SourceError as error:
        raise SourceError(f"{source}: {error}") from None
