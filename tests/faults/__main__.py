"""`python -m tests.faults`: breaks a site at every step of an install, in every way that it knows, and says what was seen.

Each cell of the matrix is a step, a fault and a moment. Without options all cells are tried, which takes many hours; --count
takes as many of them by a seed, different steps and faults first. Exit code 1 if a check failed.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lab import lifecycle
from tests.faults.faults import FAULTS, Cell, cells
from tests.faults.matrix import NOT_HERE, ROWS, SETTINGS
from tests.faults.table import table
from tests.faults.trial import Verdict, tried
from tests.lab import scene
from tests.lab.trials import own_lab, print_verdict, say
from tests.lab.world import World


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument(
        "--step", action="append", help="only this step, such as slurm.conf (several times for several)"
    )
    parser.add_argument("--fault", action="append", choices=[fault.name for fault in FAULTS], help="only this fault")
    parser.add_argument("--point", action="append", help="only this moment: start, begin, middle, end")
    parser.add_argument("--count", type=int, help="so many cells, chosen by the seed")
    parser.add_argument("--seed", type=int, help="the same seed chooses the same cells (default: a new one, printed)")
    parser.add_argument("--minutes", type=float, help="begin no cell after so many minutes")
    parser.add_argument("--list", action="store_true", help="only print the cells")
    parser.add_argument("--lab", default=os.environ.get("LAB_NAME", "faults"), help="the lab's name (default: faults)")
    found = parser.parse_args(words)
    if unknown := {*(found.step or ())} - {row.step for row in ROWS}:
        reasons = [f"{step}: {NOT_HERE.get(step, 'there is no such step')}" for step in sorted(unknown)]
        parser.error("; ".join(reasons))
    return found


def chosen(every: Sequence[Cell], count: int, seed: int) -> list[Cell]:
    """So many cells by a seed: each time one whose step and fault were taken least so far."""
    left, taken = list(every), Counter[str]()
    random.Random(seed).shuffle(left)  # noqa: S311 - a choice of tests
    picked: list[Cell] = []
    while left and len(picked) < count:
        cell = min(left, key=lambda one: (taken[one.fault.name] + taken[one.row.step], taken[one.fault.name]))
        left.remove(cell)
        taken.update((cell.fault.name, cell.row.step))
        picked.append(cell)
    return picked


def main(words: Sequence[str]) -> int:
    """Try the cells that were asked for, print the table, and return the exit code."""
    options = arguments(words)
    every = [
        cell
        for cell in cells(ROWS)
        if (not options.step or cell.row.step in options.step)
        and (not options.fault or cell.fault.name in options.fault)
        and (not options.point or cell.point.name in options.point)
    ]
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    picked = chosen(every, options.count or len(every), seed)
    if options.list:
        say("\n".join(cell.name for cell in picked))
        return 0
    if os.geteuid():
        say("A lab needs root: run this as root.")
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the lab goes with it
    say(f"{len(picked)} of {len(every)} cells, seed {seed}")
    ends = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    with own_lab(options.lab) as lab, tempfile.TemporaryDirectory() as folder:
        world = World(lab, scene.variant(lab, Path(folder), SETTINGS))
        verdicts = tried_all(world, picked, ends)
    say(f"\n{table(verdicts)}\n")
    failed = [verdict for verdict in verdicts if verdict.failures]
    say(f"{len(verdicts)} cells were tried, {len(failed)} failed; the same again: --seed {seed} --count {len(picked)}")
    return 1 if failed else 0


def tried_all(world: World, picked: Sequence[Cell], ends: float) -> list[Verdict]:
    """Try the cells one after the other; each begins with an installed site."""
    scene.installed(world.lab, world.site)
    verdicts: list[Verdict] = []
    for number, cell in enumerate(picked, 1):
        if time.monotonic() > ends:
            break
        verdict = tried(world, cell)
        verdicts.append(verdict)
        text = f"{cell.name}  ({verdict.code}) {verdict.message}"
        print_verdict(number, verdict.seconds, text, verdict.failures)
        if verdict.failures:
            recover(world)
    return verdicts


def recover(world: World) -> None:
    """An installed site again, whatever failed."""
    lifecycle.reset(world.lab, lambda text: None)
    scene.installed(world.lab, world.site)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
