"""The script of the test job where it is stopped: Slurm, kubectl and other users are stood in for, its processes are real."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.config.site import Site
from dws_on_csm.model import render
from dws_on_csm.model.actions import RunElsewhere, RunScript
from dws_on_csm.model.lines import first_values, parse_pairs
from dws_on_csm.model.step import Facts, StepContext
from dws_on_csm.runner.connections import roles
from dws_on_csm.stages import verify
from tests.unit.site_files import write

pytestmark = pytest.mark.slow

# The watcher says that it is there; asked to end it still writes to its HOME, as kubectl to its cache.
PROGRAMS = {
    "chown": "true",
    "scancel": "true",
    "squeue": "true",
    "kubectl": """
case "$*" in *--watch*)
    trap 'sleep 0.5; mkdir -p "$HOME/late"; exit' TERM
    echo watching >"$HERE/told"
    while :; do sleep 0.1; done ;;
esac""",
    "sbatch": "exec sleep 600",
}
SETTINGS = ("kubeconfig", "workflows", "namespace", "options", "allowed", "state_folder", "name", "RUN")


@pytest.fixture
def script(tmp_path: Path) -> str:
    """The script, with what it leaves in memory below `tmp_path`/shm."""
    for name in ("bin", "shm"):
        (tmp_path / name).mkdir()
    for name, body in PROGRAMS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\nHERE={tmp_path}\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    os.mkfifo(tmp_path / "told")
    given = (
        "".join(f"{name}=x\n" for name in SETTINGS)
        + "slurm_uid=0\nslurm_name=root\nuser=root\njob_folder=/\nsubmitted=\nuser_number=\nbbstat=\n"
    )
    body = render.script("lib/as.sh", "lib/temporary.sh", "controller/test_job.sh").replace(
        "/dev/shm", f"{tmp_path}/shm"
    )
    doubles = (
        'find_slurm() { :; }\nchoose_runner() { runner=root; }\nslurm() { as root "$@"; }\nas_user() { as "$@"; }\n'
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


ASKED = "slurm timeout 60 squeue --noheader --states=all --format=%A %U %T %j"
CANCELLED = "slurm timeout 30 scancel --hurry --quiet {}"
DELETED = (
    'kubectl delete --raw /apis/dws/v1/namespaces/user/workflows/bb{} --filename - <{{"apiVersion": "v1", "kind": "DeleteOptions", '
    '"preconditions": {{"uid": "u-{}"}}}}'
)


@pytest.mark.parametrize(
    ("over", "job", "done"),
    [
        ("", "", [ASKED, CANCELLED.format(12), DELETED.format(12, 12)]),
        ("", "12", [CANCELLED.format(12), DELETED.format(12, 12)]),
        ("", "13", [CANCELLED.format(13)]),
        ("yes", "12", []),
    ],
    ids=["before its number is known", "with its Workflow", "with another user's Workflow", "but not one that is over"],
)
def test_a_job_that_is_not_over_is_cleared_away(tmp_path: Path, over: str, job: str, done: list[str]) -> None:
    """However the script ends, its job is cancelled, and a Workflow that Slurm does not take down in time is deleted."""
    body = render.read("controller/test_job.sh")
    part = body[body.index("finish() {") : body.index("trap finish EXIT")]
    jobs = """11 1500 PENDING some-r1x
12 1500 PENDING some-r1
13 1501 PENDING some-r1
14 1500 PENDING some
15 1500 COMPLETED some-r1"""
    stubs = f"""
