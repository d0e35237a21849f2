"""What stands in the way of an undeploy, what it takes away, and what another version in the site file means: as tables."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.config.site import Pod, Site
from dws_on_csm.domain import names
from dws_on_csm.engine.looks import Board
from dws_on_csm.engine.perform import perform
from dws_on_csm.engine.plan import preview
from dws_on_csm.engine.reach import Reach, StepReporter
from dws_on_csm.engine.state import Run
from dws_on_csm.model import actions, render
from dws_on_csm.model.actions import Apply, Delete, Remove, RunScript
from dws_on_csm.model.events import Event
from dws_on_csm.model.step import Check, Facts, Finding, NotYetKnown, Refused, ShellLook, Step, StepContext, Value
from dws_on_csm.stages import jobs, undeploy
from dws_on_csm.stages.access.stage import STAGE as ACCESS
from dws_on_csm.stages.dws import (
    in_use,
    installed,
    manifests,
    persistent_storage,
    remove,
    slurm_clusters,
    stuck_crds,
    workflows,
)
from dws_on_csm.stages.dws import (
    replace as dws_replace,
)
from dws_on_csm.stages.dws.workflows import Workflow
from dws_on_csm.stages.install import procedure
from dws_on_csm.stages.jobs import Job, Jobs
from dws_on_csm.stages.slurm import close_dws, deactivate, slurmctld, start
from tests.unit import steps
from tests.unit.conftest import LocalHost

NOW = 1_700_000_000.0
MASTER, CONTROLLER = "ncn-m001", "slurmctl"
CRDS: dict[str, Any] = {"workflows": {"served": ["v1alpha1", "v1alpha2"], "storage": "v1alpha2", "deleting": False}}
INSTALLED: dict[str, Any] = {
    "tag": "0.0.20",
    "unfinished": "",
    "namespace": True,
    "traces": ["Deployment dws-webhook"],
    "crds": CRDS,
}


def a_site(dws: str = "0.0.20") -> Site:
    site = load(DEFAULT)
    return replace(site, versions=replace(site.versions, dws=dws))


def a_place(found: Mapping[str, Value], host: str = MASTER, dws: str = "0.0.20") -> StepContext:
    """A place where these facts were found, each on its own host."""
    where = {"jobs": CONTROLLER, "conf": CONTROLLER, "controller": CONTROLLER, "daemon": CONTROLLER}
    facts = {key: {where.get(key.partition(".")[2], MASTER): value} for key, value in found.items()}
    return StepContext(a_site(dws), Facts(facts), host)


def a_workflow(name: str = "bb12", **more: Any) -> Workflow:
    made: Workflow = {
        "namespace": "default",
        "name": name,
        "id": f"id-{name}",
        "job": name.removeprefix("bb"),
        "uid": 1500,
        "desired": "PreRun",
        "state": "PreRun",
        "ready": True,
        "status": "Completed",
        "created": NOW - 600,
        "deleting": False,
        "finalizers": [],
        "since": NOW - 300,
        "drivers": [],
    }
    return made | more  # type: ignore[return-value]


def a_job(
    state: str = "RUNNING", *, ended: float = 0.0, burst_buffer: bool = True, number: str = "12", uid: int | None = 1500
) -> Job:
    return {
        "id": number,
        "user": "joe",
        "uid": uid,
        "state": state,
        "submitted": NOW - 600,
        "ended": ended,
        "over": state in jobs.OVER,
        "burst_buffer": burst_buffer,
    }


def slurm_says(*some: Job, answers: bool = True, past: Mapping[str, int] | None = None, **more: Any) -> Jobs:
    """What Slurm says of these jobs; `past`: number -> number of the user of the jobs that accounting alone knows."""
    accounted = {number: [(uid, NOW - 700, NOW - 300)] for number, uid in (past or {}).items()}
    seen: Jobs = {"answers": answers, "now": NOW, "jobs": {job["id"]: job for job in some}, "namespace": "default"}
    known: Jobs = seen | {"accounting": "none" if past is None else "answers", "accounted": accounted}
    return known | more  # type: ignore[return-value]


# --- Workflows and jobs


@pytest.mark.parametrize(
    ("fate", "workflow", "seen"),
    [
        ("live", a_workflow(), slurm_says(a_job("RUNNING"))),
        ("live", a_workflow(), slurm_says(a_job("PENDING"))),
        ("live", a_workflow(), slurm_says(a_job("STAGE_OUT"))),
        ("live", a_workflow(), slurm_says(answers=False)),
        ("ending", a_workflow(), slurm_says(a_job("COMPLETED", ended=NOW - 5))),
        ("orphan", a_workflow(), slurm_says(a_job("CANCELLED", ended=NOW - 120))),
        ("orphan", a_workflow(), slurm_says(past={"12": 1500})),
        ("ending", a_workflow(), {**slurm_says(a_job("CANCELLED", ended=NOW - 120)), "now": 0.0}),
        ("orphan", a_workflow(created=NOW + 3000), slurm_says(past={"12": 1500})),
        ("live", a_workflow(created=NOW - 7200), slurm_says(a_job("PENDING"))),
        ("foreign", a_workflow("mine", job=""), slurm_says()),
    ],
)
def test_a_workflow_is_an_orphan_only_a_while_after_its_job(fate: str, workflow: Workflow, seen: Jobs) -> None:
    """Where Slurm doesn't answer, or its job has ended just now, nothing is. No clock of the API server's decides anything."""
    assert workflows.fate(workflow, seen) == fate


@pytest.mark.parametrize(
    ("workflow", "seen"),
    [
        (a_workflow(), slurm_says()),
        (a_workflow(), slurm_says(accounting="silent")),
        (a_workflow(), slurm_says(past={})),
        (a_workflow(), slurm_says(past={"12": 1600})),
        (a_workflow(created=NOW - 86400), slurm_says(past={"12": 1500})),
        (a_workflow(created=NOW + 86400), slurm_says(past={"12": 1500})),
        (a_workflow(namespace="user-b"), slurm_says(past={"12": 1500})),
        (a_workflow(namespace="user-b"), slurm_says(a_job())),
        (a_workflow(namespace="user-b"), slurm_says(answers=False)),
        (a_workflow(), slurm_says(a_job(uid=1600))),
        (a_workflow(), slurm_says(a_job("CANCELLED", ended=NOW - 120, uid=1600))),
        (a_workflow(), slurm_says(a_job("CANCELLED", ended=NOW - 120, uid=None))),
        (a_workflow(), slurm_says(a_job("CANCELLED", ended=NOW - 120, burst_buffer=False))),
        (a_workflow(), slurm_says(a_job("CANCELLED", ended=NOW - 7200))),
    ],
)
def test_a_workflow_that_may_be_another_slurms_is_no_orphan(workflow: Workflow, seen: Jobs) -> None:
    """Two Slurms may share DWS: another namespace, a job of another user or time, or one that nothing here knows of, is not ours.

    It stops an undeploy with and without --orphans, and its text names no job of this Slurm to cancel.
    """
    assert workflows.fate(workflow, seen) == "foreign"
    for orphans in (False, True):
        told = refusals({"preflight.workflows": [workflow], "preflight.jobs": seen}, orphans)
        (name,) = [one for one in told if one.startswith("workflow")]
        assert name.startswith(f"workflow-foreign Workflow {workflow['namespace']}/bb12 in PreRun: job 12 of user 1500")
        assert "scancel" not in told[name] and f"--namespace {workflow['namespace']} bb12" in told[name]


def test_a_job_number_of_another_slurm_is_reported() -> None:
    """The Workflow of another namespace is not that of the job which has its number here."""
    told = refusals({"preflight.workflows": [a_workflow(namespace="user-b")], "preflight.jobs": slurm_says(a_job())})
    assert [one.split()[0] for one in told] == ["workflow-foreign", "job-in-slurm"]


def test_a_workflow_that_goes_with_its_crd_is_lost_whatever_its_job_does() -> None:
    """Nobody can save a Workflow whose CRD is being deleted: it stands in nobody's way."""
    assert workflows.fate(a_workflow(deleting=True), slurm_says(a_job()), crd_deleting=True) == "lost"


