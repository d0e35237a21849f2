"""How a containerd's store is copied to the nodes: linked where the file system lets it, copied where it doesn't."""

import subprocess
import sys
from pathlib import Path

import pytest

from lab import store
from lab.registry import CHECKOUT

BLOB, BOOKS = "io.containerd.content.v1.content/blobs/sha256/1", "io.containerd.metadata.v1.bolt/meta.db"
COPY = "import sys; from pathlib import Path; from lab import store; store.copy(Path(sys.argv[1]), Path(sys.argv[2]))"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name in (BLOB, BOOKS):
        (tmp_path / "store" / name).parent.mkdir(parents=True)
        (tmp_path / "store" / name).write_text(name)
    return tmp_path / "store"


def test_what_never_changes_is_linked(source: Path, tmp_path: Path) -> None:
    """A blob is the same file, containerd's own books are a file of the node's; nothing else is left there."""
    target = tmp_path / "nodes" / "one"
    store.copy(source, target)
    assert (target / BLOB).samefile(source / BLOB) and not (target / BOOKS).samefile(source / BOOKS)
    assert [path.name for path in target.parent.iterdir()] == ["one"]


def test_across_mounts_it_is_copied(source: Path, tmp_path: Path) -> None:
    """A mount between both, be it of the same device, allows no link."""
    (tmp_path / "mounted").mkdir()
    alone = ["unshare", "--mount", "sh", "-ec", 'mount --bind "$1" "$2"; exec "$3" -c "$4" "$2" "$5"', "sh"]
    arguments: list[str | Path] = [source, tmp_path / "mounted", sys.executable, COPY, tmp_path / "one"]
    subprocess.run([*alone, *arguments], check=True, cwd=CHECKOUT, capture_output=True, timeout=60)
    assert (tmp_path / "one" / BLOB).read_text() == BLOB and not (tmp_path / "one" / BLOB).samefile(source / BLOB)
