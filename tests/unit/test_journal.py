"""The journals of runs: how many are kept, and which never go."""

from pathlib import Path

from fabfile.journal import Journal


def test_the_newest_are_kept_and_whatever_is_at_work(tmp_path: Path) -> None:
    """A run that began before many others, and goes on, keeps its folder until it has ended."""
    long = Journal("1", 2, tmp_path)
    for number in "2345":
        Journal(number, 2, tmp_path).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "4", "5"]
    assert long.text() == b""
    long.close()
    Journal("6", 2, tmp_path).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["5", "6"]
