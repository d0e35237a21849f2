"""`invoke logs` on a real site: Slurm's side and DWS's of one job, in one order; followed as it happens."""

import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from lab import registry
from lab.model import Lab
from tests.lab import command, scene
from tests.lab.conftest import On
from tests.lab.scene import BACKUP, MASTER, PRIMARY
from tests.lab.waits import until, until_silent

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]

JOB = "su joe -c 'cd /tmp; printf \"#!/bin/sh\\n#DW\\ntrue\\n\" | sbatch --parsable --output=/dev/null --time=1'"
MANAGER = "deployment/dws-controller-manager"
ROW = re.compile(r"(\d\d:\d\d:\d\d\.\d{3})  (\S+)  (.*)")
DAY = re.compile(r"\w+day, (\d{4}-\d\d-\d\d) ")
AHEAD = """printf '#!/bin/sh\\nexec /usr/bin/date -d "@$(($(/usr/bin/date +%%s) + 3600))" "$@"\\n' >/usr/local/bin/date
chmod +x /usr/local/bin/date"""
AT_WORK = "ps -eo args= | grep -E '^(tail -c|awk|mawk|kubectl proxy)'"
LEFT = f"{AT_WORK} || true"


@pytest.fixture(scope="module")
def site(lab: Lab) -> Path:
    """The site file of a site with everything as it should be."""
    scene.installed(lab)
    return scene.site_file(lab)


def run_job(on: On) -> str:
    """Submits a job with a bare #DW and waits until its Workflow is gone; its number."""
    job = on(PRIMARY, JOB).strip()
    until_silent(on, MASTER, "kubectl get workflows.dataworkflowservices.github.io -A -o name")
    return job


def stamps(out: str) -> list[tuple[str, str]]:
    """When each entry was said, and its first line: the date is shown where it changes."""
    day, found = "", []
    for line in out.splitlines():
        day = told[1] if (told := DAY.match(line)) else day
        found += [(f"{day} {row[1]}", row[3])] if (row := ROW.match(line)) else []
    return found


def test_entries_of_a_job_from_all_hosts_in_order(on: On, site: Path) -> None:
    """The plugin's hooks with the Workflow that they wrote, DWS's controller and webhook, by time, and no other job's."""
    other, job = run_job(on), run_job(on)
    said = command.invoke("logs", f"--hosts={site}", "--job", job, "--since", "5m")
    assert said.code == 0, said.err
    rows = [found for line in said.out.splitlines() if (found := ROW.match(line))]
    times = [at for at, _ in stamps(said.out)]
    assert len(times) == len(rows) and times == sorted(times)
    sources = {row[2].partition("@")[0] for row in rows}
    assert {PRIMARY, "manager", "webhook"} <= sources
    hooks = re.findall(r"slurm_bb_(\w+)\(\)", "\n".join(row[3] for row in rows if row[2] == PRIMARY))
    assert hooks == ["job_process", "setup", "data_in", "pre_run", "post_run", "data_out", "job_teardown"]
    assert f"\n                name: bb{job}\n" in said.out  # a line of the Workflow, without a time of its own
    assert not re.search(rf"\bbb{other}\b", said.out)


def test_a_time_and_a_host_narrow_it(on: On, site: Path) -> None:
    """Nothing is older than what was asked for; a node set takes the others away."""
    run_job(on)
    said = command.invoke("logs", f"--hosts={site}", "--limit", BACKUP, "--since", "10m")
    assert {row[2] for line in said.out.splitlines() if (row := ROW.match(line))} <= {BACKUP}
    assert command.invoke("logs", f"--hosts={site}", "--since", "1s").out.count("slurm_bb_job_process") == 0
    wrong = command.invoke("logs", f"--hosts={site}", "--since", "yesterday")
    assert (wrong.code, "10m" in wrong.err) == (2, True)


def test_a_clock_that_is_wrong_is_corrected_and_said(on: On, site: Path) -> None:
    """What a host says of itself an hour ahead is told by this machine's time."""
    on(PRIMARY, AHEAD)
    try:
        stamp = on(PRIMARY, "/usr/bin/date -d '1 hour' +%Y-%m-%dT%H:%M:%S.000").strip()
        on(PRIMARY, f"echo '[{stamp}] lua: said an hour ahead' >>/var/log/slurm/slurmctld.log")
        said = command.invoke("logs", f"--hosts={site}", "--limit", PRIMARY, "--since", "1m")
    finally:
        on(PRIMARY, "rm /usr/local/bin/date")
    assert f"note: {PRIMARY}: its clock is " in said.err and "ahead of this machine's" in said.err
    (at,) = [at for at, text in stamps(said.out) if "said an hour ahead" in text]
    told = time.mktime(time.strptime(at.partition(".")[0], "%Y-%m-%d %H:%M:%S"))
    assert abs(told - time.time()) < 120


def test_logs_are_followed_until_ctrl_c(on: On, site: Path, tmp_path: Path) -> None:
    """What a job does is shown while it does it, in a pod that came meanwhile too; nothing is left when it ends."""
    words = [str(command.BIN / "invoke"), "logs", f"--hosts={site}", "--since", "1s", "--follow"]
    notes = tmp_path / "notes"
    with (
        notes.open("w") as err,
        subprocess.Popen(
            words, cwd=registry.CHECKOUT, stdout=subprocess.PIPE, stderr=err, stdin=subprocess.DEVNULL, text=True
        ) as process,
    ):
        try:
            assert process.stdout
            for host in (MASTER, PRIMARY, BACKUP):
                until(on, host, AT_WORK)
            on(MASTER, f"kubectl -n dws-system rollout restart {MANAGER}")
            on(MASTER, f"kubectl -n dws-system rollout status {MANAGER} --timeout=120s", deadline=150)
            job = on(PRIMARY, JOB).strip()
            seen: list[str] = []
            for line in process.stdout:
                seen.append(line)
                text = "".join(seen)
                if f"job id:{job}," in text and re.search(rf'manager@\S+ .*"bb{job}".*Teardown', text):
                    break
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0, notes.read_text()
            assert "no longer followed" not in notes.read_text()
        finally:
            process.kill()
    for host in (MASTER, PRIMARY, BACKUP):
        until_silent(on, host, LEFT)
