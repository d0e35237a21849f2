"""`invoke undeploy` as administrators use it: refused while DWS is needed, then all of it gone, and a site mended that somebody
undeployed with a live Workflow.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dws_on_csm.stages.dws import closing
from lab.model import Lab
from tests.lab import product, scene
from tests.lab.conftest import On
from tests.lab.product import Answer
from tests.lab.scene import BACKUP, MASTER, PRIMARY
from tests.lab.waits import until, until_silent
from tests.lab.watch import watched

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]

WORKFLOWS = "workflows.dataworkflowservices.github.io"
SUBMIT = "cd /tmp && runuser -u joe -- sbatch --parsable --output=/dev/null --partition=work"
BURST_BUFFER, PLAIN = "#!/bin/sh\n#DW\nsleep 900\n", "#!/bin/sh\nsleep 900\n"
FILES = "/etc/slurm/burst_buffer.lua /etc/slurm/burst_buffer.conf /etc/slurm/slurm-dws.kubeconfig"
# longer ago than a Workflow is given to go by itself
ENDED = (
    "at=$(scontrol -o show job {job} | tr ' ' '\\n' | sed -n s/^EndTime=//p);"
    ' [ $(($(date +%s) - $(date +%s --date "$at"))) -gt 61 ]'
)
LEFT = """
kubectl get crd --output name | grep dataworkflowservices || true
kubectl get all,serviceaccounts --namespace dws-system --output name | grep -v serviceaccount/default || true
kubectl get clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingwebhookconfigurations --output name |
    grep -e dws -e workload-manager || true
"""
# what Deployments had made goes by itself when they are gone
PODS = "kubectl get replicasets,pods --namespace dws-system --output name"
UNDEPLOY = """systemd-run --quiet --unit undeploy-by-hand --working-directory /root/dws-on-csm/dws-0.0.20 \\
    --setenv HOME=/root --setenv KUBECONFIG=/etc/kubernetes/admin.conf make undeploy OVERLAY=csm"""
STAYS = "-e clusterrole.rbac.authorization.k8s.io/workload-manager -e clusterrolebinding.rbac.authorization.k8s.io/slurm-dws-viewer"


def undeploy(site: Path, *options: str) -> Answer:
    """`invoke undeploy --json`."""
    return product.invoke("undeploy", f"--hosts={site}", "--json", *options, deadline=240)


def told(answer: Answer) -> dict[str, str]:
    """What refused it: the finding's text and what to do about it."""
    return {
        f["meaning"]: f["fix"]
        for step in answer.steps
        for f in step.get("failures", ())
        if step["outcome"] == "refused"
    }


@pytest.fixture(scope="module")
def before(lab: Lab, on: On) -> str:
    """slurm.conf as it was before anything was installed."""
    scene.pristine(lab)
    return on(PRIMARY, "cat /etc/slurm/slurm.conf")


@pytest.fixture(scope="module")
def site(lab: Lab, before: str) -> Path:
    """The site file of a site with everything installed."""
    scene.installed(lab)
    return scene.site_file(lab)


@pytest.fixture(scope="module")
def orphan(site: Path, on: On) -> str:
    """The number of a job that is held: cancelled, its Workflow stays for ever."""
    job = on(PRIMARY, f"{SUBMIT} --hold", feed=BURST_BUFFER).strip()
    until(on, MASTER, f"kubectl get {WORKFLOWS} bb{job}")
    return job


def test_it_is_refused_while_jobs_need_it(site: Path, orphan: str, on: On) -> None:
    """Running, held and plain ones: each is told with its user and its state, and nothing was touched."""
    running = on(PRIMARY, SUBMIT, feed=BURST_BUFFER).strip()
    plain = on(PRIMARY, f"{SUBMIT} --hold", feed=PLAIN).strip()
    until(on, MASTER, f"kubectl get {WORKFLOWS} bb{running} --output jsonpath={{.status.state}} | grep -q PreRun")
    until(on, PRIMARY, f"squeue --noheader --jobs {running} --states RUNNING | grep -q .")
    refused, every = undeploy(site, "--yes"), undeploy(site, "--yes", "--all-jobs", "--slurm", "--rbac", "--orphans")
    on(PRIMARY, f"scancel {running} {orphan} {plain}")
    assert (refused.code, every.code) == (3, 3), refused.err + every.err
    assert refused.findings() == {"workflow-live"}
    assert every.findings() == {"workflow-live", "job-in-slurm"}
    words = told(refused)
    assert f"Workflow default/bb{running} in PreRun: job {running} of joe, RUNNING" in " ".join(words)
    assert f"job {orphan} of joe, PENDING" in " ".join(words) and f"job {plain} " not in " ".join(words)
    assert f"scancel --hurry {running}" in " ".join(words.values())
    assert f"job {plain} of joe is in Slurm" in " ".join(told(every))
    assert refused.having("changed") | every.having("changed") == set()
    on(MASTER, "kubectl get deployment --namespace dws-system dws-webhook")


