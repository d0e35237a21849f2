"""Known outcomes of cancelled jobs: how they are shown and judged; and the watch on Workflows."""

from __future__ import annotations

import queue
import re
import shlex
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dws_on_csm.commands.verify_cancel.case import CancelRun, CaseFailed, Ending, collection
from dws_on_csm.commands.verify_cancel.command import clear_run, judge_case, run_case
from dws_on_csm.commands.verify_cancel.known_outcomes import CASES, NOT_BEGUN, STATES, Case, Course, describe, rows
from dws_on_csm.commands.verify_cancel.own_driver import OwnDriver
from dws_on_csm.commands.verify_cancel.workflow_watch import Watch, seen
from dws_on_csm.display import tables
from dws_on_csm.display.style import text
from dws_on_csm.engine.host_script import BUSY, STILL
from dws_on_csm.engine.reach import Reach
from dws_on_csm.engine.state import Run
from dws_on_csm.model import render
from dws_on_csm.model.cluster_api import CONFLICT, ClusterError
from dws_on_csm.model.errors import Unreachable
from dws_on_csm.model.events import Done
from dws_on_csm.stages import verify_cancel
from dws_on_csm.stages.verify_cancel import answers
from tests.unit.stages.slurm.test_plugin import place

BY_NAME = {case.name: case for case in CASES}


def test_every_moment_is_cancelled_both_ways() -> None:
    """Each state, and each moment without one of its own, has a case for scancel and one for scancel --hurry."""
    wanted = {(where, hurry) for where in (*NOT_BEGUN, *STATES, "running") for hurry in (False, True)}
    assert {(case.where, case.hurry) for case in CASES} == wanted
    assert len(CASES) == len(wanted)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_course_ends_where_it_can(case: Case) -> None:
    """A Workflow passes only later states, in order, and one that is deleted has passed Teardown."""
    later = STATES[STATES.index(case.where) + 1 :] if case.held else STATES
    known = case.known
    assert [state for state in later if state in known.states] == list(known.states)
    assert known.gone == (case.where == "Teardown" or "Teardown" in known.states)
    assert case.documented != known


def test_the_whole_table_fits_a_narrow_terminal() -> None:
    """80 columns hold every row, also of a case that took long."""
    done = [Done("m", "cancel", c.name, "ok", i, 1.0, table=rows(c, c.known, 59.9)) for i, c in enumerate(CASES)]
    (table,) = tables.merged(done)
    assert len(table) == 1 + len(CASES) + sum(case.documented is not None for case in CASES)
    assert max(len(text(row)) for row in tables.rows(table)) <= 80


def test_tables_of_a_stage_are_joined_in_the_order_of_their_start() -> None:
    """Rows come in the order in which their steps began; other columns make a table of their own."""
    columns = ("a", "b")
    done = [
        Done("m", "s", "late", "ok", 2.0, 1.0, table=(columns, ("3", "4"))),
        Done("m", "s", "other", "ok", 1.5, 1.0, table=(("c",), ("5",))),
        Done("m", "s", "early", "ok", 1.0, 9.0, table=(columns, ("1", "2"))),
    ]
    assert tables.merged(done) == [(columns, ("1", "2"), ("3", "4")), (("c",), ("5",))]


