"""The stages of a rollback: restore the Slurm side, DWS and the cluster's objects as they were before a run.

To remove the burst buffer: take it from each slurmctld, then remove its files, then DWS. To bring it back: the other way round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dws_on_csm.domain import names, slurm_conf
from dws_on_csm.model import snapshot
from dws_on_csm.model.actions import Action
from dws_on_csm.model.snapshot import ABSENT, RollbackTarget
from dws_on_csm.model.step import Check, Refused, Restart, Stage, Step, StepContext, Value
from dws_on_csm.stages import restart_notice, undeploy
from dws_on_csm.stages.access import kubeconfig, rbac, revoked_names
from dws_on_csm.stages.access.stage import STAGE as ACCESS
from dws_on_csm.stages.dws import (
    dependents,
    deploy,
    images,
    in_use,
    installed,
    open_dws,
    persistent_storage,
    stuck_crds,
    workarea,
    workflow_namespace,
)
from dws_on_csm.stages.dws import (
    replace as dws_replace,
)
from dws_on_csm.stages.pod import rollout
from dws_on_csm.stages.preflight import unlisted_controllers
from dws_on_csm.stages.preflight.stage import STAGE as PREFLIGHT
from dws_on_csm.stages.rollback import files as rollback_files
from dws_on_csm.stages.rollback import objects, unchanged
from dws_on_csm.stages.rollback import templates as rollback_templates
from dws_on_csm.stages.slurm import (
    activate,
    close_dws,
    controller,
    deactivate,
    pod_checks,
    slurmctld,
    start,
    transaction,
)

_FILES, _PODS, _RESPONDING, _OBJECTS = "plugin", "pods", "slurmctld", "objects"
"""The stages of a rollback alone: files of controllers, objects of slurmctlds in pods and their slurmctlds, objects of DWS."""


def stages(target: RollbackTarget, conf: str) -> tuple[Stage, ...]:
    """The procedure in order; `conf`: slurm.conf's path."""
    first, slurm, cluster = _preflight(target, conf), _slurm_side(target, conf), _cluster(target)
    parts = (cluster, slurm) if all(target.enabled.values()) else (slurm, cluster)
    return _with_dws_closed(target, (first, *_one_after_the_other(parts)))


def _with_dws_closed(target: RollbackTarget, every: Sequence[Stage]) -> tuple[Stage, ...]:
    """Close DWS before the stages that remove what jobs need, and reopen it at the end.

    A removal or an install of DWS as a whole closes it itself.
    """
    removing = [deactivate.SLURM.name, _PODS, _RESPONDING, _FILES] if target.off else []
    removing += [_OBJECTS] if target.dws == "leave" and _jobs_lose_storage(target) else []
    closed_for = [stage.name for stage in every if stage.name in removing]
    if not closed_for:
        return (*every, close_dws.last(every, undeploy.REMOVAL)) if target.dws == "remove" else tuple(every)
    closed = [
        replace(stage, needs=(*stage.needs, close_dws.NAME)) if stage.name in closed_for else stage for stage in every
    ]
    closed.insert(1, close_dws.stage(closed_for))
    return (
        *closed,
        close_dws.last(closed, close_dws.NAME, *([rollout.ROLLED] if target.pods or target.templates else ())),
    )


def _one_after_the_other(parts: Sequence[Sequence[Stage]]) -> tuple[Stage, ...]:
    """The two parts in order: whatever changes anything in the second waits for the end of the first."""
    begin, end = parts
    if not begin:
        return tuple(end)
    # a clone and images may be fetched meanwhile: the confirmation needs their results
    early = (workarea.STAGE.name, images.STAGE.name)
    waiting = [stage if stage.name in early else replace(stage, needs=(*stage.needs, begin[-1].name)) for stage in end]
    return (*begin, *waiting)


# --- before anything is touched


def _preflight(target: RollbackTarget, conf: str) -> Stage:
    known = {item.name: item for item in _base(target).steps if item.name != start.CHECK.name}
    if target.dws != "remove":
        known |= {check.name: check for check in _guards(target, PREFLIGHT.name)}
    if _crds(target):
        known |= {"owned": dependents.check(lambda ctx: True)}
    if target.dws != "leave" or target.things or target.pods or target.templates:
        known |= {"limit": in_use.limit(lambda ctx: "a rollback must restore the whole cluster")}
    if target.slurm or target.pods or target.templates or any(target.files.values()):
        judge = deactivate.judge if target.off else known.get("controller", CONTROLLER_PLACED).judge  # type: ignore[union-attr]
        known |= {"pod": pod_checks.KNOWN, "controller": replace(CONTROLLER_PLACED, judge=judge)}
        known |= {"controllers": unlisted_controllers.check(takes=target.off)}
    if target.slurm:
        known |= {start.CHECK.name: start.before(_slurm(target, conf))}
    if target.renew:  # a name that was revoked gets no new kubeconfig
        known |= {revoked_names.CHECK.name: revoked_names.CHECK}
    read = (unchanged.runs(role, target) for role in ("master", "controller", "compute"))
    untouched = (unchanged.files(role, target) for role in ("controller", "compute"))
    return Stage(
        PREFLIGHT.name,
        (),
        (
            *known.values(),
            workflow_namespace.moved(target.spaces),
            *read,
            unchanged.dws(target),
            *untouched,
            unchanged.cluster_objects(target),
        ),
    )


