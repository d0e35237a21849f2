"""What a run did, written as it happens: a folder a run at the operator's, and a copy on the master for colleagues."""

from __future__ import annotations

import fcntl
import json
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fabfile.events import Event, Line
from fabfile.inventory import ROOT
from fabfile.jsonlines import to_json

RUNS = ROOT / "runs"
NAME = "journal.jsonl"


def identifier(at: float) -> str:
    """A run's id: when it began, in UTC, and four random digits: `20260131T120000Z-1f3a`."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at)) + "-" + secrets.token_hex(2)


class Journal:
    """The events of one run, in memory and in `runs/RUN/journal.jsonl`; lines of output are left out."""

    def __init__(self, run: str, keep: int, folder: Path = RUNS) -> None:
        self.run = run
        self.folder = folder / run
        self.folder.mkdir(parents=True)
        prune(keep, folder)
        self.folder.chmod(0o700)
        self.page = self.folder / "report.html"
        self.events: list[Event] = []
        self._file = (self.folder / NAME).open("w", buffering=1)
        fcntl.flock(self._file, fcntl.LOCK_EX)  # as long as the run is at work, or until it is killed
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Writes an event."""
        if isinstance(event, Line):
            return
        with self._lock:
            self.events.append(event)
            self._file.write(json.dumps(to_json(event)) + "\n")

    def text(self) -> bytes:
        """The journal so far."""
        return (self.folder / NAME).read_bytes()

    def report(self, render: Callable[[Sequence[Event]], str]) -> Path:
        """Write the run's report beside the journal; its path."""
        self.page.write_text(render(self.events))
        return self.page

    def close(self) -> None:
        """Nothing more is written."""
        self._file.close()


def prune(keep: int, folder: Path = RUNS) -> None:
    """Leave the newest `keep` runs, and those that are still at work; their names are times, so they sort."""
    for old in sorted(path for path in folder.iterdir() if path.is_dir())[:-keep]:
        if not _at_work(old / NAME):
            with suppress(FileNotFoundError):  # another run takes it away at the same time
                shutil.rmtree(old)


def _at_work(file: Path) -> bool:
    """Whether a run writes this journal."""
    try:
        with file.open() as journal:
            fcntl.flock(journal, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:  # it has none, or another run has just taken it away
        return False
    except BlockingIOError:
        return True
    return False


def read(path: Path) -> list[dict[str, Any]]:
    """The records of a journal; a last line that was cut off is left out."""
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
