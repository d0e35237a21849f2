"""`invoke verify`: a job that proves the site, and jobs that are cancelled; nothing of either stays, however it ends."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dws_on_csm.commands.verify_cancel.known_outcomes import CASES, NOT_BEGUN, STATES
from dws_on_csm.commands.verify_cancel.own_driver import rule
from lab.model import Lab
from tests.lab import product, scene
from tests.lab.conftest import On
from tests.lab.product import Answer, Running
from tests.lab.scene import MASTER, PRIMARY
from tests.lab.waits import until, until_silent

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]

VERSION = "dataworkflowservices.github.io/v1alpha2"
LUA = "/etc/slurm/burst_buffer.lua"


@pytest.fixture(scope="module")
def site(lab: Lab) -> Path:
    """The site file of a site with everything as it should be."""
    scene.installed(lab)
    return scene.site_file(lab)


def verify(site: Path, *options: str) -> Answer:
    """`invoke verify --json`."""
    return product.invoke("verify", f"--hosts={site}", "--json", *options, deadline=400)


LEFT = "squeue --noheader; ps -C kubectl,sbatch,scancel -o args= | grep dws-on-csm; ls -d /dev/shm/dws-on-csm* 2>/dev/null; true"


def left(on: On) -> str:
    """What a verification left: jobs, processes and files on the submitter, and rules in the cluster.

    RuntimeError where a Workflow stays; one that was deleted may take a moment to go.
    """
    said = on(PRIMARY, LEFT)
    until_silent(on, MASTER, "kubectl get workflows.dataworkflowservices.github.io -A -o name")
    return said + on(MASTER, "kubectl -n dws-system get dwdirectiverules.dataworkflowservices.github.io -o name")


def last_job(on: On) -> int:
    """The id of the newest job that Slurm knows."""
    return max((int(line) for line in on(PRIMARY, "squeue --noheader --states=all --format=%A").split()), default=0)


@contextmanager
def edited(on: On, expression: str) -> Iterator[None]:
    """The plugin as a sed expression makes it: Slurm reads it anew at each call."""
    on(PRIMARY, f"cp -p {LUA} {LUA}.kept; sed -i '{expression}' {LUA}; ! cmp -s {LUA} {LUA}.kept")
    try:
        yield
    finally:
        on(
            PRIMARY,
            f"mv -f {LUA}.kept {LUA}; systemctl restart slurmctld; until scontrol ping | grep -q UP; do sleep 0.2; done",
        )


DRIVEN = 's/dwDirectives: \\[%s\\]/dwDirectives: ["#DW tape", %s]/'


@contextmanager
def driven(on: On, state: str) -> Iterator[None]:
    """Each job's Workflow waits for the storage driver `tape` in this state."""
    rule_of_tape = {**rule(VERSION), "metadata": {"name": "tape", "namespace": "dws-system"}}
    rule_of_tape["spec"] = [{"command": "tape", "watchStates": state, "ruleDefs": []}]
    on(MASTER, f"kubectl apply --filename - <<'EOF'\n{json.dumps(rule_of_tape)}\nEOF")
    try:
        with edited(on, DRIVEN):
            yield
    finally:
        on(MASTER, "kubectl -n dws-system delete dwdirectiverules.dataworkflowservices.github.io tape")


# What a driver does whose storage is full, as soon as a Workflow waits for it in Setup.
FAILS = """kubectl get workflows.dataworkflowservices.github.io -A -o jsonpath='{.items[*].status.state}' | grep -qx Setup &&
kubectl patch "$(kubectl get workflows.dataworkflowservices.github.io -o name)" --type json --patch '[
{"op": "add", "path": "/status/drivers/0/status", "value": "Error"},
{"op": "add", "path": "/status/drivers/0/message", "value": "no room for it"},
{"op": "add", "path": "/status/drivers/0/error", "value": "no room for it"}]'"""


# --- the test job


# What killed runs left: two held jobs. Of the one that is cancelled by hand, Slurm leaves the Workflow.
LEFT_BY_OTHERS = r"""cd /tmp; for end in aaaa bbbb; do printf '#!/bin/sh\n#DW\ntrue\n' |
    runuser -u joe -- sbatch --hold --job-name=dws-on-csm-test-20260101T000000Z-$end --output=/dev/null --partition=work; done
runuser -u joe -- scancel --name=dws-on-csm-test-20260101T000000Z-bbbb"""


def test_the_time_in_each_state_is_reported(site: Path, on: On) -> None:
    """A job passes all states, and the time that each took is in the JSON and in the report. What killed runs left is removed."""
    on(PRIMARY, LEFT_BY_OTHERS)
    answer = verify(site)
    (proof,) = (step for step in answer.steps if step["step"] == "job")
    (times,) = proof["table"]
    assert (answer.code, proof["outcome"], list(times)) == (0, "changed", ["API", *STATES[:4], "running", *STATES[4:]])
    assert 0 < sum(float(time.removesuffix("s")) for time in times.values()) < proof["seconds"] + 1
    assert answer.folder and times["DataIn"] in (answer.folder / "report.html").read_text()
    assert left(on) == ""