@pytest.mark.parametrize(
    ("name", "labels", "job"),
    [
        ("bb12", {"origin": "burst_buffer.lua"}, "12"),
        ("bb12", {}, ""),
        ("other", {"origin": "burst_buffer.lua"}, ""),
    ],
)
def test_only_workflows_of_the_plugin_belong_to_a_job(name: str, labels: dict[str, str], job: str) -> None:
    """A name like the plugin's is not enough: its label has to be there as well."""
    meta = {
        "namespace": "default",
        "name": name,
        "labels": labels,
        "creationTimestamp": "2026-01-31T12:00:00Z",
        "uid": "1",
    }
    assert workflows.parse({"metadata": meta, "spec": {"jobID": "12", "userID": 1500}})["job"] == job


def a_row(buffer: str, number: str, state: str, user: str, submitted: str, ended: str) -> str:
    """A row as squeue writes it: each column filled up to its width in bytes, or cut there."""
    cells = zip((buffer, number, state, user, submitted, ended, "1500"), jobs.WIDTHS.values(), strict=True)
    return b"".join(text.encode()[:width].ljust(width) for text, width in cells).decode()


def test_squeue_is_read_with_and_without_a_burst_buffer() -> None:
    """A blank specification is a job without a burst buffer; times that aren't known yet are 0."""
    rows = [a_row("#D", "12", "RUNNING", "joe", "1700000000", "N/A")]
    rows.append(a_row("", "13", "CANCELLED", "ann", "1700000000", "1700000060"))
    seen = jobs.parse("".join(f"job={row}\n" for row in rows).join(("now=1700000100\nanswers=yes\n", "")).encode())
    assert [(j["id"], j["burst_buffer"], j["over"], j["ended"], j["uid"]) for j in seen["jobs"].values()] == [
        ("12", True, False, 0.0, 1500),
        ("13", False, True, 1700000060.0, 1500),
    ]


@pytest.mark.parametrize("user", ["DOMAIN users joe", "jo\u00e9 m\u00fcller", "a=b", "x" * 65, "\x85joe"])
def test_any_name_of_a_user_can_be_read(user: str) -> None:
    """Blanks in it shift no column, nor do letters of more than a byte, nor a name that fills its column."""
    row = a_row("#D", "12", "RUNNING", user, "1700000000", "N/A")
    (job,) = jobs.parse(f"now=1700000100\nanswers=yes\njob={row}\n".encode())["jobs"].values()
    assert (job["id"], job["state"], job["user"], job["submitted"]) == ("12", "RUNNING", user.strip(), 1700000000.0)


def test_the_columns_that_are_asked_for_are_those_that_are_read() -> None:
    """Their order and their widths."""
    columns = render.read("controller/jobs.sh").partition("columns=")[2].partition("\n")[0].split(",")
    assert [int(one.partition(":")[2]) for one in columns] == [*jobs.WIDTHS.values()]


ORIGIN = 3 << jobs.FEDERATED


