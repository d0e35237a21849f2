"""A host's own files: an overlay layer over its Debian root, written before the host boots."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FILES = Path(__file__).parent / "files"


@dataclass(frozen=True)
class Layer:
    """`folder` lies over `root` when the host runs; paths are absolute, as the host sees them."""

    folder: Path
    root: Path

    def put(self, path: str, content: str | bytes, mode: int = 0o644, owner: tuple[int, int] = (0, 0)) -> None:
        """Writes a file with its mode and (uid, gid); a secret never lies there more readable than `mode`."""
        target = self.at(path)
        target.unlink(missing_ok=True)
        target.touch(mode=0o600)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        shutil.chown(target, *owner)
        target.chmod(mode)

    def mkdir(self, path: str, mode: int = 0o755, owner: tuple[int, int] = (0, 0)) -> Path:
        """Makes a folder with its mode and (uid, gid) and returns where it lies on this machine."""
        target = self.at(path)
        target.mkdir(exist_ok=True)
        shutil.chown(target, *owner)
        target.chmod(mode)
        return target

    def link(self, path: str, target: str) -> None:
        """Makes `path` a symbolic link to `target`."""
        link = self.at(path)
        link.unlink(missing_ok=True)
        link.symlink_to(target)

    def enable(self, *units: str) -> None:
        """Has systemd start the units at boot."""
        for unit in units:
            self.link(f"/etc/systemd/system/multi-user.target.wants/{unit}", f"../{unit}")

    def tree(self, name: str, values: Mapping[str, str]) -> None:
        """Puts every file of files/NAME, with each @KEY@ replaced; KeyError names a key that has no value."""
        for source in sorted(path for path in (FILES / name).rglob("*") if path.is_file()):
            mode = 0o755 if source.stat().st_mode & 0o100 else 0o644
            self.put(f"/{source.relative_to(FILES / name)}", fill(source.read_text(), values), mode)

    def read(self, path: str) -> str:
        """The text of a file as the host will see it: this layer's, else the root's."""
        own = self.folder / path.lstrip("/")
        return (own if own.is_file() else self.root / path.lstrip("/")).read_text()

    def account(self, name: str) -> tuple[int, int]:
        """The (uid, gid) of an account of the host; LookupError when it has none of that name."""
        for line in self.read("/etc/passwd").splitlines():
            user, _, uid, gid, *_ = line.split(":")
            if user == name:
                return int(uid), int(gid)
        raise LookupError(f"no account {name} in {self.root}/etc/passwd")

    def at(self, path: str) -> Path:
        """Where `path` lies on this machine; its folders are made like the root's, for the upper layer's modes win."""
        target = self.folder / path.lstrip("/")
        for folder in reversed(target.relative_to(self.folder).parents):
            self._folder(folder)
        return target

    def _folder(self, relative: Path) -> None:
        own, below = self.folder / relative, self.root / relative
        if own.is_dir():
            return
        own.mkdir(parents=True)
        if below.is_dir():
            shutil.copystat(below, own)
            shutil.chown(own, below.stat().st_uid, below.stat().st_gid)


def fill(text: str, values: Mapping[str, str]) -> str:
    """`text` with each @KEY@ (capitals and _) replaced by values["KEY"]."""
    return re.sub(r"@([A-Z_]+)@", lambda match: values[match[1]], text)