def test_a_user_that_the_controller_does_not_know(lab: Lab, site: Path, on: On, tmp_path: Path) -> None:
    """It is said before any job is submitted, with the key to correct."""
    before = last_job(on)
    answer = verify(scene.variant(lab, tmp_path, {"test_job": {"user": "jane"}}))
    assert (answer.code, answer.findings(), last_job(on)) == (3, {"test-user-unknown"}, before)
    assert "test_job.user" in answer.failures()[0]["fix"]


def test_a_login_host_submits(lab: Lab, site: Path, on: On, tmp_path: Path) -> None:
    """With `test_job.host` the job comes from there; the controller releases it and follows it to its end. Nothing of it stays."""
    changes = {"test_job": {"user": "joe", "partition": "work", "host": "nid000002"}}
    answer = verify(scene.variant(lab, tmp_path, changes))
    assert answer.code == 0, answer.told
    (proof,) = (step for step in answer.steps if step["step"] == "job")
    assert (proof["host"], list(proof["table"][0])) == (PRIMARY, ["API", *STATES[:4], "running", *STATES[4:]])
    assert "AllocNode:Sid=nid000002:" in on(PRIMARY, f"scontrol show job {last_job(on)}")
    assert left(on) == "" and on("nid000002", LEFT) == ""


def test_a_job_that_never_gets_resources(lab: Lab, site: Path, on: On, tmp_path: Path) -> None:
    """In a reservation that begins tomorrow a job waits: exit code 5, the job is cancelled and its Workflow gone."""
    on(PRIMARY, "scontrol create reservation=later starttime=now+1days duration=10 users=joe nodes=nid000001")
    try:
        changes = {"test_job": {"user": "joe", "reservation": "later", "deadline": 20}}
        answer = verify(scene.variant(lab, tmp_path, changes))
    finally:
        on(PRIMARY, "scontrol delete reservation=later")
    (failure,) = answer.failures()
    assert (answer.code, failure["code"]) == (5, 5), answer.err
    assert "never got resources" in failure["tail"][-1]
    assert left(on) == ""


def test_a_workflow_that_fails(site: Path, on: On) -> None:
    """What a driver says is shown at once, and neither job nor Workflow stays."""
    with driven(on, "Setup"), Running("verify", f"--hosts={site}", "--json") as running:
        until(on, MASTER, FAILS)
        answer = running.end(300)
    assert answer.code == 1
    assert "no room for it" in "\n".join(answer.failures()[0]["tail"])
    assert left(on) == ""


def test_an_interrupt_while_the_job_waits(site: Path, on: On) -> None:
    """Ctrl-C takes the job, its Workflow and everything that watched it away."""
    with driven(on, "DataIn"), Running("verify", f"--hosts={site}", "--json") as running:
        submitting = running.until(lambda record: record["event"] == "began" and record["step"] == "job")
        assert submitting, running.end(10).told
        until(
            on,
            MASTER,
            "kubectl get workflows.dataworkflowservices.github.io -A -o jsonpath='{.items[*].status.state}' | grep -qx DataIn",
        )
        running.process.send_signal(signal.SIGINT)
        answer = running.end(60)
    assert answer.code == 1
    until_silent(on, PRIMARY, "pgrep -fa '^sh.*dws-on-csm-tes[t]' || true")
    assert left(on) == ""


# --- jobs that are cancelled


def test_jobs_cancelled_in_each_state(site: Path, on: On) -> None:
    """Each row of the table is made, and goes as it is known to; what is documented otherwise stands beside it."""
    answer = verify(site, "--cancel", "--all")
    assert answer.code == 0, answer.err
    tables = {step["step"]: step["table"] for step in answer.steps if "table" in step}
    assert sorted(tables) == sorted(case.name for case in CASES)
    documented = {case.name for case in CASES if case.documented}
    assert {name for name, rows in tables.items() if rows[-1]["command"] == "documented"} == documented
    assert left(on) == ""


def test_the_rows_that_need_no_driver(site: Path, on: On) -> None:
    """Without --all no Workflow is held: the other rows are made, those left out are named, and a killed run's rule is removed."""
    on(MASTER, f"kubectl apply --filename - <<'EOF'\n{json.dumps(rule(VERSION))}\nEOF")
    answer = verify(site, "--cancel")
    assert answer.code == 0, answer.err
    assert {step["table"][0]["in"] for step in answer.steps if "table" in step} == {*NOT_BEGUN, "running"}
    (left_out,) = (step["note"] for step in answer.steps if step["step"] == "left out")
    assert all(state in left_out for state in STATES)
    assert left(on) == ""


def test_a_cancel_that_goes_otherwise(site: Path, on: On) -> None:
    """A plugin that doesn't hand on the hurry: exit code 1, the case is named, with what was seen and what is known."""
    with edited(on, 's/hurry == "true"/false/'):
        answer = verify(site, "--cancel")
    assert (answer.code, answer.having("failed")) == (1, {f"cancel.running, scancel --hurry@{PRIMARY}"}), answer.err
    assert answer.failures()[0]["meaning"].startswith("seen: no hurry, Teardown")
    assert left(on) == ""