@pytest.mark.parametrize(
    ("fate", "number", "cluster", "some"),
    [
        ("live", ORIGIN + 7, 1, ()),
        ("live", ORIGIN + 7, 0, ()),
        ("orphan", ORIGIN + 7, 3, ()),
        ("orphan", 7, 1, ()),
        ("live", ORIGIN + 7, 3, (a_job("REVOKED", ended=NOW - 300, number=str(ORIGIN + 7)),)),
        ("orphan", ORIGIN + 7, 1, (a_job("COMPLETED", ended=NOW - 300, number=str(ORIGIN + 7)),)),
    ],
)
def test_a_job_of_a_federations_other_cluster_is_not_gone(
    fate: str, number: int, cluster: int, some: tuple[Job, ...]
) -> None:
    """One that was submitted there need not be known here, and one that was started there is REVOKED here."""
    seen: Jobs = {**slurm_says(*some, past={str(number): 1500}), "cluster": cluster}
    assert workflows.fate(a_workflow(f"bb{number}"), seen) == fate
    assert ("of the federation" in workflows.describe(a_workflow(f"bb{number}"), seen)) == (fate == "live" and not some)


def test_the_number_of_a_cluster_in_its_federation() -> None:
    """As scontrol shows it; none where there is no federation."""
    shown = "Federation: fed\nSelf:     one:10.0.0.1:6817 ID:2 FedState:ACTIVE Features:\n"
    shown += "Sibling:  two:10.0.0.2:6817 ID:5 FedState:ACTIVE Features: PersistConnSend/Recv:Yes/Yes"
    (line,) = [one for one in render.read("controller/jobs.sh").splitlines() if "show federation" in one]
    script = "slurm() { printf '%s\\n' \"$shown\"; }\n" + line
    assert (
        subprocess.check_output(["sh", "-c", script], env={"shown": shown, "PATH": "/usr/bin:/bin"}, text=True)
        == "cluster=2\n"
    )
    assert jobs.parse(b"now=1\nanswers=yes\ncluster=2\n")["cluster"] == 2


@pytest.mark.parametrize(("says", "now"), [("1700000100", 1_700_000_100), ("2026-01-31T12:00:00", 0), ("", 0)])
def test_the_age_of_an_ended_job_comes_from_one_clock(tmp_path: Path, says: str, now: int) -> None:
    """That of slurmctld, which dates the ends of jobs; the clock of the host on which it is asked may be any other."""
    (tmp_path / "date").write_text("#!/bin/sh\necho 1900000000\n")
    (tmp_path / "date").chmod(0o755)
    stubs = f"""
find_slurm() {{ :; }}
slurm() {{
    case "$*" in
    *"show config"*) [ "$SLURM_TIME_FORMAT" = %s ] && printf 'Configuration data as of {says}\nAccounting = none\n' ;;
    *squeue*) printf '%-2s%-21s%-41s%-65s%-22s%-22s%-11s\n' lua 12 CANCELLED joe 1700000000 1700000095 1500 ;;
    esac
}}
"""
    script = stubs.replace(" lua ", " 'l' ") + render.read("lib/bounded.sh") + render.read("controller/jobs.sh")
    out = subprocess.check_output(["sh", "-c", script], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, timeout=60)
    seen = jobs.parse(out)
    assert seen["now"] == now and seen["answers"]
    assert workflows.fate(a_workflow(), seen) == "ending"
    assert ("some time" in workflows.describe(a_workflow(), seen)) == (not now)


@pytest.mark.parametrize(
    ("kind", "asked", "rows", "code", "accounting", "accounted"),
    [
        (
            "accounting_storage/slurmdbd",
            "9,12",
            "9|1500|1700000000|Unknown\n12|x|1|1\n",
            0,
            "answers",
            {"9": [(1500, 1.7e9, 0)]},
        ),
        ("accounting_storage/slurmdbd", "9", "", 0, "answers", {}),
        ("accounting_storage/slurmdbd", "9", "", 1, "silent", {}),
        ("", "9", "", 1, "silent", {}),
        ("accounting_storage/none", "9", "", 0, "none", {}),
        ("(null)", "9", "", 0, "none", {}),
        ("accounting_storage/slurmdbd", "", "", 0, "none", {}),
    ],
)
def test_accounting_is_asked_about_past_jobs(
    kind: str, asked: str, rows: str, code: int, accounting: str, accounted: Mapping[str, Any]
) -> None:
    """Where there is one: whose a job was and when. One that does not respond is not one that knows no such job."""
    stubs = """
find_slurm() { :; }
slurm() {
    case "$*" in
    *"show config"*) [ -z "$kind" ] || printf 'Configuration data as of 1700000100\nAccountingStorageType   = %s\n' "$kind" ;;
    *sacct*--jobs="$asked"*) printf %s "$rows"; return "$code" ;;
    esac
}
"""
    script = stubs + render.read("lib/bounded.sh") + render.read("controller/jobs.sh")
    settings = {"kind": kind, "asked": asked, "rows": rows, "code": str(code), "PATH": "/usr/bin:/bin"}
    seen = jobs.parse(subprocess.check_output(["sh", "-c", script], env=settings, timeout=60))
    assert (seen["accounting"], seen["accounted"]) == (accounting, accounted)


def test_accounting_is_asked_for_numbers_alone() -> None:
    """What others write into a Workflow becomes no option and no command."""
    place = a_place({})
    made = jobs.look(place, ["12", "9", "12", "-x", "1;id", "\u0661"])
    assert "asked=9,12\n" in made.script.replace("asked=12,9", "asked=9,12")
    assert made.parse(b"now=1\n")["namespace"] == "default"


def test_a_slurm_that_does_not_answer_is_no_slurm_without_jobs() -> None:
    """No answer and no jobs are two things."""
    assert jobs.parse(b"now=1700000100\n")["answers"] is False


def refusals(found: Mapping[str, Value], orphans: bool = False, all_jobs: bool = False) -> dict[str, str]:
    """What the checks of an undeploy say: names of findings with what to do."""
    found = {"preflight.storage": persistent_storage.NOTHING, "preflight.limit": None, **found}
    place = a_place({installed.FACT.name: INSTALLED, **found})
    checks = in_use.checks("preflight", installed.there, in_use.Terms(orphans, all_jobs))
    told = [
        one
        for check in checks
        for one in check.judge(
            replace(place, host=CONTROLLER if check.role == "submitter" else MASTER), found[f"preflight.{check.name}"]
        )
    ]
    return {f"{one.name} {one.text}": one.fix for one in told}


