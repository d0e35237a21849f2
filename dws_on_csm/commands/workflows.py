"""`invoke workflows`: every Workflow with its job, orphans marked; the deletion of one; and other CRDs of the same name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from dws_on_csm.config.site import Site
from dws_on_csm.display import console, tables
from dws_on_csm.display.paint import printed
from dws_on_csm.display.style import Row, plural
from dws_on_csm.domain import names
from dws_on_csm.engine.looks import unreadable
from dws_on_csm.kube.client import Cluster
from dws_on_csm.model.errors import READ_ERRORS, Unreachable, error_text
from dws_on_csm.model.exit_codes import CONVERGED, FAILED
from dws_on_csm.model.printable import escaped
from dws_on_csm.model.step import Facts, Stage, StepContext
from dws_on_csm.redaction import redact
from dws_on_csm.runner import commands_to_paste
from dws_on_csm.runner.connections import Sessions, connect
from dws_on_csm.runner.options import Options
from dws_on_csm.stages import jobs
from dws_on_csm.stages.dws import installed, orphan_by_name, slurm_clusters, storage_drivers, workflows
from dws_on_csm.stages.dws.workflows import Fate, Workflow
from dws_on_csm.stages.jobs import Jobs

NOTES: Mapping[Fate, str] = {
    "orphan": "ORPHAN: its job is gone",
    "ending": "its job has ended",
    "foreign": "may be of another Slurm",
    "lost": "lost: its CRD is being deleted",
}
COLUMNS = ("WORKFLOW", "JOB", "USER", "SLURM", "STATE", "READY", "STATUS", "AGE", "")


def deletion(site: Site, name: str, **how: Any) -> tuple[Site, Sequence[Stage], Options]:
    """The arguments of a run of `invoke workflows --delete NAME`."""
    unchanged = f"There is no Workflow {name}: nothing to delete."
    options = Options(
        "workflows",
        words=("--delete", name),
        changed_text=f"Workflow {name} was deleted.",
        unchanged_text=unchanged,
        **how,
    )
    return replace(site, computes=()), orphan_by_name.stages(name), options


def show(site: Site, yaml: str | bool | None, as_json: bool) -> int:
    """Print all Workflows; or as YAML the one called `yaml`, or all (True). The exit code; 1: no answer, or no such Workflow."""
    with closing(connect(site, (site.master.host, *site.controllers))) as sessions:
        try:
            cluster = sessions.master(site.master.host.name).cluster()
            return print_yaml(cluster, yaml) if yaml else _all(site, sessions, cluster, as_json)
        except READ_ERRORS as error:
            fix = getattr(error, "fix", "")
            console.note(error_text(error), *([f"Fix: {fix}"] if fix else []))
            return FAILED


# --- as YAML


def print_yaml(cluster: Cluster, which: str | bool) -> int:
    """Print the Workflow NAME, NAMESPACE/NAME or that of job NAME, or all, without the API server's own notes."""
    import yaml

    crd = installed.crd(cluster, "workflows")
    objects = installed.objects(cluster, "workflows", crd) if crd else []
    wanted = objects if which is True else _called(objects, str(which))
    if not wanted:
        if objects:
            console.note(f"There is no Workflow {which}. Workflows: {', '.join(map(installed.name, objects))}")
        else:
            console.note("There are no Workflows.")
        return CONVERGED if which is True else FAILED
    for workflow in wanted:
        workflow["metadata"].pop("managedFields", None)
    console.say(yaml.safe_dump_all(map(redact.data, wanted), sort_keys=False).rstrip("\n"))
    return CONVERGED


