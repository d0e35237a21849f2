"""The script of the test job where it is stopped: Slurm, kubectl and other users are stood in for, its processes are real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.model import render
from dws_on_csm.model.step import Facts, StepContext
from dws_on_csm.stages import verify

# The watcher says that it is there; asked to end it still writes to its HOME, as kubectl to its cache.
PROGRAMS = {
    "chown": "true",
    "scancel": "true",
    "kubectl": """
case "$*" in *--watch*)
    trap 'sleep 0.5; mkdir -p "$HOME/late"; exit' TERM
    echo watching >"$HERE/told"
    while :; do sleep 0.1; done ;;
esac""",
    "sbatch": "exec sleep 600",
}
SETTINGS = ("kubeconfig", "workflows", "namespace", "options", "allowed", "state_folder")


@pytest.fixture
def script(tmp_path: Path) -> str:
    """The script, with what it leaves in memory below `tmp_path`/shm."""
    for name in ("bin", "shm"):
        (tmp_path / name).mkdir()
    for name, body in PROGRAMS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\nHERE={tmp_path}\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    os.mkfifo(tmp_path / "told")
    given = "".join(f"{name}=x\n" for name in SETTINGS) + "slurm_uid=0\nslurm_name=root\nuser=root\njob_folder=/\n"
    body = render.script("lib/as.sh", "lib/temporary.sh", "controller/test_job.sh").replace(
        "/dev/shm", f"{tmp_path}/shm"
    )
    doubles = (
        'slurm_path() { :; }\nchoose_runner() { runner=root; }\nslurm() { as root "$@"; }\nas_user() { as "$@"; }\n'
    )
    return f"set -eu\n{given}{doubles}{body}"


def test_a_stopped_job_script_writes_nothing_more(tmp_path: Path, script: str) -> None:
    """What watched the Workflow, and takes a moment to end, brings no file back that was taken away."""
    environment = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    alive, held = os.pipe()
    process = subprocess.Popen(
        ["sh", "-c", script], env=environment, stdout=subprocess.DEVNULL, start_new_session=True, pass_fds=[held]
    )
    os.close(held)
    assert (tmp_path / "told").read_text() == "watching\n"
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(60) == 143
    with os.fdopen(alive) as all_ended:
        all_ended.read()
    assert list((tmp_path / "shm").iterdir()) == []


@pytest.mark.parametrize(
    ("over", "job", "done"),
    [
        ("", "", ["slurm timeout 30 scancel --hurry --quiet --name=some --user=joe"]),
        (
            "",
            "12",
            [
                "slurm timeout 30 scancel --hurry --quiet 12",
                "kubectl delete workflows bb12 --wait=false",
            ],
        ),
        ("yes", "12", []),
    ],
    ids=["before its number is known", "with its Workflow", "but not one that is over"],
)
def test_a_job_that_is_not_over_is_cleared_away(tmp_path: Path, over: str, job: str, done: list[str]) -> None:
    """However the script ends, its job is cancelled, and a Workflow that Slurm does not take down in time is deleted."""
    body = render.read("controller/test_job.sh")
    part = body[body.index("finish() {") : body.index("trap finish EXIT")]
    stubs = (
        f'slurm() {{ echo "slurm $*" >>{tmp_path}/log; }}\nplugin_kubectl() {{ echo "kubectl $*" >>{tmp_path}/log; }}\n'
        "gone() { return 1; }\njob_says() { :; }\n"
    )
    settings = (
        f"stopped= watcher= reader= work= patient=0 workflows=workflows name=some user=joe over={over} job={job}\n"
    )
    script = f"set -eu\n{settings}{render.read('lib/bounded.sh')}{stubs}{part}trap finish EXIT\nexit 7\n"
    ended = subprocess.run(["sh", "-c", script], capture_output=True, timeout=60, check=False)
    log = tmp_path / "log"
    assert ended.returncode == 7, ended.stderr
    assert (log.read_text().splitlines() if log.exists() else []) == done


def test_a_proof_is_json_whatever_was_said(tmp_path: Path) -> None:
    """What Slurm, kubectl and a Workflow say stands in it as words: nothing of theirs becomes another key of the proof."""
    body = render.read("controller/test_job.sh")
    line = next(line for line in body.splitlines() if line.startswith("in_json()"))
    part = body[body.index("states=$(events") :]
    said = """12", "seconds": 0, "states": "all\\"""
    events = [
        "1|ADDED|bb12|Proposal|Proposal|Completed",
        '2|MODIFIED|bb12|a\\"b|Setup|Completed',
        "3|MODIFIED|bb12|c|c|d",
    ]
    (tmp_path / "events").write_text("\n".join(events) + "\n")
    stubs = (
        f"{line}\nevents() {{ cat {tmp_path}/events; }}\nlast() {{ :; }}\nspent() {{ echo 1.5; }}\n"
        f'rename_synced() {{ mv "$1" "$2"; }}\nall="Proposal Setup" took=3.5 api=1500 state_folder={tmp_path}/state\n'
    )
    subprocess.run(
        ["sh", "-euc", stubs + part],
        env={"PATH": os.environ["PATH"], "job": said, "bbstat": f"{said}\n\t\x1b", "listed": said},
        timeout=60,
        check=True,
        capture_output=True,
    )
    proof = json.loads((tmp_path / "state/proof.json").read_text())
    assert (proof["job"], proof["seconds"], proof["api"]) == (said, 3.5, said)
    assert list(proof["times"]) == ["API", "Proposal", "ab"]


def test_the_test_job_never_runs_as_root() -> None:
    """Slurm's commands load plugins that slurm.conf names: whose it is could then be root."""
    site = load(DEFAULT)
    (finding,) = verify.USER.judge(StepContext(site, Facts({}), "c1"), ["root"])
    assert (finding.name, "ordinary user" in finding.fix) == ("test-user-unknown", True)
    library = render.script("lib/slurmctld.sh", folder="/etc/slurm", unit="x")
    body = f"{library}\nusers_path=$PATH\nas_user root id -u"
    done = subprocess.run(["sh", "-c", body], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (77, "")


def test_a_container_whose_user_is_not_root_submits_as_that_user_alone() -> None:
    """The finding says which user that is, and what to set."""
    site = load(DEFAULT)
    (seen,) = verify.USER.judge(StepContext(site, Facts({}), "slurmctld"), ["other 64030"])
    assert seen.name == "test-user-unknown"
    assert "scripts run as user 64030 on slurmctld, so they cannot submit the test job as nobody" in seen.text
    assert "set test_job.user" in seen.fix and "user 64030" in seen.fix


def test_a_job_whose_workflow_was_not_watched_proves_nothing(tmp_path: Path, script: str) -> None:
    """The job completes, and the watch brought nothing, as where memory is used up: no state was seen, and that is a failure."""
    programs = {
        "sbatch": "echo 12",
        "scontrol": 'case "$*" in *bbstat*) echo "desiredState=Setup currentState=Setup" ;; *) echo JobState=COMPLETED ;; esac',
        "kubectl": """case "$*" in
    *--watch*) echo "no space" >&2 ;;
    *--ignore-not-found*) [ -e "$HERE/asked" ] || echo there; : >"$HERE/asked" ;;
esac""",
    }
    for name, body in programs.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\nHERE={tmp_path}\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    quick = script.replace("$(uptime_seconds) + 10", "$(uptime_seconds) + 1").replace("allowed=x", "allowed=60")
    done = subprocess.run(["sh", "-c", quick], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "states are unknown, because its watch ended early: no space" in done.stdout, done


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ("Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved_for_jobs_in_higher_priority_partitions", "sinfo -R"),
        ("ReqNodeNotAvail,_UnavailableNodes:nid1", "sinfo -R"),
        ("PartitionDown", "State=UP"),
        ("PartitionTimeLimit", "test_job.partition"),
        ("InvalidQOS", "sacctmgr"),
        ("JobHeldAdmin", "job_submit"),
        ("Resources", ""),
        ("Priority", ""),
        ("BurstBufferStageIn", ""),
        ("", ""),
    ],
)
def test_a_job_that_slurm_cannot_start_is_told_from_one_that_waits(reason: str, says: str) -> None:
    """What only somebody's doing changes has advice; one that waits for others, or for its storage, has its deadline."""
    body = render.read("controller/test_job.sh")
    part = body[body.index("cannot_start() {") : body.index("certain=")]
    done = subprocess.run(
        ["sh", "-euc", f"{part}\nif cannot_start '{reason}'; then :; else echo none; fi"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == "none\n" if not says else says in done.stdout


@pytest.mark.parametrize(
    ("states", "sbatch", "found"),
    [
        ("up idle", "exit 0", []),
        ("up idle", "echo 'Invalid partition name specified' >&2; exit 1", ["test-job-rejected"]),
        ("", "echo 'Invalid partition name specified' >&2; exit 1", ["test-job-rejected"]),
        ("up drain", "exit 1", []),
        ("down idle", "exit 1", []),
    ],
)
def test_a_job_that_slurm_would_not_take_is_a_finding_unless_its_nodes_are_away(
    states: str, sbatch: str, found: list[str]
) -> None:
    """Drained nodes and a closed partition do not stop an install: the test job reports them."""
    site = load(DEFAULT)
    ctx = StepContext(site, Facts(), site.controllers[0].name)
    doubles = (
        "slurm_path() { :; }\nfind_account() { as_number=7; }\nid() { echo 0; }\nas() { :; }\n"
        f"pings() {{ echo 'here UP'; }}\nas_user() {{ {sbatch}; }}\nslurm() {{ echo '{states}'; }}\n"
        "user=joe\njob_folder=/\noptions=\npartition=\nreservation=\nusers_path=/nowhere\ncommand() { :; }\n"
    )
    done = subprocess.run(
        ["sh", "-c", doubles + verify._LOOK_USER], capture_output=True, text=True, timeout=60, check=True
    )
    findings = verify.USER.judge(ctx, done.stdout.splitlines())
    assert [finding.name for finding in findings] == found
    assert all("Invalid partition name specified" in finding.text for finding in findings)