RUNNING = BY_NAME["running, scancel"]
STAYS = Course(False, ("PostRun",), gone=False)
ROWS = {
    "as known": (BY_NAME["Setup, scancel"], BY_NAME["Setup, scancel"].known, ["scancel"]),
    "as known, and documented otherwise": (RUNNING, RUNNING.known, ["scancel", "documented"]),
    "otherwise": (RUNNING, STAYS, ["scancel", "known", "documented"]),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows(name: str) -> None:
    """The known or documented outcome is below the seen one where it differs."""
    case, course, commands = ROWS[name]
    assert [row[1] for row in rows(case, course, 1.0)[1:]] == commands


JUDGED = {
    "as known": (Ending(RUNNING.known, 2.0, False), "ok"),
    "its teardown killed": (Ending(STAYS, 2.0, True), "ok"),
    "it stays": (Ending(STAYS, 2.0, False), "failed"),
    "hurried": (Ending(replace(RUNNING.known, hurry=True), 2.0, False), "failed"),
    "its job ended otherwise": (Ending(replace(RUNNING.known, job="COMPLETED"), 2.0, False), "failed"),
}


@pytest.mark.parametrize("name", JUDGED)
def test_judged(name: str) -> None:
    """Another outcome than the known one is a failure that names both; a teardown that slurmctld killed is only noted."""
    end, outcome = JUDGED[name]
    judged, more = judge_case(RUNNING, "12", end)
    assert judged == outcome
    assert ("killed its own teardown" in more.get("note", "")) == end.killed
    failures = more.get("failures", ())
    assert [one.meaning for one in failures] == (
        [f"seen: {describe(end.course)}\nknown: {describe(RUNNING.known)}"] if outcome == "failed" else []
    )


@pytest.mark.parametrize(
    ("gone", "unlogged", "told"), [(False, True, True), (False, False, False), (True, True, False)]
)
def test_a_log_that_cannot_be_read_leaves_the_cause_open(gone: bool, unlogged: bool, told: bool) -> None:
    """Where a Workflow stays and no log can be read, as in a pod, the failure says that a killed teardown would not show."""
    course = replace(RUNNING.known, gone=gone, job="FAILED")
    judged, more = judge_case(RUNNING, "12", Ending(course, 2.0, killed=False, unlogged=unlogged))
    assert judged == "failed"
    assert ("not known: whether slurmctld killed its own teardown" in more["failures"][0].meaning) == told


NO_DRIVER = cast(OwnDriver, SimpleNamespace(release=lambda name: None, release_all=lambda: None, stop=lambda: None))
"""A driver that has nothing to release."""


@dataclass(frozen=True)
class Scripted(CancelRun):
    """A cancel_run whose submitter gives these answers, and records the scripts that it was asked for."""

    answers: Mapping[str, Mapping[str, str]]
    asked: list[tuple[str, Mapping[str, str]]]

    def script(self, step: str, deadline: float, **given: str) -> Mapping[str, str]:
        """The answer to `step`."""
        self.asked.append((step, given))
        return self.answers[step]


def test_a_case_that_cannot_start_leaves_its_resources_to_the_others() -> None:
    """Its job is cancelled at once, not when all cases have finished: they may need its resources."""
    job = SimpleNamespace(deadline=1.0)
    run = SimpleNamespace(
        id="r", emit=lambda event: None, stopping=threading.Event(), site=SimpleNamespace(test_job=job)
    )
    pending = {"job": "PENDING", "buffer": "staged-in", "reason": "Resources"}
    answers = {"submit": {"id": "7"}, "begin": pending, "cancel": {"size": "0", "since": "0"}}
    cancel_run = Scripted(cast(Run, run), "c1", cast(Watch, None), NO_DRIVER, "/workflows", answers, [])
    with pytest.raises(CaseFailed, match="never got resources"):
        run_case(cancel_run, RUNNING)
    assert [step for step, _ in cancel_run.asked] == ["submit", "begin", "cancel"]
    assert cancel_run.asked[-1][1] == {"job": "7", "words": "--hurry"}


class Changing(SimpleNamespace):
    """Connections to hosts that give these answers."""

    run_fenced = Reach.run_fenced


@pytest.mark.parametrize(("code", "said"), [(BUSY, STILL), (1, "because squeue failed: no controller")])
def test_jobs_that_could_not_be_removed_are_reported(monkeypatch: pytest.MonkeyPatch, code: int, said: str) -> None:
    """Where another run's command blocks this one, or Slurm does not respond, no job was cancelled, and that is an error."""
    monkeypatch.setattr("dws_on_csm.stages.verify_cancel.script", lambda place, step, run: "true")
    answer = SimpleNamespace(code=code, out=b"", err=b"no controller")
    busy = Changing(change=lambda host, script, data, deadline: answer)
    run = SimpleNamespace(id="r", reach=busy, board=SimpleNamespace(context=lambda host: None))
    with pytest.raises(Unreachable, match=said):
        clear_run(CancelRun(cast(Run, run), "one", cast(Watch, None), NO_DRIVER, "/workflows"))


class Workflows:
    """An API with one Workflow, which another one of the same name may have replaced before its deletion."""

    def __init__(self, now: str, then: str) -> None:
        self.now, self.then = now, then
        self.deleted: list[tuple[str, str]] = []

    def get(self, path: str) -> Any:
        """It as it is at first."""
        return {"metadata": {"name": path.rpartition("/")[2], "uid": self.now}, "spec": {"userID": 1500}}

    def delete(self, path: str, deadline: float = 60.0, uid: str = "") -> None:
        """As the API server takes a uid for a condition."""
        if uid and uid != self.then:
            raise ClusterError(CONFLICT, "the UID in the precondition does not match")
        self.deleted.append((path.rpartition("/")[2], uid))


@pytest.mark.parametrize(("then", "user"), [("a", "1500"), ("b", "1500"), ("a", "1600")])
def test_a_workflow_is_deleted_only_as_it_was_seen(monkeypatch: pytest.MonkeyPatch, then: str, user: str) -> None:
    """A later Workflow of the same name stays, and that is no failure. Another user's, as of another Slurm's job, stays, too."""
    monkeypatch.setattr("dws_on_csm.stages.verify_cancel.script", lambda place, step, run: "true")
    monkeypatch.setattr("dws_on_csm.commands.verify_cancel.command.CLEARED", 0.0)
    api = Workflows("a", then)
    answer = SimpleNamespace(code=0, out=f"id=7\nuser={user}\n".encode(), err=b"")
    reach = Changing(change=lambda host, script, data, deadline: answer, cluster=lambda: api)
    site = SimpleNamespace(access=SimpleNamespace(namespace="default"))
    board = SimpleNamespace(context=lambda host: None)
    run = SimpleNamespace(id="r", reach=reach, board=board, site=site, stopping=threading.Event())
    watch = SimpleNamespace(until=lambda *given: False)
    foreign = (
        nullcontext()
        if user == "1500"
        else pytest.raises(Unreachable, match=r"is of user 1500, and not of test_job\.user")
    )
    with foreign:
        clear_run(CancelRun(cast(Run, run), "one", cast(Watch, watch), NO_DRIVER, "/workflows"))
    assert api.deleted == ([("bb7", "a")] if (then, user) == ("a", "1500") else [])


@pytest.mark.parametrize(
    ("run", "expected"), [("", ["4", "5", "7"]), ("20260131T120000Z-a", ["5"])], ids=["what was left", "its own"]
)
def test_jobs_are_cancelled_by_their_numbers(tmp_path: Path, run: str, expected: list[str]) -> None:
    """A run cancels its own jobs, and at its beginning those of killed runs; no job of another name, and no later job."""
    jobs = [
        *("4 1500 dws-on-csm-cancel", "5 1500 dws-on-csm-cancel-20260131T120000Z-a", "6 1500 dws-on-csm-cancelled"),
        *("7 1500 dws-on-csm-cancel-20260131T120000Z-ab", "8 1500 my dws-on-csm-cancel", "x 1500 dws-on-csm-cancel"),
    ]
    made = verify_cancel.script(place("slurmctl"), "clear", run)
    body = render.read("controller/cancel.sh")
    name = re.search(r"^name=(.*)$", made, re.MULTILINE)
    assert name and made.endswith(body)
    stubs = f"""
find_slurm() {{ :; }}
slurm() {{ shift 2; echo "$*" >>{tmp_path}/asked; case $1 in squeue) printf '%s\\n' {shlex.join(jobs)} ;; esac; }}
"""
    settings = f"name={name[1]}\nstep=clear\nuser=joe\n{render.read('lib/bounded.sh')}"
    done = subprocess.run(
        ["sh", "-euc", f"{settings}{stubs}{body}"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [word for one in expected for word in (f"id={one}", "user=1500")]
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == [
        "squeue --noheader --user=joe --format=%A %U %j",
        *(f"scancel --hurry --quiet {n}" for n in expected),
    ]


SUBMITTED = "JobId=4711 JobName=dws-on-csm-cancel-r UserId=joe(1500) JobState=PENDING"


@pytest.mark.parametrize(
    ("shown", "ours"),
    [
        (SUBMITTED, True),
        (SUBMITTED.replace("JobName=dws-on-csm-cancel-r", "JobName=science"), False),
        (SUBMITTED.replace("joe(1500)", "ann(1600)"), False),
        ("", False),
    ],
    ids=["its own", "another name", "another user", "unknown"],
)
def test_the_number_of_another_job_is_no_case(shown: str, ours: bool) -> None:
    """A program of the user's may print the number of any job: no case is made of it, and nothing of it is cancelled or deleted."""
    body = render.read("controller/cancel.sh")
    stubs = f"""
find_slurm() {{ :; }}
find_account() {{ as_number=1500; }}
as_user() {{ echo 4711; }}
slurm() {{ echo '{shown}'; }}
"""
    settings = "name=dws-on-csm-cancel-r step=submit user=joe job_folder=/ how= options= directive=x commands=true\n"
    script = f"{settings}{render.read('lib/bounded.sh')}{stubs}{body}"
    done = subprocess.run(["sh", "-euc", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == ((0, "id=4711\n") if ours else (1, "")), done
    assert ours or "no job 4711 of joe with the name dws-on-csm-cancel-r. It was not touched" in done.stderr


def run_step(folder: Path, step: str, states: str, **given: str) -> dict[str, str]:
    """The answers of one step of the script, on a host whose scontrol shows `states` one after the other, the last one for ever."""
    made = verify_cancel.script(place("slurmctl"), step, "r", **given)
    body = render.read("controller/cancel.sh")
    settings = made.removesuffix(body).rpartition("# --- ")[2]
    (folder / "states").write_text("\n".join(states.split()) + "\n")
    (folder / "now").write_text("0")
    stubs = f"""
find_slurm() {{ :; }}
log_file() {{ printf '%s' "$log"; }}
slurm() {{
    case $* in
    *scontrol*)
        [ "$(wc -l <{folder}/states)" -lt 2 ] || sed -i 1d {folder}/states
        head -n 1 {folder}/states | tr , ' ' ;;
    *) "$@" ;;
    esac
}}
sleep() {{ :; }}
uptime_seconds() {{ now=$(($(cat {folder}/now) + 1)); echo "$now" >{folder}/now; echo "$now"; }}
number_or_zero() {{ echo "$1"; }}
"""
    done = subprocess.run(
        ["sh", "-euc", f"{settings}\nlog=${{log-}}\n{stubs}{body}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": f"{folder}:/usr/bin:/bin", **{name: value for name, value in given.items() if name == "log"}},
    )
    assert done.returncode == 0, done.stderr
    return answers(done.stdout.encode())


KILLED_LINES = {
    "slurmctld's, of all versions": "[2026-01-31T12:00:00.000] teardown for JobId=7 terminated by slurmctld",
    "slurmscriptd's, from 24.11 on": "slurmscriptd: _run_script: JobId=7 slurm_bb_job_teardown killed by signal 9",
}
STUCK = "JobState=CANCELLED,BurstBufferState=teardown"


@pytest.mark.parametrize("name", KILLED_LINES)
def test_a_killed_teardown_is_recognised_in_every_version(tmp_path: Path, name: str) -> None:
    """By either line, of this job alone, written after its cancel."""
    log = tmp_path / "slurmctld.log"
    given = {"job": "7", "since": "0", "allowed": "5", "log": str(log)}
    log.write_text(KILLED_LINES[name] + "\n")
    assert run_step(tmp_path, "end", STUCK, size="0", **given).get("killed") == "yes"
    assert "killed" not in run_step(tmp_path, "end", STUCK, size=str(log.stat().st_size), **given)
    log.write_text(KILLED_LINES[name].replace("JobId=7", "JobId=77") + "\n")
    answer = run_step(tmp_path, "end", STUCK, size="0", **given)
    assert "killed" not in answer and "unlogged" not in answer


@pytest.mark.parametrize(("journal", "unlogged"), [("exit 0", ""), ("exit 1", "yes")])
def test_a_log_that_cannot_be_read_is_reported(tmp_path: Path, journal: str, unlogged: str) -> None:
    """Without a file and without a journal nobody knows whether a teardown was killed."""
    (tmp_path / "journalctl").write_text(f"#!/bin/sh\n{journal}\n")
    (tmp_path / "journalctl").chmod(0o755)
    answer = run_step(tmp_path, "end", STUCK, size="0", job="7", since="0", allowed="2")
    assert answer.get("unlogged", "") == unlogged


def test_a_job_that_is_being_expedited_lives(tmp_path: Path) -> None:
    """Slurm 25.11 has states that older ones do not have: only those that mean an end end the wait."""
    states = "JobState=EXPEDITING,BurstBufferState=staging-in JobState=RUNNING,BurstBufferState=running"
    given = {"wanted": "running", "allowed": "9", "job": "7"}
    assert run_step(tmp_path, "begin", f"x {states}", **given)["buffer"] == "running"


def test_answers() -> None:
    """Lines without "=" are ignored, lines of one name are joined, and a value may have "=" in it."""
    assert answers(b"id=1\nnoise\nid=2\nreason=a=b\nempty=\n") == {"id": "1 2", "reason": "a=b", "empty": ""}


# --- Workflows that go by


def event(kind: str = "MODIFIED", name: str = "bb1", version: int = 1, **content: Any) -> dict[str, Any]:
    return {"type": kind, "object": {"metadata": {"name": name, "resourceVersion": str(version)}, **content}}


SEEN: dict[str, tuple[dict[str, Any], tuple[str, str, str, bool, bool]]] = {
    "just made": ({"spec": {"desiredState": "Proposal"}}, ("Proposal", "", "", False, False)),
    "hurried": ({"spec": {"desiredState": "Teardown", "hurry": True}}, ("Teardown", "", "", True, False)),
    "held by a driver": (
        {
            "status": {
                "state": "Setup",
                "status": "DriverWait",
                "drivers": [{"watchState": "Setup", "completed": False}],
            }
        },
        ("", "Setup", "DriverWait", False, True),
    ),
    "held by a driver before": (
        {"status": {"state": "DataIn", "drivers": [{"watchState": "Setup", "completed": False}]}},
        ("", "DataIn", "", False, False),
    ),
    "released": (
        {"status": {"state": "Setup", "drivers": [{"watchState": "Setup", "completed": True}]}},
        ("", "Setup", "", False, False),
    ),
}


@pytest.mark.parametrize("name", SEEN)
def test_seen(name: str) -> None:
    """An event says what Slurm wants, where the Workflow is, and whether a driver holds it in that state."""
    content, wanted = SEEN[name]
    found = seen(event(**content))
    assert (found.desired, found.state, found.status, found.hurry, found.waits) == wanted


@pytest.mark.parametrize(
    ("served", "version"),
    [(["v1alpha1", "v1alpha2"], "v1alpha2"), (["v1alpha6", "v1alpha7"], "v1alpha7"), ([], "v1alpha2")],
)
def test_workflows_are_watched_in_a_version_that_dws_serves(served: list[str], version: str) -> None:
    """In the one in which they are stored; without DWS the watch itself says that there is none."""
    versions = [{"name": name, "served": True, "storage": name == version} for name in served]
    crd = {"spec": {"names": {"kind": "Workflow"}, "versions": versions}, "metadata": {}} if served else None
    reach = SimpleNamespace(cluster=lambda: SimpleNamespace(get=lambda path: crd))
    run = SimpleNamespace(reach=reach, site=SimpleNamespace(access=SimpleNamespace(namespace="user")))
    group = "/apis/dataworkflowservices.github.io"
    assert collection(cast(Run, run)) == f"{group}/{version}/namespaces/user/workflows"


class Feed:
    """An API whose watches return what is put into `events`: an event, an error, or None for the end of a request."""

    def __init__(self) -> None:
        self.events: queue.Queue[Mapping[str, Any] | ClusterError | None] = queue.Queue()
        self.versions: list[str] = []

    def get(self, path: str, **query: str) -> dict[str, Any]:
        return {"metadata": {"resourceVersion": "7"}}

    def watch(self, path: str, seconds: float, version: str) -> Iterator[Mapping[str, Any]]:
        self.versions.append(version)
        while (one := self.events.get()) is not None:
            if isinstance(one, ClusterError):
                raise one
            yield one


GO_ON = threading.Event()


def test_a_watch_continues_where_a_round_ended() -> None:
    """Each Workflow has its own events, and the next request continues at the last version."""
    feed = Feed()
    watch = Watch(feed, "/workflows")
    for one in (event("ADDED", "bb1", 8), event("ADDED", "bb2", 9), None, event("DELETED", "bb1", 10)):
        feed.events.put(one)
    assert watch.until("bb1", lambda some: bool(some) and some[-1].type == "DELETED", 60.0, GO_ON)
    assert [one.type for one in watch.events("bb1")] == ["ADDED", "DELETED"]
    assert len(watch.events("bb2")) == 1
    assert feed.versions[:2] == ["7", "9"]


def test_what_never_comes_is_awaited_until_its_deadline() -> None:
    """The wait ends after its time, or when the run is stopping."""
    watch, stop = Watch(Feed(), "/workflows"), threading.Event()
    stop.set()
    assert not watch.until("bb1", bool, 0.01, GO_ON)
    assert not watch.until("bb1", bool, 3600.0, stop)


def test_a_watch_that_breaks_is_an_error_for_all_who_wait() -> None:
    """Every waiting thread gets the server's error."""
    feed = Feed()
    watch = Watch(feed, "/workflows")
    feed.events.put(ClusterError(410, "too old"))
    with pytest.raises(ClusterError, match="too old"):
        watch.until("bb1", bool, 60.0, GO_ON)


@pytest.mark.parametrize("printed", ["x/../../secrets/y", "1 2;3", "1/status", "١٢", "-1", ""])
def test_only_numbers_count_as_jobs(printed: str) -> None:
    """Anything but a number that a controller prints as a job is refused: names of Workflows to delete are built from it."""
    assert verify_cancel.job_ids("c1", {"id": "17 4"}) == ["17", "4"]
    if not printed:
        assert verify_cancel.job_ids("c1", {}) == []
        return
    with pytest.raises(Unreachable, match="in place of a job number"):
        verify_cancel.job_ids("c1", {"id": printed})