def test_a_refusal_says_name_job_user_state_age_and_what_to_do() -> None:
    """Every Workflow is told with its job, every job without one by itself."""
    told = refusals(
        {
            "preflight.workflows": [a_workflow(), a_workflow("bb9"), a_workflow("mine", job="")],
            "preflight.jobs": slurm_says(
                a_job(),
                a_job("PENDING", number="13"),
                a_job("RUNNING", number="14", burst_buffer=False),
                past={"9": 1500},
            ),
        }
    )
    assert list(told) == [
        "workflow-live Workflow default/bb12 in PreRun: job 12 of joe, RUNNING, 10 min old",
        "workflow-orphan Workflow default/bb9 in PreRun: job 9 of user 1500, which is over, 10 min old",
        "workflow-foreign Workflow default/mine in PreRun: no job of Slurm made it, of user 1500, 10 min old",
        "job-in-slurm job 13 of joe uses the burst buffer: PENDING, submitted 10 min ago",
    ]
    assert (
        "scancel --hurry 12"
        in told["workflow-live Workflow default/bb12 in PreRun: job 12 of joe, RUNNING, 10 min old"]
    )
    assert all(told.values())


def test_orphans_to_be_deleted_do_not_stop_the_run() -> None:
    """With --orphans an orphan is no finding, and a live one still is."""
    seen = slurm_says(a_job(), past={"9": 1500})
    found = {"preflight.workflows": [a_workflow(), a_workflow("bb9")], "preflight.jobs": seen}
    assert [one.split()[0] for one in refusals(found, orphans=True)] == ["workflow-live"]


def test_the_burst_buffer_stays_while_a_job_of_a_lost_workflow_exists() -> None:
    """Without a burst buffer Slurm could not end such a job; setting its Workflow free comes first."""
    dying = {**INSTALLED, "crds": {"workflows": {**CRDS["workflows"], "deleting": True}}}
    every, seen = [a_workflow(deleting=True), a_workflow("bb9", deleting=True)], slurm_says(a_job("STAGE_OUT"))
    place = a_place({installed.FACT.name: dying, "preflight.workflows": every, "preflight.jobs": seen})
    told = {
        slurm: [
            one.text
            for one in in_use.checks("preflight", installed.there, in_use.Terms(slurm=slurm))[0].judge(place, every)
        ]
        for slurm in (False, True)
    }
    assert told == {False: [], True: ["Workflow default/bb12 in PreRun: job 12 of joe, STAGE_OUT, 10 min old"]}


def test_all_jobs_means_every_job_that_is_not_over() -> None:
    """With --all-jobs a job without a burst buffer is a reason as well."""
    some = (a_job(burst_buffer=False), a_job("COMPLETED", number="13", ended=NOW, burst_buffer=False))
    found = {"preflight.workflows": [], "preflight.jobs": slurm_says(*some)}
    assert refusals(found) == {}
    assert [one.split()[0] for one in refusals(found, all_jobs=True)] == ["job-in-slurm"]


def test_a_slurm_that_does_not_answer_is_a_reason() -> None:
    """Nobody knows then which jobs need DWS."""
    found = {"preflight.workflows": [], "preflight.jobs": slurm_says(answers=False)}
    assert [one.split()[0] for one in refusals(found)] == ["jobs-unknown"]


def test_many_workflows_are_counted() -> None:
    """A thousand Workflows are not a thousand lines."""
    found = {
        "preflight.workflows": [a_workflow(f"bb{n}") for n in range(1000)],
        "preflight.jobs": slurm_says(*(a_job(number=str(n)) for n in range(1000))),
    }
    told = refusals(found)
    assert len(told) == in_use.LISTED + 1
    assert any("and 975 more" in one for one in told)


def test_no_controller_gets_the_burst_buffer_before_dws() -> None:
    """With a limit that leaves the master out nobody would install it: every #DW job would be refused from then on."""
    (check,) = (one for one in dws_replace.checks("preflight") if one.name == "limit")
    (removal,) = (one for one in undeploy.stages()[0].steps if one.name == "limit")
    assert isinstance(removal, Check)
    nothing = {"traces": [], "crds": {}, "unfinished": "", "tag": ""}
    there = {**nothing, "traces": ["Deployment"], "tag": a_site().versions.dws}
    for found, limit, refused in (
        (nothing, CONTROLLER, True),
        (nothing, MASTER, False),
        (nothing, "nid000001", False),
        (there, CONTROLLER, False),
    ):
        site = replace(a_site(), limit=frozenset({limit}))
        place = StepContext(site, Facts({"preflight.installed": {MASTER: found}}), MASTER)
        assert [one.name for one in check.judge(place, None)] == (["master-left-out"] if refused else [])
        assert found is there or not removal.judge(place, None)


def test_where_the_master_is_left_out_dws_cannot_go() -> None:
    """A removal that a limit would leave half done is refused with words, wherever DWS is due to go."""
    other = {**INSTALLED, "tag": "0.0.19"}
    for checks in (undeploy.stages()[0].steps, dws_replace.checks("preflight")):
        (check,) = (one for one in checks if one.name == "limit")
        assert isinstance(check, Check) and check.role == "master"
        site = replace(a_site(), limit=frozenset({CONTROLLER}))
        place = replace(a_place({installed.FACT.name: other}), site=site)
        (finding,) = check.judge(place, None)
        assert finding.name == "master-left-out" and MASTER in finding.text and "DWS 0.0.19" in finding.text
        assert not check.judge(replace(place, site=replace(site, limit=frozenset({MASTER}))), None)


