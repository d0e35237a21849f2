"""What was there before a run changed it, saved on the hosts before each change: so an interrupted run is known there too.

Below STATE/before/RUN on each host are the files as they were, and `.record`: the steps begun, and what each file became. On
the master are also `.opened`: who began the run and what was installed then; and `.objects`: a line of JSON for each object of
the cluster before its change, and another one for what it became.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from dws_on_csm.engine.host_script import fenced
from dws_on_csm.engine.site_lock import owner
from dws_on_csm.kube.objects import fingerprint, normal
from dws_on_csm.model import render
from dws_on_csm.model.actions import STATE, Action, Apply, CallApi, Delete, RunElsewhere, RunScript
from dws_on_csm.model.step import Check

if TYPE_CHECKING:
    from dws_on_csm.engine.looks import Item
    from dws_on_csm.engine.reach import Reach, StepReporter
    from dws_on_csm.model.step import Facts

# A record that could not be written completely is removed, and then nothing is changed.
_APPEND = """
set -eu
umask 077
mkdir -p {folder}
append_line {folder}/{name} {size}
"""


def installed_before(items: Mapping[str, Item], facts: Facts) -> Mapping[str, Any] | None:
    """What the check among `items` that has a `record` found installed; None where it has not looked."""
    for key, item in items.items():
        if isinstance(item, Check) and item.record and (value := next(iter(facts.found.get(key, {}).values()), None)):
            return item.record(value)
    return None


def record_begin(
    reach: Reach,
    run: str,
    task: str,
    undoes: str,
    installed: Mapping[str, Any] | None,
    without: Sequence[str] = (),
    controllers: Sequence[str] = (),
) -> None:
    """Record on the master that `run` is about to change something: who began it, what is `installed` (see installed_before()),
    which run it `undoes`, the hosts of the site that it goes `without`: there it undoes nothing; and the site's `controllers`:
    another Slurm that uses this DWS has others, and a site file of its own."""
    head = {"run": run, "task": task, "by": owner(), "at": time.time(), "undoes": undoes, "installed": installed}
    head |= {"without": list(without), "controllers": list(controllers)}
    _append(reach, run, ".opened", [head])


def touched(action: Action, cluster: Callable[[], Any]) -> Sequence[str]:
    """The API paths of the objects that an action changes."""
    if isinstance(action, Apply):
        path: str = cluster().path(action.manifest)
        return (path,)
    if isinstance(action, Delete):
        return (action.path,)
    return action.objects if isinstance(action, RunScript | RunElsewhere | CallApi) else ()


def keep(reach: Reach, reporter: StepReporter, paths: Sequence[str]) -> None:
    """Save the objects at `paths` as they are now on the master; of a Secret only that there was one."""
    if paths:
        step = f"{reporter.stage}.{reporter.step}"
        objects = zip(paths, _get(reach, paths), strict=True)
        records = [{"path": path, "step": step, "before": _kept(content)} for path, content in objects]
        _append(reach, reporter.run, ".objects", records)


def record_result(reach: Reach, reporter: StepReporter, paths: Sequence[str]) -> None:
    """Record what the objects at `paths` became: by it a later rollback tells whether they were changed since."""
    if paths:
        objects = zip(paths, _get(reach, paths), strict=True)
        _append(
            reach, reporter.run, ".objects", [{"path": path, "left": fingerprint(content)} for path, content in objects]
        )


def _kept(content: Any) -> Any:
    if content is not None and content["kind"] == "Secret":
        return {"kind": "Secret", "withheld": True}
    return normal(content)


def _get(reach: Reach, paths: Sequence[str]) -> list[Any]:
    cluster = reach.cluster()
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(cluster.get, paths))


def _append(reach: Reach, run: str, name: str, records: Sequence[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(record) + "\n" for record in records).encode()
    script = _APPEND.format(folder=f"{STATE}/before/{shlex.quote(run)}", name=name, size=len(text))
    undone, fix = "the earlier state could not be saved there: ", f"free disk space: `df -h {STATE}`"
    script = fenced(run, render.read("lib/durable.sh") + script)
    reach.run_fenced(reach.of("master"), script, text, deadline=60.0, undone=undone, fix=fix)
