"""The image that slurmctld's pod runs: the Debian root of the Slurm hosts with kubectl, without what no pod reads."""

import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lab import cache, go_builds, images, kubernetes, layer, store
from lab.layer import FILES, Layer
from lab.releases import USUAL, Release

IMAGE = "lab.local/slurmctld:24.11"
# Of these folders the image has none of the content: what a container gets at its start, documentation, languages, the
# packages' own records, and git with the Perl that it brought.
LEFT_OUT = (
    *("boot", "dev", "proc", "run", "sys", "tmp", "var/cache", "var/lib/apt", "var/lib/dpkg"),
    *("usr/share/doc", "usr/share/info", "usr/share/lintian", "usr/share/locale", "usr/share/man"),
    *("usr/share/zoneinfo", "usr/lib/git-core", "usr/share/perl", "usr/lib/x86_64-linux-gnu/perl"),
)
SETTINGS = {
    "Entrypoint": ["/usr/local/sbin/slurmctld-pod"],
    "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
    "User": "0",
    "WorkingDir": "/",
}
JOE = ("joe", 1500)
Announce = Callable[[str], None]


def store_with(root: Path, announce: Announce, *more: Path, release: Release = USUAL) -> Path:
    """store.filled() with the image of the Debian root `root` besides, from the cache or made now (about 20 s).

    `more` are further images, OCI archives.
    """
    base, kubectl = store.filled(announce, release), go_builds.kubectl(release, announce)

    def make(folder: Path) -> None:
        store.copy(base, folder / "store")
        with tempfile.TemporaryDirectory(dir=cache.folder()) as scratch:
            archive(Path(scratch) / "slurmctld.tar", root, release)
            for number, image in enumerate(more):
                shutil.copyfile(image, Path(scratch) / f"{number}.tar")
            store.add(folder / "store", Path(scratch), announce)

    code = [Path(module.__file__) for module in (images, layer, kubernetes) if module.__file__]
    inputs: list[str | Path] = [
        base.parent.name,
        kubectl.parent.name,
        *_named(root),
        *(image.parent.name for image in more),
        Path(__file__),
        FILES / "slurmctld-image",
        *code,
    ]
    return cache.entry("containerd-slurmctld", inputs, make, announce, "20 s") / "store"


def archive(target: Path, root: Path, release: Release = USUAL) -> None:
    """Writes the image of the Debian root `root` to `target`, an OCI archive; scratch files are next to it."""
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        top, kubectl, flat = (Path(scratch) / name for name in ("top", "kubectl", "layer.tar"))
        top.mkdir()
        write_top(Layer(top, root))
        kubernetes.write_kubectl(kubectl, release)
        write_layer(flat, (top, kubectl, root))
        images.pack(target, IMAGE, images.Blob(flat, images.LAYER), SETTINGS)


def write_top(layer: Layer) -> None:
    """Writes what the image has beyond the root: the script that it runs, and the account of who submits jobs."""
    layer.tree("slurmctld-image", {})
    name, uid = JOE
    layer.put("/etc/passwd", f"{layer.read('/etc/passwd').rstrip()}\n{name}:x:{uid}:{uid}::/home/{name}:/bin/bash\n")
    layer.put("/etc/group", f"{layer.read('/etc/group').rstrip()}\n{name}:x:{uid}:\n")
    layer.mkdir(f"/home/{name}", 0o755, (uid, uid))


def write_layer(target: Path, folders: Sequence[Path]) -> None:
    """Writes a tar of `folders` laid over each other, the topmost first, without the content of LEFT_OUT.

    Owners are numbers, modes and symbolic links are kept; when a file was made does not show.
    """
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for path, source in sorted(_merged(folders).items()):
            header = tar.gettarinfo(source, arcname=path)
            header.uname, header.gname, header.mtime = "", "", 0
            if header.isreg():
                with source.open("rb") as content:
                    tar.addfile(header, content)
            else:
                tar.addfile(header)


def _merged(folders: Sequence[Path]) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    for folder in reversed(folders):
        paths.update({str(path.relative_to(folder)): path for path in _walk(folder, folder)})
    return paths


def _walk(folder: Path, root: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        yield path
        if path.is_dir() and not path.is_symlink() and str(path.relative_to(root)) not in LEFT_OUT:
            yield from _walk(path, root)


def _named(root: Path) -> list[str]:
    """What tells one root from another: its place in the cache, which says what it was made of, or else its versions."""
    if cache.folder() in root.parents:
        return [root.parent.name]
    status = root / "var/lib/dpkg/status"
    return [str(root), status.read_text() if status.exists() else ""]
