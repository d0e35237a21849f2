"""Hosts that are folders: scripts run with the real sh of this machine, in a folder that stands for the host."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import dws_on_csm
from dws_on_csm.model.actions import STATE
from dws_on_csm.model.cluster_api import ClusterError

ENTRY = "dws_on_csm.commands.repair"
"""What `fab` starts with: nobody imports it."""


COUNT = itertools.count()


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
    def commands(self) -> int:
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

    def cluster(self) -> Any:
        """An API that takes the name of a run, and answers nothing else."""

        def silent(path: str, **query: str) -> None:
            raise ClusterError(0, f"the API server did not answer {path}")

        return SimpleNamespace(fence=lambda run: None, get=silent)

    def run_aside(self, script: str, *, deadline: float) -> Answer:
        return self.run(script, deadline=deadline)


def redirect(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Has everything use `folder` for STATE, by whatever name a module knows it, or a path or a script with it."""
    for module, name, value in naming():
        monkeypatch.setattr(module, name, value.replace(STATE, str(folder)))


@cache
def naming() -> Sequence[tuple[ModuleType, str, str]]:
    """Whatever has STATE in it: module, name, text. Looked for once, before anything is redirected, in all modules there are."""
    for package in (dws_on_csm,):
        for module in walk_packages(package.__path__, f"{package.__name__}."):
            if module.name != ENTRY:
                import_module(module.name)  # a module that came later would keep STATE
    loaded = [module for name, module in sys.modules.items() if name.startswith("dws_on_csm.")]
    named = [
        (module, name, value) for module in loaded for name, value in vars(module).items() if isinstance(value, str)
    ]
    return [item for item in named if STATE in item[2]]


@pytest.fixture(autouse=True)
def nothing_of_this_machine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a test runs here works in its own folder, not in the one that runs use on a true host.

    It is in the test's tmp_path where it has one; most tests have none, and to make one takes longer than they do.
    """
    own = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    redirect(monkeypatch, own / "state" if own else tmp_path_factory.getbasetemp() / f"state-{next(COUNT)}")


@pytest.fixture
def local_host(tmp_path: Path) -> LocalHost:
    folder = tmp_path / "host"
    folder.mkdir()
    return LocalHost(folder)


def outside() -> dict[str, tuple[int, int]]:
    """What there is in this machine's own STATE, with its inode and when it was changed."""
    found = [Path(STATE), *Path(STATE).rglob("*")]
    return {str(path): (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in found if path.exists()}


@pytest.fixture(scope="session", autouse=True)
def nothing_outside() -> Iterator[None]:
    """No test leaves anything in the folder that runs use on a true host, whether this machine is one or not."""
    before = outside()
    yield
    changed = {*before.items()} ^ {*outside().items()}
    assert not changed, f"tests have been at work in {STATE}: {sorted({path for path, _ in changed})}"