def test_a_revived_workflow_is_reported_again() -> None:
    """What is to be thought of it depends on its job, which may be requeued between the first look and the last."""
    orphan = [a_workflow()]
    found = {"preflight.workflows": orphan, "preflight.jobs": slurm_says(), "undeploy.workflows": orphan}
    _, check = in_use.checks("undeploy", installed.there, in_use.Terms(orphans=True))
    place = a_place({installed.FACT.name: INSTALLED, **found})
    assert [one.name for one in judged(check, place, slurm_says(a_job("PENDING")))] == ["workflow-live"]
    assert not judged(check, place, slurm_says())


def judged(check: Check, place: StepContext, seen: Jobs) -> Sequence[Finding]:
    """What the check `jobs` of the stage undeploy says to what Slurm says."""
    place = replace(place, facts=Facts({**place.facts.found, "undeploy.jobs": {CONTROLLER: seen}}))
    return check.judge(replace(place, host=CONTROLLER), seen)


def test_a_workflow_that_came_since_is_judged_by_what_slurm_says_after_it() -> None:
    """It is no orphan because Slurm had said nothing of its job before; and one that Slurm does not speak of is none either."""
    every = [a_workflow()]
    found = {"preflight.workflows": [], "preflight.jobs": slurm_says(), "undeploy.workflows": every}
    first, check = in_use.checks("undeploy", installed.there, in_use.Terms(orphans=True))
    place = a_place({installed.FACT.name: INSTALLED, **found, "undeploy.jobs": slurm_says()})
    assert not first.judge(place, every), "Slurm was asked before it was seen"
    assert [one.name for one in judged(check, place, slurm_says(a_job()))] == ["workflow-live"]
    assert [one.name for one in judged(check, place, slurm_says(answers=False))] == ["workflow-live", "jobs-unknown"]


def test_what_uses_dws_is_looked_at_before_the_plugin_goes_and_again_before_dws_does() -> None:
    """Each time by the same checks, and of an upgrade behind the clone, which takes its time."""
    stages = {stage.name: [one.name for one in stage.steps] for stage in undeploy.stages(slurm=True)}
    assert stages["slurm"][:2] == stages["plugin"][:2] == stages["undeploy"][:2] == ["workflows", "jobs"]
    previous = [one.name for one in dws_replace.STAGE.steps]
    assert previous.index("clone") < previous.index("workflows") < previous.index("jobs") < previous.index("storage")


# --- what is installed


@pytest.mark.parametrize(
    ("tag", "version"),
    [
        ("0.0.20", "0.0.20"),
        ("0.0.20-dirty", "0.0.20"),
        ("0.0.20.3-ab12", "0.0.20"),
        ("0.1.12.11-0f3c-dirty", "0.1.12"),
        ("latest", ""),
        ("9f1c" * 10, ""),
    ],
)
def test_a_tag_names_the_clone_that_undeploys_it(tag: str, version: str) -> None:
    """A dirty tag and one of some commits later are undeployed with the clone of their release; others by the site's."""
    assert installed.release(tag) == version
    assert installed.version(a_place({installed.FACT.name: {**INSTALLED, "tag": tag}}, dws="0.0.19")) == (
        version or "0.0.19"
    )


@pytest.mark.parametrize(
    ("found", "wanted", "other"),
    [
        ({}, "0.0.20", ""),
        ({}, "0.0.19", "0.0.20"),
        ({"tag": "0.0.19"}, "0.0.20", "0.0.19"),
        ({"tag": "0.0.20-dirty"}, "0.0.20", "0.0.20"),
        ({"tag": "", "unfinished": "0.0.19"}, "0.0.20", "0.0.19"),
        ({"tag": "", "traces": [], "crds": {}}, "0.0.20", ""),
        ({"tag": "", "traces": []}, "0.0.20", ""),
    ],
)
def test_the_old_version_is_removed_before_the_new_one_is_installed(
    found: dict[str, Any], wanted: str, other: str
) -> None:
    """Older or newer, dirty, or half undeployed: with the clone of what is there; CRDs alone say no version."""
    assert dws_replace.other(a_place({installed.FACT.name: {**INSTALLED, **found}}, dws=wanted)) == other


def test_nothing_is_known_before_it_was_looked_at() -> None:
    """Neither task decides anything before the cluster was read."""
    for decide in (dws_replace.other, undeploy.version, dws_replace.due):
        with pytest.raises(NotYetKnown):
            decide(a_place({}))


# --- what is told before another version comes


def rendered(**crds: tuple[str, ...]) -> dict[str, Any]:
    """What the clone of the wanted version deploys, as far as its CRDs go."""
    objects = [
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{names.GROUP}"},
            "spec": {"versions": [{"name": one, "served": True, "storage": False} for one in versions]},
        }
        for plural, versions in crds.items()
    ]
    workflows = {
        one: {"served": True, "storage": False, "fields": {}, "required": []} for one in crds.get("workflows", ())
    }
    return {"objects": objects, "workflows": workflows}


HAVE = {
    "DWS": "0.0.20",
    "CRDs": {"workflows": {"served": "v1alpha1, v1alpha2"}, "storages": {"served": "v1alpha2", "objects": ["a/b"]}},
    "objects": [],
}


def test_added_and_removed_crd_versions_are_reported() -> None:
    """Against what the wanted version's clone deploys; before it is cloned that is said."""
    come = rendered(workflows=("v1alpha2", "v1alpha3"), storages=("v1alpha2",), computes=("v1alpha3",))
    told = dws_replace.describe_crds(a_place({"workarea.rendered": come}), HAVE)
    assert told == (
        "CRD versions that are removed: v1alpha1 of workflows",
        "that are added: v1alpha3 of computes, workflows",
    )
    assert dws_replace.describe_crds(a_place({}), HAVE) == ("the CRD versions that are added are known after workarea",)


