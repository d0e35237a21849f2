"""Files beside the slurm.conf of a pod whose configuration a Job generates: keys of the templates, which the Job renders.

`files.config` puts a file there, whatever the pod's /etc/slurm comes from. `step` makes the step that finds what somebody else
has changed since: in the templates, which the next run of the Job would bring to the pod, or in the Job's result, which it would
undo. Both steps and `files.config` change nothing where everything fits: they may follow each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

from dws_on_csm.domain import slurm_conf as slurm_conf_grammar
from dws_on_csm.model.actions import Action, RunElsewhere
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.step import Constant, Fact, Look, NotYetKnown, Step, StepContext, Value
from dws_on_csm.stages.pod import discover, generated, rollout
from dws_on_csm.stages.pod.generated import Generated, config_map_path

Wanted = Callable[[StepContext], Mapping[str, str | None]]
"""Key -> its text; None: no such key."""

SLURM_CONF = "slurm.conf"


class Sources(TypedDict):
    """The keys of the templates and of the Job's result, with their texts."""

    templates: dict[str, str]
    result: dict[str, str]


PLUGIN: Fact[Sources | None] = Fact("plugin", "templates")
"""What the step of the plugin's files has read; None where nothing is generated."""


def source(ctx: StepContext) -> Generated | None:
    """Where the files of this controller's pod come from; None for a host, and where no Job generates them. Raises NotYetKnown."""
    if not discover.pod_of(ctx):
        return None
    return discover.generator(discover.config_map(ctx))


def slurm_conf(ctx: StepContext, known: Generated) -> str:
    """The template of slurm.conf, as last read."""
    seen = ctx.facts.known(PLUGIN).get(ctx.host)
    return (seen["templates"].get(SLURM_CONF) if seen else known["slurm_conf"]) or ""


def write(
    ctx: StepContext, known: Generated, keys: Mapping[str, str | None], seen: Mapping[str, str | None] | None = None
) -> RunElsewhere:
    """Write keys of the templates (None: remove the key), and run the Job where its result differs then.

    A template that is not as it was read (`seen`; by default that of slurm.conf alone counts) is refused. A Job that fails puts the
    former templates back.
    """
    if seen is None:
        seen = {key: slurm_conf(ctx, known) if key == SLURM_CONF else rollout.ANYTHING for key in keys}
    sets = {SLURM_CONF: _setting(seen, keys)} if keys.get(SLURM_CONF) is not None else {}
    edit = generated.edit(
        known, {key: (seen[key], text) for key, text in keys.items()}, sets, ctx.site.deadlines.deploy
    )
    changes = [f"{'write' if text is not None else 'remove'} {key}" for key, text in keys.items()]
    title = f"{', '.join(changes)} in ConfigMap {known['templates']}; run Job {known['job']} where its result differs"
    return rollout.edit_only(ctx, title, edit, f"{ctx.host}-{'-'.join(keys)}")


def _setting(seen: Mapping[str, str | None], keys: Mapping[str, str | None]) -> tuple[str, str | None, str | None]:
    """The setting by which a rendered slurm.conf is compared with its template, where all else may be placeholders: its name, its
    value in the template as seen, and as it is written."""
    key = slurm_conf_grammar.BURST_BUFFER
    found = [slurm_conf_grammar.value(texts[SLURM_CONF] or "", key) for texts in (seen, keys)]
    before, after = [setting.value if setting else None for setting in found]
    return key, before, after


# --- the step


def step(
    fact: Fact[Sources | None],
    wanted: Wanted,
    change: Callable[[StepContext, Mapping[str, str | None]], Sequence[Action]],
    window: Callable[[StepContext, Value, Value], bool] | None = None,
) -> Step:
    """The step `fact` that keeps keys of the templates and of the Job's result as `wanted`; nothing where nothing is generated.

    change  from the keys that are not as wanted: files.config, and what has to be tried before it
    """

    def look(ctx: StepContext) -> Look:
        known = source(ctx)
        return fact.api(lambda cluster: _read(cluster, known)) if known else Constant(None)

    def have(ctx: StepContext, seen: Value) -> Value:
        return None if seen is None else _describe(ctx, wanted(ctx), seen["templates"], seen["result"])

    def want(ctx: StepContext) -> Value:
        if ctx.facts.on(fact, ctx.host) is None:
            return None
        keys = wanted(ctx)
        texts = {key: text for key, text in keys.items() if text is not None}
        return _describe(ctx, keys, texts, texts)

    return Step(
        fact.step,
        "pod",
        look,
        want,
        lambda ctx, have, want: change(ctx, _differing(wanted(ctx), ctx.facts.on(fact, ctx.host))),
        read=have,
        window=window,
        hint="the templates are what people edit; the Job renders them into what the pods mount: the lines above say which failed",
    )


def _read(cluster: Cluster, known: Generated) -> Sources:
    data = [(cluster.get(config_map_path(known[key])) or {}).get("data") or {} for key in ("templates", "result")]
    return {"templates": data[0], "result": data[1]}


def _differing(keys: Mapping[str, str | None], seen: Sources | None) -> dict[str, str | None]:
    """The keys that are not as wanted in the templates or in the Job's result."""
    templates, result = (seen["templates"], seen["result"]) if seen else ({}, {})
    return {
        key: text
        for key, text in keys.items()
        if templates.get(key) != text or (key != SLURM_CONF and _compared(text, result.get(key)) != FITS)
    }


FITS = "as wanted"


def _describe(
    ctx: StepContext, keys: Mapping[str, str | None], templates: Mapping[str, str], result: Mapping[str, str]
) -> Value:
    """The templates with their texts, and for the Job's result whether each key is as wanted."""
    known = source(ctx)
    if known is None:
        raise NotYetKnown(discover.FACT.stage)
    rendered = {key: _compared(keys[key], result.get(key)) for key in keys if key != SLURM_CONF}
    return {
        f"ConfigMap {known['templates']}": {key: templates.get(key) for key in keys},
        f"ConfigMap {known['result']}, from Job {known['job']}": rendered,
    }


def _compared(wanted: str | None, text: str | None) -> str:
    """What a key of the Job's result is like. A template engine may drop the last line's end."""
    if text is None:
        return FITS if wanted is None else "missing"
    if wanted is None:
        return "still there"
    return FITS if text.rstrip("\n") == wanted.rstrip("\n") else "other content"
