"""What prevents the removal of DWS: Workflows and jobs that need it, and persistent storage, each with what to do about it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from dws_on_csm.config.site import Site
from dws_on_csm.domain import names
from dws_on_csm.model.printable import more_text
from dws_on_csm.model.step import Check, Constant, Finding, Look, NotYetKnown, StepContext, Value
from dws_on_csm.stages import jobs
from dws_on_csm.stages.dws import installed, persistent_storage, slurm_clusters, workflows
from dws_on_csm.stages.dws.workflows import Fate, Workflow
from dws_on_csm.stages.jobs import Job, Jobs

FIRST = "preflight"
"""The stage that reports everything before any change. Later stages report only what has changed since."""

LISTED = 25
"""So many Workflows and jobs are listed one by one; of more, only the number is given."""

FIXES: dict[Fate, str] = {
    "live": "wait until the job ends, or run `scancel {job}`; `scancel --hurry {job}` skips the copying of its results",
    "ending": "wait a minute and run again: its job has just ended, and Slurm removes it",
    "orphan": "{orphan_fix}; then run this command again (an undeploy with --orphans deletes all of them)",
    "lost": "run `invoke undeploy` without --slurm, so that Slurm can end its job; then again with --slurm",
    "foreign": "find out who made it (another Slurm may use this DWS); when nobody needs it any more: "
    f"`kubectl delete {names.WORKFLOWS} --namespace {{namespace}} {{name}}` on the master",
}


@dataclass(frozen=True)
class Terms:
    """The options that decide what prevents a removal.

    orphans    orphaned Workflows do not: they are deleted
    all_jobs   every job in Slurm does, not only those that use the burst buffer
    slurm      the burst buffer is removed from Slurm as well, which then cannot end a job whose Workflow is lost
    stays      DWS stays: Workflows of others than this Slurm prevent nothing
    """

    orphans: bool = False
    all_jobs: bool = False
    slurm: bool = False
    stays: bool = False

    @property
    def spared(self) -> set[str]:
        """The fates (see workflows.by_fate) of Workflows that prevent nothing."""
        known = {"orphan": self.orphans, "lost": not self.slurm, "foreign": self.stays}
        return {fate for fate, spared in known.items() if spared}


def checks(
    stage: str,
    due: Callable[[StepContext], bool],
    terms: Terms | None = None,
    read: Callable[[StepContext], bool] | None = None,
) -> tuple[Check, ...]:
    """The checks `workflows` and `jobs` of a stage, in this order: nothing uses DWS where it is `due` to be removed.

    Slurm is asked after the Workflows were read. Later stages judge both when Slurm has been asked again. The first stage also
    has the checks `storage` (right before the removal persistent_storage.step checks it again) and `limit`: the run may change
    the master.

    read   where jobs, Workflows and storage are read, if also elsewhere
    """
    read, terms = read or due, terms or Terms()

    def removal(ctx: StepContext) -> str:
        return (
            f"DWS {installed.version_text(ctx)} would have to be removed" if due(ctx) and installed.there(ctx) else ""
        )

    def workflows_look(ctx: StepContext) -> Look:
        return workflows.fact(stage).api(workflows.read) if read(ctx) else Constant([])

    def jobs_look(ctx: StepContext) -> Look:
        if not read(ctx):
            return Constant(None)
        # Slurm is asked after these were seen: see workflows.fate
        return jobs.look(ctx, (workflow["job"] for workflow in ctx.facts.one(workflows.fact(stage))))

    def judge_workflows(ctx: StepContext, have: Value) -> Sequence[Finding]:
        return objecting(ctx, have) if stage == FIRST and due(ctx) else ()

    def objecting(ctx: StepContext, have: Value) -> Sequence[Finding]:
        seen = _jobs(ctx, stage)
        fates = workflows.by_fate(have, seen, stuck(ctx))
        return _workflows(ctx, fates, seen, terms.spared)

    def judge_jobs(ctx: StepContext, have: Value) -> Sequence[Finding]:
        if not due(ctx):
            return ()
        if have is None:
            raise NotYetKnown(stage)
        every = [] if stage == FIRST else ctx.facts.one(workflows.fact(stage))
        if stage != FIRST and have["answers"] and (every, have["jobs"]) == _reported_first(ctx):
            return ()
        findings = () if stage == FIRST else objecting(ctx, every)
        if not have["answers"]:
            return (*findings, silent(ctx.host, ctx.site))
        return (*findings, *_others(have, _owners(ctx, stage), terms.all_jobs))

    return (
        Check("workflows", "master", workflows_look, judge_workflows),
        Check("jobs", "submitter", jobs_look, judge_jobs),
        *((persistent_storage.check(due, read), limit(removal)) if stage == FIRST else ()),
    )


def reading(stage: str) -> tuple[Check, Check]:
    """The checks `workflows` and `jobs` of a stage, in this order, which find nothing wrong: they only read both."""

    def jobs_look(ctx: StepContext) -> Look:
        return jobs.look(ctx, (workflow["job"] for workflow in ctx.facts.one(workflows.fact(stage))))

    return (
        Check("workflows", "master", lambda ctx: workflows.fact(stage).api(workflows.read), lambda ctx, have: ()),
        Check("jobs", "submitter", jobs_look, lambda ctx, have: ()),
    )


def no_orphan(ctx: StepContext, workflow: Workflow, seen: Jobs) -> Sequence[Finding]:
    """Why a Workflow is not orphaned, or not known to be; nothing for an orphan."""
    fate = workflows.fate(workflow, seen, stuck(ctx))
    if fate == "orphan":
        return ()
    return (Finding(f"workflow-{fate}", workflows.describe(workflow, seen), _fix(fate, workflow)),)


def limit(due: Callable[[StepContext], str]) -> Check:
    """The check `limit` of preflight: the master is not left out where something is `due` (in words) that is done there."""

    def judge(ctx: StepContext, have: Value) -> Sequence[Finding]:
        return limit_leaves_out_master(ctx, work) if (work := due(ctx)) else ()

    return Check("limit", "master", lambda ctx: Constant(None), judge)


def limit_leaves_out_master(ctx: StepContext, work: str) -> Sequence[Finding]:
    """A finding where `work` is due, and this run may not change the master, where that is done."""
    if ctx.site.active(ctx.site.master.host):
        return ()
    text = f"{work}, but --limit or --hosts leaves out {ctx.site.master.host.name}, where that is done"
    return (Finding("master-left-out", text, "add the master to these hosts, or give neither option"),)


def found(ctx: StepContext, stage: str) -> tuple[list[Workflow], Jobs]:
    """The Workflows and jobs that the checks of `stage` found last. Raises NotYetKnown if they weren't made."""
    return ctx.facts.one(workflows.fact(stage)), _jobs(ctx, stage)


