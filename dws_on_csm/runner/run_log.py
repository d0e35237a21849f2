"""The records that a run leaves on the hosts that it changed, for colleagues; and the removal of old ones.

A run leaves a line in each host's log of runs, and its journal on the master. What the master knows decides which old runs are
removed, on every host that the run reaches: their before-images may contain keys, and must not stay longer elsewhere.

All of this is done by a run that still holds the site's lock, behind the fence of each host: a rollback needs these records, and
must not lose them to a run that ended before it.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from dws_on_csm.config.site import Site
from dws_on_csm.engine.host_script import fenced
from dws_on_csm.engine.reach import Reach
from dws_on_csm.engine.site_lock import owner
from dws_on_csm.engine.state import Run, recording_hosts
from dws_on_csm.model import render, stage_names
from dws_on_csm.model.actions import STATE
from dws_on_csm.model.errors import LockLost, RemoteError
from dws_on_csm.model.events import Outcome, Summary
from dws_on_csm.model.exit_codes import CONVERGED
from dws_on_csm.model.lines import lines
from dws_on_csm.runner import past_runs
from dws_on_csm.runner.journal import Journal
from dws_on_csm.runner.options import Options
from dws_on_csm.runner.past_runs import PastRun

_LINE = """
umask 077
mkdir -p {state}/before {state}/runs
wrong=0
printf '%s\\n' {line} | append_line {state}/runs.log {size} || wrong=1
"""

_JOURNAL = """
write_file {state}/runs/{run} {size} || wrong=1
"""

# On its standard input: the oldest run to keep ("-": all), then the younger ones to remove all the same.
_PRUNE = """
set -eu
cd {state}
read -r oldest
gone=$(cat)
for record in before/* runs/*; do
    [ -e "$record" ] || continue
    run=${{record#*/}}
    if {{ [ "$oldest" != - ] && [ "$run" \\< "$oldest" ]; }} || printf '%s\\n' "$gone" | grep -qxF -e "$run"; then
        rm -rf -- "$record"
    fi