slurm() {{ echo "slurm $*" >>{tmp_path}/log; case $* in *squeue*) echo '{jobs}' ;; esac; }}
plugin_kubectl() {{
    case "$1 ${{3-}}" in
    "get bb13") echo "dws/v1 u-13 1501" ;;
    get*) echo "dws/v1 u-${{3#bb}} 1500" ;;
    *) echo "kubectl $* <$(cat)" >>{tmp_path}/log ;;
    esac
}}
gone() {{ return 1; }}
job_says() {{ :; }}
"""
    settings = (
        f"stopped= left= watcher= reader= work= patient=0 over={over} job={job} job_name=some-r1 user_number=1500 "
    )
    settings += "workflows=workflows namespace=user\n"
    script = f"set -eu\n{settings}{render.read('lib/bounded.sh')}{stubs}{part}trap finish EXIT\nexit 7\n"
    ended = subprocess.run(["sh", "-c", script], capture_output=True, timeout=60, check=False)
    log = tmp_path / "log"
    assert ended.returncode == 7, ended.stderr
    assert (log.read_text().splitlines() if log.exists() else []) == done and ended.stdout == b""
    script = script.replace("trap finish", "plugin_kubectl() { return 1; }\ntrap finish")
    silent = subprocess.run(["sh", "-c", script], capture_output=True, timeout=60, check=False)
    assert (f"Workflow bb{job or 12} is left".encode() in silent.stdout) is bool(done), silent


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
    (finding,) = verify.USER.judge(StepContext(site, Facts({}), "c1"), {"problem": "root"})
    assert (finding.name, "ordinary user" in finding.fix) == ("test-user-unknown", True)
    library = render.script("lib/slurmctld.sh", folder="/etc/slurm", unit="x")
    body = f"{library}\nusers_path=$PATH\nas_user root id -u"
    done = subprocess.run(["sh", "-c", body], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (77, "")


def test_a_container_whose_user_is_not_root_submits_as_that_user_alone() -> None:
    """The finding says which user that is, and what to set."""
    site = load(DEFAULT)
    (seen,) = verify.USER.judge(StepContext(site, Facts({}), "slurmctld"), {"problem": "other", "number": "64030"})
    assert seen.name == "test-user-unknown"
    assert "scripts run as user 64030 on slurmctld, so they cannot submit the test job as nobody" in seen.text
    assert "set test_job.user" in seen.fix and "user 64030" in seen.fix


def test_a_job_whose_workflow_was_not_watched_proves_nothing(tmp_path: Path, script: str) -> None:
    """The job completes, and the watch brought nothing, as where memory is used up: no state was seen, and that is a failure."""
    programs = {
        "sbatch": "echo 12",
        "scontrol": """case "$*" in
    *bbstat*) echo "desiredState=Setup currentState=Setup" ;;
    *) echo "JobName=x-x UserId=root(0) JobState=COMPLETED" ;;
