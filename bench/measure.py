"""What a command costs: wall and CPU time of it and of all that it starts, and its memory."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


class Failed(Exception):
    """A command that is measured failed, or took longer than it may."""


@dataclass(frozen=True)
class Cost:
    """Seconds of wall time and of CPU time in this machine's clients, megabytes of the largest process, and what was printed."""

    wall: float
    cpu: float
    memory: float
    out: str


@dataclass(frozen=True)
class Spread:
    """The median of several values, the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of these values."""
        return cls(statistics.median(values), min(values), max(values))


def run(command: Sequence[str], *, cwd: Path, env: Mapping[str, str], deadline: float) -> Cost:
    """Run a command to its end and return its cost. Raises Failed, also after `deadline` seconds.

    CPU time is that of the command and of those of its children that it waited for. sshd's is none of that.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.monotonic()
        process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        )
        late = threading.Event()
        timer = threading.Timer(deadline, _end, (process.pid, late))
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            _end(process.pid, late)
            raise
        finally:
            timer.cancel()
        wall = time.monotonic() - began
        process.returncode = code = os.waitstatus_to_exitcode(status)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
        if late.is_set():
            raise Failed(f"{command[0]} took more than {deadline:.0f} s")
        if code:
            raise Failed(f"{' '.join(command)} ended with exit code {code}:\n{texts[0][-2000:]}\n{texts[1][-2000:]}")
        return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, texts[0])


def _end(pid: int, late: threading.Event) -> None:
    late.set()
    with suppress(ProcessLookupError):  # it has ended meanwhile
        os.killpg(pid, signal.SIGKILL)
