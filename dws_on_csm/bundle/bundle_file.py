"""The offline bundle: everything that an install takes from outside the site, in one file, with a checksum of every byte.

It is a plain tar (`tar -tf` lists it): manifest.json first, then the parts, then SHA256SUMS for sha256sum. SHA256SUMS does not
cover the tar's own headers and padding, and tarfile accepts many forms of these. So only one form of each is accepted here:
a bundle with one changed bit, anywhere, is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from dws_on_csm.config.bundle_contents import Bundle, Manifest, Part
from dws_on_csm.config.yaml_file import relative
from dws_on_csm.model.lines import lines
from dws_on_csm.model.step import Finding, Refused

if TYPE_CHECKING:
    from dws_on_csm.config.site import Site

FORMAT = 1
"""The version of manifest.json's layout."""

ROLES = ("dws", "plugin", "dws_image", "kube_rbac_proxy_image", "kustomize")
"""The parts of a bundle, named as in `sources` of a site file."""

MANIFEST, SUMS = "manifest.json", "SHA256SUMS"
BLOCK, PIECE = 512, 1 << 20


# --- write


def part(file: Path, source: str) -> Part:
    """A local file as a part of a bundle, under its own name."""
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return Part(file.name, file.stat().st_size, digest, source)


def write(path: Path, manifest: Manifest, folder: Path) -> None:
    """Write a bundle of the parts in `folder`; replaces an older bundle only when the new one is complete.

    The same manifest and parts make the same bytes.
    """
    text = manifest_text(manifest)
    parts = sorted(manifest.parts.values(), key=lambda part: part.file)
    sums = _sums_text({MANIFEST: hashlib.sha256(text).hexdigest(), **{part.file: part.sha256 for part in parts}})
    partial = path.with_name(f".{path.name}.part")
    try:
        with partial.open("wb") as out:
            _add(out, MANIFEST, len(text), [text])
            for part in parts:
                _add(out, part.file, part.size, _pieces(folder / part.file))
            _add(out, SUMS, len(sums), [sums])
            out.write(bytes(2 * BLOCK))
            out.flush()
            os.fsync(out.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def manifest_text(manifest: Manifest) -> bytes:
    """The content of manifest.json."""
    record = {"format": FORMAT, **asdict(manifest)}
    return json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def _sums_text(sums: Mapping[str, str]) -> bytes:
    return "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode()


def _add(out: IO[bytes], name: str, size: int, content: Iterable[bytes]) -> None:
    out.write(_header(name, size))
    out.writelines(content)
    out.write(bytes(-size % BLOCK))


def _header(name: str, size: int) -> bytes:
    """The only header that a bundle may have for a file of this name and size."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT)


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as content:
        while piece := content.read(PIECE):
            yield piece


# --- read


@dataclass(frozen=True)
class _Member:
    """A file in a bundle: offset and size of its content in bytes, the content's checksum, and a small content itself."""

    name: str
    offset: int
    size: int
    sha256: str
    small: bytes


def load(path: Path) -> Bundle:
    """The bundle, with every byte of it checked. Raises Refused."""
    try:
        with path.open("rb") as file:
            members = list(_members(file, path))
    except OSError as error:
        fix = "pass the path of a bundle; `invoke bundle.make FILE` makes one on a machine with network access"
        raise Refused(Finding("bundle-unreadable", f"{path}: {error.strerror}", fix)) from None
    sums = members[-1]
    if sums.small != _sums_text({member.name: member.sha256 for member in members[:-1]}):
        raise damaged(path, f"wrong checksums: {_wrong_files(members)}")
    return Bundle(path, _manifest(path, members), {member.name: member.offset for member in members})


def damaged(path: Path, text: str) -> Refused:
    """The refusal of a bundle whose bytes have changed."""
    fix = f"copy it again, and compare `sha256sum {path.name}` here and where it was made"
    return Refused(Finding("bundle-damaged", f"{path}: {text}", fix))


def _members(file: IO[bytes], path: Path) -> Iterator[_Member]:
    """The files in order: the first must be the manifest, the last the checksums, and nothing may follow them."""
    expected = MANIFEST
    while True:
        head = file.read(BLOCK)
        try:
            info = tarfile.TarInfo.frombuf(head, "utf-8", "strict")
            valid = head == _header(info.name, info.size) and expected in ("", info.name)
        except (tarfile.HeaderError, ValueError):  # ValueError: what frombuf raises for some damaged headers
            valid = False
        if not valid:
            raise damaged(path, f"byte {file.tell() - len(head)} does not begin a file of a bundle")
        yield _member(file, info.name, info.size, path)
        expected = ""
        if info.name == SUMS:
            break
    if file.read() != bytes(2 * BLOCK):
        raise damaged(path, f"its end, after {SUMS}, is wrong")


def _member(file: IO[bytes], name: str, size: int, path: Path) -> _Member:
    offset, left, digest, small = file.tell(), size, hashlib.sha256(), b""
    while left and (piece := file.read(min(left, PIECE))):
        digest.update(piece)
        small = piece if size <= PIECE else b""
        left -= len(piece)
    padding = -size % BLOCK
    if left or file.read(padding) != bytes(padding):
        raise damaged(path, f"{name} is incomplete")
    return _Member(name, offset, size, digest.hexdigest(), small)


def _wrong_files(members: Sequence[_Member]) -> str:
    """The names of the files whose checksums are wrong."""
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines(members[-1].small, "replace"))}
    return ", ".join(member.name for member in members[:-1] if sums.get(member.name) != member.sha256) or SUMS


