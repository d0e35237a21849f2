"""`invoke workflows`: every Workflow with its job, orphans marked; and what else in the cluster is called so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from dws_on_csm.config.site import Site
from dws_on_csm.display import console, tables
from dws_on_csm.display.paint import printed
from dws_on_csm.display.style import Row, plural
from dws_on_csm.domain import names
from dws_on_csm.engine.looks import unread
from dws_on_csm.kube.client import Cluster
from dws_on_csm.model.cluster_api import ClusterError
from dws_on_csm.model.errors import READ_ERRORS, Unreachable, error_text
from dws_on_csm.model.step import Facts, StepContext
from dws_on_csm.redaction import redact
from dws_on_csm.runner.connections import Sessions, connect
from dws_on_csm.runner.exit_codes import CONVERGED, FAILED
from dws_on_csm.stages import jobs
from dws_on_csm.stages.dws import installed, workflows
from dws_on_csm.stages.dws.workflows import Fate, Workflow
from dws_on_csm.stages.jobs import Jobs

NOTES: Mapping[Fate, str] = {
    "orphan": "ORPHAN: its job is gone",
    "ending": "its job has ended",
    "foreign": "may be of another Slurm",
    "lost": "lost: its CRD is being deleted",
}
COLUMNS = ("WORKFLOW", "JOB", "USER", "SLURM", "STATE", "READY", "STATUS", "AGE", "")


def show(site: Site, yaml: str | bool | None, as_json: bool) -> int:
    """Print all Workflows; as YAML one of them (its name), or all (True). 1: the cluster can't be asked, or has none such."""
    with closing(connect(site, (site.master.host, *site.controllers))) as sessions:
        try:
            cluster = sessions.master(site.master.host.name).cluster()
            return _yaml(cluster, yaml) if yaml else _all(site, sessions, cluster, as_json)
        except ClusterError as error:
            console.note(f"the Kubernetes API can't be asked on {site.master.host.name}: {error}")
            return FAILED
        except READ_ERRORS as error:
            console.note(error_text(error))
            return FAILED


# --- as YAML


def _yaml(cluster: Cluster, which: str | bool) -> int:
    """Print the Workflow NAME, NAMESPACE/NAME or that of job NAME, or all; without what the API server notes for itself."""
    import yaml

    crd = installed.crd(cluster, "workflows")
    every = installed.objects(cluster, "workflows", crd) if crd else []
    found = every if which is True else _called(every, str(which))
    if not found:
        there = f"there are {', '.join(installed.name(one) for one in every)}" if every else "there are none at all"
        console.note(f"no Workflow{'' if which is True else f' {which}'}: {there}")
        return CONVERGED if which is True else FAILED
    for one in found:
        one["metadata"].pop("managedFields", None)
    console.say(yaml.safe_dump_all(map(redact.data, found), sort_keys=False).rstrip("\n"))
    return CONVERGED


def _called(every: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    wanted = f"bb{name}" if name.isdigit() else name
    return [one for one in every if wanted in (one["metadata"]["name"], installed.name(one))]


# --- all of them


def _all(site: Site, sessions: Sessions, cluster: Cluster, as_json: bool) -> int:
    every = workflows.read(cluster)
    crd = installed.crd(cluster, "workflows")
    seen = _jobs(site, sessions, every)
    fates = [workflows.fate(one, seen, bool(crd and crd["deleting"])) for one in every]
    others = namesakes(cluster.names(installed.CRDS))
    if as_json:
        console.records(_records(every, seen, fates, others))
    else:
        printed(_rows(every, seen, fates, others, crd is not None))
    return CONVERGED


def namesakes(crds: Sequence[str]) -> list[str]:
    """CRDs (`PLURAL.GROUP`) that are called as DWS's is: `kubectl get workflows` may mean one of them."""
    return sorted(crd for crd in crds if crd.partition(".")[0] == "workflows" and crd != names.WORKFLOWS)


def _jobs(site: Site, sessions: Sessions, every: Sequence[Workflow]) -> Jobs:
    """Slurm's jobs as the first controller tells them on which squeue answers."""
    nothing: Jobs = {"answers": False, "now": 0.0, "jobs": {}}
    for host in site.controllers:
        session = sessions[host.name]
        if isinstance(session, Unreachable):
            console.note(f"note: {session}")
            continue
        look = jobs.look(StepContext(site, Facts(), host.name), (one["job"] for one in every))
        answer = session.run(look.script, deadline=site.deadlines.look)
        try:
            found: Jobs = look.parse(answer.out)
        except Exception as error:  # noqa: BLE001  # whatever a controller answers, the next one is asked
            console.note(f"note: {unread(host.name, 'jobs', error)}")
            continue
        if found["answers"]:
            return found
        nothing = found
    console.note("note: squeue answers on no controller, so nothing is known of the jobs")
    return nothing


def _cells(one: Workflow, seen: Jobs, fate: Fate) -> tuple[str, ...]:
    job = seen["jobs"].get(one["job"])
    state = one["state"] or "-"
    return (
        workflows.label(one),
        one["job"] or "-",
        job["user"] if job else f"uid {one['uid']}",
        job["state"] if job else "gone" if seen["answers"] and one["job"] else "-",
        state if one["desired"] == one["state"] else f"{state}>{one['desired']}",
        "yes" if one["ready"] else "no",
        one["status"] or "-",
        workflows.age(seen["now"] - one["created"]) if seen["now"] else "-",
        NOTES.get(fate, ""),
    )


def _rows(
    every: Sequence[Workflow], seen: Jobs, fates: Sequence[Fate], others: Sequence[str], there: bool
) -> Iterator[Row]:
    if every:
        cells = [_cells(one, seen, fate) for one, fate in zip(every, fates, strict=True)]
        head, *body = tables.rows((COLUMNS, *cells), "")
        yield head
        yield from ([(row[1][0], _style(fate))] for row, fate in zip(body, fates, strict=True))
    else:
        yield [("No Workflows." if there else f"DWS isn't installed: there is no CRD {names.WORKFLOWS}.", "bold")]
    if orphans := fates.count("orphan"):
        yield [
            (
                f"{plural(orphans, 'orphan')}: Slurm will never take them down; `invoke undeploy --orphans --plan`",
                "bold red",
            )
        ]
    for other in others:
        text = (
            f"also here: {other}, which is not DWS's; `kubectl get workflows` may mean it, {names.WORKFLOWS} does not"
        )
        yield [(text, "yellow")]


def _style(fate: Fate) -> str:
    return "bold red" if fate in ("orphan", "lost") else ""


def _records(
    every: Sequence[Workflow], seen: Jobs, fates: Sequence[Fate], others: Sequence[str]
) -> Iterator[dict[str, Any]]:
    for one, fate in zip(every, fates, strict=True):
        job = seen["jobs"].get(one["job"])
        yield {"event": "workflow", **one, "fate": fate, "slurm": dict(job) if job else None}
    counts = Counter(fates)
    yield {"event": "summary", "workflows": len(every), "orphans": counts["orphan"], "namesakes": list(others)}