def _called(objects: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    wanted = f"bb{name}" if name.isdigit() else name
    return [workflow for workflow in objects if wanted in (workflow["metadata"]["name"], installed.name(workflow))]


# --- all of them


def _all(site: Site, sessions: Sessions, cluster: Cluster, as_json: bool) -> int:
    listed = workflows.read(cluster)
    crd = installed.crd(cluster, "workflows")
    seen = _jobs(site, sessions, listed)
    fates = [workflows.fate(workflow, seen, bool(crd and crd["deleting"])) for workflow in listed]
    others = namesakes(cluster.names(installed.CRDS))
    if as_json:
        console.records(workflow_records(listed, seen, fates, others))
    else:
        printed(workflow_rows(site, listed, seen, fates, others, crd is not None, _clusters(site, cluster)))
    return CONVERGED


def _clusters(site: Site, cluster: Cluster) -> dict[str, str]:
    """Namespace -> the other Slurm cluster whose Workflows are there."""
    entries = slurm_clusters.read_entries(cluster).values()
    return {
        entry["namespace"]: entry["cluster"] or entry["user"]
        for entry in entries
        if entry["namespace"] != site.access.namespace
    }


def namesakes(crds: Sequence[str]) -> list[str]:
    """Other CRDs (`PLURAL.GROUP`) with the plural of DWS's: `kubectl get workflows` may mean one of them."""
    return sorted(crd for crd in crds if crd.partition(".")[0] == "workflows" and crd != names.WORKFLOWS)


def _jobs(site: Site, sessions: Sessions, listed: Sequence[Workflow]) -> Jobs:
    """Slurm's jobs, from the first controller on which squeue responds."""
    nothing: Jobs = {"answers": False, "now": 0.0, "jobs": {}}
    for host in site.controllers:
        session = sessions[host.name]
        if isinstance(session, Unreachable):
            console.note(f"note: {session}")
            continue
        look = jobs.look(StepContext(site, Facts(), host.name), (workflow["job"] for workflow in listed))
        answer = session.run(look.script, deadline=site.deadlines.look)
        try:
            answer_jobs: Jobs = look.parse(answer.out)
        except Exception as error:  # noqa: BLE001  # whatever a controller answers, try the next one
            console.note(f"note: {unreadable(host.name, 'jobs', error)}")
            continue
        if answer_jobs["answers"]:
            return answer_jobs
        nothing = answer_jobs
    console.note("note: squeue does not respond on any controller, so the state of the jobs is unknown")
    return nothing


def _cells(workflow: Workflow, seen: Jobs, fate: Fate, clusters: Mapping[str, str]) -> tuple[str, ...]:
    job = seen["jobs"].get(workflow["job"])
    state = workflow["state"] or "-"
    other = clusters.get(workflow["namespace"], "") if fate == "foreign" else ""
    return (
        workflows.label(workflow),
        workflow["job"] or "-",
        job["user"] if job else f"uid {workflow['uid']}",
        job["state"] if job else "gone" if seen["answers"] and workflow["job"] and not other else "-",
        state if workflow["desired"] == workflow["state"] else f"{state}>{workflow['desired']}",
        "yes" if workflow["ready"] else "no",
        workflow["status"] or "-",
        workflows.age(seen["now"] - workflow["created"]) if seen["now"] else "-",
        f"of Slurm cluster {other}" if other else NOTES.get(fate, ""),
    )


def workflow_rows(
    site: Site,
    listed: Sequence[Workflow],
    seen: Jobs,
    fates: Sequence[Fate],
    others: Sequence[str],
    has_crd: bool,
    clusters: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Row]:
    """The table of Workflows, in rows. `clusters`: namespace -> the other Slurm cluster whose Workflows are there."""
    if listed:
        cells = [_cells(workflow, seen, fate, clusters) for workflow, fate in zip(listed, fates, strict=True)]
        head, *body = tables.rows((COLUMNS, *cells), "")
        yield head
        for row, workflow, fate in zip(body, listed, fates, strict=True):
            yield [(row[1][0], "bold red" if fate in ("orphan", "lost") else "")]
            yield from waits(workflow, seen["now"])
    elif has_crd:
        yield [("No Workflows.", "bold")]
    else:
        yield [(f"DWS is not installed: the CRD {names.WORKFLOWS} does not exist.", "bold")]
    # an orphan's own line says whom to ask
    pairs = zip(listed, fates, strict=True)
    if waiting := [workflow for workflow, fate in pairs if fate != "orphan" and workflows.awaited(workflow)]:
        text = f"{plural(len(waiting), 'Workflow')} waiting for a storage driver. For the first, {workflows.ask(waiting[0])}"
        yield [(escaped(commands_to_paste.with_site(text, site)), "bold")]
    if orphans := [workflow for workflow, fate in zip(listed, fates, strict=True) if fate == "orphan"]:
        text = f"{plural(len(orphans), 'orphan')}. To remove the first, {workflows.orphan_fix(orphans[0])}"
        yield [(escaped(commands_to_paste.with_site(text, site)), "bold red")]
    for other in others:
        text = f"The cluster also has the CRD {other}, which is not DWS's. "
        yield [
            (f"{text}Use `kubectl get {names.WORKFLOWS}`: `kubectl get workflows` may mean the other one.", "yellow")
        ]


def waits(workflow: Workflow, now: float) -> Iterator[Row]:
    """A row for each storage driver that a Workflow waits for: since when, and its error. `now`: the time, 0 if unknown."""
    for driver, text in zip(workflows.awaited(workflow), workflows.wait_texts(workflow, now), strict=True):
        yield [(f"    {escaped(text)}", "bold red" if storage_drivers.failed(driver) else "yellow")]


def workflow_records(
    listed: Sequence[Workflow], seen: Jobs, fates: Sequence[Fate], others: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """The Workflows as JSON's own types."""
    for workflow, fate in zip(listed, fates, strict=True):
        job = seen["jobs"].get(workflow["job"])
        yield {"event": "workflow", **workflow, "fate": fate, "slurm": dict(job) if job else None}
    counts = Counter(fates)
    yield {"event": "summary", "workflows": len(listed), "orphans": counts["orphan"], "namesakes": list(others)}
