"""The checks that files and objects are still as the undone runs left them, so that no later change of somebody is lost."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

from dws_on_csm.kube import objects
from dws_on_csm.model import render
from dws_on_csm.model.actions import STATE
from dws_on_csm.model.lines import lines
from dws_on_csm.model.snapshot import ObjectSnapshot, RollbackTarget
from dws_on_csm.model.step import ApiLook, Check, Constant, Finding, Look, ShellLook, StepContext, Value
from dws_on_csm.stages.dws import installed

SUMS = """
for file in {paths}; do
    if [ ! -e "$file" ]; then printf 'absent %s\\n' "$file"; continue; fi
    stat_file %n "$file" >/dev/null || exit 1
    sum=$(read_file "$file" sha256sum) || exit 1
    printf '%s %s\\n' "${{sum%% *}}" "$file"
done
"""


def files(role: str, target: RollbackTarget) -> Check:
    """The check that the files of the hosts of `role` are as the undone runs left them."""

    def look(ctx: StepContext) -> Look:
        paths = shlex.join(target.files.get(ctx.host, {}))
        return ShellLook(render.read("lib/safe_file.sh") + SUMS.format(paths=paths), _sums) if paths else Constant({})

    def judge(ctx: StepContext, have: Value) -> Sequence[Finding]:
        mine = target.files.get(ctx.host, {})
        return [file_changed(ctx, path, target) for path, sum_ in have.items() if sum_ not in mine[path].left]

    return Check(f"since-{role}", role, look, judge)


def _sums(out: bytes) -> Value:
    return {path: sum_ for sum_, _, path in (line.partition(" ") for line in lines(out))}


def file_changed(ctx: StepContext, path: str, target: RollbackTarget) -> Finding:
    """The finding for a file that was modified since the undone runs."""
    text = f"{path} on {ctx.host} was modified after run {target.run}"
    known = target.files[ctx.host][path]
    image = f"{STATE}/before/{known.run}{known.image}"
    return Finding(
        "file-changed", text, f"compare it with its earlier version in {image} there, resolve it by hand and run again"
    )


def cluster_objects(target: RollbackTarget) -> Check:
    """The check that the objects are as those runs left them, as far as the records say."""
    watched = [known for known in (*target.things, *target.pods, *target.templates) if known.left]

    def judge(ctx: StepContext, have: Value) -> Sequence[Finding]:
        return [object_changed(known, target.run) for known in watched if have[known.path] not in known.left]

    def look(ctx: StepContext) -> Look:
        return ApiLook(lambda cluster: {known.path: objects.fingerprint(cluster.get(known.path)) for known in watched})

    return Check("since-cluster", "master", look if watched else lambda ctx: Constant({}), judge)


def object_changed(known: ObjectSnapshot, run: str) -> Finding:
    """The finding for an object that was modified since the undone runs, `run` and later ones."""
    text = f"{known.label} was modified after run {run}"
    fix = f"compare it with before/RUN/.objects in {STATE} on the master, resolve it by hand and run again"
    return Finding("object-changed", text, fix)


_RECORDS = """
sums=
if cd {state} 2>/dev/null; then
    for one in before runs runs.log; do
        [ ! -e "$one" ] || sums="$sums$(find "$one" -type f -exec sha256sum -- {{}} +)
" || exit 1
    done
fi
printf %s "$sums" | LC_ALL=C sort | sha256sum | cut -d' ' -f1
"""


def dws(target: RollbackTarget, still: Callable[[StepContext], bool] | None = None) -> Check:
    """The check that the DWS installation is as it was when the rollback was planned.

    still   for a later stage, which reads it again: whether it must still be the same there
    """

    def look(ctx: StepContext) -> Look:
        return ApiLook(installed.read) if still and still(ctx) else Constant(None)

    def judge(ctx: StepContext, have: Value) -> Sequence[Finding]:
        seen = have if still else installed.found(ctx)
        if target.now is None or (still and seen is None) or seen == target.now:
            return ()
        text = "the DWS installation changed after this rollback was planned"
        return (Finding("run-since", text, "run the same command again"),)

    return Check("since-dws", "master", look, judge)


def records() -> str:
    """The script that prints a checksum of all records that runs have left on a host."""
    return _RECORDS.format(state=shlex.quote(STATE))


def runs(role: str, target: RollbackTarget) -> Check:
    """The check that the hosts of `role` have the records from which the rollback was planned; else another run came between."""

    def judge(ctx: StepContext, have: Value) -> Sequence[Finding]:
        if have == target.records.get(ctx.host):
            return ()
        text = f"another run changed {ctx.host} after this rollback was planned"
        if ctx.host not in target.records:
            text = f"{ctx.host} did not respond when this rollback was planned, and responds now"
        return (Finding("run-since", text, "run the same command again"),)

    return Check(f"runs-{role}", role, lambda ctx: ShellLook(records(), lambda out: out.decode().strip()), judge)
