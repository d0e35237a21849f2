"""The undeploy: stages like an install's. The Slurm side is removed first, if that was asked for, then DWS, then role and binding.

Once DWS is closed, sbatch rejects jobs with #DW (see close_dws): the checks behind it see every job that there will be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from dws_on_csm.config.site import Site
from dws_on_csm.domain import names
from dws_on_csm.model.actions import Action, Delete
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.step import ApiLook, Check, Fact, Finding, Refused, Removal, Stage, Step, StepContext, Value
from dws_on_csm.stages.access import external_role, kubeconfig, slurm_record
from dws_on_csm.stages.access import rbac as rbac_stage
from dws_on_csm.stages.dws import (
    dependents,
    in_use,
    installed,
    kept_configuration,
    orphan_deletion,
    other_installer,
    persistent_storage,
    remove,
    slurm_clusters,
    stuck_crds,
    workflows,
)
from dws_on_csm.stages.dws.workflows import Workflow
from dws_on_csm.stages.facts import BINDING, ROLE, Role
from dws_on_csm.stages.preflight import cluster, logins, master, unlisted_controllers
from dws_on_csm.stages.slurm import close_dws, controller, deactivate, pod_checks, start

REMOVAL = "undeploy"
"""The name of the stage that removes DWS."""

APPLIED = {
    f"ClusterRoleBinding {names.BINDING}": f"{names.RBAC}/clusterrolebindings/{names.BINDING}",
    f"ClusterRoleBinding {names.INTERIM_BINDING}": f"{names.RBAC}/clusterrolebindings/{names.INTERIM_BINDING}",
    "ClusterRole workload-manager": f"{names.RBAC}/clusterroles/workload-manager",
}
"""What an install applies beside DWS's own manifests, by label: where the API has it."""


def stages(slurm: bool = False, rbac: bool = False, orphans: bool = False, all_jobs: bool = False) -> tuple[Stage, ...]:
    """The procedure in order.

    slurm     first remove the plugin, its kubeconfig and slurm.conf's BurstBufferType from the controllers
    rbac      finally, remove the plugin's role and binding
    orphans   delete orphaned Workflows; without it they are a reason to refuse
    all_jobs  any job in Slurm is a reason to refuse, not only those that use the burst buffer
    """

    def due(ctx: StepContext) -> bool:
        return installed.there(ctx) or slurm

    terms = in_use.Terms(orphans, all_jobs, slurm)
    before = _slurm_side(due, terms) if slurm else ()
    after = (replace(_RBAC, steps=(rbac_stage.shared(lambda ctx: True), *_RBAC.steps)),) if rbac else ()
    shared = rbac_stage.shared(lambda ctx: installed.there(ctx) or rbac)
    of_dws = (*in_use.checks("preflight", due, terms), other_installer.check(version), dependents.check(version))
    every = (
        _preflight(slurm, (kubeconfig.NAME, rbac_stage.AUTHORITY_CHECK, shared, *of_dws)),
        *before,
        Stage("workarea", ("preflight",), remove.clone_steps("workarea", version)),
        _removal(
            ("workarea", *(stage.name for stage in before)), (*in_use.checks(REMOVAL, due, terms), shared), orphans
        ),
        *after,
    )
    return (*every, close_dws.last(every, close_dws.NAME if slurm else REMOVAL))


def _slurm_side(due: Callable[[StepContext], bool], terms: in_use.Terms) -> tuple[Stage, ...]:
    """The stages that close DWS, then change slurm.conf, then remove the files; each of the last two first checks what needs it."""
    needs = {deactivate.SLURM.name: (close_dws.NAME,), deactivate.FILES.name: deactivate.FILES.needs}
    guarded = tuple(
        replace(stage, needs=needs[stage.name], steps=(*in_use.checks(stage.name, due, terms), *stage.steps))
        for stage in (deactivate.SLURM, deactivate.FILES)
    )
    return (close_dws.stage([*needs]), *guarded)


def of_external(orphans: bool = False, all_jobs: bool = False) -> tuple[Stage, ...]:
    """The procedure where somebody else deploys DWS, which stays with all its objects: the Slurm side, and the plugin's rights."""

    def due(ctx: StepContext) -> bool:
        return True

    terms = in_use.Terms(orphans, all_jobs, slurm=True, stays=True)
    of_jobs = tuple(check for check in in_use.checks("preflight", due, terms) if check.name in ("workflows", "jobs"))
    limit = in_use.limit(lambda ctx: "the plugin's rights have to be removed")
    deleting: tuple[Check | Step, ...] = ()
    if orphans:
        deleting = (*in_use.checks("access", due, terms), orphans_step("access"))
    every = (
        _preflight(True, (kubeconfig.NAME, rbac_stage.AUTHORITY_CHECK, *of_jobs, limit)),
        *_slurm_side(due, terms),
        replace(_UNBOUND, steps=(*deleting, *_UNBOUND.steps)),
    )
    return (*every, close_dws.last(every, close_dws.NAME))