def _manifest(path: Path, members: Sequence[_Member]) -> Manifest:
    present = {member.name: (member.size, member.sha256) for member in members[1:-1]}
    try:
        record: dict[str, Any] = json.loads(members[0].small)
        if record["format"] != FORMAT:
            text = f"{path} has format {record['format']}; this version of dws-on-csm reads format {FORMAT}"
            raise Refused(Finding("bundle-format", text, "make it with the same version of dws-on-csm"))
        parts = {role: Part(**record["parts"][role]) for role in ROLES}
        versions, made = ({str(k): str(v) for k, v in record[key].items()} for key in ("versions", "made"))
        listed = {part.file: (part.size, part.sha256) for part in parts.values()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, f"{MANIFEST} cannot be parsed: {error!r}") from None
    if listed != present or not all(re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z._-]*", name) for name in present):
        raise damaged(path, f"{MANIFEST} does not list the files that are in the bundle")
    return Manifest(versions, made, parts)


# --- compare with the site file


def attach(site: Site, path: Path) -> Site:
    """The site with this bundle as its only source. Raises Refused for a damaged bundle, and for other versions."""
    bundle = load(path)
    has = bundle.manifest.versions
    wanted = {name: getattr(site.versions, name) for name in ("dws", "plugin", "kube_rbac_proxy")}
    other = [name for name in wanted if has.get(name) != wanted[name]]
    if other:
        raise Refused(*(_other_version(site, path, name, has.get(name, "none"), wanted[name]) for name in other))
    if unpinned := [*_other_commits(site, bundle), *_other_images(site, bundle)]:
        raise Refused(*unpinned)
    return replace(site, bundle=bundle)


_REMAKE = "make the bundle again, from sources with the pinned content: `invoke bundle.make FILE --hosts PATH`"


def _other_commits(site: Site, bundle: Bundle) -> Iterator[Finding]:
    for name in ("dws", "plugin"):
        has, pin = bundle.manifest.parts[name].id, site.versions.commit(name)
        if pin not in ("", has):
            text = f"{bundle.path} has {name} at commit {has or 'unknown'}, but {relative(site.path)} pins {pin}"
            yield Finding("commit-differs", text, _REMAKE)


def _other_images(site: Site, bundle: Bundle) -> Iterator[Finding]:
    """Findings for images with other digests, where the site file pins a digest for every source of the image."""
    for role in ("dws_image", "kube_rbac_proxy_image"):
        pins = [source.partition("@")[2] for source in getattr(site.sources, role)]
        used = bundle.manifest.parts[role].source
        if all(pins) and used.partition("@")[2] not in pins:
            text = f"{bundle.path} has {role} from {used}, but {relative(site.path)} pins {' or '.join(pins)}"
            yield Finding("digest-differs", text, _REMAKE)


def _other_version(site: Site, path: Path, name: str, has: str, wanted: str) -> Finding:
    text = f"{path} has {name} {has}, but {relative(site.path)} wants {wanted}"
    fix = f"set versions.{name} to {has}, or make a bundle for this site file: `invoke bundle.make FILE --hosts PATH`"
    return Finding("bundle-version", text, fix)
