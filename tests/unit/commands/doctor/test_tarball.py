"""Texts in a .tar.gz: who may read it, what is taken out, and what is left of one that was cut off."""

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dws_on_csm.commands.doctor import tarball
from dws_on_csm.model.secret import GONE


def test_a_tarball_is_its_owners_alone_and_has_no_secrets(tmp_path: Path) -> None:
    """Members lie in a folder of the archive's name; a password among them is taken out."""
    path = tmp_path / "seen.tar.gz"
    tarball.write(path, [("hosts/c1.txt", "all is well\n"), ("site.yaml", "password: correct-horse\n")])
    with tarfile.open(path) as archive:
        found = {one.name: archive.extractfile(one) for one in archive.getmembers()}
        texts = {name: file.read().decode() for name, file in found.items() if file}
    assert texts == {"seen/hosts/c1.txt": "all is well\n", "seen/site.yaml": f"password: {GONE}\n"}
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_tarball_that_is_cut_off_is_not_there(tmp_path: Path) -> None:
    """Whatever breaks while its members are made, neither a part of it nor an archive that looks whole is left."""

    def members() -> Iterator[tuple[str, str]]:
        yield "first.txt", "said"
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        tarball.write(tmp_path / "seen.tar.gz", members())
    assert list(tmp_path.iterdir()) == []
