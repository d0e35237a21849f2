"""Files uploaded for one script, and scripts of a run side by side: with the real sh."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from dws_on_csm.engine import host_script
from dws_on_csm.engine.host_script import BUSY, compile_actions
from dws_on_csm.model.actions import Action, RunScript, Upload
from dws_on_csm.model.step import Finding, Refused

MARK = "==mark"
CONTENT = bytes(range(256)) * 40_000
"""10 MB: more than one piece."""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in place of /var/lib/dws-on-csm."""
    monkeypatch.setattr(host_script, "LIBRARY", host_script.LIBRARY.replace("-w 60", "-w 0.2"))
    return tmp_path / "state"


def start(planned: Sequence[Action], run: str = "early") -> tuple[subprocess.Popen[bytes], bytes]:
    script, data = compile_actions(planned, run, MARK)
    pipe = subprocess.PIPE
    return subprocess.Popen(["sh", "-c", script], stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT), data


def done(planned: Sequence[Action], run: str = "early", cut: int = 0) -> tuple[int, str]:
    """Exit code and output of the script for these actions; `cut` bytes of its data are lost."""
    process, data = start(planned, run)
    out, _ = process.communicate(data[: len(data) - cut], timeout=30)
    return process.returncode, out.decode()


def bring(content: bytes = CONTENT, name: str = "dws.bundle") -> Upload:
    return Upload(name, f"bring {name}", lambda: content)


def use(state: Path, name: str = "dws.bundle") -> RunScript:
    return RunScript("use it", f"sha256sum {state}/parts/{name} | cut -d' ' -f1; stat -c %a {state}/parts/{name}")


def test_an_upload_exists_for_the_next_actions_only(state: Path) -> None:
    """It arrives byte for byte, readable by root alone, and reports its progress."""
    code, out = done([bring(), bring(b"small", "other"), use(state), use(state, "other")])
    assert code == 0, out
    assert hashlib.sha256(CONTENT).hexdigest() + "\n600\n" in out
    assert hashlib.sha256(b"small").hexdigest() + "\n600\n" in out
    assert "dws.bundle: 8 of 10 MB received\ndws.bundle: 10 of 10 MB received\n" in out
    assert list((state / "parts").iterdir()) == []


def test_an_upload_is_removed_when_an_action_fails(state: Path) -> None:
    """The exit code is that of the failed action."""
    assert done([bring(), RunScript("fail", "exit 7")])[0] == 7
    assert list((state / "parts").iterdir()) == []


def test_an_incomplete_upload_is_not_used(state: Path) -> None:
    """The connection may break at any byte: later actions are not run."""
    code, out = done([bring(), RunScript("never", f"touch {state}/never")], cut=1)
    assert code == 1 and "dws.bundle arrived incomplete" in out
    assert not (state / "never").exists()
    assert list((state / "parts").iterdir()) == []


def test_a_file_that_cannot_be_read_is_refused_before_the_script_is_made() -> None:
    """An exception of `read` is passed on."""

    def read() -> bytes:
        raise Refused(Finding("source-unreadable", "no such file", "correct sources.dws"))

    with pytest.raises(Refused, match="source-unreadable"):
        compile_actions([Upload("x", "bring x", read)], "r", MARK)


def hold(state: Path, run: str) -> subprocess.Popen[bytes]:
    """A script of `run` that runs until its pipe is closed."""
    process, _ = start([RunScript("wait", f"mkfifo {state}/fifo; echo here; read line <{state}/fifo")], run)
    assert process.stdout
    while b"here" not in process.stdout.readline():
        assert process.poll() is None
    return process


def end(state: Path, process: subprocess.Popen[bytes]) -> None:
    (state / "fifo").write_text("go\n")
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_scripts_of_the_same_run_work_side_by_side(state: Path) -> None:
    """Stages that don't need each other don't wait for each other's commands."""
    first = hold(state, "early")
    try:
        assert done([RunScript("at once", "true")], "early")[0] == 0
    finally:
        end(state, first)


def test_a_script_of_an_earlier_run_keeps_the_next_run_out_until_it_ends(state: Path) -> None:
    """A script that lost its operator continues, and its uploaded files stay as long."""
    first = hold(state, "early")
    (state / "parts").mkdir()
    (state / "parts/left").touch()
    try:
        code, out = done([RunScript("too early", "true")], "later")
        assert code == BUSY and "another run's command is still running" in out
        assert (state / "parts/left").exists()
    finally:
        end(state, first)
    assert done([RunScript("now", "true")], "later")[0] == 0
    assert not (state / "parts").exists()
