"""Where what an install needs comes from: the bundle, files of this machine, or what the master reaches itself.

Files are sent to the master for the script that needs them, and are gone from there when it is through.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dws_on_csm.bundle import git
from dws_on_csm.bundle.download import SourceError
from dws_on_csm.bundle.tar_format import damaged
from dws_on_csm.config.bundle_contents import Bundle
from dws_on_csm.config.site import Site
from dws_on_csm.model.actions import PARTS, Upload
from dws_on_csm.model.step import Finding, Refused

VERSION_OF = {"dws_image": "dws", "kube_rbac_proxy_image": "kube_rbac_proxy"}
"""Which of a site's versions is the tag of an image."""


@dataclass(frozen=True)
class Supply:
    """What is brought to the master first, and the sources as its scripts take them, to be tried in order.

    sources   git URLs or names of images; or the path on the master of what was brought: a git bundle, an image's archive
    origin    the URL that a clone from a git bundle keeps as its origin; "" for none
    """

    brings: Sequence[Upload]
    sources: Sequence[str]
    origin: str = ""


def settings(site: Site) -> dict[str, str]:
    """What templates/lib/via.sh needs to know."""
    proxies = site.master.proxies
    return {"proxy": proxies.https, "unproxied": ",".join(proxies.no_proxy)}


def repository(site: Site, name: str) -> Supply:
    """The repository `name` ("dws", "plugin") with the site's tag. Raises Refused if a file of this machine isn't there."""
    tag = f"v{getattr(site.versions, name)}"
    listed = getattr(site.sources, name)
    urls = [one for one in listed if not one.startswith("/")]
    if site.bundle and site.bundle.manifest.versions[name] == getattr(site.versions, name):
        made_from = site.bundle.manifest.parts[name].source
        origin = [*urls, *([] if made_from.startswith("/") else [made_from])]
        return _bundled(site, name, site.deadlines.clone, (origin or [""])[0])
    found = _listed(listed, name, site.deadlines.clone, lambda path: partial(git_bundle, path, tag), lambda url: url)
    return Supply(found.brings, found.sources, (urls or [""])[0])


def image(site: Site, name: str, tag: str) -> Supply:
    """The image `name` ("dws_image") with a tag. Raises Refused if the bundle or this machine doesn't have it."""
    if site.bundle:
        if (has := site.bundle.manifest.versions[VERSION_OF[name]]) != tag:
            text = f"the manifests ask for the tag {tag} of {VERSION_OF[name]}, and {site.bundle.path} has {has}"
            fix = f"set versions.{VERSION_OF[name]} to {tag} and make the bundle anew: `invoke bundle.make FILE`"
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
    """The bundle's archive of kustomize, as PARTS/`name`; None where this one isn't in it, or there is no bundle."""
    if site.bundle is None or site.bundle.manifest.versions["kustomize"] != version:
        return None
    return _bundled(site, "kustomize", site.deadlines.clone).brings[0]


def _bundled(site: Site, role: str, deadline: float, origin: str = "") -> Supply:
    assert site.bundle is not None
    part = site.bundle.manifest.parts[role]
    title = f"bring {part.file}, {part.size / 1e6:.1f} MB, from {site.bundle.path.name}"
    bring = Upload(part.file, title, partial(_read, site.bundle, role), deadline)
    return Supply([bring], [f"{PARTS}/{part.file}"], origin)


def _read(bundle: Bundle, role: str) -> bytes:
    """A part's content. Raises Refused if the file is not any more what it was when it was checked."""
    try:
        return bundle.read(role)
    except ValueError as error:
        raise damaged(bundle.path, str(error)) from error


def _listed(
    listed: Sequence[str],
    name: str,
    deadline: float,
    read: Callable[[Path], Callable[[], bytes]],
    word: Callable[[str], str],
) -> Supply:
    """The sources of the site file: a path is one of this machine and is brought, of everything else `word` is made."""
    brings, sources = [], []
    for number, source in enumerate(listed):
        if not source.startswith("/"):
            sources.append(word(source))
            continue
        if not Path(source).exists():
            raise Refused(Finding("source-missing", f"{source}: not on this machine", f"correct sources.{name}"))
        called = f"{name}-{number}"
        brings.append(Upload(called, f"bring {source}", partial(_readable, read(Path(source)), name), deadline))
        sources.append(f"{PARTS}/{called}")
    return Supply(brings, sources)


def _readable(read: Callable[[], bytes], name: str) -> bytes:
    try:
        return read()
    except (SourceError, OSError) as error:
        fix = f"correct sources.{name}, or the version that is asked for"
        raise Refused(Finding("source-unreadable", str(error), fix)) from None


def git_bundle(source: Path, tag: str, deadline: float = 300.0) -> bytes:
    """A git bundle with `tag` and all it needs: the file `source`, or one made of the repository in that folder.

    Raises OSError where there is no such file, SourceError where git can't make one of it.
    """
    if not source.is_dir():
        return source.read_bytes()
    create = ["bundle", "create", "--quiet", "-", f"refs/tags/{tag}"]
    # only read, so it doesn't matter who owns it, as long as no program runs that its own settings name
    safe = ["-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"]
    try:
        return git.written([*safe, "-c", "core.alternateRefsCommand=", "-C", str(source), *create], deadline)
    except SourceError as error:
        raise SourceError(f"{source}: {error}") from None
