"""What the programs tests/faults and tests/soak have in common: their lab, their lines, and what they expect of no run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lab import lifecycle, registry, snapshot
from lab.model import Lab, Options

CONVERGES = 500.0
"""Seconds that the run after a fault may take."""
UNEXPECTED = (
    RuntimeError,
    OSError,
    AssertionError,
    ValueError,
    LookupError,
    ExceptionGroup,
    subprocess.SubprocessError,
)
"""What a trial may raise that nobody expected of the product: it is reported as a failed check."""


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)  # noqa: T201 - of programs


@contextmanager
def own_lab(name: str) -> Iterator[Lab]:
    """A pristine lab of that name; LAB_KEEP=1 leaves it up in the end."""
    lab = registry.create(name, Options())
    if snapshot.taken(lab) and not lifecycle.current(lab):
        lifecycle.down(lab)
        lab = registry.create(name, Options())
    try:
        (lifecycle.reset if snapshot.taken(lab) else lifecycle.up)(lab, say)
        yield lab
    finally:
        if not os.environ.get("LAB_KEEP"):
            lifecycle.down(lab)


def print_verdict(number: int, seconds: float, text: str, failures: Sequence[str]) -> None:
    """Print the line of one trial, and a line for each check that failed."""
    say(f"{number:3}  {'FAILED' if failures else 'ok':6} {seconds:5.0f} s  {text}")
    for sentence in failures:
        say("       - " + sentence.replace("\n", "\n         "))