@pytest.mark.parametrize(
    ("served", "told"),
    [
        (("v1alpha1", "v1alpha2"), "which is among those that DWS 0.0.20 serves: v1alpha1, v1alpha2"),
        (
            ("v1alpha5", "v1alpha6"),
            "which is NOT among those that DWS 0.0.20 serves: v1alpha5, v1alpha6; burst_buffer.lua is changed to write v1alpha6",
        ),
    ],
)
def test_the_plan_reports_whether_the_plugins_workflows_are_served(served: tuple[str, ...], told: str) -> None:
    """By what the clone's own manifests say."""
    assert dws_replace.describe_plugin(a_place({"workarea.rendered": rendered(workflows=served)})).endswith(told)


def test_before_the_clone_the_table_says_whether_they_are_served() -> None:
    """The versions that are known not to fit are told without a clone."""
    told = dws_replace.describe_plugin(a_place({}, dws="0.1.13"))
    assert "does not serve, so burst_buffer.lua is changed to write one that it serves" in told
    assert "which DWS 0.0.20 serves" in dws_replace.describe_plugin(a_place({}))


def test_everything_that_goes_with_its_crd_is_named() -> None:
    """None of it is cut off; what of it comes back, and what does not, is said."""
    every = [f"Storage default/rabbit-{n}" for n in range(200)]
    place = a_place({persistent_storage.FACT.name: {"data": [], "kept": every}})
    assert f"saved first, and not restored: {', '.join(every)}" in undeploy.removal_text(place, HAVE, {})
    assert f"saved before and put back: {', '.join(every)}" in dws_replace.removal_text(place, HAVE, {})


def test_an_upgrade_names_another_slurm_that_uses_dws() -> None:
    """Its name in the binding is part of what is confirmed; its Workflows stop the upgrade (see above)."""
    bound = {"entries": {}, "bound": ["User slurm-cluster-b", "User slurm-dws"]}
    seen = {slurm_clusters.FACT.name: bound, persistent_storage.FACT.name: persistent_storage.NOTHING}
    assert "replaced, too, for User slurm-cluster-b:" in dws_replace.removal_text(a_place(seen), HAVE, {})
    alone = a_place({slurm_clusters.FACT.name: {**bound, "bound": ["User slurm-dws"]}})
    assert not dws_replace.describe_others(alone) and not dws_replace.describe_others(a_place({}))


# --- what is done


def undeployed(found: dict[str, Any], have: dict[str, Any]) -> list[Any]:
    """The actions of an undeploy of 0.0.20."""
    facts = {
        installed.FACT.name: {**INSTALLED, **found},
        "preflight.cluster": {"cert_manager": ["v1", "v1alpha3"]},
        "workarea.rendered": rendered(workflows=("v1alpha2",)),
    }
    step = remove.removed_step(undeploy.version, "workarea", undeploy.removal_text)
    assert step.change is not None
    return list(step.change(a_place(facts), have, {}))


def settings(action: Any) -> dict[str, str]:
    """What is set before the script that undeploys."""
    assert isinstance(action, RunScript)
    lines = "\n".join(f"printf '%s\\n' \"{one}=${one}\"" for one in ("mark", "rest", "again", "command"))
    head = action.script.partition("# Removes DWS")[0]
    ran = subprocess.run(["sh"], input=f"{head}\n{lines}\n", capture_output=True, text=True, check=True)
    told = ran.stdout.splitlines()
    return {key: text for key, _, text in (line.partition("=") for line in told)}


def test_an_undeploy_knows_what_the_clone_does_not() -> None:
    """The mark has the version that goes; CRDs that the clone's manifests lack go as well."""
    (make,) = undeployed({}, {"DWS": "0.0.20", "CRDs": {"workflows": {}, "later": {}}, "objects": []})
    assert make.title == "make undeploy OVERLAY=csm"
    assert settings(make) == {
        "mark": f"{installed.UNFINISHED}=0.0.20",
        "rest": f"later.{names.GROUP}",
        "again": "",
        "command": "make undeploy OVERLAY=csm",
    }


@pytest.mark.parametrize(("there", "goes"), [("0.0.20", True), ("none", True), ("0.1.12", False)])
def test_only_the_dws_seen_first_is_removed(there: str, goes: bool) -> None:
    """Also with --yes: what was installed by hand meanwhile would go by the clone of another version."""
    have = {"DWS": there, "CRDs": {}, "objects": []}
    if goes:
        assert undeployed({}, have)
        return
    with pytest.raises(Refused) as refused:
        undeployed({}, have)
    assert [one.name for one in refused.value.findings] == ["not-agreed"]


def test_removals_are_listed_without_the_clone() -> None:
    """Where the installed version's clone is gone, nobody knows its manifests yet: what goes is asked about all the same."""
    facts = {
        installed.FACT.name: {**INSTALLED, "tag": "0.0.20"},
        "preflight.cluster": {"cert_manager": ["v1alpha3"]},
        "replace.rendered": {"objects": []},
        "replace.removed": {**HAVE, "objects": ["Deployment dws-webhook"]},
    }
    place = a_place(facts, dws="0.0.19")
    run = Run(
        "run-1",
        place.site,
        (dws_replace.STAGE,),
        Reach(pytest.fail, pytest.fail, pytest.fail),
        list[Event]().append,
        {},
    )
    run.board.facts = place.facts
    run.board.seen = {(key, MASTER): 0 for key in facts}
    step = next(one for one in dws_replace.STAGE.steps if one.name == "removed")
    assert isinstance(step, Step)
    seen = preview(run, "replace.removed", step, MASTER)
    assert (
        seen.outcome == "unknown" and "DWS 0.0.20 is undeployed, then DWS 0.0.19 is deployed" in seen.removes[0].words
    )


