"""What a run leaves on the hosts that it changed: a line in their log of runs, its journal on the master. Old runs go.

Which runs go is decided once, by what the master knows, and holds on every host that the run reaches: what lies there of
a run may be a key, and must not stay longer on a host that nobody changes any more.

All of this is done by a run that still holds the site's lock, behind the fence of each host: a rollback needs what lies there,
and must not lose it to a run that ended before it.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from dws_on_csm.engine.context import Reach
from dws_on_csm.engine.host_script import fenced
from dws_on_csm.engine.site_lock import owner
from dws_on_csm.model import render
from dws_on_csm.model.actions import STATE
from dws_on_csm.model.errors import LockLost, RemoteError
from dws_on_csm.model.events import Outcome
from dws_on_csm.model.lines import lines
from dws_on_csm.runner import past_runs
from dws_on_csm.runner.past_runs import Past

_LEAVE = """
umask 077
mkdir -p {state}/before {state}/runs
wrong=0
printf '%s\\n' {line} | appended {state}/runs.log {size} || wrong=1
"""

_JOURNAL = """
written {state}/runs/{run} {size} || wrong=1
"""

# On its standard input: the oldest run that is kept ("-": however old), then those that go though they are younger.
_PRUNE = """
set -eu
cd {state}
read -r oldest
gone=$(cat)
for one in before/* runs/*; do
    [ -e "$one" ] || continue
    run=${{one#*/}}
    if {{ [ "$oldest" != - ] && [ "$run" \\< "$oldest" ]; }} || printf '%s\\n' "$gone" | grep -qxF -e "$run"; then
        rm -rf -- "$one"
    fi
done
"""


def changed(outcomes: Mapping[tuple[str, str, str], Outcome]) -> dict[str, list[str]]:
    """Host -> "STAGE.STEP" of what was put right there, or tried to be."""
    found: dict[str, list[str]] = {}
    for (stage, step, host), outcome in outcomes.items():
        if outcome in ("changed", "failed") and stage != "run":  # which is no step on a host
            found.setdefault(host, []).append(f"{stage}.{step}")
    return found


def leave(reach: Reach, run: str, task: str, hosts: Mapping[str, Sequence[str]], journal: bytes) -> list[str]:
    """Write the line of this run on each host of `hosts` (host -> steps), and its journal on the master.

    Returns what could not be written, and why, in sentences.
    """

    def one(host: str) -> None:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = f"{at} {run} {task} by {owner()}: {', '.join(hosts.get(host, ())) or 'nothing here'}"
        size = str(len(line.encode()) + 1)
        script = render.read("lib/written.sh") + _LEAVE.format(state=STATE, line=shlex.quote(line), size=size)
        master = host == reach.of("master")
        script += _JOURNAL.format(state=STATE, run=shlex.quote(run), size=len(journal)) if master else ""
        _told(reach, host, fenced(run, script + "exit $wrong\n"), journal if master else b"")

    return _each([*dict.fromkeys([reach.of("master"), *hosts])], one)


def prune(reach: Reach, run: str, hosts: Sequence[str], keep: int, at_once: int = 8) -> list[str]:
    """Take away, as `run`, what lies on `hosts` of runs that aren't among those to keep. What could not be, and why, in
    sentences."""
    known: dict[str, Past] = {}
    master = reach.of("master")
    try:
        past_runs.take(known, master, lines(_told(reach, master, fenced(run, past_runs.script()))))
    except RemoteError as error:
        return [_sentence(error)]
    oldest, gone = outlived(list(known.values()), keep)
    data = "".join(f"{one}\n" for one in (oldest or "-", *gone)).encode()
    # where no run has left anything, the fence is to leave nothing either
    script = f"[ -d {STATE} ] || exit 0\n{fenced(run, _PRUNE.format(state=STATE))}"
    return _each(hosts, lambda host: _told(reach, host, script, data), at_once)


def _each(hosts: Sequence[str], work: Callable[[str], object], at_once: int = 8) -> list[str]:
    """Do it on each host, whatever becomes of it on the others; why it could not be done."""

    def one(host: str) -> str:
        try:
            work(host)
        except RemoteError as error:
            return _sentence(error)
        return ""

    with ThreadPoolExecutor(at_once) as pool:
        return [said for said in pool.map(one, hosts) if said]


def _sentence(error: Exception) -> str:
    text = f"{str(error).rstrip('.')}."
    return f"Not all hosts have a record of how this run ended: {text}" if isinstance(error, LockLost) else text


def outlived(known: Sequence[Past], keep: int) -> tuple[str, list[str]]:
    """Of the runs that the master knows: the oldest one to keep, "" for all, and the younger ones that go all the same.

    The newest `keep` that changed something stay, and as many of those that changed nothing: they push none of the others
    out. What a rollback among these was to undo stays with it, and all since then, unless that was undone to its end. A run
    that the master doesn't know stays elsewhere until it is older than all of these. Ids are times: they sort.
    """
    lasting = sorted((run for run in known if run.lasts), key=lambda run: run.id)
    idle = sorted(run.id for run in known if not run.lasts)
    if len(lasting) < keep or any(run.unread for run in lasting[-keep:]):  # nobody knows what that one was to undo
        return "", idle[:-keep]
    return min([lasting[-keep].id, *_unfinished(lasting[-keep:], known)]), idle[:-keep]


def _unfinished(some: Sequence[Past], known: Sequence[Past]) -> list[str]:
    """The runs that `some` of these were to undo, where the last that was to undo them failed or went without a host."""
    tries = {run.undoes: run for run in sorted(known, key=lambda run: run.id) if run.undoes}
    asked = {run.undoes for run in some if run.undoes}
    return [undone for undone in asked if tries[undone].code != 0 or tries[undone].without]


def _told(reach: Reach, host: str, script: str, data: bytes = b"") -> str:
    reach.guard()
    return reach.run_fenced(host, script, data, deadline=30.0, undone="what this run did can't be kept there: ")