@dataclass(frozen=True)
class Undeploy:
    """The procedure of one undeploy, and what it says at its end: where it has undeployed, and where there was nothing to do.

    site  the site as the procedure sees it
    """

    site: Site
    stages: tuple[Stage, ...]
    changed_text: str
    unchanged_text: str


def of_command(site: Site, *, slurm: bool, rbac: bool, orphans: bool, all_jobs: bool, keep_dws: bool) -> Undeploy:
    """The undeploy of this site with these options, as `stages` has them; `keep_dws`: DWS is left to other Slurm clusters."""
    if site.external:
        why = "somebody else deploys DWS (dws: external)"
        return Undeploy(site, of_external(orphans, all_jobs), *_endings_external(why))
    if keep_dws:
        # as if somebody else deployed it
        kept = replace(site, dws="external", versions=replace(site.versions, dws=""))
        why = "other Slurm clusters may use it (--keep-dws)"
        return Undeploy(kept, of_external(orphans, all_jobs), *_endings_external(why))
    return Undeploy(site, stages(slurm, rbac, orphans, all_jobs), *_endings(slurm))


def _endings_external(why: str) -> tuple[str, str]:
    """As `_endings`, where DWS stays; `why` it does."""
    done = "Undeployed: Slurm has no burst buffer, and the plugin and its rights are gone"
    unknown = "Workflows of jobs that this Slurm does not know (`invoke workflows` lists them)"
    stays = f"DWS, its CRDs, users' storage and {unknown} stay: {why}"
    return f"{done}. {stays}.", f"Nothing of this Slurm is installed: nothing to undeploy. {stays}."


def _endings(slurm: bool) -> tuple[str, str]:
    """What a run of these stages says at its end: where it has undeployed, and where there was nothing to undeploy."""
    kept = (
        f"The namespace {names.NAMESPACE} and its Secret webhook-server-cert stay, as with upstream's `make undeploy`"
    )
    points = "" if slurm else "; Slurm still has its burst buffer and rejects #DW jobs (--slurm removes it)"
    return f"Undeployed. {kept}{points}.", "DWS is not installed: nothing to undeploy."


def version(ctx: StepContext) -> str:
    """The version to remove: the installed one; "" if there is none."""
    return installed.version(ctx) if installed.there(ctx) else ""


# --- before anything is touched


def _preflight(slurm: bool, checks: Sequence[Check]) -> Stage:
    """The checks that every undeploy makes, with `checks` of what prevents this one; `slurm`: slurmctld is restarted."""
    tools = replace(master.CHECK, judge=_tools)
    read = replace(cluster.CHECK, judge=lambda ctx, have: ())
    of_slurm = (
        logins.CONTROLLER,
        logins.COMPUTE,
        Check(controller.CHECK.name, "controller", controller.look, deactivate.judge),
        start.before(deactivate.SLURM),
        unlisted_controllers.check(takes=True),
    )
    always = (tools, read, installed.CHECK, slurm_clusters.READ, pod_checks.KNOWN)
    return Stage("preflight", (), (*always, *checks, *(of_slurm if slurm else ())))


NEEDED = ("awk", "bash", "expr", "git", "kubectl", "make", "python3", "python3-yaml", "sed", "which")
"""What `make undeploy` and a clone call on the master."""


def _tools(ctx: StepContext, have: master.MasterState) -> Sequence[Finding]:
    """Of an install's findings on the master: the login, and missing tools that an undeploy calls as well."""
    needs = [tool for tool in have["lacks"] if tool in NEEDED] if version(ctx) and not ctx.site.external else []
    return [*([] if have["root"] else [logins.not_root(ctx.host)]), *master.tools_missing(ctx.host, needs)]


# --- DWS


def _removal(needs: tuple[str, ...], checks: Sequence[Check], orphans: bool) -> Stage:
    deleting = (orphans_step(REMOVAL),) if orphans else ()
    return Stage(
        REMOVAL,
        needs,
        (
            *checks,
            *deleting,
            dependents.check(version),
            persistent_storage.step(REMOVAL, version),
            stuck_crds.step(REMOVAL),
            remove.removed_step(version, "workarea", removal_text),
            kept_configuration.told_step(version),
        ),
    )


