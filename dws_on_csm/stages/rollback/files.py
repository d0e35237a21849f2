"""The steps of a rollback that restore files as they were before a run."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence

from dws_on_csm.domain import names
from dws_on_csm.model import render, snapshot
from dws_on_csm.model.actions import STATE, Action, Remove, RunScript
from dws_on_csm.model.lines import lines
from dws_on_csm.model.snapshot import ABSENT, FileSnapshot, RollbackTarget
from dws_on_csm.model.step import Constant, Fact, Look, Refused, ShellLook, Stage, Step, StepContext, Value
from dws_on_csm.stages.rollback import unchanged
from dws_on_csm.stages.slurm import plugin


def files(target: RollbackTarget, stage: str, role: str, but: set[str]) -> tuple[Stage, ...]:
    """The stage with a step for each file to restore on the hosts of `role`; none without such files. `but`: paths left out."""
    hosts = target.roles.get(role, ())
    paths = dict.fromkeys(path for host in hosts for path in target.files.get(host, {}) if path not in but)
    steps = tuple(_file(target, role, path, name) for path, name in _names(paths).items())
    return (Stage(stage, ("preflight",), steps),) if steps else ()


LOOK = """
file={path}
[ -e "$file" ] || exit 0
stat_file '%a %U:%G' "$file" || exit 1
content=$(read_file "$file" base64 -w 0) || exit 1
printf %s "$content" | base64 -d | sha256sum | cut -d' ' -f1
"""

# a file that holds a secret now is not shown either, whatever it was before
CONTENT = """
holds_secret "$content" || printf 'text %s\\n' "$content"
"""


def _file(target: RollbackTarget, role: str, path: str, name: str) -> Step:
    fact: Fact[Mapping[str, str] | None] = Fact("plugin" if role == "controller" else "computes", name)

    def mine(ctx: StepContext) -> FileSnapshot | None:
        return target.files.get(ctx.host, {}).get(path)

    def look(ctx: StepContext) -> Look:
        known = mine(ctx)
        if known is None:
            return Constant(None)
        script = LOOK.format(path=shlex.quote(path)) + (CONTENT if known.text is not None else "")
        return ShellLook(render.script("lib/safe_file.sh", "lib/holds_secret.sh") + script, _parse)

    def read(ctx: StepContext, file: Value) -> Value:
        known = mine(ctx)
        return _comparable(file, known.sum == ABSENT) if file and known else file

    def want(ctx: StepContext) -> Value:
        known = mine(ctx)
        return read(ctx, _as_wanted(known)) if known else None

    def change(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
        known, file = mine(ctx), ctx.facts.all(fact)[ctx.host]
        assert known is not None
        if (file["sum"] if file else ABSENT) not in known.left:
            raise Refused(unchanged.file_changed(ctx, path, target))
        if known.sum == ABSENT:
            return [Remove(path, secret=path == names.KUBECONFIG)]
        return [*_load_check(ctx, known, target), _restore(known)]

    return Step(name, role, look, want, change, read=read, removes=_file_removals(path))


def _names(paths: Collection[str]) -> dict[str, str]:
    """Path -> the name of its step: the file's own name, where no other file has it."""
    short = [path.rpartition("/")[2] for path in paths]
    return {path: name if short.count(name) == 1 else path for path, name in zip(paths, short, strict=True)}


def _parse(out: bytes) -> Value:
    printed = lines(out)
    if not printed:
        return {}
    mode, owner = printed[0].split(" ")
    file = {"mode": mode, "owner": owner, "sum": printed[1]}
    content = [line.removeprefix("text ") for line in printed[2:]]
    return {**file, "text": snapshot.decoded(base64.b64decode(content[0]))} if content else file


def _comparable(file: Mapping[str, str], removed: bool) -> Value:
    """A file's facts with its text, or with its checksum where the text must not be shown or the file is removed."""
    left_out = "text" if removed else "sum" if "text" in file else ""
    return {key: value for key, value in file.items() if key != left_out}


def _as_wanted(known: FileSnapshot) -> Value:
    if known.sum == ABSENT:
        return {}
    file = {"mode": _mode(known) or known.mode, "owner": known.owner, "sum": known.sum}
    return file if known.text is None else {**file, "text": snapshot.decoded(known.text)}


def _mode(known: FileSnapshot) -> str:
    """The mode in place of the former one: no rollback makes a key readable for others again. "": the former one."""
    return "600" if known.certificates is not None or known.path == names.KUBECONFIG else ""


def _file_removals(path: str) -> Callable[[StepContext, Value, Value], str]:
    return lambda ctx, have, want: "" if want else f"{path} on {ctx.host} (saved there as a before-image)"


def _load_check(ctx: StepContext, known: FileSnapshot, target: RollbackTarget) -> Sequence[Action]:
    """Load a plugin before it is restored: slurmctld does not start with one that fails to load.

    Where slurmctld has no burst buffer afterwards, nothing loads the plugin, and it is restored without that.
    """
    used = known.path.endswith(f"/{names.PLUGIN_LUA}") and target.enabled.get(ctx.host, False)
    return plugin.load_file(ctx, _source(known)) if used else []


def _source(known: FileSnapshot) -> str:
    return f"{STATE}/before/{known.run}{known.image}"


def _restore(known: FileSnapshot) -> RunScript:
    settings = {"path": known.path, "source": _source(known), "sum": known.sum, "mode": _mode(known)}
    # the restored file holds a secret, and the present one may too
    noted = f"record_secret {shlex.quote(known.path)}\n" if known.text is None else ""
    script = noted + render.script("host/restore_file.sh", **settings)
    return RunScript(f"restore {known.path} as it was before run {known.run}", script)
