"""The support archive as a file: who may read it, what is redacted, and what an interrupted one leaves."""

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dws_on_csm.commands.doctor import support_archive
from dws_on_csm.model.secret import REDACTED


def test_an_archive_is_its_owners_alone_and_has_no_secrets(tmp_path: Path) -> None:
    """Members are in a folder of the archive's name; a password in one of them is redacted."""
    path = tmp_path / "seen.tar.gz"
    support_archive.write(path, [("hosts/c1.txt", "all is well\n"), ("site.yaml", "password: correct-horse\n")])
    with tarfile.open(path) as tar:
        found = {one.name: tar.extractfile(one) for one in tar.getmembers()}
        texts = {name: file.read().decode() for name, file in found.items() if file}
    assert texts == {"seen/hosts/c1.txt": "all is well\n", "seen/site.yaml": f"password: {REDACTED}\n"}
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_archive_that_was_interrupted_is_not_there(tmp_path: Path) -> None:
    """An error while its members are made leaves neither a part of it nor an archive that looks complete."""

    def members() -> Iterator[tuple[str, str]]:
        yield "first.txt", "said"
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        support_archive.write(tmp_path / "seen.tar.gz", members())
    assert list(tmp_path.iterdir()) == []