def orphans_step(stage: str) -> Step:
    """The step `orphans`: there is no Workflow whose job is gone.

    Of those that are there now it knows only what was seen before Slurm was asked; a later one may be of a later job.
    """

    fact: Fact[list[Workflow]] = Fact(stage, "orphans")

    def orphaned(ctx: StepContext, existing: Sequence[Workflow]) -> list[Workflow]:
        before, seen = in_use.found(ctx, stage)
        earlier = {workflow["id"] for workflow in before}
        known = [workflow for workflow in existing if workflow["id"] in earlier]
        return workflows.by_fate(known, seen, in_use.stuck(ctx)).get("orphan", [])

    def read(ctx: StepContext, existing: list[Workflow]) -> Value:
        _, seen = in_use.found(ctx, stage)
        return {workflows.label(orphan): workflows.describe_removal(orphan, seen) for orphan in orphaned(ctx, existing)}

    def change(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
        confirmed = orphaned(ctx, ctx.facts.one(fact))
        first = {workflow["id"] for workflow in ctx.facts.one(workflows.fact(in_use.FIRST))}
        if new := [orphan for orphan in confirmed if orphan["id"] not in first]:
            raise Refused(*(_since(workflows.describe(orphan, in_use.found(ctx, stage)[1])) for orphan in new))
        return orphan_deletion.deletion(ctx, confirmed)

    def takes(ctx: StepContext, have: Value, want: Value) -> Sequence[Removal]:
        present = orphaned(ctx, ctx.facts.one(fact))
        things = frozenset(f"Workflow {workflows.label(orphan)} ({orphan['id']})" for orphan in present)
        return [Removal("orphans: " + "; ".join(have.values()), things)]

    return Step(
        fact.step,
        "master",
        lambda ctx: fact.api(workflows.read),
        lambda ctx: {},
        change,
        read=read,
        removes=takes,
        hint="DWS's controller has to remove a deleted Workflow: check `kubectl -n dws-system logs deploy/dws-controller-manager`",
    )


def _since(description: str) -> Finding:
    return Finding(
        "workflow-orphan",
        f"{description}; it appeared while this run was running",
        "run the same command again: it lists that Workflow",
    )


def removal_text(ctx: StepContext, have: Value, want: Value) -> str:
    """What an undeploy removes together with DWS, for the confirmation."""
    every = persistent_storage.kept(ctx)
    saved = f"; objects that are saved first, and not restored: {', '.join(every)}" if every else ""
    saved += "".join(f"; {text}" for text in dependents.describe_unasked(ctx))
    subject = f"DWS {have['DWS']}" if have["DWS"] != "none" else "the rest of DWS"
    return f"{subject}: {len(have['CRDs'])} CRDs; {len(have['objects'])} objects of its own{saved}"


# --- role and binding


def _applied(cluster: Cluster) -> Value:
    return [label for label, path in APPLIED.items() if cluster.get(path)]


_RBAC = Stage(
    "access",
    (REMOVAL,),
    (
        Step(
            "rbac",
            "master",
            lambda ctx: ApiLook(_applied),
            lambda ctx: [],
            lambda ctx, have, want: [Delete(path) for label, path in APPLIED.items() if label in have],
            removes=lambda ctx, have, want: f"{' and '.join(have)}: the controllers' kubeconfigs lose all rights",
        ),
        slurm_record.REMOVED,
    ),
)


# --- where DWS stays: what this site has in it


def _want_unbound(ctx: StepContext) -> Value:
    """The binding of other Slurms alone; None where there are none."""
    have = ctx.facts.one(BINDING)
    others = rbac_stage.strangers(ctx, have["subjects"]) if have else ()
    return {"role": have["role"], "subjects": sorted(others)} if have and others else None


def _change_unbound(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    return rbac_stage.bind(have, want["role"], want["subjects"]) if want else rbac_stage.unbind(have)


def _unbound_text(ctx: StepContext, have: Value, want: Value) -> str:
    others = set(want["subjects"]) if want else set()
    own = ", ".join(subject for subject in have["subjects"] if subject not in others)
    return f"the rights of {own or 'nobody'} in DWS (ClusterRoleBinding {names.BINDING})"


def _read_own_role(ctx: StepContext, have: Role | None) -> Value:
    return have["name"] if have and have["own"] else None


def _want_own_role(ctx: StepContext) -> Value:
    """None; while other Slurms have rights by it, the role stays."""
    return _read_own_role(ctx, ctx.facts.one(ROLE)) if _want_unbound(ctx) else None


_UNBOUND = Stage(
    "access",
    (deactivate.FILES.name,),
    (
        Step(
            BINDING.step,
            "master",
            rbac_stage.BINDING_STEP.look,
            _want_unbound,
            _change_unbound,
            removes=_unbound_text,
        ),
        Step(
            ROLE.step,
            "master",
            lambda ctx: ROLE.api(external_role.read_own),
            _want_own_role,
            lambda ctx, have, want: [Delete(f"{names.RBAC}/clusterroles/{have}")],
            read=_read_own_role,
            removes=lambda ctx, have, want: f"ClusterRole {have}, which this tool made",
        ),
        slurm_record.REMOVED,
    ),
)