def _guards(target: RollbackTarget, stage: str) -> Sequence[Check]:
    """The checks for users of DWS, where DWS or a part of it is removed or taken from Slurm."""
    return in_use.checks(
        stage, lambda ctx: _jobs_lose_storage(target) or (target.dws == "install" and dws_replace.due(ctx))
    )


def _jobs_lose_storage(target: RollbackTarget) -> bool:
    """Whether jobs lose their burst buffer, or Workflows their CRD or controller."""
    serving = set(installed.TRACES.values())
    gone = [known.path for known in target.things if known.before is None]
    return target.off or any(path in serving or "/customresourcedefinitions/" in path for path in gone)


def _crds(target: RollbackTarget) -> bool:
    """Whether CRDs are deleted, and with them all objects of their kinds, although DWS as a whole stays."""
    return any(known.before is None and known.path.startswith(installed.CRDS) for known in target.things)


CONTROLLER_PLACED = Check(controller.CHECK.name, "controller", controller.look, controller.judge_place)


def _base(target: RollbackTarget) -> Stage:
    if target.dws == "install":
        # whether controllers reach the API is for those to say who make kubeconfigs; what Slurm is like, for what changes it
        left_out = {"api"} if target.slurm else {"api", "controller", "controllers", "slurm-conf"}
        kept = tuple(step for step in PREFLIGHT.steps if step.name not in left_out)
        return replace(PREFLIGHT, steps=kept)
    every = undeploy.stages(slurm=target.off)[0]
    wanted = {"cluster", "installed"} if target.dws == "leave" else {step.name for step in every.steps}
    return replace(every, steps=tuple(step for step in every.steps if step.name in wanted))


# --- the Slurm side


def _slurm_side(target: RollbackTarget, conf: str) -> tuple[Stage, ...]:
    # a Workflow, or the end of a namespace, may have come since the preflight was judged
    spaces = (workflow_namespace.moved(target.spaces),) if target.spaces else ()
    files = rollback_files.files(target, _FILES, "controller", {conf})
    files_stages = tuple(replace(stage, steps=(*spaces, *stage.steps)) for stage in files)
    daemons = (
        *((_slurm(target, conf),) if target.slurm else ()),
        *(_pods(target) if target.pods or target.templates else ()),
    )
    if target.off:  # a job may have come since the preflight was judged
        daemons = (_guarded(target, daemons[0]), *daemons[1:])
        files_stages = tuple(_guarded(target, stage) for stage in files_stages)
    nodes = rollback_files.files(target, "computes", "compute", set())
    order = (*files_stages, *daemons) if all(target.enabled.values()) else (*daemons, *files_stages)
    fresh = (replace(ACCESS, needs=(), steps=(*spaces, rbac.CLUSTER_CHECK, kubeconfig.STEP)),) if target.renew else ()
    return _in_sequence((*fresh, *order, *nodes))


def _guarded(target: RollbackTarget, stage: Stage) -> Stage:
    return replace(stage, steps=(*_guards(target, stage.name), *stage.steps))


def _in_sequence(every: Sequence[Stage]) -> tuple[Stage, ...]:
    before_ = (PREFLIGHT.name, *(stage.name for stage in every))
    return tuple(replace(stage, needs=(need,)) for stage, need in zip(every, before_, strict=False))


