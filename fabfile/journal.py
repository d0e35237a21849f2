"""What a run did, written as it happens: a folder a run at the operator's, and a copy on the master for colleagues."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fabfile.events import Event, Line
from fabfile.inventory import ROOT
from fabfile.jsonlines import to_json

RUNS = ROOT / "runs"


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
        self._file = (self.folder / "journal.jsonl").open("w", buffering=1)
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
        return (self.folder / "journal.jsonl").read_bytes()

    def report(self, render: Callable[[Sequence[Event]], str]) -> Path:
        """Write the run's report beside the journal; its path."""
        self.page.write_text(render(self.events))
        return self.page

    def close(self) -> None:
        """Nothing more is written."""
        self._file.close()


def prune(keep: int, folder: Path = RUNS) -> None:
    """Leave the newest `keep` runs; their names are times, so they sort."""
    for old in sorted(path for path in folder.iterdir() if path.is_dir())[:-keep]:
        shutil.rmtree(old)


def read(path: Path) -> list[dict[str, Any]]:
    """The records of a journal; a last line that was cut off is left out."""
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
