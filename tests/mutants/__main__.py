"""`python -m tests.mutants [--seconds N] [--count N] [--seed N] [--workers N] [--named] [FILE...]`: tries mutants.

Prints each survivor, and the score. Exit code 1 if a named one survived. Needs root: each mutant runs in namespaces of its own.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dws_on_csm.config.load import ROOT
from tests.mutants.made import Mutant, of_python, of_shell
from tests.mutants.named import NAMED, TESTS, paths

SANDBOX = Path(__file__).with_name("sandbox.sh")
PATIENCE = 900.0
"""Seconds that the tests of an unchanged file may take; a mutant has three times what they took, and half a minute."""
Fate = str


def tried(mutant: Mutant, files: Sequence[str], seconds: float) -> tuple[Fate, str]:
    """What became of a mutant, killed, survived, or stuck, which is as good as killed; and the last words of its tests."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *files]
    with tempfile.NamedTemporaryFile("w", suffix=Path(mutant.file).suffix) as text:
        text.write(mutant.text)
        text.flush()
        apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", str(SANDBOX)]
        try:
            done = subprocess.run(
                [*apart, str(ROOT / mutant.file), text.name, *command],
                cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return "stuck", ""
    words = (done.stdout + done.stderr).strip().splitlines()[-3:]
    return ("survived" if done.returncode == 0 else "killed"), " ".join(words)


class Limits:
    """How long the tests of a file take when nothing is changed; None where they don't pass here."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], float | None] = {}

    def of(self, file: str, files: Sequence[str]) -> float | None:
        """Seconds that a mutant of it has."""
        key = (file, *files)
        if key not in self._known:
            began = time.monotonic()
            fate, said = tried(Mutant(file, "unchanged", (ROOT / file).read_text()), files, PATIENCE)
            self._known[key] = 3 * (time.monotonic() - began) + 30 if fate == "survived" else None
            if fate != "survived":
                print(f"{file}: its tests do not pass unchanged ({fate}): {said}", flush=True)  # noqa: T201
        return self._known[key]


def made(file: str) -> Iterator[Mutant]:
    """All mutants of a file that can be made."""
    text = (ROOT / file).read_text()
    return of_python(file, text) if file.endswith(".py") else of_shell(file, text)


def with_names(files: Sequence[str]) -> list[tuple[Mutant, list[str]]]:
    """Those of these files that have a name, or of all, each with its tests."""
    return [(one.mutant(), paths(one.tests)) for one in NAMED if not files or one.file in files]


def chosen(files: Sequence[str], count: int, seed: int) -> list[Mutant]:
    """So many of all mutants of these files, as many of each as there are."""
    every = [one for file in files for one in made(file)]
    return random.Random(seed).sample(every, min(count, len(every)))  # noqa: S311  # for a sample


def main() -> int:
    """Run them; 1 if one of the named survived."""
    given = argparse.ArgumentParser(prog="python -m tests.mutants")
    given.add_argument("--seconds", type=float, default=1200, help="no mutant begins after so many")
    given.add_argument("--count", type=int, default=150, help="of those that are made")
    given.add_argument("--seed", type=int, default=1)
    given.add_argument("--named", action="store_true", help="those with a name alone, of FILE if given")
    given.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="so many at once")
    given.add_argument("files", nargs="*", metavar="FILE", help=", ".join(TESTS))
    options = given.parse_args()
    if os.geteuid() != 0:
        print("Mutants of scripts that run as root need namespaces of their own: run this as root.")  # noqa: T201
        return 2
    if unknown := [one for one in options.files if one not in TESTS]:
        given.error(f"no tests are known of {', '.join(unknown)}: see TESTS in named.py")
    ends = time.monotonic() + options.seconds
    work = with_names(options.files)
    named = {mutant.what for mutant, _ in work}
    if not options.named:
        work += [
            (one, paths(TESTS[one.file])) for one in chosen(options.files or [*TESTS], options.count, options.seed)
        ]
    if not work:
        given.error("there is no such mutant of these files")
    limits, fates = Limits(), Counter[str]()
    failed = []

    def run(mutant: Mutant, files: Sequence[str]) -> tuple[Fate, Mutant]:
        if time.monotonic() > ends:
            return "not tried", mutant
        seconds = limits.of(mutant.file, files)
        return ("no tests" if seconds is None else tried(mutant, files, seconds)[0]), mutant

    with ThreadPoolExecutor(options.workers) as pool:
        for fate, mutant in pool.map(lambda pair: run(*pair), work):
            fates[fate] += 1
            if fate in ("survived", "no tests"):
                print(f"{fate}: {mutant.file}: {mutant.what}", flush=True)  # noqa: T201
                failed += [mutant.what] if mutant.what in named else []
    killed, all_ = fates["killed"] + fates["stuck"], fates["killed"] + fates["stuck"] + fates["survived"]
    rest = ", ".join(f"{number} {fate}" for fate, number in fates.items() if fate in ("not tried", "no tests"))
    print(f"{killed} of {all_} killed ({100 * killed // max(all_, 1)} %){'; ' + rest if rest else ''}")  # noqa: T201
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
