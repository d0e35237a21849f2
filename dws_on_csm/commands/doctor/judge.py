"""From what was seen to what is wrong: each step and check judged by itself, so that nothing hides anything else."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from dws_on_csm.commands.doctor import rules
from dws_on_csm.commands.doctor.diagnosis import Diagnosis, Told, Unseen
from dws_on_csm.engine.looks import Item, LookFailed, keyed
from dws_on_csm.engine.state import Run, defect
from dws_on_csm.model.errors import TROUBLE
from dws_on_csm.model.step import Check, Finding, NotYetKnown, Refused, Step, Value
from dws_on_csm.runner.inspect import Reading
from dws_on_csm.stages.preflight.checks import SKEW
from dws_on_csm.transport.session import Session

HERE = "this machine"


def diagnosed(reading: Reading) -> Diagnosis:
    """Judges everything that `reading` saw, and measures the hosts' clocks."""
    run = reading.run
    told: list[Told] = [*_silent(reading), *clocks(measured(reading))]
    unseen: list[Unseen] = []
    looked = 0
    for key, item in keyed(run.stages).items():
        for host in filter(run.site.active, run.hosts.get(item.role, ())):
            looked += 1
            for one in _judged(run, key, item, host):
                (unseen if isinstance(one, Unseen) else told).append(one)  # type: ignore[arg-type]
    order = {host.name: number for number, host in enumerate(run.site.hosts())}
    every = sorted(_once(told), key=lambda one: order.get(one.host, -1))
    accepted = tuple(one for one in every if one.finding.name in run.site.accept)
    found = tuple(one for one in every if one not in accepted)
    return Diagnosis(found, accepted, tuple(unseen), tuple(_notes(reading)), looked)


def _once(told: Iterable[Told]) -> list[Told]:
    """What two judges say of the same thing, once: the first."""
    first: dict[tuple[str, str, str], Told] = {}
    for one in told:
        alone = one.finding.name in ALONE
        first.setdefault((one.host, one.finding.name, "" if alone else one.finding.text), one)
    return list(first.values())


ALONE = ("api-unreachable", "role-lacks-rights", "host-unreachable")
"""Findings of which a host has one, whoever made it."""


def _silent(reading: Reading) -> Iterator[Told]:
    spared = {done.host for done in reading.done() if done.stage == "connect" and done.outcome == "skipped"}
    for host, reason in reading.silent.items():
        if host not in spared:
            yield Told(host, Finding("host-unreachable", f"{host} can't be reached: {reason.text}", reason.fix))


def _notes(reading: Reading) -> Iterator[str]:
    for done in reading.done():
        if done.stage == "connect" and done.outcome == "skipped":
            yield f"{done.host} is down, and may be, as the site file says"
    for host, found in reading.run.board.facts.found.get("verify.job", {}).items():
        if found["proof"] is None:
            yield f"{host}: no job has proven it since something was changed: `invoke verify`"


# --- one item on one host


def _judged(run: Run, key: str, item: Item, host: str) -> Iterator[Told | Unseen]:
    """What is wrong with it there; what can't be said of it for lack of something else is said of that."""
    try:
        found = run.board.have(key, host)
    except LookFailed as failed:
        yield from _failed(run, key, host, str(failed))
        return
    except NotYetKnown as unknown:
        yield Unseen(host, key, _lacking(unknown))
        return
    for judge in _judges(run, key, item, host, found):
        try:
            yield from (Told(host, one) for one in judge() if one.name != "clock-skew")  # measured better by `measured`
        except Refused as refused:
            yield from (Told(host, one) for one in refused.findings)
        except NotYetKnown as unknown:
            yield Unseen(host, key, _lacking(unknown))
        except LookFailed as failed:
            yield Unseen(host, key, str(failed))
        except Exception as error:  # noqa: BLE001 - what one judge does not understand must hide nothing that others find
            yield Unseen(host, key, defect(error, key).meaning)


def _lacking(unknown: NotYetKnown) -> str:
    return f"something of {unknown.stage} was not seen, which it is to be compared with"


def _judges(run: Run, key: str, item: Item, host: str, found: Value) -> Iterator[Callable[[], Iterable[Finding]]]:
    """Who has something to say of it; what one can't say doesn't keep the next from it."""
    ctx = run.board.context(host)
    if key in rules.ALWAYS:
        yield partial(rules.ALWAYS[key], ctx, found)
    if isinstance(item, Check):
        yield partial(item.judge, ctx, found)
    else:
        yield partial(_step, run, key, item, host)


def _step(run: Run, key: str, step: Step, host: str) -> Sequence[Finding]:
    ctx = run.board.context(host)
    found = run.board.have(key, host)
    have = step.read(ctx, found) if step.read else found
    want = step.want(ctx)
    return [] if have == want else list(rules.RULES.get(key, rules.other(key))(ctx, have, want))


def _failed(run: Run, key: str, host: str, why: str) -> Iterator[Told | Unseen]:
    """A look that failed; of the API server itself that is a finding."""
    yield Unseen(host, key, why)
    if key == "doctor.cluster":
        fix = f"see master.kubeconfig and master.context in the site file, and `kubectl get --raw /readyz` on {host}"
        yield Told(host, Finding("cluster-unreachable", f"the Kubernetes API can't be asked on {host}: {why}", fix))


# --- clocks


def measured(reading: Reading) -> dict[str, float]:
    """Host -> seconds that its clock is ahead of this machine's, by an exec of its own: a long one would blur it."""

    def one(session: Session) -> tuple[str, float] | None:
        before = time.time()
        try:
            answer = session.run("date +%s.%N", deadline=20.0)
        except TROUBLE:  # the host's looks say what is wrong with it
            return None
        try:
            return session.host, float(answer.out) - (before + time.time()) / 2
        except ValueError:  # so they do of one that can't tell the time
            return None

    with ThreadPoolExecutor(reading.run.site.ssh.connections) as pool:
        return dict(filter(None, pool.map(one, reading.sessions.open())))


def clocks(ahead: Mapping[str, float]) -> Iterator[Told]:
    """Clocks that differ from most others; where all differ from this machine's, it is this one that is wrong."""
    if not ahead:
        return
    usual = statistics.median(ahead.values())
    if abs(usual) > SKEW:
        yield Told(HERE, _skew("this machine", -usual, "the hosts'"))
    for host, seconds in ahead.items():
        if abs(seconds - usual) > SKEW:
            yield Told(host, _skew(host, seconds - usual, "most others'"))


def _skew(who: str, seconds: float, whose: str) -> Finding:
    text = (
        f"the clock of {who} differs from {whose} by {seconds:+.0f} s: certificates would not be valid yet, or no more"
    )
    return Finding("clock-skew", text, f"see chronyd or ntpd on {who}")