def _slurm(target: RollbackTarget, conf: str) -> Stage:
    gone = {step.name: step for step in deactivate.SLURM.steps if isinstance(step, Step)}["daemon"]

    def want(ctx: StepContext) -> Value:
        known = target.files.get(ctx.host, {}).get(conf)
        return snapshot.decoded(known.text) if known and known.text is not None else activate.current_text(ctx)

    def change(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
        # it was as the runs left it before anything was touched; the transaction compares with what is seen now
        if (ABSENT if have is None else transaction.checksum(transaction.content(have))) not in target.files[ctx.host][
            conf
        ].left:
            raise Refused(unchanged.file_changed(ctx, conf, target))
        return activate.restore(ctx, want)

    def daemon_of(ctx: StepContext) -> Step:
        return activate.DAEMON if target.enabled.get(ctx.host) else gone

    def read(ctx: StepContext, daemon: Value) -> Value:
        step_read = daemon_of(ctx).read
        assert step_read is not None
        return step_read(ctx, daemon)

    def change_daemon(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
        step_change = daemon_of(ctx).change
        assert step_change is not None
        return step_change(ctx, have, want)

    conf_step = replace(activate.CONF, want=want, change=change, removes=_conf_removals)

    def restarting(ctx: StepContext, have: Value, want: Value) -> Restart | None:
        if have != want:
            return activate.restart(ctx)
        return activate.restart(ctx, f"plugin.{names.PLUGIN_CONF}") if daemon_of(ctx) is activate.DAEMON else None

    daemon_step = replace(
        activate.DAEMON, read=read, change=change_daemon, want=lambda ctx: daemon_of(ctx).want(ctx), restarts=restarting
    )
    return Stage(
        deactivate.SLURM.name,
        (),
        (activate.HOOKS, restart_notice.CHECK, activate.ACTIVATION, conf_step, daemon_step),
        serial=True,
    )


def _pods(target: RollbackTarget) -> tuple[Stage, Stage]:
    """Restore the objects of slurmctlds in pods, then wait until each responds in its new pod."""
    answers = Step(
        "answers",
        "pod",
        slurmctld.look,
        activate.want_daemon,
        read=lambda ctx, daemon: {
            "answers": slurmctld.answers(daemon),
            "not read": slurmctld.changed_since_start(ctx.site, daemon),
        },
        settle_seconds=lambda site: site.deadlines.slurmctld + 60.0,
        status_text=activate.daemon_status,
        hint="run `kubectl rollout status` and `kubectl logs` for the pod's workload",
    )
    generated = (rollback_templates.step(target.templates, target.run),) if target.templates else ()
    return Stage(_PODS, (), (*generated, objects.step(target.pods, _PODS, target.run), rollout.ROLLED)), Stage(
        _RESPONDING, (), (answers,)
    )


def _conf_removals(ctx: StepContext, have: Value, want: Value) -> str:
    kept = slurm_conf.value(str(want), activate.KEY)
    gone = not (kept and slurmctld.is_lua(kept.value))
    return activate.setting_removal(ctx) if gone else ""


# --- the cluster


def _unchanged(stage: Stage, name: str, target: RollbackTarget) -> Stage:
    """The stage with a check before its step `name`, if it has one: the DWS installation is the one that was to be removed."""
    at = [step.name for step in stage.steps].index(name) if name in [step.name for step in stage.steps] else None
    if at is None:
        return stage
    return replace(stage, steps=(*stage.steps[:at], unchanged.dws(target, lambda ctx: True), *stage.steps[at:]))


def _dws_removed_first(ctx: StepContext) -> bool:
    """Whether something of DWS is removed before another version is installed."""
    return dws_replace.due(ctx) or stuck_crds.there(ctx)


def _cluster(target: RollbackTarget) -> tuple[Stage, ...]:
    """DWS, then the single objects."""
    dws: tuple[Stage, ...] = () if target.off or _jobs_lose_storage(target) else (open_dws.STAGE,)
    if target.dws == "remove":
        dws = tuple(_unchanged(stage, "storage", target) for stage in undeploy.stages(slurm=False)[1:-1])
    elif target.dws == "install":
        previous = replace(dws_replace.STAGE, steps=(*dws_replace.STAGE.steps, *objects.saved(target.run)))
        # where none had to go before, none may have come meanwhile
        last = replace(
            deploy.STAGE, steps=(unchanged.dws(target, lambda ctx: not _dws_removed_first(ctx)), *deploy.STAGE.steps)
        )
        dws = (workarea.STAGE, images.STAGE, _unchanged(previous, "storage", target), last)
    needs = (dws[-1].name if dws else PREFLIGHT.name,)
    guard: tuple[Check | Step, ...] = ()
    if _crds(target):
        guard = (
            dependents.check(lambda ctx: True),
            persistent_storage.step(_OBJECTS, lambda ctx: "these kinds of DWS"),
        )
    guards = _guards(target, _OBJECTS) if target.dws != "remove" and _jobs_lose_storage(target) else ()
    things = (
        (Stage(_OBJECTS, needs, (*guards, *guard, objects.step(target.things, _OBJECTS, target.run))),)
        if target.things
        else ()
    )
    return (*dws, *things)
