"""How the tests tell that nothing on a host was changed: what counts as a change, and what a neighbour does."""

import subprocess
from pathlib import Path

import pytest

from tests.lab import tree


def seen(folder: Path) -> dict[str, str]:
    """The rows that the look at a host prints, for the things in one folder of this machine."""
    look = tree._FIND.replace("find / ", f"find {folder} -mindepth 1 ", 1)
    out = subprocess.run(["sh", "-c", look], capture_output=True, text=True, check=True, timeout=60).stdout
    return dict(row.split("\t", 1) for row in out.split("\0") if row)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder with a file and a symbolic link that another lab has as well."""
    for name in ("mine", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "mine/file").write_text("text")
    (tmp_path / "mine/link").symlink_to("target")
    for name in ("file", "link"):
        (tmp_path / "other" / name).hardlink_to(tmp_path / "mine" / name)
    return tmp_path / "mine"


def test_another_lab_that_comes_is_no_change(shared: Path) -> None:
    """One more hard link to a file or a symbolic link of an image gives it a new time of change, and that is all."""
    before = seen(shared)
    for name in ("file", "link"):
        (shared.parent / f"third-{name}").hardlink_to(shared / name)
    assert seen(shared) == before


@pytest.mark.parametrize("name", ["file", "link"])
def test_a_replaced_shared_file_is_a_change(shared: Path, name: str) -> None:
    """A file that was replaced by the same content is seen: the labs no longer share it."""
    before = seen(shared)
    (shared / name).unlink()
    (shared / "file").write_text("text") if name == "file" else (shared / "link").symlink_to("target")
    after = seen(shared)
    assert [path for path in before if before[path] != after[path]] == [str(shared / name)]
