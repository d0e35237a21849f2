"""What a run did, written as it happens: a folder a run at the operator's, and a copy on the master for colleagues."""

from __future__ import annotations

import fcntl
import json
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fabfile.events import Event, Line, Opened, Renamed
from fabfile.inventory import ROOT
from fabfile.jsonlines import to_json

RUNS = ROOT / "runs"
NAME = "journal.jsonl"

PROOFS = ("verify", "cancel")
"""Stages that prove what is there; nothing that lasts is changed in them, nor in those that only look."""
LOOKING = ("connect", "preflight", "run")
"""What changes nothing either; what is told of a run as a whole has the stage "run"."""


def identifier(at: float) -> str:
    """A run's id: when it began, in UTC, and four random digits: `20260131T120000Z-1f3a`."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at)) + "-" + secrets.token_hex(2)


class Journal:
    """The events of one run, in memory and in `runs/RUN/journal.jsonl`; lines of output are left out."""

    def __init__(self, run: str, keep: int, folder: Path = RUNS) -> None:
        self.run = run
        self.folder = folder / run
        folder.mkdir(parents=True, exist_ok=True)
        prune(keep, folder)
        self.folder.mkdir(mode=0o700)
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
            if isinstance(event, Renamed):
                self._rename(event.run)
            self.events.append(event)
            self._file.write(json.dumps(to_json(event)) + "\n")

    def _rename(self, run: str) -> None:
        folder = self.folder.with_name(run)
        self.folder.rename(folder)
        self.run, self.folder, self.page = run, folder, folder / self.page.name

    def text(self) -> bytes:
        """The journal so far."""
        return (self.folder / NAME).read_bytes()

    def report(self, render: Callable[[Sequence[Event]], str]) -> Path:
        """Write the run's report beside the journal; its path."""
        self.page.write_text(render(self.events))
        return self.page

    def close(self) -> None:
        """Nothing more is written. A run that was ended before it did anything leaves no folder."""
        self._file.close()
        if all(isinstance(event, Opened) for event in self.events):
            shutil.rmtree(self.folder)


def prune(keep: int, folder: Path = RUNS) -> None:
    """Leave the newest `keep` runs that changed something, as many that didn't, and those that are still at work.

    Their names are times, so they sort.
    """
    ended = [path for path in sorted(folder.iterdir()) if path.is_dir() and not _at_work(path / NAME)]
    changed = {path for path in ended if _changed(path / NAME)}
    for some in ([path for path in ended if path in changed], [path for path in ended if path not in changed]):
        for old in some[:-keep]:
            with suppress(FileNotFoundError):  # another run takes it away at the same time
                shutil.rmtree(old)


def _changed(file: Path) -> bool:
    """Whether the run changed something, by its journal; most of that need not be read for it. One that can't be: no."""
    with suppress(OSError, ValueError, KeyError), file.open() as lines:
        plan = json.loads(next(lines, "{}")).get("task") == "plan"
        return not plan and any(change(json.loads(line)) for line in lines if '"fixed"' in line or '"failed"' in line)
    return False


def change(record: Mapping[str, Any]) -> str:
    """What was put right that lasts, or tried to be, by a journal's record: "STAGE.STEP"; "" for any other one."""
    if record["event"] != "done" or record["outcome"] not in ("fixed", "failed"):
        return ""
    return "" if record["stage"] in (*LOOKING, *PROOFS) else f"{record['stage']}.{record['step']}"


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
