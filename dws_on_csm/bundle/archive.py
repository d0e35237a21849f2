"""The bundle: all that an install takes from outside the site, in one file with a checksum for every byte.

It is a plain tar (`tar -tf` lists it): manifest.json first, then the parts, then SHA256SUMS, as sha256sum has it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dws_on_csm.bundle import tar_format
from dws_on_csm.bundle.tar_format import BLOCK, MANIFEST, SUMS, Member, damaged
from dws_on_csm.config.bundle_contents import Bundle, Manifest, Part
from dws_on_csm.config.yaml_file import relative
from dws_on_csm.model.lines import lines
from dws_on_csm.model.step import Finding, Refused

if TYPE_CHECKING:
    from dws_on_csm.config.site import Site

FORMAT = 1
"""The version of what manifest.json looks like."""

ROLES = ("dws", "plugin", "dws_image", "kube_rbac_proxy_image", "kustomize")
"""What a bundle has, by the names that `sources` has in a site file."""


# --- writing


def part(file: Path, source: str) -> Part:
    """The part that a file of this machine becomes; it keeps its name."""
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return Part(file.name, file.stat().st_size, digest, source)


def write(path: Path, manifest: Manifest, folder: Path) -> None:
    """Write a bundle with the parts that lie in `folder`; in place of an older one only when it is whole.

    The same manifest and parts make the same bytes.
    """
    told = manifest_text(manifest)
    parts = sorted(manifest.parts.values(), key=lambda one: one.file)
    sums = _sums_text({MANIFEST: hashlib.sha256(told).hexdigest(), **{one.file: one.sha256 for one in parts}})
    aside = path.with_name(f".{path.name}.part")
    try:
        with aside.open("wb") as out:
            tar_format.add(out, MANIFEST, len(told), [told])
            for one in parts:
                tar_format.add(out, one.file, one.size, tar_format.pieces(folder / one.file))
            tar_format.add(out, SUMS, len(sums), [sums])
            out.write(bytes(2 * BLOCK))
            out.flush()
            os.fsync(out.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def manifest_text(manifest: Manifest) -> bytes:
    """manifest.json."""
    told = {"format": FORMAT, **asdict(manifest)}
    return json.dumps(told, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def _sums_text(sums: Mapping[str, str]) -> bytes:
    return "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode()


# --- reading


def load(path: Path) -> Bundle:
    """The bundle, every byte of it checked. Raises Refused with what is wrong and what to do."""
    try:
        with path.open("rb") as file:
            found = list(tar_format.members(file, path))
    except OSError as error:
        fix = "say where the bundle lies; `invoke bundle.make FILE` makes one where there is a network"
        raise Refused(Finding("bundle-unreadable", f"{path}: {error.strerror}", fix)) from None
    sums = found[-1]
    if sums.small != _sums_text({one.name: one.sha256 for one in found[:-1]}):
        raise damaged(path, f"its checksums are wrong: {_wrong(found)}")
    return Bundle(path, _manifest(path, found), {one.name: one.offset for one in found})


def _wrong(members: list[Member]) -> str:
    """The files that are not what the checksums say, in words."""
    said = {name: digest for digest, _, name in (line.partition("  ") for line in lines(members[-1].small, "replace"))}
    return ", ".join(one.name for one in members[:-1] if said.get(one.name) != one.sha256) or SUMS


def _manifest(path: Path, members: Sequence[Member]) -> Manifest:
    there = {one.name: (one.size, one.sha256) for one in members[1:-1]}
    try:
        told: dict[str, Any] = json.loads(members[0].small)
        if told["format"] != FORMAT:
            text = f"{path} has format {told['format']}, and this checkout of dws-on-csm knows {FORMAT}"
            raise Refused(Finding("bundle-format", text, "make it with the same version of dws-on-csm"))
        parts = {role: Part(**told["parts"][role]) for role in ROLES}
        versions, made = ({str(k): str(v) for k, v in told[key].items()} for key in ("versions", "made"))
        as_told = {one.file: (one.size, one.sha256) for one in parts.values()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, f"{MANIFEST} can't be understood: {error!r}") from None
    if as_told != there or not all(re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z._-]*", name) for name in there):
        raise damaged(path, f"{MANIFEST} tells of other files than are in it")
    return Manifest(versions, made, parts)


# --- does it fit


def attach(site: Site, path: Path) -> Site:
    """The site, to be supplied by this bundle alone. Raises Refused for a damaged one and for other versions."""
    bundle = load(path)
    has = bundle.manifest.versions
    asked = {name: getattr(site.versions, name) for name in ("dws", "plugin", "kube_rbac_proxy")}
    other = [name for name in asked if has.get(name) != asked[name]]
    if other:
        raise Refused(*(_other(site, path, name, has.get(name, "none"), asked[name]) for name in other))
    if unpinned := [*_other_commits(site, bundle), *_other_images(site, bundle)]:
        raise Refused(*unpinned)
    return replace(site, bundle=bundle)


_REMAKE = "make the bundle anew from sources that have what the site file pins: `invoke bundle.make FILE --hosts PATH`"


def _other_commits(site: Site, bundle: Bundle) -> Iterator[Finding]:
    for name in ("dws", "plugin"):
        has, pin = bundle.manifest.parts[name].id, site.versions.commit(name)
        if pin not in ("", has):
            text = f"{bundle.path} has {name} at commit {has or 'not told'}, and {relative(site.path)} pins {pin}"
            yield Finding("commit-differs", text, _REMAKE)


def _other_images(site: Site, bundle: Bundle) -> Iterator[Finding]:
    """Where every source that the site file has is one digest's, the bundle's part has to be one of them."""
    for role in ("dws_image", "kube_rbac_proxy_image"):
        pins, came = [one.partition("@")[2] for one in getattr(site.sources, role)], bundle.manifest.parts[role].source
        if all(pins) and came.partition("@")[2] not in pins:
            text = f"{bundle.path} has {role} from {came}, and {relative(site.path)} pins {' or '.join(pins)}"
            yield Finding("digest-differs", text, _REMAKE)


def _other(site: Site, path: Path, name: str, has: str, asked: str) -> Finding:
    text = f"{path} has {name} {has}, and {relative(site.path)} asks for {asked}"
    fix = f"set versions.{name} to {has}, or make a bundle for this site file: `invoke bundle.make FILE --hosts PATH`"
    return Finding("bundle-version", text, fix)
