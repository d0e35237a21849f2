"""invoke and fab as an administrator calls them, and the JSON lines that they print."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import registry

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Said:
    """How a command ended: its exit code and both streams."""

    code: int
    out: str
    err: str

    def records(self, event: str) -> list[dict[str, Any]]:
        """The JSON lines of one kind."""
        lines = [json.loads(line) for line in self.out.splitlines()]
        return [line for line in lines if line["event"] == event]


def invoke(*words: str, deadline: float = 300) -> Said:
    """`invoke WORDS` in the checkout, without a terminal."""
    return _run("invoke", words, deadline)


def fab(host: str, *words: str, deadline: float = 600) -> Said:
    """`fab -H HOST WORDS` in the checkout, without a terminal."""
    return _run("fab", ("-H", host, *words), deadline)


def _run(name: str, words: tuple[str, ...], deadline: float) -> Said:
    done = subprocess.run(
        [str(BIN / name), *words],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=deadline,
        cwd=registry.CHECKOUT,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)