esac""",
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
    ("event", "said"),
    [
        (
            "ADDED|bb12|Proposal||",
            "asked for the state Proposal of Workflow bb12, and DWS's controller leaves it in no state: ",
        ),
        ("MODIFIED|bb12|Setup|Proposal|Completed", "asked for the state Setup .* leaves it in Proposal: .* RESTART IT"),
        ("MODIFIED|bb12|DataIn|DataIn|DriverWait", r"its Workflow stays in DataIn \(DriverWait\)$"),
    ],
)
def test_a_controller_that_does_nothing_is_named(tmp_path: Path, script: str, event: str, said: str) -> None:
    """A Workflow that DWS's controller has not taken to the state that Slurm wants is told from one whose drivers work."""
    programs = {
        "sbatch": "echo 12",
        "scontrol": 'echo "JobName=x-x UserId=root(0) JobState=PENDING desiredState=x currentState=x"',
        "kubectl": f"""case "$*" in
    *--watch*) echo '{event}'; echo watch=true >&2; exec sleep 60 ;;
    *--ignore-not-found*) echo there ;;
esac""",
    }
    for name, body in programs.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\nHERE={tmp_path}\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    quick = script.replace("allowed=x", "allowed=3 controller='RESTART IT'").replace("patient=60", "patient=0")
    done = subprocess.run(["sh", "-c", quick], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and re.search(said, done.stdout, re.MULTILINE), done


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
        ("up idle", "echo 'sbatch: not found' >&2; exit 127", ["sbatch-missing"]),
        ("up idle", "echo 'Invalid partition name specified' >&2; exit 1", ["test-job-rejected"]),
        ("", "echo 'Invalid partition name specified' >&2; exit 1", ["test-job-rejected"]),
        ("up idle*", "exit 1", []),
        ("up drain", "exit 1", []),
        ("up plnd", "echo 'Invalid partition name specified' >&2; exit 1", ["test-job-rejected"]),
        # slurmctld has just started
        ("up drain\nup unk", "echo 'Requested node configuration is not available' >&2; exit 1", []),
        ("down idle", "exit 1", []),
        (
            "up idle",
            "echo 'allocation failure: Socket timed out on send/recv operation' >&2; exit 1",
            ["slurmctld-not-answering"],
        ),
    ],
)
def test_a_job_that_slurm_would_not_take_is_a_finding_unless_its_nodes_are_away(
    states: str, sbatch: str, found: list[str]
) -> None:
    """Drained nodes and a closed partition do not stop an install: the test job reports them. A missing sbatch rejects nothing."""
    site = load(DEFAULT)
    ctx = StepContext(site, Facts(), site.controllers[0].name)
    doubles = (
        "find_slurm() { :; }\nfind_account() { as_number=7; }\nid() { echo 0; }\nas() { :; }\n"
        f"pings() {{ echo 'here UP'; }}\nas_user() {{ {sbatch}; }}\nslurm() {{ echo '{states}'; }}\n"
        "user=joe\njob_folder=/\noptions=\npartition=\nreservation=\nusers_path=/nowhere\n"
        f"command() {{ {'false' if 'not found' in sbatch else ':'}; }}\n"
    )
    script = render.script("lib/slurmctld.sh", folder="/none", unit="x") + doubles + render.read("host/test_user.sh")
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    findings = verify.USER.judge(ctx, first_values(parse_pairs(done.stdout)))
    assert [finding.name for finding in findings] == found
    assert all("Invalid partition name specified" in one.text for one in findings if one.name == "test-job-rejected")


def test_a_file_of_slurm_conf_that_the_user_cannot_read_is_named() -> None:
    """sbatch would look for it for a minute, or reject the job: the finding has the file, and how to see that it is readable."""
    site = load(DEFAULT)
    ctx = StepContext(site, Facts(), site.controllers[0].name)
    path, why = "/etc/slurm/site: x.conf", f"{site.test_job.user} may not read it"
    [finding] = verify.USER.judge(ctx, {"problem": "unread", "file": path, "why": why})
    assert (finding.name, f"{path}: {why}" in finding.text) == ("test-job-rejected", True)
    assert f"`runuser -u {site.test_job.user} -- cat '{path}'`" in finding.fix


def a_login_site(tmp_path: Path, controllers: str = "[{host: c1}]") -> Site:
    """A site whose test job is submitted on uan01."""
    text = (
        f"master: {{host: m}}\ncontrollers: {controllers}\ntest_job: {{user: joe, host: uan01}}\nssh: {{sudo: true}}\n"
    )
    return load(write(tmp_path, text))


def test_a_login_host_submits_and_the_controller_follows(tmp_path: Path) -> None:
    """It is reached as other hosts are. The job is held until the controller watches its Workflow; only then it is known there."""
    site = a_login_site(tmp_path)
    login = site.test_job.host
    assert login and (login.name, login.role, login.sudo) == ("uan01", "login", True)
    assert login in site.hosts() and roles(site)["login"] == ("uan01",) and roles(site)["submitter"] == ("c1",)
    (ask,) = verify.submit_actions(StepContext(site, Facts({}), "c1"), None, None)
    assert (
        isinstance(ask, RunElsewhere) and ask.role == "login" and ask.title == "submit a test job as joe on uan01, held"
    )
    (follow,) = ask.then(b"job 12\nbbstat desiredState=Proposal currentState=Proposal\n")
    assert isinstance(follow, RunScript) and follow.title == "release job 12 and follow its Workflow"
    assert (
        "submitted=12\n" in follow.script and "bbstat='desiredState=Proposal currentState=Proposal'\n" in follow.script
    )
    assert (verify.USER.role, verify.USER_OF_CONTROLLER.role) == ("login", "submitter")


