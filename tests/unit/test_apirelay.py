"""What runs on the master beside `kubectl proxy`, with a program in that one's place."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fabfile.kubeproxy import PROGRAM

# As on a busy machine: the folder goes only a while after the program has ended.
SLOW = """
import shutil, time
taken_away = shutil.rmtree
def rmtree(*where, **how):
    time.sleep(1)
    taken_away(*where, **how)
shutil.rmtree = rmtree
"""
STAND_IN = "import sys, time; print('Starting to serve', flush=True); time.sleep(600)"


@pytest.mark.parametrize("end", ["its input", "signals"])
def test_the_folder_goes_with_the_program(end: str) -> None:
    """That the program ends, and that a signal comes twice, as from timeout(1), leaves no folder behind."""
    command = [sys.executable, "-c", SLOW + PROGRAM, "serve", sys.executable, "-c", STAND_IN]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as relay:
        assert relay.stdin and relay.stderr
        ready, _, socket = relay.stderr.readline().partition(" ")
        assert ready == "ready"
        if end == "signals":
            relay.send_signal(signal.SIGTERM)
            relay.send_signal(signal.SIGHUP)
        else:
            relay.stdin.close()
        relay.wait(60)
    assert not Path(socket.strip()).parent.exists()
