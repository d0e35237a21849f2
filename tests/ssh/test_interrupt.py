"""A run that is asked to stop, by Ctrl-C, by SIGTERM, and a second time: a process of its own against a real sshd."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.ssh.server import HANG, Server, running

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

# A run of one step on the master, whose change ignores TERM; all its hosts are one sshd.
RUN = """
import sys
from pathlib import Path
from dws_on_csm.model.actions import RunScript
from dws_on_csm.config.load import load
from dws_on_csm.runner.journal import Journal
from dws_on_csm.runner.options import Options
from dws_on_csm.runner.run import run
from dws_on_csm.model.step import ShellLook, Stage, Step

folder, change, mode = sys.argv[1:]
if mode == "late":
    import dws_on_csm.runner.run
    dws_on_csm.runner.run.identifier = lambda at: "20200131T120000Z-1f3a"
Journal.__init__.__defaults__ = (Path(folder) / "runs", "")
look = ShellLook("[ -e /var/lib/changed ] && echo there || echo none", lambda out: out.decode().strip())
removes = (lambda *_: "all of it") if mode == "ask" else None
step = Step("hard", "master", lambda place: look, lambda place: "there",
            lambda *_: [RunScript("work for long", change, 500.0)], removes=removes)
more = Step("next", "master", lambda place: look, lambda place: "there", lambda *_: [RunScript("go on", "touch /var/lib/changed")])
stages = (Stage("first", (), ()), Stage("second", ("first",), (step,)), Stage("third", ("second",), (more,)))
sys.exit(run(load(Path(folder) / "hosts.yaml"), stages, Options(json=mode != "ask")))
"""
STUBBORN = "trap '' TERM; echo begun; touch {at}; while [ -e {at} ]; do sleep 0.1; done"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """An sshd with a /var/lib of its own, so nothing on this machine changes."""
    inside = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /var/lib && exec "$@"', "sh")
    with running(tmp_path / "server", inside=inside) as one:
        yield one


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(params=["fabric", "openssh"])
def transport(request: pytest.FixtureRequest) -> str:
    """Each test holds for both."""
    return str(request.param)


@pytest.fixture
def start(server: Server, tmp_path: Path, transport: str) -> Iterator[Start]:
    """Starts a run with this script as its change."""
    (tmp_path / "ssh_config").write_text(server.config(name="m c"))
    (tmp_path / "hosts.yaml").write_text(
        "master: {host: m}\ncontrollers: [{host: c}]\n"
        f"ssh: {{config: {tmp_path / 'ssh_config'}, user: root, transport: {transport}}}\n"
    )
    begun: list[subprocess.Popen[str]] = []

    def run(change: str, mode: str = "json", **more: object) -> subprocess.Popen[str]:
        words = [sys.executable, "-c", RUN, str(tmp_path), change, mode]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more
        begun.append(subprocess.Popen(words, cwd=ROOT, text=True, start_new_session=True, **pipes))  # type: ignore[call-overload]
        return begun[-1]

    yield run
    (tmp_path / "at").unlink(missing_ok=True)  # the scripts that still run end when it is missing
    for process in begun:
        if process.poll() is None:
            process.kill()
        process.communicate()


def until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + HANG
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)  # no event comes from other processes


def pressed(process: subprocess.Popen[str]) -> bool:
    """Press Ctrl-C as somebody who waits does; whether the process has ended since. Two that it sees at once are one for it, and
    nothing shows that it has seen one while it ends."""
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(0.5)
    return process.poll() is not None


def summary(out: str) -> dict[str, object]:
    (end,) = [record for line in out.splitlines() if (record := json.loads(line))["event"] == "summary"]
    return dict(end)


def journal(folder: Path) -> list[dict[str, object]]:
    (file,) = (folder / "runs").glob("*/journal.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def ended(process: subprocess.Popen[str]) -> tuple[float, str, str]:
    began = time.monotonic()
    out, err = process.communicate(timeout=HANG)
    return time.monotonic() - began, out, err


def test_the_second_leaves_at_once(start: Start, tmp_path: Path) -> None:
    """Where a script does not end, the second Ctrl-C leaves at once, and says what still runs where, and what to do."""
    process = start(STUBBORN.format(at=tmp_path / "at"))
    until((tmp_path / "at").exists)
    process.send_signal(signal.SIGINT)
    until(lambda: any(one["event"] == "stopping" for one in journal(tmp_path)))
    assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGINT)
    seconds, out, err = ended(process)
    end = summary(out)
    assert process.returncode == end["exit"] == 1, (out, err)
    assert seconds < 5, "without the test's own delays it waits 0.8 s at most"
    assert "Stopped without waiting. Still running: m: second.hard (work for long)." in str(end["message"])
    assert "lock expires within" in str(end["message"]) and "Run the same command again" in str(end["message"])
    assert str(end["next"]).startswith("invoke install --hosts") and "Traceback" not in err
    assert journal(tmp_path)[-1]["event"] == "summary"


def test_the_first_ends_what_runs(start: Start, tmp_path: Path) -> None:
    """Ctrl-C ends a script, begins no other, and says so; the lock is released."""
    process = start(f"touch {tmp_path / 'at'}; sleep 400")
    until((tmp_path / "at").exists)
    process.send_signal(signal.SIGINT)
    _, out, err = ended(process)
    assert process.returncode == summary(out)["exit"] == 1 and "Traceback" not in err, (out, err)
    assert '"step": "next", "outcome": "skipped"' in out
    assert summary(out)["message"].startswith("Stopped.")  # type: ignore[attr-defined]


def test_sigterm_is_like_ctrl_c(start: Start, tmp_path: Path) -> None:
    """SIGTERM (a shutdown, `kill`, a job's end) stops a run as Ctrl-C does, and a second one leaves."""
    process = start(STUBBORN.format(at=tmp_path / "at"))
    until((tmp_path / "at").exists)
    process.send_signal(signal.SIGTERM)
    until(lambda: any(one["event"] == "stopping" for one in journal(tmp_path)))  # two at once are one
    process.send_signal(signal.SIGTERM)
    _, out, _ = ended(process)
    assert process.returncode == summary(out)["exit"] == 1 and "Still running: m: second.hard" in out


def test_the_end_of_the_terminal_stops_a_run_as_ctrl_c_does(start: Start, tmp_path: Path) -> None:
    """The ssh session of the operator drops: the run ends in order, with its last stages, and its journal says how."""
    master, slave = pty.openpty()
    process = start(f"touch {tmp_path / 'at'}; sleep 400", stdin=slave, stdout=slave, stderr=slave)
    until((tmp_path / "at").exists)
    os.close(slave)
    os.close(master)
    process.send_signal(signal.SIGHUP)
    assert process.wait(HANG) == 1
    assert str(journal(tmp_path)[-1]["message"]).startswith("Stopped.")


def test_before_anything_was_begun_the_first_leaves(start: Start, server: Server, tmp_path: Path) -> None:
    """While connections are being opened, one Ctrl-C is enough: the run says that nothing was changed."""
    os.kill(server.process.pid, signal.SIGSTOP)  # connections are accepted, and nobody answers
    try:
        process = start("true")
        until(lambda: any((tmp_path / "runs").glob("*/journal.jsonl")) and bool(journal(tmp_path)))
        time.sleep(1)  # it connects meanwhile; if not yet, the result is the same
        process.send_signal(signal.SIGINT)
        seconds, out, err = ended(process)
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    assert seconds < 5 and "Traceback" not in err, (seconds, err)
    assert summary(out)["message"] == "Stopped before anything was started. Nothing was changed."


def test_at_the_question_the_first_is_enough(start: Start, tmp_path: Path) -> None:
    """Ctrl-C answers the prompt, too: nothing is confirmed, the run stops, and the terminal is restored."""
    ours, theirs = os.openpty()
    environment = os.environ | {"TERM": "xterm", "LC_ALL": "C.UTF-8"}
    process = start("true", "ask", stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    said = read(ours, b"[y/N]")
    process.send_signal(signal.SIGINT)
    said += read(ours, b"")
    assert process.wait(HANG) == 1
    assert b"Stopped." in said and said.count(b"\x1b[?25l") <= said.count(b"\x1b[?25h")


def read(terminal: int, mark: bytes) -> bytes:
    """The output on a terminal up to the mark; without one, until its other end is closed."""
    said = b""
    while not mark or mark not in said:
        try:
            said += os.read(terminal, 1 << 16)
        except OSError:  # Linux raises this when the other end is closed
            break
    return said


def test_a_run_that_has_ended_keeps_its_end(start: Start, tmp_path: Path) -> None:
    """A run that is left while it writes its journal to the hosts says how it ended and what is missing, with its exit code."""
    folder = "/var/lib/dws-on-csm"
    process = start(f"mkfifo {folder}/runs.log; touch /var/lib/changed {tmp_path / 'at'}")  # a writer of a fifo waits
    until(lambda: (tmp_path / "at").exists() and journal(tmp_path)[-1]["event"] == "summary")
    until(lambda: pressed(process))
    _, out, err = ended(process)
    end = summary(out)
    assert process.returncode == end["exit"] == 0, (out, err)
    assert "ended before the run's record was on all hosts" in json.dumps(end)


def test_a_run_has_one_name_everywhere(start: Start, server: Server, tmp_path: Path) -> None:
    """Where this machine's clock is years behind, journal, report and master use the id by the master's clock."""
    process = start("touch /var/lib/changed", "late")
    _, out, err = ended(process)
    end = summary(out)
    assert process.returncode == 0, (out, err)
    (folder,) = (tmp_path / "runs").iterdir()
    (theirs,) = (Path(f"/proc/{server.process.pid}/root/var/lib/dws-on-csm") / "runs").iterdir()
    assert folder.name == end["run"] == theirs.name and folder.name[:4] > "2020" and folder.name.endswith("-1f3a")
    assert str(end["report"]).endswith(f"{folder.name}/report.html") and (folder / "report.html").exists()
