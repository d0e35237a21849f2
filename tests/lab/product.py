"""The product as its users run it: `invoke install` and `invoke plan` as processes, and what they answer."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dws_on_csm.engine.state import DEFECT
from lab import registry

INVOKE = Path(sys.executable).with_name("invoke")
RUN = re.compile(r"\b\d{8}T\d{6}Z-[0-9a-f]{4}\b")

Record = dict[str, Any]


class Told(dict[str, Any]):
    """The summary's record; of a run that ended without one it says what that run said instead."""

    def __init__(self, record: Record, code: int, err: str) -> None:
        super().__init__(record)
        self._instead = f"exit code {code}; it said:\n{err[-5000:]}"

    def __missing__(self, key: str) -> Any:
        raise KeyError(f"{key}: {self._instead}")

    def __repr__(self) -> str:
        return super().__repr__() if self else f"no summary, {self._instead}"


@dataclass(frozen=True)
class Answer:
    """How a run ended: exit code, the lines of --json (steps and the summary), both streams, seconds, its folder."""

    code: int
    steps: tuple[Record, ...]
    summary: Record
    out: str
    err: str
    seconds: float
    folder: Path | None

    def having(self, *outcomes: str) -> set[str]:
        """The steps with one of these outcomes, as "STAGE.STEP@HOST"."""
        return {named(step) for step in self.steps if step["outcome"] in outcomes}

    def differs(self) -> bool:
        """Whether a plan failed, or an install would change anything."""
        return bool(self.code or self.having("failed", "refused", "would change", "unknown"))

    @property
    def told(self) -> str:
        """What people were told, without the differences."""
        return "\n".join(line for line in self.err.splitlines() if not re.match(r"    [-+@]( |$)", line))

    def failures(self) -> list[Record]:
        """All that was told of what went wrong: "command", "meaning", "fix" and more."""
        return [failure for step in self.steps for failure in step.get("failures", ())]

    def findings(self) -> set[str]:
        """The names of the findings that refused the run."""
        return {f["command"] for step in self.steps if step["outcome"] == "refused" for f in step["failures"]}


def named(step: Record) -> str:
    """A step's record as "STAGE.STEP@HOST"."""
    return f"{step['stage']}.{step['step']}@{step['host']}"


def moment(kind: str, host: str = "", step: str = "") -> Callable[[Record], bool]:
    """Whether a record of the journal is an event of this kind, of the step "STAGE.STEP" on this host if one is named."""

    def this(record: Record) -> bool:
        return record["event"] == kind and (not step or ("stage" in record and named(record) == f"{step}@{host}"))

    return this


def install(site: Path, *options: str, deadline: float = 600) -> Answer:
    """`invoke install --hosts SITE --json`."""
    return invoke("install", f"--hosts={site}", "--json", *options, deadline=deadline)


def plan(site: Path, *options: str, deadline: float = 300) -> Answer:
    """`invoke plan --hosts SITE --json`."""
    return invoke("plan", f"--hosts={site}", "--json", *options, deadline=deadline)


def invoke(*arguments: str, deadline: float, checkout: Path = registry.CHECKOUT) -> Answer:
    """Any invoke command in a checkout, to its end; TimeoutError when there is none."""
    with Running(*arguments, checkout=checkout) as running:
        return running.end(deadline)


class Running:
    """A run at work, without a terminal. Its output goes to files, so that a killed one has left what it said."""

    def __init__(self, *arguments: str, checkout: Path = registry.CHECKOUT) -> None:
        self._checkout = checkout
        self._pipes = [os.memfd_create(name) for name in ("out", "err")]
        self._began = time.monotonic()
        out, err = self._pipes
        command: Sequence[str] = [str(INVOKE), *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=checkout)

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in self._pipes:
            os.close(pipe)

    def end(self, deadline: float) -> Answer:
        """Waits for the run's end. TimeoutError with what it said last when there is none within `deadline` seconds."""
        try:
            code = self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"no end within {deadline:.0f} s; the run said:\n{self._said(1)[-3000:]}") from None
        seconds = time.monotonic() - self._began
        out, err = (self._said(number) for number in (0, 1))
        lines = [json.loads(line) for line in out.splitlines()] if "{" in out[:1] else []
        steps = tuple(line for line in lines if line["event"] == "step")
        summary: Record = next((line for line in lines if line["event"] == "summary"), {})
        assert DEFECT not in err, err
        return Answer(code, steps, Told(summary, code, err), out, err, seconds, self.folder())

    def folder(self) -> Path | None:
        """runs/RUN of this run; None as long as it has not said which one it is."""
        found = RUN.search(self._said(1))
        return self._checkout / "runs" / found[0] if found else None

    def until(self, reached: Callable[[Record], bool], deadline: float = 600) -> Record | None:
        """The first record of the run's journal for which `reached`; None when the run ended without one."""
        ends = time.monotonic() + deadline
        seen = 0
        while True:
            over = self.process.poll() is not None
            records = list(self._journal())
            for record in records[seen:]:
                if reached(record):
                    return record
            seen = len(records)
            if over:
                return None
            if time.monotonic() > ends:
                raise TimeoutError(f"not reached within {deadline:.0f} s; the run said:\n{self._said(1)[-3000:]}")
            time.sleep(0.01)  # a file says nothing by itself

    def _journal(self) -> Iterator[Record]:
        folder = self.folder()
        journal = folder / "journal.jsonl" if folder else None
        if journal and journal.exists():
            yield from (json.loads(line) for line in journal.read_text().splitlines(keepends=True) if line[-1] == "\n")

    def _said(self, number: int) -> str:
        pipe = self._pipes[number]
        return os.pread(pipe, os.fstat(pipe).st_size, 0).decode(errors="replace")