def test_the_controller_clears_a_job_of_a_login_host_away_if_anything_fails(tmp_path: Path) -> None:
    """It alone can delete the Workflow. Then the login host cancels it, too: it may belong to another cluster."""
    (ask,) = verify.submit_actions(StepContext(a_login_site(tmp_path), Facts({}), "c1"), None, None)
    assert isinstance(ask, RunElsewhere)
    here, there = ask.abandon(b"user 1500\njob 12\n")
    assert (here.role, there.role) == ("submitter", "login") and "(uan01 named job 12)" in here.title
    assert isinstance(here.script, str) and isinstance(there.script, str)
    assert "submitted=none\nuser_number=1500\n" in here.script
    assert 'scancel --quiet --name="$name-$RUN" --user="$user"' in there.script
    unknown, _ = ask.abandon(b"")
    assert isinstance(unknown.script, str) and "submitted=none\nuser_number=''\n" in unknown.script


@pytest.mark.parametrize("named", ["c1", "n1", "m"])
def test_a_login_host_may_be_any_host_of_the_site(tmp_path: Path, named: str) -> None:
    """It keeps its role; the first controller submits and follows in one, as without this key."""
    text = f"master: {{host: m}}\ncontrollers: [{{host: c1}}]\ncomputes: {{hosts: n1}}\ntest_job: {{host: {named}}}\n"
    site = load(write(tmp_path, text))
    assert [host.name for host in site.hosts()] == ["m", "c1", "n1"] and site.hosts("login") == ()
    (action,) = verify.submit_actions(StepContext(site, Facts({}), "c1"), None, None)
    assert isinstance(action, RunScript if named == "c1" else RunElsewhere)