done
"""


def write_record(run: Run, options: Options, journal: Journal, end: Summary) -> list[str]:
    """Write a line on each changed host and the journal on the master, for colleagues. Returns what could not be written.

    Old runs are removed only where this run ended well: after a failure their before-images may still be needed.
    """
    if not run.changing:
        return []
    steps, site = _by_recording_host(run.site, changed(run.outcomes)), run.site
    lacking = write(run.reach, run.id, options.task, steps, journal.text())
    # a master that may lack the records of other runs cannot decide which are still needed
    if end.exit == CONVERGED and not (options.proves and run.site.master.several):
        lacking += prune(run.reach, run.id, recording_hosts(run), site.keep_runs, site.ssh.connections)
    return list(dict.fromkeys(lacking))


def _by_recording_host(site: Site, steps: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """What was changed by host; changes in pods are recorded on the master, since files in a pod do not last."""
    pods = {host.name for host in site.controllers if host.pod}
    inside = [f"{host}: {step}" for host in pods & steps.keys() for step in steps[host]]
    hosts = {host: done for host, done in steps.items() if host not in pods}
    master = site.master.host.name
    return hosts | ({master: [*hosts.get(master, ()), *inside]} if inside else {})


def changed(outcomes: Mapping[tuple[str, str, str], Outcome]) -> dict[str, list[str]]:
    """Host -> "STAGE.STEP" of the steps that changed something there, or failed."""
    steps: dict[str, list[str]] = {}
    for (stage, step, host), outcome in outcomes.items():
        if outcome in ("changed", "failed") and stage != stage_names.RUN:
            steps.setdefault(host, []).append(f"{stage}.{step}")
    return steps


def write(reach: Reach, run: str, task: str, hosts: Mapping[str, Sequence[str]], journal: bytes) -> list[str]:
    """Write the line of this run on each host of `hosts` (host -> steps), and its journal on the master.

    Returns what could not be written, and why, in sentences.
    """

    def write_on(host: str) -> None:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = f"{at} {run} {task} by {owner()}: {', '.join(hosts.get(host, ())) or 'nothing here'}"
        size = str(len(line.encode()) + 1)
        script = render.read("lib/durable.sh") + _LINE.format(state=STATE, line=shlex.quote(line), size=size)
        master = host == reach.of("master")
        script += _JOURNAL.format(state=STATE, run=shlex.quote(run), size=len(journal)) if master else ""
        _run(reach, host, fenced(run, script + "exit $wrong\n"), journal if master else b"")

    return _each([*dict.fromkeys([reach.of("master"), *hosts])], write_on)


def prune(reach: Reach, run: str, hosts: Sequence[str], keep: int, at_once: int = 8) -> list[str]:
    """Remove from `hosts` the records of runs that are not among the `keep` ones; `run` is the run that does it. Returns what
    could not be removed, and why, in sentences."""
    known: dict[str, PastRun] = {}
    master = reach.of("master")
    try:
        past_runs.add_records(known, master, lines(_run(reach, master, fenced(run, past_runs.script()))))
    except RemoteError as error:
        return [_sentence(error)]
    own = known[run].controllers if run in known else ()
    oldest, gone = outlived(list(known.values()), keep, own)
    data = "".join(f"{name}\n" for name in (oldest or "-", *gone)).encode()
    # where no run has left anything, the fence must not leave anything either
    script = f"[ -d {STATE} ] || exit 0\n{fenced(run, _PRUNE.format(state=STATE))}"
    return _each(hosts, lambda host: _run(reach, host, script, data), at_once)


def _each(hosts: Sequence[str], work: Callable[[str], object], at_once: int = 8) -> list[str]:
    """Do `work` on each host, also where it fails on others. Returns why it failed, in sentences."""

    def attempt(host: str) -> str:
        try:
            work(host)
        except RemoteError as error:
            return _sentence(error)
        return ""

    with ThreadPoolExecutor(at_once) as pool:
        return [sentence for sentence in pool.map(attempt, hosts) if sentence]


def _sentence(error: Exception) -> str:
    text = f"{str(error).rstrip('.')}."
    return f"Not all hosts have a record of how this run ended: {text}" if isinstance(error, LockLost) else text


def outlived(known: Sequence[PastRun], keep: int, controllers: Collection[str] = ()) -> tuple[str, list[str]]:
    """Of the runs that the master knows: the oldest one to keep ("": keep all), and the younger ones to remove all the same.

    The newest `keep` runs that changed something are kept, and separately as many of those that changed nothing. If a rollback
    among them did not complete, the run that it undoes is kept too, and all since then. A run that the master does not know is
    kept elsewhere until it is older than all of these. Runs of another Slurm's site file (none of its
    controllers is one of `controllers`) are kept: that site's own runs remove them. Ids are times: they sort.
    """
    other = [run for run in known if run.of_another_slurm(controllers)]
    own = [run for run in known if run not in other]
    changing = sorted((run for run in own if run.lasts), key=lambda run: run.id)
    idle = sorted(run.id for run in own if not run.lasts)
    if len(changing) < keep or any(
        run.unreadable_records for run in changing[-keep:]
    ):  # which run that one undoes is unknown
        return "", idle[:-keep]
    oldest = min([changing[-keep].id, *_unfinished(changing[-keep:], own)])
    older = [run.id for run in changing if run.id < oldest] if other else []
    return min([oldest, *(run.id for run in other)]), [*idle[:-keep], *older]


def _unfinished(kept: Sequence[PastRun], known: Sequence[PastRun]) -> list[str]:
    """The runs that rollbacks among `kept` undo, where the last rollback of that run failed or left out a host."""
    tries = {run.undoes: run for run in sorted(known, key=lambda run: run.id) if run.undoes}
    targets = {run.undoes for run in kept if run.undoes}
    return [target for target in targets if tries[target].code != 0 or tries[target].without]


def _run(reach: Reach, host: str, script: str, data: bytes = b"") -> str:
    reach.guard()
    return reach.run_fenced(host, script, data, deadline=30.0, undone="the record of this run can't be written there: ")