def test_no_namespace_is_created_for_a_mark() -> None:
    """Where somebody deleted the namespace, an undeploy doesn't bring it back."""
    (only,) = undeployed({"namespace": False}, {"DWS": "none", "CRDs": {}, "objects": []})
    assert settings(only)["mark"] == ""


def test_stuck_objects_lose_dwss_finalizers_and_no_others() -> None:
    """Webhooks without pods go first; somebody else's finalizer stays, and is named."""
    held = {
        "default/bb1": {"uid": "1", "finalizers": [f"{names.GROUP}/workflow", "nnf.cray.hpe.com/x"]},
        "default/bb2": {"uid": "2", "finalizers": ["other/y"]},
    }
    have = {"workflows": {"version": "v1alpha2", "objects": held}}
    step = stuck_crds.step("undeploy")
    assert step.change and step.status_text
    actions = list(step.change(a_place({"undeploy.stuck": {"crds": have, "data": []}}), have, {}))
    assert [type(one) for one in actions] == [Delete, Delete, RunScript]
    assert isinstance(actions[2], RunScript) and '"uid": "1", "finalizers": ["nnf.cray.hpe.com/x"]' in actions[2].script
    assert "default/bb2 (finalizers other/y)" in step.status_text(have)


# --- the Slurm side


def conf(text: str) -> dict[str, Any]:
    return {
        "slurm.conf": {"id": "1:2", "text": text},
        "preflight.controller": {
            "LoadState": "loaded",
            "files": {"/etc/slurm/slurm.conf": text, "/etc/slurm/bb.conf": "BurstBufferType=burst_buffer/lua\n"},
        },
    }


@pytest.mark.parametrize(
    ("text", "without"),
    [
        ("A=1\nBurstBufferType=burst_buffer/lua\nB=2\n", "A=1\nB=2\n"),
        ("A=1\nBurstBufferType=burst_buffer/datawarp\n", "A=1\nBurstBufferType=burst_buffer/datawarp\n"),
        ("A=1\n", "A=1\n"),
    ],
)
def test_only_our_burst_buffer_is_taken_out_of_slurm_conf(text: str, without: str) -> None:
    """Another burst buffer, and a file without one, stay as they are."""
    assert steps.step(deactivate.SLURM, "conf").want(a_place(conf(text), host=CONTROLLER)) == without


@pytest.mark.parametrize(
    ("text", "daemon", "told"),
    [
        ("BurstBufferType=burst_buffer/lua\n", {"main": "7"}, True),
        ("A=1\n", {"main": "7", "loaded": True}, True),
        ("A=1\n", {"main": "7", "pings": [["here", "UP"]]}, False),
        ("A=1\n", {}, False),
        ("Include bb.conf\n", {"main": "7", "pings": [["here", "UP"]]}, False),
    ],
)
def test_what_keeps_slurmctld_from_starting_is_told_before_its_restart(
    text: str, daemon: dict[str, Any], told: bool
) -> None:
    """Where an undeploy would restart it; elsewhere it is no business of an undeploy."""
    found = conf(text) | {"slurm.daemon": {**slurmctld.parse(b""), **daemon}}
    (check,) = [item for item in undeploy.stages(slurm=True)[0].steps if item.name == "start"]
    assert isinstance(check, Check)
    findings = check.judge(a_place(found, host=CONTROLLER), start.parse(b"unparsed=error: bad\n"))
    assert [finding.name for finding in findings] == ["slurm-conf-unparsable"] * told
    assert not [item for item in undeploy.stages()[0].steps if item.name == "start"]


def test_a_burst_buffer_in_an_included_file_is_refused_by_name() -> None:
    """Files that slurm.conf includes are not written: the refusal says which one it is."""
    with pytest.raises(Refused, match=r"/etc/slurm/bb\.conf"):
        steps.step(deactivate.SLURM, "conf").want(a_place(conf("Include bb.conf\n"), host=CONTROLLER))


def test_files_are_not_taken_from_a_controller_that_is_left_out() -> None:
    """With a limit another controller may still run with the very same files."""
    site = replace(a_site(), limit=frozenset({MASTER}))
    (finding,) = deactivate.judge(StepContext(site, Facts(), CONTROLLER), {})
    assert finding.name == "controllers-left-out" and CONTROLLER in finding.text and "--limit" in finding.fix
    site = replace(a_site(), absent=frozenset({CONTROLLER}))
    (finding,) = deactivate.judge(StepContext(site, Facts(), CONTROLLER), {})
    assert finding.name == "controllers-left-out" and CONTROLLER in finding.text and "--limit" not in finding.fix
    assert deactivate.judge(StepContext(a_site(), Facts(), CONTROLLER), {}) == ()


def test_the_slurm_side_goes_first_and_its_files_after_every_slurmctld() -> None:
    """DWS is closed, then slurm.conf on all controllers, then the files, then DWS, then the role: each needs the one before."""
    stages = {stage.name: stage for stage in undeploy.stages(slurm=True, rbac=True)}
    assert list(stages) == ["preflight", "close", "slurm", "plugin", "workarea", "undeploy", "access", "open"]
    assert stages["slurm"].serial and stages["slurm"].needs == ("close",)
    assert stages["close"].around == ("slurm", "plugin") and stages["open"].ends == "close"
    assert (
        "slurm" in stages["plugin"].needs
        and "plugin" in stages["undeploy"].needs
        and "undeploy" in stages["access"].needs
    )
    *checks, files = stages["plugin"].steps
    assert [one.name for one in checks] == ["workflows", "jobs", "lua", "conf", "templates"]
    assert not isinstance(files, Check) and files.change is not None
    place = a_place({})
    assert files.read is not None
    have = files.read(place, ["/etc/slurm/burst_buffer.lua"])
    assert list(files.change(place, have, files.want(place))) == [Remove("/etc/slurm/burst_buffer.lua")]