def test_a_plan_shows_what_would_go_and_takes_nothing(site: Path, orphan: str, on: On) -> None:
    """Each object by name, the lines of slurm.conf, the files; nothing is changed by it."""
    on(PRIMARY, f"scancel {orphan}")
    until(on, PRIMARY, "! squeue --noheader --user joe | grep -q .")
    until(on, PRIMARY, ENDED.format(job=orphan), 180)
    shown = undeploy(site, "--plan", "--slurm", "--rbac", "--orphans")
    lines = [line for step in shown.steps for line in step.get("diff", ())]
    assert shown.code == 4, shown.err
    assert shown.having("changed", "failed", "refused", "unknown") == set()
    for gone in ("DWS: 0.0.20", "objects: Deployment dws-webhook", "BurstBufferType=burst_buffer/lua", *FILES.split()):
        assert any(line.startswith("- ") and gone in line for line in lines), gone
    on(PRIMARY, f"ls {FILES} && grep -q ^BurstBufferType /etc/slurm/slurm.conf")
    on(MASTER, f"kubectl get {WORKFLOWS} bb{orphan}")


def test_an_orphan_is_recognized_and_not_deleted_without_confirmation(site: Path, orphan: str, on: On) -> None:
    """Without --orphans it refuses, and says what the orphan is; with it, it asks, and nobody answers here."""
    refused, asked = undeploy(site), undeploy(site, "--orphans")
    assert (refused.code, asked.code) == (3, 3)
    assert refused.findings() == {"workflow-orphan"}
    assert f"Workflow default/bb{orphan} in Proposal: job {orphan} of joe, CANCELLED" in " ".join(told(refused))
    assert f"orphans: Workflow default/bb{orphan}" in asked.err and "DWS 0.0.20: 9 CRDs" in asked.err
    on(MASTER, f"kubectl get {WORKFLOWS} bb{orphan}; kubectl get deployment --namespace dws-system dws-webhook")


def test_it_takes_orphans_and_dws_and_leaves_what_upstream_leaves(site: Path, orphan: str, on: On) -> None:
    """The namespace and its certificate's Secret stay, role and binding too; Slurm keeps its burst buffer, and it says so."""
    done = undeploy(site, "--orphans", "--yes")
    assert done.code == 0, done.err
    assert done.having("changed") == {f"undeploy.orphans@{MASTER}", f"undeploy.removed@{MASTER}"}
    until_silent(on, MASTER, PODS)
    left = on(MASTER, LEFT).split()
    assert left == [
        "clusterrole.rbac.authorization.k8s.io/workload-manager",
        "clusterrolebinding.rbac.authorization.k8s.io/slurm-dws-viewer",
    ]
    on(MASTER, "kubectl get secret --namespace dws-system webhook-server-cert")
    assert "--slurm removes it" in done.summary["message"]
    refused = on(PRIMARY, f"{SUBMIT} 2>&1 || true", feed=BURST_BUFFER)
    assert "Burst Buffer request invalid" in refused and "NotFound" in refused


def test_where_nothing_is_installed_it_changes_nothing(site: Path) -> None:
    """A second run finds nothing to do."""
    again = undeploy(site, "--yes")
    assert (again.code, again.having("changed", "failed", "refused")) == (0, set()), again.err
    assert "DWS is not installed" in again.summary["message"]


def undeploy_by_hand(on: On) -> None:
    """`make undeploy` with a live Workflow: of DWS only the Workflows' CRD is left, which can't go; make waits for ever."""
    # a controller that is quick enough would still let the Workflow go
    on(MASTER, "kubectl --namespace dws-system scale deployment dws-controller-manager --replicas=0")
    until(on, MASTER, "! kubectl --namespace dws-system get pods --output name | grep dws-controller-manager")
    on(MASTER, UNDEPLOY)
    until(on, MASTER, f"{{ {LEFT} }} >/dev/shm/left; ! grep -v -e {WORKFLOWS} {STAYS} /dev/shm/left")
    # what is stopped in the middle has failed
    on(MASTER, "systemctl stop undeploy-by-hand; systemctl reset-failed undeploy-by-hand; rm /dev/shm/left")
    deleted = on(MASTER, f"kubectl get crd {WORKFLOWS} --output jsonpath='{{.metadata.deletionTimestamp}}'")
    assert deleted, "the CRD is not being deleted"


@pytest.fixture(scope="module")
def lost(site: Path, lab: Lab, on: On) -> str:
    """The number of a job whose Workflow somebody's undeploy left half deleted, with its CRD: DWS is gone."""
    scene.installed(lab)
    job = on(PRIMARY, SUBMIT, feed=BURST_BUFFER).strip()
    until(on, PRIMARY, f"squeue --noheader --jobs {job} --states RUNNING | grep -q .")
    until(on, MASTER, f"kubectl get {WORKFLOWS} bb{job} --output jsonpath={{.status.state}} | grep -q PreRun")
    undeploy_by_hand(on)
    return job


