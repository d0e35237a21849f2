"""What was there before a run changed it: written on the hosts before each change, so that a run that was killed is known too.

Below STATE/before/RUN on each host lie the files as they were, and `.record`: the steps begun, and what each file became.
On the master lie besides `.opened`, who began the run and what was installed then, and `.objects`, a line of JSON for each
object of the cluster that was about to be changed, and one for what it became.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from dws_on_csm.engine.host_script import fenced
from dws_on_csm.engine.lock_holder import owner
from dws_on_csm.kube.objects import fingerprint, normal
from dws_on_csm.model import render
from dws_on_csm.model.actions import STATE, Action, Apply, CallApi, Delete, RunElsewhere, RunScript
from dws_on_csm.model.step import Check

if TYPE_CHECKING:
    from dws_on_csm.engine.context import Reach, StepReporter
    from dws_on_csm.engine.looks import Item
    from dws_on_csm.model.step import Facts

# What could not be written whole is taken back, and nothing is changed then.
_APPEND = """
set -eu
umask 077
mkdir -p {folder}
appended {folder}/{name} {size}
"""


def recorded(items: Mapping[str, Item], facts: Facts) -> Mapping[str, Any] | None:
    """What the check among `items` that has a `record` found installed; None where it has not looked."""
    for key, item in items.items():
        if isinstance(item, Check) and item.record and (found := next(iter(facts.found.get(key, {}).values()), None)):
            return item.record(found)
    return None


def opened(
    reach: Reach,
    run: str,
    task: str,
    undoes: str,
    installed: Mapping[str, Any] | None,
    without: Sequence[str] = (),
) -> None:
    """Write on the master that `run` is about to change something, who began it, what is `installed`, see recorded(), and the
    hosts of the site that it goes `without`: what it undoes is not undone there."""
    head = {"run": run, "task": task, "by": owner(), "at": time.time(), "undoes": undoes, "installed": installed}
    head["without"] = list(without)
    _append(reach, run, ".opened", [head])


def touched(action: Action, cluster: Callable[[], Any]) -> Sequence[str]:
    """The API paths of the objects that an action changes."""
    if isinstance(action, Apply):
        path: str = cluster().path(action.manifest)
        return (path,)
    if isinstance(action, Delete):
        return (action.path,)
    return action.objects if isinstance(action, RunScript | RunElsewhere | CallApi) else ()


def keep(reach: Reach, at: StepReporter, paths: Sequence[str]) -> None:
    """Write the objects at `paths` as they are now on the master. What is in a Secret is left out."""
    if paths:
        step = f"{at.stage}.{at.step}"
        found = zip(paths, _get(reach, paths), strict=True)
        _append(reach, at.run, ".objects", [{"path": path, "step": step, "before": _kept(one)} for path, one in found])


def left(reach: Reach, at: StepReporter, paths: Sequence[str]) -> None:
    """Write what the objects at `paths` became: a later rollback tells by it whether somebody changed them since."""
    if paths:
        found = zip(paths, _get(reach, paths), strict=True)
        _append(reach, at.run, ".objects", [{"path": path, "left": fingerprint(one)} for path, one in found])


def _kept(one: Any) -> Any:
    if one is not None and one["kind"] == "Secret":
        return {"kind": "Secret", "withheld": True}
    return normal(one)


def _get(reach: Reach, paths: Sequence[str]) -> list[Any]:
    cluster = reach.cluster()
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(cluster.get, paths))


def _append(reach: Reach, run: str, name: str, records: Sequence[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(record) + "\n" for record in records).encode()
    script = _APPEND.format(folder=f"{STATE}/before/{shlex.quote(run)}", name=name, size=len(text))
    undone, fix = "how things were before could not be kept there: ", f"make room: `df -h {STATE}`"
    script = fenced(run, render.read("lib/written.sh") + script)
    reach.told(reach.of("master"), script, text, deadline=60.0, undone=undone, fix=fix)
