"""The build cache, outside the checkout: an entry's name is a digest of everything that it was built from."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path


def folder() -> Path:
    """The cache's folder: $XDG_CACHE_HOME/dws-on-csm, by default ~/.cache/dws-on-csm."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "dws-on-csm"


def digest(inputs: Iterable[str | bytes | Path]) -> str:
    """Sixteen hexadecimal digits that name `inputs`: texts, bytes, files, and folders with all their files."""
    total = hashlib.sha256()
    for item in inputs:
        for part in _parts(item):
            total.update(len(part).to_bytes(8, "big") + part)
    return total.hexdigest()[:16]


def _parts(item: str | bytes | Path) -> Iterable[bytes]:
    if isinstance(item, Path):
        for path in [item] if item.is_file() else _files(item):
            yield str(path.relative_to(item.parent)).encode()
            yield path.read_bytes()
    else:
        yield item.encode() if isinstance(item, str) else item


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def entry(
    name: str,
    inputs: Iterable[str | bytes | Path],
    make: Callable[[Path], None],
    announce: Callable[[str], None] = lambda text: None,
    expect: str = "",
) -> Path:
    """The cached folder NAME-DIGEST; `make(folder)` fills it when it is not there yet.

    A folder is filled aside and renamed when whole, so that an interrupted build leaves nothing that looks finished;
    a lock keeps two builders of the same entry from working at once. `expect` says how long it takes ("6 min").
    """
    goal = folder() / f"{name}-{digest(inputs)}"
    if goal.is_dir():
        return goal
    folder().mkdir(parents=True, exist_ok=True)
    with (folder() / f"{goal.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not goal.is_dir():
            announce(f"building {name}" + (f" (about {expect})" if expect else ""))
            _fill(goal, make)
    return goal


def _fill(goal: Path, make: Callable[[Path], None]) -> None:
    aside = goal.with_name(goal.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    make(aside)
    aside.rename(goal)
