"""The script of the test job where it is stopped: Slurm, kubectl and other users are stood in for, its processes are real."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from fabfile import render

# The watcher says that it is there; asked to end it still writes to its HOME, as kubectl to its cache.
PROGRAMS = {
    "chown": "true",
    "scancel": "true",
    "kubectl": """
case "$*" in *--watch*)
    trap 'sleep 0.5; mkdir -p "$HOME/late"; exit' TERM
    echo watching >"$HERE/told"
    while :; do sleep 0.1; done ;;
esac""",
    "sbatch": "exec sleep 600",
}
SETTINGS = ("kubeconfig", "workflows", "namespace", "options", "allowed", "state_folder")


@pytest.fixture
def script(tmp_path: Path) -> str:
    """The script, with what it leaves in memory below `tmp_path`/shm."""
    for name in ("bin", "shm"):
        (tmp_path / name).mkdir()
    for name, body in PROGRAMS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\nHERE={tmp_path}\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    os.mkfifo(tmp_path / "told")
    given = "".join(f"{name}=x\n" for name in SETTINGS) + "slurm_user=root\nuser=root\njob_folder=/\n"
    body = render.script("as.sh", "vanishing.sh", "test_job.sh").replace("/dev/shm", f"{tmp_path}/shm")
    return f'set -eu\n{given}slurm_path() {{ :; }}\nslurm() {{ as root "$@"; }}\n{body}'


def test_nothing_is_written_behind_the_one_that_is_stopped(tmp_path: Path, script: str) -> None:
    """What watched the Workflow, and takes a moment to end, brings no file back that was taken away."""
    environment = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    alive, held = os.pipe()
    process = subprocess.Popen(
        ["sh", "-c", script], env=environment, stdout=subprocess.DEVNULL, start_new_session=True, pass_fds=[held]
    )
    os.close(held)
    assert (tmp_path / "told").read_text() == "watching\n"
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(60) == 143
    with os.fdopen(alive) as all_ended:
        all_ended.read()
    assert list((tmp_path / "shm").iterdir()) == []