def test_without_flags_neither_slurm_nor_the_role_is_touched() -> None:
    """What isn't asked for isn't even a stage."""
    assert [stage.name for stage in undeploy.stages()] == ["preflight", "workarea", "undeploy", "open"]


@pytest.mark.parametrize(("crds", "closed"), [(CRDS, "open"), ({}, "open"), (CRDS, "closed")])
def test_dws_is_closed_where_a_kind_of_it_exists(crds: dict[str, Any], closed: str) -> None:
    """Where none is, Slurm's plugin makes no Workflow, and there is nothing to close; one that was left closed stays so."""
    (step,) = close_dws.stage(["slurm"]).steps
    assert isinstance(step, Step)
    place = a_place({installed.FACT.name: {**INSTALLED, "crds": crds}, "close.dws": closed})
    assert step.want(place) == ("closed" if crds else closed)


def test_work_on_slurmctlds_is_awaited_before_dws_is_opened(tmp_path: Path, local_host: LocalHost) -> None:
    """Activations on hosts, rollouts on the master: they go on when a run is stopped, and what was cut off is at work no more."""
    *waits, opened = close_dws.last((), close_dws.NAME).steps
    assert [(one.name, one.role) for one in waits] == [("activation", "controller"), ("rollouts", "master")]
    assert opened.name == "open" and [one.name for one in close_dws.last((), "undeploy").steps] == ["open"]
    for step in waits:
        assert isinstance(step, Step) and step.read is not None and step.change is None
        for found, at_work in (("none", False), ("running since 12:00", True), ("interrupted, begun 12:00", False)):
            assert (step.read(a_place({}), found) != step.want(a_place({}))) == at_work
    site = replace(a_site(), controllers=tuple(replace(one, pod=Pod("s", "a=b", "c")) for one in a_site().controllers))
    assert isinstance(waits[1], Step)
    look = waits[1].look(StepContext(site, Facts(), MASTER))
    assert isinstance(look, ShellLook)
    script = look.script.replace(actions.STATE, str(tmp_path))
    assert look.parse(local_host.run(script, deadline=60.0).out) == "none"
    lock = tmp_path / f"activation-{site.controllers[0].name}.lock"
    with subprocess.Popen(
        ["flock", str(lock), "sh", "-c", "echo; read -r end"], stdin=-1, stdout=-1, text=True
    ) as holding:
        assert holding.stdout and holding.stdin and holding.stdout.readline()
        assert look.parse(local_host.run(script, deadline=60.0).out).startswith("running since")
        holding.stdin.write("\n")


# --- the role's other name


class Recorder:
    """A cluster that notes what is done to it."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def path(self, manifest: Mapping[str, Any]) -> str:
        return f"{names.RBAC}/clusterrolebindings/{manifest['metadata']['name']}"

    def get(self, path: str) -> None:
        return None

    def delete(self, path: str, deadline: float, uid: str = "") -> None:
        self.done.append(f"delete {path.rpartition('/')[2]}")

    def apply(self, manifest: Mapping[str, Any]) -> None:
        self.done.append(f"apply {manifest['metadata']['name']} {manifest['roleRef']['name']}")


@pytest.mark.parametrize(
    ("before", "dws", "role"),
    [("workload-manager", "0.1.1", "dws-workload-manager"), ("dws-workload-manager", "0.1.0", "workload-manager")],
)
def test_a_binding_to_the_other_role_is_recreated_and_the_gap_reported(
    local_host: LocalHost, before: str, dws: str, role: str
) -> None:
    """A binding's role can't be changed; from 0.1.1 on it is another one. How long it was not there is measured. Another one gives
    the same rights meanwhile."""
    (step,) = (one for one in ACCESS.steps if one.name == "binding" and not isinstance(one, Check))
    place = a_place({}, dws=dws)
    want = step.want(place)
    assert want["role"] == role and step.change is not None
    actions = step.change(place, {**want, "role": before}, want)
    first, _, second, _ = actions
    assert isinstance(first, Apply) and isinstance(second, Apply)
    assert all(first.manifest[key] == second.manifest[key] for key in ("roleRef", "subjects"))
    cluster, events = Recorder(), list[Event]()
    at = StepReporter("run-1", MASTER, "access", "binding", events.append)
    perform(Reach(lambda host: local_host, lambda: cluster, lambda role: MASTER), Board(place.site), at, actions, {})
    interim = "slurm-dws-viewer-interim"
    usual = ["delete slurm-dws-viewer", f"apply slurm-dws-viewer {role}"]
    assert cluster.done == [f"apply {interim} {role}", *usual, f"delete {interim}"]
    (note,) = at.notes
    gap = re.fullmatch(r"ClusterRoleBinding slurm-dws-viewer was recreated: missing for (\d+\.\d\d) s at most", note)
    assert gap and float(gap[1]) < 60


@pytest.mark.parametrize(
    ("dws", "applied", "waits"), [("0.0.20", True, False), ("0.1.0", True, False), ("0.1.9", False, True)]
)
def test_the_role_is_applied_by_hand_only_where_dws_does_not_bring_it(dws: str, applied: bool, waits: bool) -> None:
    """Every version has the file with the role's old name; from 0.1.1 on DWS deploys it, and what builds on it waits."""
    roles = [{"kind": "ClusterRole", "metadata": {"name": one}} for one in ("dws-workload-manager", "workload-manager")]
    place = a_place({"workarea.rendered": {"objects": roles}}, dws=dws)
    assert (manifests.role(place) is not None) == applied
    assert manifests.objects(place) == roles[:1]
    stages = {stage.name: stage for stage in procedure(place.site)}
    assert ("deploy.applied" in stages["access"].needs) == waits
