"""The relay that runs on the master, with a fake in place of `kubectl proxy`."""

import fcntl
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dws_on_csm.kube.proxy import PROGRAM
from tests.unit.held_lock import holder

pytestmark = pytest.mark.slow

# As on a busy machine: the folder goes only a while after the program has ended.
SLOW = """
import shutil, time
taken_away = shutil.rmtree
def rmtree(*where, **how):
    time.sleep(1)
    taken_away(*where, **how)
shutil.rmtree = rmtree
"""
FAKE_PROXY = "import sys, time; print('Starting to serve', flush=True); time.sleep(600)"


@pytest.mark.parametrize("end", ["its input", "signals"])
def test_the_folder_goes_with_the_program(end: str) -> None:
    """No folder is left when the program ends, or when a signal comes twice, as from timeout(1)."""
    command = [sys.executable, "-c", SLOW + PROGRAM, "serve", "/nowhere", sys.executable, "-c", FAKE_PROXY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as relay:
        assert relay.stdin and relay.stderr
        ready, _, where = relay.stderr.readline().partition(" ")
        assert ready == "ready"
        if end == "signals":
            relay.send_signal(signal.SIGTERM)
            relay.send_signal(signal.SIGHUP)
        else:
            relay.stdin.close()
        relay.wait(60)
    assert not Path(where.strip()).parent.exists()


def test_a_run_whose_lock_has_expired_changes_nothing(tmp_path: Path) -> None:
    """Also if nobody took it on this master: through another one a run may have the cluster's Lease."""
    (tmp_path / "lock").mkdir()
    (tmp_path / "lock/holder").write_text(holder("run-1", seconds=0))
    command = [sys.executable, "-c", PROGRAM, "join", str(tmp_path), str(tmp_path / "none")]
    done = subprocess.run(
        command, input=b"PUT / HTTP/1.1\r\nDws-On-Csm-Run: run-1\r\n\r\n", capture_output=True, timeout=60, check=False
    )
    assert done.stdout.startswith(b"HTTP/1.1 409 ") and b"LockLost" in done.stdout and b"has expired" in done.stdout


def test_the_next_run_waits_for_a_call_that_is_under_way(tmp_path: Path) -> None:
    """From the check of the lock until the answer to a change no other run's script can begin on the master."""
    (tmp_path / "lock").mkdir()
    (tmp_path / "lock/holder").write_text(holder("run-1", seconds=100))
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "api"))
    server.listen()
    server.settimeout(60)
    command = [sys.executable, "-c", PROGRAM, "join", str(tmp_path), str(tmp_path / "api")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as relay:
        assert relay.stdin and relay.stdout
        link = None
        for request, held in (
            (b"GET / HTTP/1.1\r\n\r\n", False),
            (b"PUT / HTTP/1.1\r\nDws-On-Csm-Run: run-1\r\n\r\n", True),
        ):
            # in two pieces, as a slow connection brings it
            relay.stdin.write(request[:20])
            relay.stdin.flush()
            relay.stdin.write(request[20:])
            relay.stdin.flush()
            link = link or server.accept()[0]
            link.settimeout(60)
            seen = b""
            while not seen.endswith(b"\r\n\r\n"):
                seen += link.recv(65536)
            assert seen == request and busy(tmp_path) == held
            link.sendall(b"answer")
            assert relay.stdout.read(6) == b"answer" and not busy(tmp_path)
        relay.stdin.close()
        relay.wait(60)
    server.close()


def busy(state: Path) -> bool:
    """Whether another run's script has to wait."""
    with (state / "busy").open("a") as gate:
        try:
            fcntl.flock(gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
