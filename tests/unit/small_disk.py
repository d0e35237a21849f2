"""A real file system of 64 KiB that can be filled to the byte: what a full disk does, it does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PAGE = 4096


@dataclass
class Disk:
    """A full disk may be had anywhere in a write: `leave` says how many pages are free."""

    folder: Path

    def leave(self, pages: int) -> None:
        """Fill it, but for so many pages."""
        self.room()
        free = os.statvfs(self.folder).f_bavail
        with (self.folder / ".ballast").open("wb") as ballast:
            for _ in range(max(free - pages, 0)):
                ballast.write(b"x" * PAGE)

    def room(self) -> None:
        """There is room again."""
        (self.folder / ".ballast").unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    """Such a disk while the `with` lasts."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", folder], check=True)
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
