"""The journal of a run, written as it happens: a folder for each run in this checkout. A copy is left on the master (run_log)."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from dws_on_csm.config.load import ROOT
from dws_on_csm.display.style import plural
from dws_on_csm.model.event_json import to_json
from dws_on_csm.model.events import Event, Line, Opened, Renamed, current
from dws_on_csm.model.lines import parse_record
from dws_on_csm.model.stage_names import leaves_nothing

RUNS = ROOT / "runs"
NAME = "journal.jsonl"


def identifier(at: float) -> str:
    """A new run's id: when it began, in UTC, and four random digits: `20260131T120000Z-1f3a`."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at)) + "-" + secrets.token_hex(2)


class Journal:
    """The events of one run, in memory and in `runs/RUN/journal.jsonl`, without lines of output.

    The run continues where its folder can't be written, as on a full disk: the missing lines are tried again with each event,
    and `problems` says at the end what is still missing. The file contains complete lines only.
    """

    def __init__(self, run: str, keep: int, folder: Path = RUNS, site: str = "") -> None:
        self.run = run
        self.folder = folder / run
        self.page = self.folder / "report.html"
        self.events: list[Event] = []
        self._lines: list[bytes] = []
        self._written = 0  # lines that are in the file
        self._file: int | None = None
        self._why: OSError | None = None
        self._unreported = ""
        self._lock = threading.Lock()
        try:
            self._open(keep, folder, site)
        except OSError as error:
            self._why = error

    def _open(self, keep: int, folder: Path, site: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        prune(keep, folder, site)
        self.folder.mkdir(mode=0o700)
        self._file = os.open(self.folder / NAME, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)  # until the run ends, or is killed

    def __call__(self, event: Event) -> None:
        """Keep an event, and write it."""
        if isinstance(event, Line):
            return
        with self._lock:
            if isinstance(event, Renamed):
                self._rename(event.run)
            self.events.append(event)
            self._lines.append(json.dumps(to_json(event)).encode() + b"\n")
            self._write()

    def _write(self) -> None:
        """Bring the file up to date, or leave it at its last complete line."""
        if self._file is None:
            return
        left = b"".join(self._lines[self._written :])
        size = os.fstat(self._file).st_size
        try:
            if os.write(self._file, left) < len(left):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._why = error
            os.ftruncate(self._file, size)
        else:
            self._written = len(self._lines)

    def _rename(self, run: str) -> None:
        self.run, folder = run, self.folder.with_name(run)
        try:
            self.folder.rename(folder)
        except OSError as error:  # it keeps its first name, or it does not exist
            self._why = error
        else:
            self.folder, self.page = folder, folder / self.page.name

    def text(self) -> bytes:
        """The journal so far."""
        with self._lock:
            return b"".join(self._lines)

    def report(self, render: Callable[[Sequence[Event]], str]) -> bool:
        """Write the run's report beside the journal. Returns whether that succeeded."""
        part = self.page.with_suffix(".part")
        try:
            part.write_text(render(self.events))
            part.replace(self.page)
        except Exception as error:  # noqa: BLE001  # how the run ended is still to be shown, whatever fails here
            self._unreported = _why(error)
            with suppress(OSError):
                part.unlink()
        return not self._unreported

    def problems(self) -> list[str]:
        """What could not be written, and why, in sentences."""
        with self._lock:
            self._write()
            short = self._written < len(self._lines)
        problems = (
            [f"The journal of this run could not be written to {self.folder}: {_why(self._why)}."] if short else []
        )
        if self._unreported:
            problems.append(f"The report of this run could not be written to {self.page}: {self._unreported}.")
        return problems

    def close(self) -> None:
        """Close the file. A run that ended before it did anything leaves no folder."""
        if self._file is None:
            return
        os.close(self._file)
        self._file = None
        if all(isinstance(event, Opened) for event in self.events):
            shutil.rmtree(self.folder)


def _why(error: Exception | None) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}"


def prune(keep: int, folder: Path = RUNS, site: str = "") -> None:
    """Keep the newest `keep` runs on `site`, a site file's path, that changed something, as many that did not, and those that are
    still running; remove its others, and count runs whose site is unknown among them. Runs on other sites stay. Their names are
    times, so they sort.
    """
    ended = [path for path in sorted(folder.iterdir()) if path.is_dir() and not _is_being_written(path / NAME)]
    ended = [path for path in ended if _site(path / NAME) in ("", site)]
    changed = {path for path in ended if _changed(path / NAME)}
    for kind in ([path for path in ended if path in changed], [path for path in ended if path not in changed]):
        for old in kind[:-keep]:
            with suppress(FileNotFoundError):  # another run removes it at the same time
                shutil.rmtree(old)


def _site(file: Path) -> str:
    """The site file of a run, by its journal's first line; "" if it can't be read."""
    with suppress(OSError), file.open(errors="replace") as lines:
        return str(parse_record(next(lines, "")).get("site", ""))
    return ""


_LASTING = ('"changed"', '"fixed"', '"failed"')  # "fixed" is the former word


def _changed(file: Path) -> bool:
    """Whether the run changed something, by its journal, of which most lines need not be parsed. False if it can't be read."""
    with suppress(OSError, ValueError, KeyError), file.open() as lines:
        plan = parse_record(next(lines, "")).get("task") == "plan"
        records = (parse_record(line) for line in lines if any(word in line for word in _LASTING))
        return not plan and any(changed_step(record) for record in records if record)
    return False


def changed_step(event: Mapping[str, Any]) -> str:
    """The step that changed something lasting, or tried to, by a record of a journal: "STAGE.STEP"; "" for any other record."""
    if event["event"] != "done" or current(event["outcome"]) not in ("changed", "failed"):
        return ""
    return "" if leaves_nothing(event["stage"]) else f"{event['stage']}.{event['step']}"


def _is_being_written(file: Path) -> bool:
    """Whether a run is writing this journal."""
    try:
        with file.open() as journal:
            fcntl.flock(journal, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:  # it has none, or another run has just removed it
        return False
    except BlockingIOError:
        return True
    return False


def records(path: Path) -> tuple[list[dict[str, Any]], str]:
    """The records of a journal that can be read; and what can't be read and why, in words, or "".

    A last line without its end does not count: its run was interrupted.
    """
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        return [], f"{path} cannot be read: {_why(error)}"
    parsed = [parse_record(line) for line in text.split("\n")[:-1]]
    bad = parsed.count({})
    return [record for record in parsed if record], f"{plural(bad, 'line')} of {path} cannot be read" if bad else ""