def stuck(ctx: StepContext) -> bool:
    """Whether the Workflows' CRD was being deleted: then its Workflows are lost, and stand in nobody's way."""
    crd = installed.found(ctx)["crds"].get("workflows")
    return bool(crd and crd["deleting"])


def _jobs(ctx: StepContext, stage: str) -> Jobs:
    """What is known of Slurm's jobs; where its host can't be reached, nothing."""
    nothing: Jobs = {"answers": False, "now": 0.0, "jobs": {}}
    return next((answer for answer in ctx.facts.known(jobs.fact(stage)).values() if answer), nothing)


def _reported_first(ctx: StepContext) -> tuple[list[Workflow], dict[str, Job]]:
    """What was reported before anything was changed."""
    return ctx.facts.one(workflows.fact(FIRST)), _jobs(ctx, FIRST)["jobs"]


def _owners(ctx: StepContext, stage: str) -> set[str]:
    seen = _jobs(ctx, stage)
    known = ctx.facts.one_or_none(workflows.fact(stage)) or ()
    return {workflow["job"] for workflow in known if not workflows.doubt(workflow, seen)}


def _workflows(
    ctx: StepContext, fates: Mapping[Fate, Sequence[Workflow]], seen: Jobs, spared: Collection[str]
) -> Sequence[Finding]:
    findings = [
        Finding(
            f"workflow-{fate}",
            workflows.describe(workflow, seen),
            _fix_of_other(ctx, fate, workflow) or _fix(fate, workflow),
        )
        for fate in FIXES
        if fate not in spared
        for workflow in fates.get(fate, ())
        if fate != "lost" or workflows.needed(workflow, seen)
    ]
    return _cut(findings, "workflows-more", "Workflows", f"`kubectl get {names.WORKFLOWS} -A` lists them")


def _fix_of_other(ctx: StepContext, fate: Fate, workflow: Workflow) -> str:
    """The fix for a Workflow in the namespace of another Slurm that is known by name; "" for any other."""
    cluster = slurm_clusters.of_namespace(ctx, workflow["namespace"]) if fate == "foreign" else ""
    if not cluster:
        return ""
    job = f"job {workflow['job']}" if workflow["job"] else "its job"
    return f"wait until {job} of Slurm cluster {cluster} has ended, or cancel it there"


def _fix(fate: Fate, workflow: Workflow) -> str:
    if fate == "live" and workflow["desired"] == "Proposal":
        # a job that is held, or has to begin later, is cancelled without a teardown (seen on Slurm 24.11)
        cancel = f"scancel {shlex.quote(workflow['job'])}"
        delete = f"invoke workflows --delete {shlex.quote(workflows.label(workflow))}"
        return f"wait until the job ends, or run `{cancel}`; if its Workflow stays a minute later, run `{delete}`"
    return FIXES[fate].format(**workflow, orphan_fix=workflows.orphan_fix(workflow))


def _others(seen: Jobs, owners: set[str], all_jobs: bool) -> Sequence[Finding]:
    """Jobs in Slurm that need DWS, and are not told with their Workflow."""
    alive = [job for job in seen["jobs"].values() if not job["over"] and job["id"] not in owners]
    findings = [_job(job, seen) for job in alive if all_jobs or job["burst_buffer"]]
    return _cut(findings, "jobs-more", "jobs", "`squeue` lists them")


def _job(job: Job, seen: Jobs) -> Finding:
    use = "uses the burst buffer" if job["burst_buffer"] else "is in Slurm, and --all-jobs was given"
    text = (
        f"job {job['id']} of {job['user']} {use}: {job['state']}, submitted {workflows.ago(seen, job['submitted'])} ago"
    )
    return Finding("job-in-slurm", text, f"wait until it ends, or run `scancel {shlex.quote(job['id'])}`")


def silent(host: str, site: Site) -> Finding:
    """Slurm does not say which jobs there are."""
    text = f"squeue on {host} does not respond, so it is unknown which jobs need DWS"
    return Finding(
        "jobs-unknown", text, f"run `systemctl status {site.slurm.service}` there, correct the cause, and run again"
    )


def _cut(findings: Sequence[Finding], name: str, noun: str, fix: str) -> Sequence[Finding]:
    if len(findings) <= LISTED:
        return findings
    return [*findings[:LISTED], Finding(name, more_text(len(findings) - LISTED, noun), fix)]
