"""`python -m tests.soak`: days in the life of a site, in an hour. What an administrator does and what happens to a site come in
random order, by a seed, while users submit jobs with #DW lines. Exit code 1 if a check failed.
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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.lab import scene
from tests.lab.scene import BACKUP, MASTER, PRIMARY
from tests.lab.trials import own_lab, print_verdict, say
from tests.lab.world import World
from tests.soak.acts import ACTS, Day, done
from tests.soak.users import WORKFLOWS, Users

VERSIONS = ("0.0.20", "0.0.19")
_USED = """cd /proc; echo $(ls -d [0-9]* | wc -l) $(ls [0-9]*/fd 2>/dev/null | grep -c '^[0-9]') \
$(cat [0-9]*/status 2>/dev/null | awk '$1 == "VmRSS:" { all += $2 } END { print int(all / 1024) }') \
$(du -sk /var/lib/dws-on-csm 2>/dev/null | cut -f1)"""
"""Of a host: processes, open files, MB of memory, and kB of this tool's records."""
MORE = (12, 250, 200, 20000)
"""So much more of each than after the first act is no leak: sessions and caches come and go."""


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seed", type=int, help="the same seed chooses the same acts (default: a new one, printed)")
    parser.add_argument("--minutes", type=float, default=50, help="begin no act after so many minutes (default: 50)")
    parser.add_argument(
        "--act", action="append", choices=[act.name for act in ACTS], help="only this act (several times for several)"
    )
    parser.add_argument("--lab", default=os.environ.get("LAB_NAME", "soak"), help="the lab's name (default: soak)")
    return parser.parse_args(words)


def main(words: Sequence[str]) -> int:
    """Live through it, print the table, and return the exit code."""
    options = arguments(words)
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    if os.geteuid():
        say("A lab needs root: run this as root.")
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the lab goes with it
    say(f"seed {seed}")
    with own_lab(options.lab) as lab, tempfile.TemporaryDirectory() as folder:
        sites = {}
        for version in VERSIONS:
            place = Path(folder) / version
            place.mkdir()
            sites[version] = scene.variant(lab, place, {"versions": {"dws": version}, "accept": ["api-slow"]})
        world = World(lab, sites[VERSIONS[0]])
        scene.installed(lab, world.site)
        with Users(world, seed) as users:
            day = Day(world, users, sites, random.Random(seed), VERSIONS[0])  # noqa: S311 - a choice of tests
            names = options.act or [act.name for act in ACTS]
            failures = [*lived(day, names, 60 * options.minutes), *in_the_end(day)]
    jobs = f"{len(users.states)} jobs were submitted, {len(users.refused)} refused"
    say(f"\n{jobs}; {len(failures)} checks failed; again: --seed {seed}")
    for words_of_one, times in sorted(counted(users.refused).items()):
        say(f"  sbatch, {times} times: {words_of_one}")
    return 1 if failures else 0


def lived(day: Day, names: Sequence[str], seconds: float) -> list[str]:
    """Acts with these names one after the other, until the time is over; the checks that failed."""
    ends, failures, number = time.monotonic() + seconds, list[str](), 0
    acts = [act for act in ACTS if act.name in names]
    before: Mapping[str, Sequence[int]] = {}
    while time.monotonic() < ends:
        number += 1
        act = day.choose.choices(acts, [one.often for one in acts])[0]
        began, asked = time.monotonic(), len(day.codes)
        failed = done(day, act)
        day.users.look()
        codes = " ".join(map(str, day.codes[asked:]))
        text = f"{act.name} ({codes})  {len(day.users.states)} jobs"
        print_verdict(number, time.monotonic() - began, text, failed)
        failures += failed
        before = before or used(day)
    return [*failures, *grown(before, used(day))]


def in_the_end(day: Day) -> Iterator[str]:
    """What must hold when everything is over: every job completed, no Workflow, nothing left aside, nothing to do."""
    try:
        day.users.pause()
    except RuntimeError as error:
        yield told(f"jobs or Workflows stay: {error}")
    day.users.look()
    yield from (told(f"a job is lost: {job}") for job in day.users.lost())
    yield from (told(f"sbatch did not return: {error}") for error in day.users.broken)
    yield from (
        told("sbatch was refused without a word") for said in day.users.refused if not said.removesuffix("refused")
    )
    if left := day.world.on(MASTER, f"{WORKFLOWS} | grep / || true").split():
        yield told(f"Workflows are left: {', '.join(left)}")
    yield from (told(f"left over: {path}") for path in day.world.left_over())
    planned = day.run("plan")
    if planned.differs():
        yield told(f"a plan still says: {planned.told[-2000:]}")


def told(sentence: str) -> str:
    """The sentence, which is printed."""
    say(f"  FAILED {sentence}")
    return sentence


def used(day: Day) -> dict[str, list[int]]:
    """Host -> how much of each is in use there."""
    found = scene.everywhere(day.world.lab, _USED, MASTER, PRIMARY, BACKUP)
    return {host: [int(word) for word in text.split()] for host, text in found.items()}


def grown(before: Mapping[str, Sequence[int]], after: Mapping[str, Sequence[int]]) -> Iterator[str]:
    """What grew on a host, and how much of each there is."""
    names = ("processes", "open files", "MB of memory", "kB of records")
    for host, now in after.items():
        shown = ", ".join(
            f"{name} {was} -> {amount}" for name, was, amount in zip(names, before[host], now, strict=False)
        )
        say(f"  {host}: {shown}")
        for name, was, amount, more in zip(names, before[host], now, MORE, strict=False):
            if amount > was + more:
                yield told(f"{host}: {name} grew from {was} to {amount}")


def counted(sentences: Sequence[str]) -> dict[str, int]:
    """Sentence -> how often."""
    return {one: sentences.count(one) for one in dict.fromkeys(sentences)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
