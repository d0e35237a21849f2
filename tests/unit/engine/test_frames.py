"""Many looks in one exec, in the real sh: what one prints, how it ends, and what is known of one that never ended."""

import subprocess

from dws_on_csm.engine import frames
from dws_on_csm.engine.frames import Frame

MARK = "--mark"


def run(**snippets: str) -> subprocess.CompletedProcess[bytes]:
    script = frames.compose(snippets, MARK)
    return subprocess.run(["sh", "-c", script], capture_output=True, timeout=30, check=False)


def test_each_snippet_has_a_frame_whatever_becomes_of_the_others() -> None:
    """Output, standard error and exit code of each; none sees what another one reads or sets."""
    said = run(one="cat; echo 1; x=5; exit 3", two="echo 2; echo why >&2; echo x=$x")
    assert frames.split(said.stdout, said.stderr, MARK) == {
        "one": Frame(b"1\n", b"", 3),
        "two": Frame(b"2\nx=\n", b"why\n", 0),
    }


def test_of_one_that_never_ended_the_last_words_are_known() -> None:
    """It has no frame, nor have those behind it; what it said is told without the marks of frames."""
    said = run(one="echo early >&2", two="echo out of memory >&2; kill -9 $$", three="echo 3")
    assert list(frames.split(said.stdout, said.stderr, MARK)) == ["one"]
    assert frames.last_words(said.stderr, MARK) == "out of memory"
    assert frames.last_words(b"sh: not found\n", MARK) == "sh: not found"