@pytest.mark.parametrize(
    ("sbatch", "printed", "log"),
    [
        ("echo 12", "job 12\nbbstat desiredState=Proposal x\n", ""),
        ("echo '12;lab'", "job 12\nbbstat desiredState=Proposal x\n", ""),
        ("exit 3", "", ""),
        ("echo twelve", "", ""),
        ("echo '12;other'", "", "scancel --quiet --clusters=other --name=some-r1 --user=joe"),
    ],
    ids=["submitted", "with its cluster", "refused", "no number", "another cluster"],
)
def test_a_login_host_holds_the_job_and_cancels_none_whose_workflow_would_stay(
    tmp_path: Path, sbatch: str, printed: str, log: str
) -> None:
    """Everything of Slurm's runs as the job's user there. Of a held job that it cancelled, the Workflow would stay: the controller
    does that, except in another cluster."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name, body in {"sbatch": sbatch, "scancel": "true", "scontrol": "echo 'desiredState=Proposal $(x)'"}.items():
        body = body if name != "scontrol" else f"case $* in *config*) echo 'ClusterName = lab' ;; *) {body} ;; esac"
        (bin_ / name).write_text(f'#!/bin/sh\necho "{name} $*" >>{tmp_path}/log\n{body}\n')
        (bin_ / name).chmod(0o755)
    settings = "set -eu\nuser=joe name=some RUN=r1 job_folder=/ options=\nfind_slurm() { :; }\n"
    settings += 'as_user() { [ "$1" = joe ]; shift; "$@"; }\nfind_account() { as_number=1500; }\n'
    settings += "running_setting() { scontrol show config | sed -n 's/^ClusterName = //p'; }\n"
    done = subprocess.run(
        ["sh", "-c", settings + render.read("host/submit_job.sh")],
        env={"PATH": f"{bin_}:{os.environ['PATH']}"}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode == 0, done.stdout) == (bool(printed), f"user 1500\n{printed}"), done.stderr
    seen = (tmp_path / "log").read_text().splitlines()
    assert seen[0].startswith("sbatch --parsable --hold --job-name=some-r1 ")
    assert [line for line in seen if line.startswith("scancel")] == ([log] if log else [])


SHOWN = "JobId={} JobName=x-x UserId=nobody(1500) JobState=PENDING Reason=JobHeldUser BurstBufferState=complete"
VICTIM = "JobId=4711 JobName=science UserId=ann(1600) JobState=RUNNING BurstBufferState=running"
OF_OTHERS = {
    "another user's job": VICTIM,
    "one of the user's own": VICTIM.replace("ann(1600)", "nobody(1500)"),
    "another user's of that name": VICTIM.replace("science", "x-x"),
    "unknown": "",
}


def login_programs(folder: Path, **shown: str) -> None:
    """Slurm's programs and kubectl, which log what they are asked to change; `shown`: what slurmctld says of the job "jNUMBER"."""
    answers = "".join(f"*show*{job[1:]}) echo '{text}' ;; " for job, text in shown.items())
    programs = {
        "sbatch": "echo 4711",
        "scancel": 'echo "scancel $*" >>"$HERE/log"',
        "scontrol": f'case $* in {answers}*release*) echo "scontrol $*" >>"$HERE/log"; exit 1 ;; esac',
        "squeue": "cat $HERE/jobs",
        "kubectl": """case "$*" in
    *--watch*) echo watching >>"$HERE/log"; echo watch=true >&2; exec sleep 60 ;;
    *delete*) echo "delete ${*##*/}" >>"$HERE/log"; touch "$HERE/gone" ;;
    *userID*) echo "dws/v1 u 1500" ;;
    *ignore-not-found*) [ -e "$HERE/gone" ] || echo there ;;
esac""",
    }
    (folder / "jobs").touch()
    for name, body in programs.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\nHERE={folder}\n{body}\n")
        (folder / "bin" / name).chmod(0o755)


