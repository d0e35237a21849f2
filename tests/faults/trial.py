"""One cell of the matrix, tried: the run that is struck, the one after it, and all that must hold of the site meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.faults.faults import COLLEAGUE, KILLED, Cell
from tests.lab import product
from tests.lab.product import Answer, Running
from tests.lab.scene import MASTER
from tests.lab.trials import CONVERGES, UNEXPECTED
from tests.lab.watch import Watched, not_ours, watched
from tests.lab.world import CONTROLLERS, Jobs, World, submitted

RESTART = 60.0
"""Seconds that a restart of slurmctld may take on a busy machine."""
REACHES = 400.0
"""Seconds within which a run comes to the moment that it is struck at."""


@dataclass
class Verdict:
    """What was seen of a cell: the checks that failed, a sentence each; how the struck run ended, and what it said."""

    cell: Cell
    failures: list[str] = field(default_factory=list)
    code: int | None = None
    message: str = ""
    told: str = ""
    seconds: float = 0.0


def tried(world: World, cell: Cell) -> Verdict:
    """Try one cell on an installed site. Each check that failed is in the verdict, also an error that nobody expected."""
    began, verdict = time.monotonic(), Verdict(cell)
    try:
        _try(world, cell, verdict)
    except UNEXPECTED as error:
        verdict.failures.append(f"{type(error).__name__}: {error}")
    verdict.seconds = time.monotonic() - began
    return verdict


def _try(world: World, cell: Cell, verdict: Verdict) -> None:
    row = cell.row
    world.damage(row.edit.damages if cell.fault.name == "object-edited" and row.edit else row.damages)
    before = {host: world.slurm_conf(host) for host in CONTROLLERS}
    jobs = submitted(world)
    states = jobs.states()
    with ExitStack() as stack:
        seen = {host: stack.enter_context(watched(world.lab, host)) for host in CONTROLLERS}
        answer, made = _struck(world, cell)
        verdict.code, verdict.message, verdict.told = answer.code, str(answer.summary.get("message", "")), answer.told
        verdict.failures += _of_the_run(cell, answer)
        if cell.fault.frees:
            verdict.failures += _lock(world)
        verdict.failures += _converges(world)
    verdict.failures += cell.fault.holds(world, row, answer, made)
    for host, watch in seen.items():
        silent = cell.fault.silent and host == row.host
        verdict.failures += [f"{host}: {sentence}" for sentence in of_a_controller(watch, before[host], silent)]
    verdict.failures += [f"left over: {path}" for path in world.left_over()]
    verdict.failures += _of_jobs(jobs, states)


def _struck(world: World, cell: Cell) -> tuple[Answer, Any]:
    """The run that the fault comes to, and what its strike returned. The fault is taken back in the end."""
    row, fault, point = cell.row, cell.fault, cell.point
    with _prepared(world, cell), Running("install", f"--hosts={world.site}", "--yes", "--json") as run:
        event = point.event or row.begins
        step = "" if event == "opened" else row.step
        reached = run.until(product.moment(event, row.host, step), REACHES)
        if not reached:
            raise RuntimeError(f"the run never came to {event} {row.name}: {run.end(10).told[-2000:]}")
        time.sleep(point.seconds)  # the moment itself
        made = fault.strike(world, row, run)
        if fault.held is not None:
            time.sleep(fault.held)  # what is cut or paused stays so for this long
            fault.heal(world, row)
        return run.end(fault.longest), made


@contextmanager
def _prepared(world: World, cell: Cell) -> Iterator[None]:
    """What the fault needs is there, and nothing of it is left in the end."""
    try:
        cell.fault.prepare(world, cell.row)
        yield
    finally:
        cell.fault.heal(world, cell.row)


def _of_the_run(cell: Cell, answer: Answer) -> Iterator[str]:
    """What is wrong with how the struck run ended, and with what it said."""
    if answer.code not in cell.fault.codes:
        yield f"it ended with {answer.code}, expected {', '.join(map(str, sorted(cell.fault.codes)))}: {answer.told[-1500:]}"
    if answer.code in (0, KILLED):
        return
    if "Traceback" in answer.err:
        yield f"a traceback: {answer.err[-3000:]}"
    yield from unclear(answer.steps, answer.summary, cell.fault.host(cell.row))


def unclear(steps: tuple[Mapping[str, Any], ...], summary: Mapping[str, Any], host: str) -> Iterator[str]:
    """What an administrator misses in the words of a run that did not end well: host, step, cause, and what to do."""
    bad = [step for step in steps if step["outcome"] in ("failed", "refused")]
    if not bad and not summary.get("message"):
        yield "it names no step, and says nothing"
    for step in bad:
        failures = step.get("failures", ())
        cause = any(failure["meaning"] or failure["tail"] for failure in failures)
        if not cause:
            yield f"{product.named(dict(step))}: no cause is named"
    if bad and host and host not in json.dumps(bad):
        yield f"{host} is named nowhere: {', '.join(product.named(dict(step)) for step in bad)}"
    fixes = [failure["fix"] for step in bad for failure in step.get("failures", ()) if failure["fix"]]
    if not fixes and not summary.get("next"):
        yield "it does not say what to do"


def _lock(world: World) -> Iterator[str]:
    left = world.on(MASTER, "ls /var/lib/dws-on-csm | grep ^lock || true").split()
    if left:
        yield f"the site's lock is held: {', '.join(left)}"


def _converges(world: World) -> Iterator[str]:
    """What is wrong with the next run, and with a plan after it."""
    again = product.install(world.site, "--yes", deadline=CONVERGES)
    if again.code:
        yield f"the next run ended with {again.code}: {again.told[-3000:]}"
        return
    planned = product.plan(world.site)
    if planned.differs():
        yield f"after the next run a plan still says: {planned.told[-2000:]}"


def of_a_controller(seen: Watched, before: str, silent: bool) -> Iterator[str]:
    """What is wrong with the texts of slurm.conf that were seen, and with slurmctld's answers."""
    if not seen.texts:
        yield "nothing was seen of slurm.conf"
    for text in seen.texts:
        if [line for line in not_ours(text) if line != COLLEAGUE] != not_ours(before):
            yield f"slurm.conf was torn, or lost a line: {text[-300:]!r}"
    if not silent:
        yield from (f"slurmctld was silent: {gap}" for gap in seen.gaps() if gap.seconds > RESTART or not gap.restarted)
        if seen.samples and not seen.samples[-1].up:
            yield "slurmctld does not respond in the end"


def _of_jobs(jobs: Jobs, states: list[list[str]]) -> Iterator[str]:
    now = jobs.states()
    if now != states:
        yield f"the jobs of users are {now}, were {states}"
    jobs.finish()
