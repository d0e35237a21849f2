"""The tar that a bundle is. Its headers and padding can only be in one way, so that no byte can be changed unseen."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from dws_on_csm.model.step import Finding, Refused

MANIFEST, SUMS = "manifest.json", "SHA256SUMS"
BLOCK, PIECE = 512, 1 << 20


def damaged(path: Path, text: str) -> Refused:
    """The refusal of a bundle that isn't what it was when it was made."""
    fix = f"copy it again, and compare `sha256sum {path.name}` here and where it was made"
    return Refused(Finding("bundle-damaged", f"{path}: {text}", fix))


def add(out: IO[bytes], name: str, size: int, content: Iterable[bytes]) -> None:
    """Write a file with this content, of `size` bytes, behind what is there."""
    out.write(_header(name, size))
    out.writelines(content)
    out.write(bytes(-size % BLOCK))


def _header(name: str, size: int) -> bytes:
    """The block before a file: the one and only that a bundle has for this name and size."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT)


def pieces(file: Path) -> Iterator[bytes]:
    """A file's content, a piece at a time."""
    with file.open("rb") as content:
        while piece := content.read(PIECE):
            yield piece


@dataclass(frozen=True)
class Member:
    """A file in a bundle: where its content begins, in bytes, how many they are, and their checksum."""

    name: str
    offset: int
    size: int
    sha256: str
    small: bytes
    """The content, if it is small."""


def members(file: IO[bytes], path: Path) -> Iterator[Member]:
    """The files in it, in order: the first is the manifest, the last the checksums, and nothing is behind them."""
    expected = MANIFEST
    while True:
        head = file.read(BLOCK)
        try:
            info = tarfile.TarInfo.frombuf(head, "utf-8", "strict")
            right = head == _header(info.name, info.size) and expected in ("", info.name)
        except (tarfile.HeaderError, ValueError):  # of all sorts of nonsense
            right = False
        if not right:
            raise damaged(path, f"no file begins at byte {file.tell() - len(head)} as a bundle's would")
        yield _member(file, info.name, info.size, path)
        expected = ""
        if info.name == SUMS:
            break
    if file.read() != bytes(2 * BLOCK):
        raise damaged(path, "it does not end as it should")


def _member(file: IO[bytes], name: str, size: int, path: Path) -> Member:
    offset, left, digest, small = file.tell(), size, hashlib.sha256(), b""
    while left and (piece := file.read(min(left, PIECE))):
        digest.update(piece)
        small = piece if size <= PIECE else b""
        left -= len(piece)
    padding = -size % BLOCK
    if left or file.read(padding) != bytes(padding):
        raise damaged(path, f"{name} is not whole")
    return Member(name, offset, size, digest.hexdigest(), small)