def ended(folder: Path, script: str, **settings: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """How the script ends with these settings, and what was changed."""
    for name, value in settings.items():
        assert f"{name}=" in script
        script = re.sub(rf"(?m)^{name}=\w*$", f"{name}={value}", script, count=1)
    environment = {"PATH": f"{folder}/bin:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    log = folder / "log"
    return done, log.read_text().splitlines() if log.exists() else []


def test_a_job_from_a_login_host_is_released_once_it_is_watched(tmp_path: Path, script: str) -> None:
    """It is neither cancelled nor submitted again on the controller, where its user may be unknown."""
    login_programs(tmp_path, j12=SHOWN.format(12))
    done, log = ended(tmp_path, script, submitted="12", user_number="1500", user="unknown")
    assert done.returncode == 1 and "job 12 could not be released" in done.stdout, done
    assert log == ["watching", "scontrol release 12", "scancel --hurry --quiet 12", "delete bb12 --filename -"]


@pytest.mark.parametrize("where", ["login host", "controller"])
@pytest.mark.parametrize("name", OF_OTHERS)
def test_the_number_of_another_job_is_neither_released_nor_cancelled_nor_deleted(
    tmp_path: Path, script: str, name: str, where: str
) -> None:
    """A login host of another cluster, or a program of the user's that has sbatch's output, prints a number that somebody else's
    job has here: nothing of that job is touched, and the failure says so. This run's own job is found by its name."""
    shown = OF_OTHERS[name]
    if where == "controller":  # its user is root there
        shown = shown.replace("(1500)", "(0)")
    login_programs(tmp_path, j4711=shown)
    (tmp_path / "jobs").write_text("13 0 PENDING x-x\n" if where == "controller" else "13 1500 PENDING x-x\n")
    given = {"submitted": "4711", "user_number": "1500"} if where == "login host" else {}
    (tmp_path / "gone").touch()
    done, log = ended(tmp_path, script, **given)
    assert done.returncode == 1 and "Nothing of job 4711 was released, cancelled or deleted" in done.stdout, done
    assert "job 4711 is not this test job" in done.stdout and not [line for line in log if "4711" in line]
    assert "scancel --hurry --quiet 13" in log


def test_a_job_that_an_admin_holds_is_not_released(tmp_path: Path, script: str) -> None:
    """A rule of the site may do that at once: nobody is asked to release it."""
    login_programs(tmp_path, j12=SHOWN.format(12).replace("HeldUser", "HeldAdmin"))
    done, log = ended(tmp_path, script, submitted="12", user_number="1500")
    assert done.returncode == 1 and "job 12 is not held by its user (JobHeldAdmin): it is not released" in done.stdout
    assert log == ["watching", "scancel --hurry --quiet 12", "delete bb12 --filename -"]


def test_a_former_held_job_is_cleared_away_with_its_workflow(tmp_path: Path, script: str) -> None:
    """A killed run left it, held or cancelled: the next test job on the controller cancels it and deletes its Workflow."""
    login_programs(tmp_path, j9=SHOWN.format(9).replace("x-x", "x-old"), j12=SHOWN.format(12))
    (tmp_path / "jobs").write_text(
        "9 1500 CANCELLED x-old\n10 1600 PENDING x-old\n11 1500 PENDING y\n12 1500 PENDING x-x\n"
    )
    done, log = ended(tmp_path, script, submitted="12", user_number="1500")
    assert done.returncode == 1, done
    assert log[:4] == ["watching", "scancel --hurry --quiet 9", "delete bb9 --filename -", "scontrol release 12"]
    assert not [line for line in log if line.endswith((" 10", " 11"))]


@pytest.mark.parametrize("fails", ["shm", "runner"])
def test_a_held_job_is_cancelled_also_where_the_script_cannot_begin(tmp_path: Path, script: str, fails: str) -> None:
    """Any user can fill /dev/shm; a kubeconfig that others can write is not used, and then no kubectl runs."""
    login_programs(tmp_path, j12=SHOWN.format(12))
    (tmp_path / "jobs").write_text("12 1500 PENDING x-x\n")
    if fails == "shm":
        (tmp_path / "shm").rmdir()
    else:
        script = script.replace("choose_runner() { runner=root; }", "choose_runner() { runner=root; return 77; }")
    done, log = ended(tmp_path, script, submitted="12", user_number="1500", patient="0")
    assert done.returncode == 1, done
    assert log == ["scancel --hurry --quiet 12", *(["delete bb12 --filename -"] if fails == "shm" else [])]
    assert ("Workflow bb12 is left" in done.stdout) is (fails == "runner")


@pytest.mark.parametrize(("number", "cancelled"), [("1500", ["9", "12"]), ("", ["12"])])
def test_what_a_failed_run_left_is_cleared_away(tmp_path: Path, script: str, number: str, cancelled: list[str]) -> None:
    """By its name: its own, where the user's number is unknown. Where the Workflow stays, that is a failure."""
    login_programs(tmp_path, j12=SHOWN.format(12), j9=SHOWN.format(9))
    (tmp_path / "jobs").write_text("9 1500 PENDING x-old\n12 1500 CANCELLED x-x\n13 1600 PENDING science\n")
    done, log = ended(tmp_path, script, submitted="none", user_number=number)
    assert done.returncode == 0, done
    assert [line.split()[-1] for line in log if line.startswith("scancel")] == cancelled
    (tmp_path / "gone").unlink()
    kubectl = tmp_path / "bin" / "kubectl"
    kubectl.write_text(kubectl.read_text().replace("*delete*)", "*delete*) exit 1 ;; *never*)"))
    done, _ = ended(tmp_path, script, submitted="none", user_number=number)
    assert done.returncode == 1 and "is left" in done.stdout, done
