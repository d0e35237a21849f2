"""The images that every node holds from the start, as containerd keeps them: imported once."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from lab import cache, certmanager, go_builds, images, roots
from lab.layer import FILES
from lab.releases import USUAL, Release

PAUSE = "lab.local/pause:1"
CONFIG = FILES / "node/etc/containerd/config.toml"
# A container that runs does change its own layer; but it is recreated after a boot.
NEVER_CHANGED = ("io.containerd.content.v1.content/blobs", "io.containerd.snapshotter.v1.overlayfs/snapshots")
Announce = Callable[[str], None]


def filled(announce: Announce, release: Release = USUAL) -> Path:
    """A folder to copy to a node's /var/lib/containerd: the pods' sandbox and cert-manager, from the cache or made now.

    RuntimeError shows what containerd said when it can't be filled.
    """
    root = roots.debian12(announce)
    archives = certmanager.archives(release, announce)
    pause = go_builds.pause(announce)

    def make(folder: Path) -> None:
        (folder / "store").mkdir()
        # Its upper layer must lie on a file system that overlays take, as the cache's does.
        with tempfile.TemporaryDirectory(dir=cache.folder()) as scratch:
            images.archive(Path(scratch) / "pause.tar", PAUSE, {"/pause": pause}, ["/pause"])
            for archive in archives:
                shutil.copyfile(archive, Path(scratch) / archive.name)
            add(folder / "store", Path(scratch), announce)

    inputs = [root.parent.name, pause.parent.name, *(f"{path.parent.name}/{path.name}" for path in archives)]
    return cache.entry("containerd", [*inputs, FILES / "fill-store", CONFIG], make, announce, "10 s") / "store"


def copy(source: Path, target: Path) -> None:
    """Copies a store of containerd; what containerd never writes a second time is linked, where the file system can.

    That spares a quarter of a gigabyte a node, and what nodes run of the same image is in memory once.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if not _links(source, target.parent):
        subprocess.run(["cp", "-a", str(source), str(target)], check=True, timeout=300)
        return
    subprocess.run(["cp", "-al", str(source), str(target)], check=True, timeout=300)
    for folder, _, files in os.walk(target):
        if not any(f"/{part}/" in f"{folder}/" for part in NEVER_CHANGED):
            for name in files:
                _unlink_from(Path(folder) / name)


def link_or_copy(source: Path, target: Path) -> None:
    """Puts a file that nobody will change in a second place: as a link, where both lie on one file system."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)


def _links(source: Path, folder: Path) -> bool:
    """Whether files of `source` can be linked into `folder`: tried, for a mount in between forbids it on one device too."""
    name = next(Path(top) / files[0] for top, _, files in os.walk(source) if files)
    trial = folder / f"{name.name}.{os.getpid()}"
    try:
        trial.hardlink_to(name)
    except OSError:
        return False
    trial.unlink()
    return True


def _unlink_from(path: Path) -> None:
    """Gives the path a file of its own instead of a link."""
    aside = path.with_name(path.name + ".part")
    subprocess.run(["cp", "-a", str(path), str(aside)], check=True, timeout=300)
    aside.rename(path)


def add(store: Path, scratch: Path, announce: Announce) -> None:
    """Imports the archives SCRATCH/*.tar into a store of containerd's; RuntimeError shows what it said when it can't.

    SCRATCH has to lie on a file system that takes an overlay's upper layer.
    """
    root = roots.debian12(announce)
    shutil.copyfile(CONFIG, scratch / "config.toml")
    alone = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
    run = [*alone, str(FILES / "fill-store"), str(root), str(store), str(scratch)]
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise RuntimeError(f"containerd can't import the nodes' images:\n{done.stdout}{done.stderr}")