def test_what_an_undeploy_left_half_deleted_is_asked_about_by_name(site: Path, lost: str) -> None:
    """The Workflow is named with its job; the burst buffer is not taken from Slurm while that job is there."""
    asked, refused = undeploy(site), undeploy(site, "--slurm", "--yes")
    assert (asked.code, refused.code) == (3, 3)
    assert f"Workflow default/bb{lost} in PreRun: job {lost} of joe, RUNNING" in asked.err
    assert refused.findings() == {"workflow-lost"}
    assert refused.having("changed") == set()


def test_it_is_set_free_and_its_job_ends(site: Path, lost: str, on: On) -> None:
    """The CRD goes at last, and Slurm, which had waited for the Workflow, gets rid of the job."""
    done = undeploy(site, "--yes")
    assert done.code == 0, done.err
    assert f"undeploy.stuck@{MASTER}" in done.having("changed")
    assert "dataworkflowservices" not in on(MASTER, LEFT)
    on(PRIMARY, f"scancel {lost}")
    until(on, PRIMARY, f"! squeue --noheader --jobs {lost} | grep -q .")


def test_the_slurm_side_goes_whole(site: Path, lost: str, before: str, lab: Lab, on: On) -> None:
    """Each slurmctld is started again once, its files go after that, and slurm.conf is what it was before the install."""
    with watched(lab, PRIMARY) as primary, watched(lab, BACKUP) as backup:
        done = undeploy(site, "--slurm", "--rbac", "--yes")
    assert done.code == 0, done.err
    for host, seen in ((PRIMARY, primary), (BACKUP, backup)):
        assert on(host, f"ls {FILES} 2>/dev/null || true") == ""
        assert on(host, "cat /etc/slurm/slurm.conf") == before
        assert len(seen.texts) == 2 and len({sample.process for sample in seen.samples if sample.process}) == 2
        assert "fatal" not in on(host, "cat /var/log/slurm/slurmctld.log")
        on(host, "scontrol ping | grep -c UP")
    until_silent(on, MASTER, PODS)
    assert on(MASTER, LEFT) == ""
    assert undeploy(site, "--slurm", "--rbac").code == 0


SUBMITTING = f"""rm -f /dev/shm/through
for n in $(seq 400); do
    [ ! -e /dev/shm/through ] || exit 0
    {SUBMIT} </dev/shm/job 2>&1 || true
done"""


def test_no_job_that_comes_meanwhile_runs_without_its_storage(lab: Lab, site: Path, on: On) -> None:
    """Users go on submitting while the burst buffer is taken from Slurm: sbatch refuses a job with #DW, or it is the reason for
    refusing the run, and Slurm keeps what it needs. DWS is open at the end."""
    scene.installed(lab)
    on(PRIMARY, "cat >/dev/shm/job", feed=BURST_BUFFER)
    options = ("undeploy", f"--hosts={site}", "--json", "--slurm", "--yes")
    with ThreadPoolExecutor(1) as pool, product.Running(*options) as running:
        running.until(lambda one: one["event"] == "done" and one["stage"] == "preflight")
        submitting = pool.submit(on, PRIMARY, SUBMITTING, deadline=240)
        try:
            ended = running.end(600)
        finally:
            on(PRIMARY, "touch /dev/shm/through")
        said = submitting.result()
    jobs = on(PRIMARY, "scontrol --oneliner show job")
    buffered = [line for line in jobs.splitlines() if " BurstBuffer=#DW" in line and "UserId=joe" in line]
    on(PRIMARY, "scancel --user joe; rm /dev/shm/job /dev/shm/through")
    until(on, PRIMARY, "! squeue --noheader --user joe | grep -q .")
    # Slurm leaves the Workflow of a job that is cancelled before its storage was set up
    on(MASTER, f"kubectl delete {WORKFLOWS} --all --all-namespaces --timeout=80s 2>/dev/null || true")
    until(on, MASTER, f"! kubectl get {WORKFLOWS} --all-namespaces --output name 2>/dev/null | grep -q .")
    assert closing.NAME not in on(MASTER, "kubectl get validatingwebhookconfigurations --output name")
    if ended.code == 0:
        assert "Burst Buffer request invalid" in said, said
        assert not [line for line in buffered if "JobState=COMPLETED" not in line and "JobState=CANCELLED" not in line]
        assert on(PRIMARY, f"ls {FILES} 2>/dev/null || true") == ""
    else:
        # the second of each pair stands for those that are too many to be listed
        reasons = {"workflow-live", "workflows-more", "job-in-slurm", "jobs-more"}
        assert ended.code == 3 and ended.findings() <= reasons, ended.told
        assert buffered and ended.summary["message"] == "Refused. Nothing was changed."
        on(PRIMARY, f"ls {FILES} && grep -q ^BurstBufferType /etc/slurm/slurm.conf")
