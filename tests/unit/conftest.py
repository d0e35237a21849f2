"""Hosts that are folders: scripts run with the real sh of this machine, in a folder that stands for the host."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest


@dataclass
class Answer:
    out: bytes
    err: bytes
    code: int
    seconds: float = 0.0


@dataclass
class LocalHost:
    """What engine tests take for a connection: the same script, the same sh, without SSH between."""

    folder: Path
    scripts: list[str] = field(default_factory=list)
    host: str = "one"
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def execs(self) -> int:
        return len(self.scripts)

    def run(
        self, script: str, data: bytes = b"", *, deadline: float, line: Callable[[str], None] | None = None
    ) -> Answer:
        with self.lock:
            self.scripts.append(script)
        done = subprocess.run(
            ["sh", "-c", script], input=data, capture_output=True, cwd=self.folder, timeout=deadline, check=False
        )
        for text in (done.stdout + done.stderr).decode().splitlines():
            if line:
                line(text)
        return Answer(done.stdout, done.stderr, done.returncode)

    def beside(self, script: str, *, deadline: float) -> Answer:
        return self.run(script, deadline=deadline)


@pytest.fixture
def local_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalHost:
    for module in ("actions", "script"):
        monkeypatch.setattr(f"fabfile.{module}.STATE", str(tmp_path / "state"))
    folder = tmp_path / "host"
    folder.mkdir()
    return LocalHost(folder)
