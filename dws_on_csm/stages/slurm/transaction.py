"""The transaction that activates slurm.conf on a controller: it runs detached, and undoes itself unless slurmctld responds."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dws_on_csm.config.site import Site
from dws_on_csm.domain import slurm_conf
from dws_on_csm.model import render
from dws_on_csm.model.actions import STATE, Action, RunElsewhere, RunScript
from dws_on_csm.model.step import Constant, Look, ShellLook, StepContext, Value
from dws_on_csm.stages.facts import CONTROLLER
from dws_on_csm.stages.pod import discover, rollout, templates

Template = Callable[[str, str], Mapping[str, Any]]
"""The edit of slurm.conf's template that brings the second of two texts of slurm.conf in place of the first."""


def action(
    ctx: StepContext, title: str, seen: str, *, following: str | None, back: str | None, template: Template
) -> RunScript | RunElsewhere:
    """Change slurm.conf from `seen` to `following` (None: no change) and restart slurmctld; write `back` if that fails.

    The host refuses it if slurm.conf is no longer `seen`, and continues it if the connection breaks. `template`: the edit for a pod
    whose slurm.conf is rendered from a template.
    """
    if discover.pod_of(ctx):
        return _rollout(ctx, title, seen, following, back, template)
    slurm, deadline = ctx.site.slurm, ctx.site.deadlines.slurmctld
    texts = [content(text) if text is not None else b"" for text in (following, back)]
    fixed = {"state": STATE, "folder": slurm.folder, "unit": slurm.service, "seen": checksum(content(seen))}
    fixed |= {"deadline": str(int(deadline)), "log": _log_path(ctx, seen), "units": UNITS}
    fixed |= {"burst_buffer": _change_of_setting(seen, following)}
    settings = {
        "longest": str(int(longest(ctx.site))),
        "state": STATE,
        "conf": ctx.site.slurm.conf,
        "program": render.script(
            "lib/safe_file.sh", "lib/as.sh", "lib/slurmctld.sh", "lib/slurm_start.sh", "controller/activate.sh", **fixed
        ),
    }
    for name, text in zip(("next", "back"), texts, strict=True):
        settings |= {f"{name}_size": str(len(text)), f"{name}_sum": checksum(text) if text else ""}
    script = render.script("lib/detach.sh", "lib/temporary.sh", "controller/run_activation.sh", **settings)
    return RunScript(title, script, longest(ctx.site) + 30.0, b"".join(texts))


def _change_of_setting(before: str, after: str | None) -> str:
    """Whether `after` sets the burst buffer, and `before` does not ("added"), or the reverse ("removed"); "" for neither."""
    had, has = (
        text is not None and slurm_conf.value(text, slurm_conf.BURST_BUFFER) is not None for text in (before, after)
    )
    if after is None or had == has:
        return ""
    return "added" if has else "removed"


def longest(site: Site) -> float:
    """The seconds that it may take: three starts of slurmctld (new text, former text, and the new one again where that was not
    the cause), with systemd's 90 s for each stop."""
    return 3 * (site.deadlines.slurmctld + 100.0)


def _rollout(
    ctx: StepContext, title: str, seen: str, following: str | None, back: str | None, template: Template
) -> RunElsewhere:
    """The same for a pod: slurm.conf is a key of a ConfigMap, or rendered into one, and the next pod reads it."""
    is_rendered = templates.source(ctx) is not None

    def edit(before: str, after: str) -> Mapping[str, Value]:
        if is_rendered:
            return template(before, after)
        name = f"configmap/{discover.config_map(ctx)['name']}"
        return {"object": name, "at": ["data", "slurm.conf"], "seen": before, "value": after}

    edits = [edit(seen, following)] if following is not None else []
    text = content(following) if following is not None else b""
    if is_rendered and following is not None:
        # only what this transaction has changed is undone: controllers share the template
        return rollout.action(ctx, title, edits, text=text)
    undone = [edit(seen if following is None else following, back)] if back is not None else []
    return rollout.action(ctx, title, edits, undone, text=text)


def _log_path(ctx: StepContext, text: str) -> str:
    setting = slurm_conf.value(text, "SlurmctldLogFile", included_files(ctx), ctx.site.slurm.folder)
    return setting.value if setting else ""


def content(text: str) -> bytes:
    """The bytes of a text from slurm_conf.decoded."""
    return text.encode(errors="surrogateescape")


def checksum(content: bytes) -> str:
    """sha256, as the host's sha256sum writes it."""
    return hashlib.sha256(content).hexdigest()


PENDING = f"{STATE}/activation.pending"
"""A link to the folder of an unfinished activation, which has all that is needed to undo it."""

UNITS = "/etc/systemd/system"
"""The folder of the unit that undoes an unfinished activation at boot."""


def look(ctx: StepContext) -> Look:
    """The look for an activation of an earlier run: "none", "running since ..." or "interrupted, begun ..."."""
    if discover.pod_of(ctx):
        return Constant("none")  # a rollout waits for one that is still running
    script = f"lock={STATE}/activation.lock pending={PENDING}\n" + render.read("controller/activation_look.sh")
    return ShellLook(script, lambda out: out.decode().strip() or "none")


def is_running(have: Value) -> bool:
    """Whether `look` has seen an activation that has not ended."""
    return _state(have) == "running"


def is_interrupted(have: Value) -> bool:
    """Whether `look` has seen an activation that has ended, and nothing has undone it."""
    return _state(have) == "interrupted"


def _state(have: Value) -> str:
    """The word that templates/controller/activation_look.sh prints first; it and the time are shown to people as they are."""
    return re.split("[ ,]", str(have), maxsplit=1)[0]


def settle(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    """Undo an interrupted activation by its own script; the step waits for a running one."""
    if not is_interrupted(have):
        return []
    return [RunScript("undo an interrupted activation", _SETTLE, longest(ctx.site) + 90.0)]


def settle_side_effect(have: Value) -> str:
    """What `settle` will do, for a plan."""
    done = "restores slurm.conf as it was before that activation, and restarts slurmctld"
    return done if is_interrupted(have) else ""


# The step `daemon` judges whether slurmctld came up; here it counts that nothing is pending.
_SETTLE = f"""
if [ -e {PENDING} ]; then sh {PENDING}/activate again || :; fi
[ ! -e {PENDING} ]
"""


def included_files(ctx: StepContext) -> dict[str, str]:
    """Path -> text of the files that this controller's slurm.conf includes."""
    everywhere = ctx.facts.all(CONTROLLER)
    files = everywhere[ctx.host]["files"] if ctx.host in everywhere else {}
    return {name: text for name, text in files.items() if name != ctx.site.slurm.conf}
