"""`invoke verify`: a job that proves the site, and jobs that are cancelled; nothing of either stays, however it ends."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dws_on_csm.commands.verify_cancel.known_outcomes import CASES, NOT_BEGUN, STATES
from lab.model import Lab
from tests.lab import product, scene
from tests.lab.conftest import On
from tests.lab.product import Answer, Running
from tests.lab.scene import MASTER, PRIMARY
from tests.lab.waits import until, until_silent

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

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
    """What a verification left: jobs, processes and files on the submitter, and holds in the cluster.

    RuntimeError where a Workflow stays; one that was deleted may take a moment to go.
    """
    said = on(PRIMARY, LEFT)
    until_silent(on, MASTER, "kubectl get workflows.dataworkflowservices.github.io -A -o name")
    return said + on(MASTER, "kubectl -n dws-system get configmap lab-hold -o name --ignore-not-found")


def last_job(on: On) -> int:
    """The id of the newest job that Slurm knows."""
    return max((int(line) for line in on(PRIMARY, "squeue --noheader --states=all --format=%A").split()), default=0)


@contextmanager
def held(on: On, **orders: str) -> Iterator[None]:
    """DWS holds Workflows in these states, or fails there."""
    literals = " ".join(f"--from-literal={state}='{order}'" for state, order in orders.items())
    on(MASTER, f"kubectl -n dws-system create configmap lab-hold {literals}")
    try:
        yield
    finally:
        on(MASTER, "kubectl -n dws-system delete configmap lab-hold --ignore-not-found")


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


# --- the test job


def test_the_time_in_each_state_is_reported(site: Path, on: On) -> None:
    """A job passes all states, and the time that each took is in the JSON and in the report."""
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
    with held(on, Setup="error no room for it"):
        answer = verify(site)
    assert answer.code == 1
    assert "no room for it" in "\n".join(answer.failures()[0]["tail"])
    assert left(on) == ""


def test_an_interrupt_while_the_job_waits(site: Path, on: On) -> None:
    """Ctrl-C takes the job, its Workflow and everything that watched it away."""
    with held(on, DataIn="held for a test"), Running("verify", f"--hosts={site}", "--json") as running:
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


@pytest.fixture(scope="module")
def live(lab: Lab, site: Path, on: On, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site file of a site whose DWS isn't known to hold Workflows: kubectl there shows no logs."""
    wrapper = '#!/bin/sh\nPATH=${PATH#*:}\nfor word; do [ "$word" != logs ] || exit 1; done\nexec kubectl "$@"\n'
    on(MASTER, "mkdir -p /root/silent; cat >/root/silent/kubectl; chmod 755 /root/silent/kubectl", feed=wrapper)
    path = "/root/silent:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return scene.variant(lab, tmp_path_factory.mktemp("live"), {"master": {"path": path}})


def test_jobs_cancelled_in_each_state(site: Path, on: On) -> None:
    """Each row of the table is made, and goes as it is known to; what is documented otherwise stands beside it."""
    answer = verify(site, "--cancel")
    assert answer.code == 0, answer.err
    tables = {step["step"]: step["table"] for step in answer.steps if "table" in step}
    assert sorted(tables) == sorted(case.name for case in CASES)
    documented = {case.name for case in CASES if case.documented}
    assert {name for name, rows in tables.items() if rows[-1]["command"] == "documented"} == documented
    assert left(on) == ""


def test_a_live_site_makes_the_rows_that_need_no_hold(live: Path, on: On) -> None:
    """Without a DWS that can hold Workflows the other rows are made, and those left out are named."""
    answer = verify(live, "--cancel")
    assert answer.code == 0, answer.err
    assert {step["table"][0]["in"] for step in answer.steps if "table" in step} == {*NOT_BEGUN, "running"}
    (left_out,) = (step["note"] for step in answer.steps if step["step"] == "left out")
    assert all(state in left_out for state in STATES)
    assert left(on) == ""


def test_a_cancel_that_goes_otherwise(live: Path, on: On) -> None:
    """A plugin that doesn't hand on the hurry: exit code 1, the case is named, with what was seen and what is known."""
    with edited(on, 's/hurry == "true"/false/'):
        answer = verify(live, "--cancel")
    assert (answer.code, answer.having("failed")) == (1, {f"cancel.running, scancel --hurry@{PRIMARY}"}), answer.err
    assert answer.failures()[0]["meaning"].startswith("seen: no hurry, Teardown")
    assert left(on) == ""
