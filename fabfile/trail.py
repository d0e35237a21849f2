"""What a run leaves on the hosts that it changed: a line in their log of runs, its journal on the master, old ones pruned."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from fabfile.actions import STATE
from fabfile.events import Outcome
from fabfile.lock import owner
from fabfile.perform import Reach

# Names of runs are times, so they sort: the newest are the last.
_LEAVE = """
umask 077
mkdir -p {state}/before {state}/runs
printf '%s\\n' {line} >>{state}/runs.log
for folder in before runs; do
    ls -1 {state}/$folder | sort | head -n -{keep} | while IFS= read -r old; do rm -rf -- "{state}/$folder/$old"; done
done
"""

_JOURNAL = """
cat >{state}/runs/{run}.part
mv -f {state}/runs/{run}.part {state}/runs/{run}
"""


def changed(outcomes: Mapping[tuple[str, str, str], Outcome]) -> dict[str, list[str]]:
    """Host -> "STAGE.STEP" of what was put right there, or tried to be."""
    found: dict[str, list[str]] = {}
    for (stage, step, host), outcome in outcomes.items():
        if outcome in ("fixed", "failed"):
            found.setdefault(host, []).append(f"{stage}.{step}")
    return found


def leave(reach: Reach, run: str, task: str, hosts: Mapping[str, Sequence[str]], journal: bytes, keep: int) -> None:
    """Write the line of this run on each host of `hosts` (host -> steps), and its journal on the master."""

    def one(host: str) -> None:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = shlex.quote(f"{at} {run} {task} by {owner()}: {', '.join(hosts.get(host, ())) or 'nothing here'}")
        script = _LEAVE.format(state=STATE, line=line, keep=keep)
        master = host == reach.of("master")
        script += _JOURNAL.format(state=STATE, run=shlex.quote(run)) if master else ""
        reach.session(host).run(script, journal if master else b"", deadline=30.0)

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(one, host) for host in dict.fromkeys([reach.of("master"), *hosts])]:
            done.result()
