"""The lab with slurmctld in a pod: what its pod is like, that jobs run and outlive it, that a reset gives it back."""

from pathlib import Path

import pytest
import yaml

from dws_on_csm.config.load import load
from lab import cluster, health, lifecycle, ssh
from lab.model import Lab
from tests.lab import pod, product
from tests.lab.conftest import announce

pytestmark = [pytest.mark.lab, pytest.mark.matrix, pytest.mark.timeout(1200)]


def test_no_host_runs_slurmctld(pod_lab: Lab) -> None:
    """The two controllers' hosts are not there, the pod is, nothing is wrong with it, and the site file names it."""
    cluster.await_none(lambda: [one for one in health.look(pod_lab) if not one.well], "something is wrong", 60)
    assert [one.host.name for one in health.look(pod_lab) if one.host.role == "controller"] == ["pod slurmctld"]
    site_file = yaml.safe_load((pod_lab.state / "hosts.yaml").read_text())
    named = {"namespace": "user", "selector": "app=slurmctld", "container": "slurmctld"}
    assert site_file["controllers"] == [{"pod": named}]


def test_discover_finds_the_pod(pod_lab: Lab, tmp_path: Path) -> None:
    """The file that it writes has no question left, is whole for `invoke check`, and says what the lab's own file says."""
    file, options = tmp_path / "site.yaml", ("--master", pod.MASTER, "--ssh-config", str(pod_lab.state / "ssh_config"))
    found = product.invoke("discover", *options, "--out", str(file), "--json", deadline=300)
    assert (found.code, found.summary["questions"]) == (0, 0), found.err
    written, expected = (load(path).controllers for path in (file, pod_lab.state / "hosts.yaml"))
    assert [(host.name, host.pod) for host in written] == [(host.name, host.pod) for host in expected]
    assert load(file).test_job.user == "joe"


def test_the_pod_has_what_the_plugin_needs(pod_lab: Lab) -> None:
    """kubectl, Lua and the account of SlurmUser are in the image, and a container's name is its SlurmctldHost's."""
    assert pod.run(pod_lab, "kubectl version --client -o name 2>&1; lua5.4 -v; id -un slurm").split()[-1] == "slurm"
    assert pod.run(pod_lab, "uname -n; scontrol ping").split("\n")[:2] == [
        "ncn-w001",
        "Slurmctld(primary) at ncn-w001 is UP",
    ]


def test_the_pods_configuration_is_a_config_map_and_the_nodes_have_the_same(pod_lab: Lab) -> None:
    """/etc/slurm is the ConfigMap as a whole, read-only; no difference between its files and the nodes' is seen."""
    files = "cat slurm.conf nodes.conf cgroup.conf"
    assert pod.run(pod_lab, f"cd /etc/slurm && {files}") == ssh.run(pod_lab, "nid000001", f"cd /etc/slurm && {files}")
    with pytest.raises(RuntimeError, match="Read-only file system"):
        pod.run(pod_lab, "touch /etc/slurm/mark")


def test_kubectl_without_a_kubeconfig_is_the_service_account(pod_lab: Lab) -> None:
    """The token of the namespace's service account lies in the pod, and kubectl takes it: it may nothing."""
    with pytest.raises(RuntimeError, match="system:serviceaccount:user:default"):
        pod.run(pod_lab, "kubectl get pods", user="slurm")


def test_a_job_submitted_in_the_pod_runs_on_a_node(pod_lab: Lab) -> None:
    """An ordinary user's sbatch in the pod runs to its end on a compute node."""
    job = pod.run(
        pod_lab, "sbatch --parsable --wait --output=/dev/null", user="joe", feed="#!/bin/sh\nid -un\n"
    ).strip()
    record = pod.run(pod_lab, ENDED.format(job=job), deadline=300)
    assert "JobState=COMPLETED" in record
    assert "BatchHost=nid00000" in record
    assert "UserId=joe(1500)" in record


# For a moment a job that has ended is COMPLETING, until its node is through with it.
ENDED = """timeout 60 sh -c "while scontrol show job {job} | grep -q JobState=COMPLETING; do sleep 0.2; done"
scontrol show job {job}"""


def test_slurmctld_says_everything_to_the_pods_log(pod_lab: Lab) -> None:
    """`kubectl logs` has slurmctld's lines, and there is no file of them."""
    assert "Running as primary controller" in ssh.run(pod_lab, pod.MASTER, f"kubectl logs {pod.POD}")
    assert pod.run(pod_lab, "ls -A /var/log/slurm") == ""


@pytest.mark.matrix
def test_a_held_job_outlives_the_pod(pod_lab: Lab) -> None:
    """slurmctld ends by itself when its pod is to go, and the new pod knows the jobs of the one before."""
    job = pod.run(pod_lab, "sbatch --parsable --hold --output=/dev/null", user="joe", feed="#!/bin/sh\n").strip()
    said = ssh.run(pod_lab, pod.MASTER, FOLLOWED_RESTART, deadline=150)
    assert "Terminate signal SIGTERM received" in said
    assert "Saving all slurm state" in said
    assert pod.run(pod_lab, "squeue --noheader --format='%i %T'") == f"{job} PENDING\n"
    pod.run(pod_lab, f"scancel {job}")


# What the old pod says until it has ended; its log is open before it is told to end.
FOLLOWED_RESTART = f"""pod=$(kubectl --namespace=user get pod --selector=app=slurmctld --output=name)
said=$(mktemp)
kubectl --namespace=user logs --follow "$pod" > "$said" &
until [ -s "$said" ]; do sleep 0.1; done
{pod.RESTART} && wait && cat "$said" """


@pytest.mark.matrix
def test_a_reset_gives_a_pristine_pod(pod_lab: Lab) -> None:
    """What was done to the ConfigMap, the Deployment and Slurm's state is gone after a reset, and jobs are counted anew."""
    touched = 'kubectl -n user patch configmap slurm-conf -p \'{"data": {"mark": "1"}}\''
    ssh.run(pod_lab, pod.MASTER, f"{touched} && kubectl -n user label deployment slurmctld mark=1")
    pod.run(pod_lab, "sbatch --hold --output=/dev/null", user="joe", feed="#!/bin/sh\n")
    lifecycle.reset(pod_lab, announce)
    assert pod.run(pod_lab, "ls /etc/slurm; squeue --noheader").split() == ["cgroup.conf", "nodes.conf", "slurm.conf"]
    assert "mark" not in ssh.run(pod_lab, pod.MASTER, "kubectl -n user get configmap,deployment -o yaml")
    assert pod.run(pod_lab, "sbatch --parsable --output=/dev/null", user="joe", feed="#!/bin/sh\n") == "1\n"
