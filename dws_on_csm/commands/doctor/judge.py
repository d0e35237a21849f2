"""From what the checks read to findings: each step and check is judged separately, so that no problem hides another."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from dws_on_csm.commands.doctor import probes, rules
from dws_on_csm.commands.doctor.diagnosis import Diagnosis, HostFinding, Unseen, with_causes
from dws_on_csm.engine.looks import FailureReason, Item, LookFailed, keyed
from dws_on_csm.engine.state import Run, defect
from dws_on_csm.model.cluster_api import SILENT_FIX
from dws_on_csm.model.errors import RemoteError
from dws_on_csm.model.stage_names import CONNECT
from dws_on_csm.model.step import Check, Finding, NotYetKnown, Refused, Step, Value
from dws_on_csm.runner import commands_to_paste
from dws_on_csm.runner.read_only import Reading
from dws_on_csm.stages import verify
from dws_on_csm.stages.preflight import clock
from dws_on_csm.transport.remote_shell import RemoteShell

HERE = "this machine"


def diagnose(reading: Reading) -> Diagnosis:
    """Judge everything that was read, and measure the hosts' clocks."""
    run = reading.run
    results: list[HostFinding | Unseen] = [*_unreachable(reading), *clock_findings(_measure_clocks(reading))]
    results += (refused := list(_sudo_refused(reading)))
    without_root = {finding.host for finding in refused}
    results += unusable(run.board.failed, without_root)
    checks = 0
    for key, item in keyed(run.stages).items():
        for host in filter(run.site.active, run.hosts.get(item.role, ())):
            checks += 1
            results += _judge_item(run, key, item, host, host in without_root)
    results = [_to_paste(run, result) for result in results]
    order = {host.name: number for number, host in enumerate(run.site.hosts())}
    findings = _once(result for result in results if isinstance(result, HostFinding))
    findings.sort(key=lambda finding: order.get(finding.host, -1))
    accepted = tuple(finding for finding in findings if finding.finding.name in run.site.accept)
    return Diagnosis(
        findings=with_causes([finding for finding in findings if finding not in accepted]),
        accepted=accepted,
        unseen=tuple(result for result in results if isinstance(result, Unseen)),
        notes=tuple(_notes(reading)),
        checks=checks,
    )


def _to_paste(run: Run, result: HostFinding | Unseen) -> HostFinding | Unseen:
    """The finding, with the site file in the commands of its text and fix."""
    if isinstance(result, Unseen):
        return result
    text, fix = (commands_to_paste.with_site(words, run.site) for words in (result.finding.text, result.finding.fix))
    return replace(result, finding=replace(result.finding, text=text, fix=fix))


def _once(findings: Iterable[HostFinding]) -> list[HostFinding]:
    """The findings; of two judges that report the same problem, the first one's alone."""
    first: dict[tuple[str, str, str], HostFinding] = {}
    for finding in findings:
        once = finding.finding.name in ONCE_ON_A_HOST
        first.setdefault((finding.host, finding.finding.name, "" if once else finding.finding.text), finding)
    return list(first.values())


ONCE_ON_A_HOST = ("api-unreachable", "role-lacks-rights", "host-unreachable", "slurmctld-not-running")
"""Findings that a host has once, though several judges may make them in other words."""


def _unreachable(reading: Reading) -> Iterator[HostFinding]:
    spared = {done.host for done in reading.done() if done.stage == CONNECT and done.outcome == "skipped"}
    for host, reason in reading.silent.items():
        if host not in spared:
            yield HostFinding(host, Finding("host-unreachable", f"{host} cannot be reached: {reason.text}", reason.fix))


def _sudo_refused(reading: Reading) -> Iterator[HostFinding]:
    """The hosts on which sudo started no script: what depends on it there could not be checked, and is no finding of its own."""
    for session in reading.sessions.open():
        if refused := session.sudo_refused:
            yield HostFinding(
                session.host,
                Finding("sudo-refused", f"{session.host}: nothing was started as root: {refused.text}", refused.fix),
            )


_MANY = 3
"""So many checks of a host that failed for the same reason, which has a fix, mean the host, and none of these checks."""


def unusable(failed: Mapping[tuple[str, str], FailureReason], refused: Collection[str]) -> Iterator[HostFinding]:
    """The hosts on which no check could be started, though ssh connects: the login's shell, a start-up file, a connection that
    breaks. `failed`: (check, host) -> why; of hosts in `refused` that is known already."""
    for host in dict.fromkeys(host for _, host in failed if host not in refused):
        why = Counter(reason for (_, at), reason in failed.items() if at == host)
        reason, times = why.most_common(1)[0]
        if reason.fix and not reason.cluster and times >= _MANY:
            text = f"nothing could be checked on {host}: {reason.text.removeprefix(f'{host}: ')}"
            yield HostFinding(host, Finding("host-unreachable", text, reason.fix))


def _notes(reading: Reading) -> Iterator[str]:
    for done in reading.done():
        if done.stage == CONNECT and done.outcome == "skipped":
            yield f"{done.host} is down; the site file allows that"
    for host, state in reading.run.board.facts.known(verify.JOB).items():
        if state["proof"] is None:
            note = f"{host}: no test job has run since the last change; run `invoke verify`"
            yield commands_to_paste.with_site(note, reading.run.site)


# --- one item on one host


def _judge_item(run: Run, key: str, item: Item, host: str, without_root: bool) -> Iterator[HostFinding | Unseen]:
    """The findings of a step or check on a host; or why it could not be judged. `without_root`: sudo there has started nothing."""
    try:
        value = run.board.have(key, host)
    except LookFailed as failed:
        yield Unseen(host, key, str(failed))
        if not without_root:
            yield from of_failure(run, key, host, str(failed))
        return
    except NotYetKnown as unknown:
        yield _lacking(host, key, unknown)
        return
    for judge in _judges(run, key, item, host, value):
        try:
            # `_measure_clocks` is more exact than a step
            yield from (HostFinding(host, finding) for finding in judge() if finding.name != "clock-skew")
        except Refused as refused:
            yield from (HostFinding(host, finding) for finding in refused.findings)
        except NotYetKnown as unknown:
            yield _lacking(host, key, unknown)
        except LookFailed as failed:
            yield Unseen(host, key, str(failed))
        except Exception as error:  # noqa: BLE001 - an error in one judge must not hide what the others find
            yield Unseen(host, key, defect(error, key).meaning)


def _lacking(host: str, key: str, unknown: NotYetKnown) -> Unseen:
    why = f"the check {key} needs a result of {unknown.stage}, which could not be checked"
    return Unseen(host, key, why, waits=True)


def _judges(run: Run, key: str, item: Item, host: str, value: Value) -> Iterator[Callable[[], Iterable[Finding]]]:
    """The judges of an item; each is called even where another one fails."""
    ctx = run.board.context(host)
    if key in rules.ALWAYS:
        yield partial(rules.ALWAYS[key], ctx, value)
    if isinstance(item, Check):
        yield partial(item.judge, ctx, value)
    else:
        yield partial(_step, run, key, item, host)


def _step(run: Run, key: str, step: Step, host: str) -> Sequence[Finding]:
    ctx = run.board.context(host)
    have, want = step.have(ctx, run.board.have(key, host)), step.want(ctx)
    return [] if have == want else list(rules.RULES.get(key, rules.other(key))(ctx, have, want))


def of_failure(run: Run, key: str, host: str, why: str) -> Iterator[HostFinding]:
    """The finding where the check of the API server failed: it does not respond, or it refuses the administrator's kubeconfig."""
    if key != probes.CLUSTER.name:
        return
    failed = run.board.failed.get((key, host))
    if failed is None or failed.cluster:
        yield HostFinding(host, Finding("cluster-unreachable", why, SILENT_FIX))
        return
    file = run.site.master.kubeconfig
    text = (
        f"the API server responds, but rejects requests made with {file} on {host}, which must be an administrator's "
    )
    text += f"kubeconfig: {why}"
    group = "kubeadm:cluster-admins"
    fix = f"run `kubectl --kubeconfig {file} auth whoami` on {host}. If it names the group {group}, whose binding an upgrade of "
    fix += "Kubernetes may leave out, run `kubectl --kubeconfig /etc/kubernetes/super-admin.conf create clusterrolebinding "
    fix += f"{group} --clusterrole=cluster-admin --group={group}`; otherwise set master.kubeconfig (or master.context) to an "
    yield HostFinding(host, Finding("master-kubeconfig-refused", text, f"{fix}administrator's"))


# --- clocks


def _measure_clocks(reading: Reading) -> dict[str, float]:
    """Host -> seconds that its clock is ahead of this machine's, each from a short command of its own, which is exact."""

    def measure(session: RemoteShell) -> tuple[str, float] | None:
        before = time.time()
        try:
            answer = session.run("date +%s.%N", deadline=20.0)
        except RemoteError:  # the host's other checks report it
            return None
        try:
            return session.host, float(answer.out) - (before + time.time()) / 2
        except ValueError:  # the other checks report a host whose date prints no time
            return None

    with ThreadPoolExecutor(reading.run.site.ssh.connections) as pool:
        return dict(filter(None, pool.map(measure, reading.sessions.open())))


def clock_findings(ahead: Mapping[str, float]) -> Iterator[HostFinding]:
    """Clocks that differ from most others; where all differ from this machine's, this machine's is wrong."""
    if not ahead:
        return
    usual = statistics.median(ahead.values())
    if abs(usual) > clock.SKEW:
        yield HostFinding(HERE, clock.finding(HERE, _difference(-usual, "the hosts' clocks")))
    for host, seconds in ahead.items():
        if abs(seconds - usual) > clock.SKEW:
            yield HostFinding(host, clock.finding(host, _difference(seconds - usual, "most other hosts' clocks")))


def _difference(seconds: float, others: str) -> str:
    return f"is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} {others}"
