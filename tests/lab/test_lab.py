"""The lab itself: what its site is like, that a reset gives it back, that it mends, and that nothing of it is left."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import certmanager_ready, cgroups, cluster, health, keys, lifecycle, machine, network, registry, ssh
from lab.model import Lab, Options
from tests.lab.conftest import On, announce, mark
from tests.lab.waits import until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]
NODES = {"ncn-m001", "ncn-w001", "ncn-w002", "ncn-w003"}


def test_all_nodes_are_ready(on: On) -> None:
    """The master and three workers are Ready, and the master takes no ordinary pods."""
    nodes = json.loads(on("ncn-m001", "kubectl get nodes -o json"))["items"]
    ready = {n["metadata"]["name"] for n in nodes for c in n["status"]["conditions"] if c["type"] == "Ready"}
    tainted = {n["metadata"]["name"] for n in nodes if n["spec"].get("taints")}
    assert (ready, tainted) == (NODES, {"ncn-m001"})


def test_nothing_is_wrong_with_any_host(lab: Lab) -> None:
    """Every host is up, and no unit has failed on any of them."""
    cluster.await_none(lambda: ill(lab), "something is wrong", 60)


def ill(lab: Lab) -> list[health.Health]:
    """The hosts with which something is wrong; on a busy machine that may be so for a moment."""
    return [one for one in health.look(lab) if not one.well]


def test_a_host_that_is_slow_to_answer_is_up(lab: Lab) -> None:
    """A host that does nothing for two seconds, as on a busy machine, is not taken for one that is still booting."""
    groups = cgroups.groups(lab, lab.host("nid000001"))
    cgroups.freeze(groups, on=True)
    thaw = threading.Timer(2, cgroups.freeze, (groups, False))
    thaw.start()
    states = {one.host.name: one.state for one in health.look(lab)}
    thaw.join()
    assert states["nid000001"] == "up"


def test_hosts_have_the_tools_of_the_procedure(on: On) -> None:
    """The master has what the procedure's commands need, a controller what the plugin needs."""
    on("ncn-m001", "which podman git make jq openssl curl kubectl && python3 -c 'import yaml'")
    on("slurmctl1", "which kubectl && env -i /usr/bin/env PATH=/usr/local/bin:/usr/bin kubectl version --client")


def test_controllers_reach_the_api_server(lab: Lab, on: On) -> None:
    """The API server answers a controller with a certificate that names the master by name and by address."""
    authority = on("ncn-m001", "cat /etc/kubernetes/pki/ca.crt")
    for name in ("ncn-m001", lab.host("ncn-m001").address):
        ask = f"curl -sS --max-time 30 --cacert /dev/stdin https://{name}:6443/readyz -o /dev/null -w '%{{http_code}}'"
        assert on("slurmctl2", ask, feed=authority) in ("200", "401", "403")


def test_cert_manager_serves_the_old_api(on: On) -> None:
    """cert-manager admits and converts an Issuer of v1alpha3, the version that DWS's csm overlay asks for."""
    issuer = "apiVersion: cert-manager.io/v1alpha3\nkind: Issuer\nmetadata: {name: x}\nspec: {selfSigned: {}}\n"
    assert "created" in on("ncn-m001", "kubectl apply --dry-run=server -f -", feed=issuer)
    on("ncn-m001", "kubectl -n cert-manager wait --for=condition=Available deploy --all --timeout=100s", deadline=300)


def test_a_lab_is_not_up_before_certificates_are_issued(lab: Lab, on: On) -> None:
    """With cert-manager's controller gone its webhook still admits, but the lab does not count as up; with it, it does."""
    scale = "kubectl -n cert-manager scale deployment cert-manager --replicas"
    gone = "kubectl -n cert-manager wait --for=delete pod --selector=app=cert-manager --timeout=100s"
    on("ncn-m001", f"{scale}=0 && {gone}", deadline=300)
    with pytest.raises(TimeoutError, match="issues no certificate"):
        certmanager_ready.wait(lab, deadline=15)
    on("ncn-m001", f"{scale}=1")
    certmanager_ready.wait(lab)
    left = "kubectl -n default get issuers,certificates,certificaterequests,secrets --output=name"
    assert certmanager_ready.NAME not in on("ncn-m001", left)


def test_cert_managers_kinds_stay_as_they_were_created(pristine_lab: Lab, on: On) -> None:
    """No CRD of cert-manager is changed after it was applied: for a while it would answer nobody, and who asks often waits."""
    shown = "kubectl get crd --output=custom-columns=NAME:.metadata.name,CHANGED:.metadata.generation --no-headers"
    changed = dict(line.split() for line in on("ncn-m001", shown).splitlines() if "cert-manager.io" in line)
    assert changed["certificates.cert-manager.io"] and set(changed.values()) == {"1"}


def test_the_worlds_repositories_can_be_cloned(on: On) -> None:
    """git clones the procedure's own URLs inside the lab, with the lab's certificate trusted."""
    url = "https://github.com/DataWorkflowServices"
    on("ncn-m001", f"cd $(mktemp -d) && git clone -q {url}/dws.git && cd dws && git describe --tags v0.0.20")
    on("slurmctl1", f"cd $(mktemp -d) && git clone -q {url}/dws-slurm-bb-plugin && ls dws-slurm-bb-plugin/src")


def test_gcr_does_not_have_kube_rbac_proxy(on: On) -> None:
    """gcr.io says not found for kube-rbac-proxy, as in the world; quay.io has it."""
    tag = "kube-rbac-proxy:v0.14.1"
    on("ncn-m001", f"podman pull -q quay.io/brancz/{tag}")
    with pytest.raises(RuntimeError, match=r"manifest unknown|not found"):
        on("ncn-m001", f"podman pull -q gcr.io/kubebuilder/{tag}")


def test_an_image_goes_from_the_world_to_a_pod(lab: Lab, on: On) -> None:
    """An image pulled from ghcr.io, pushed to registry.local with the Secret's password, runs in a pod."""
    assert on("ncn-m001", PASSWORD) == keys.password(lab, "registry")
    image = "registry.local/lab/dws:1"
    on("ncn-m001", f"podman pull -q ghcr.io/dataworkflowservices/dws:0.0.20 && podman tag {DWS} {image}")
    with pytest.raises(RuntimeError, match=r"unauthorized|authentication required"):
        on("ncn-m001", f"podman push -q {image}")
    login = f"{PASSWORD} | podman login -u admin --password-stdin registry.local"
    on("ncn-m001", f"{login} && podman push -q {image} && podman logout registry.local")
    on("ncn-m001", f"kubectl run pushed --image={image} --restart=Never --image-pull-policy=Always")
    pulled = "kubectl wait --for=jsonpath='{.status.containerStatuses[0].imageID}' pod/pushed --timeout=100s"
    on("ncn-m001", f"{pulled} && kubectl delete pod pushed --now", deadline=180)


DWS = "ghcr.io/dataworkflowservices/dws:0.0.20"
PASSWORD = "kubectl get secret -n nexus nexus-admin-credential -o go-template='{{.data.password | base64decode}}'"


def test_a_job_without_a_workflow_runs(on: On) -> None:
    """An ordinary user's job runs on a compute node, and both slurmctld answer."""
    until(on, "slurmctl1", "[ $(scontrol ping | grep -c UP) = 2 ]")
    assert on("slurmctl1", "su joe -c 'srun --chdir=/ -p work sh -c \"id -un; hostname\"'").split()[0] == "joe"


def test_sudo_asks_whom_it_should(lab: Lab) -> None:
    """admin's sudo asks nothing, operator's wants the password, joe has none."""
    assert sudo(lab, "admin", "sudo -n id -u") == "0\n"
    password = keys.password(lab, "operator")
    assert sudo(lab, "operator", "sudo -S -p '' id -u", f"{password}\n") == "0\n"
    assert sudo(lab, "operator", "sudo -n id -u") == ""
    assert sudo(lab, "joe", "sudo -n id -u") == ""


def sudo(lab: Lab, user: str, command: str, feed: str = "") -> str:
    """What a command prints that a user runs on a controller."""
    words = ["ssh", "-F", str(lab.state / "ssh_config"), "-l", user, "slurmctl1", command]
    return subprocess.run(words, input=feed, capture_output=True, text=True, timeout=30, check=False).stdout


def test_a_wrong_host_key_is_refused(lab: Lab, tmp_path: Path) -> None:
    """A host whose key is another's than known_hosts says is not talked to."""
    wrong = tmp_path / "known_hosts"
    host = lab.host("slurmctl1")
    wrong.write_text(f"{host.name},{host.address} {keys.host_key(lab, 'slurmctl2')[1]}\n")
    words = ["ssh", "-F", str(lab.state / "ssh_config"), "-o", f"UserKnownHostsFile={wrong}", host.name, "true"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 255
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in done.stderr


@pytest.mark.matrix
def test_a_reset_takes_everything_back(lab: Lab, on: On) -> None:
    """What was done to hosts, registry, cluster, podman and Slurm is gone after a reset, which takes seconds."""
    on("ncn-m001", f"touch /etc/mark && kubectl create namespace mark && podman pull -q {DWS}")
    on("slurmctl2", "touch /etc/slurm/mark /var/lib/slurm/shared/mark && rm /etc/slurm/slurm.conf")
    on("registry.local", "touch /var/lib/docker-registry/mark")
    began = time.monotonic()
    lifecycle.reset(lab, announce)
    assert time.monotonic() - began < 300
    assert "mark" not in on("ncn-m001", "ls /etc; kubectl get namespaces; podman images")
    assert "slurm.conf" in on("slurmctl2", "ls /etc/slurm")
    assert "mark" not in on("slurmctl2", "ls /etc/slurm /var/lib/slurm/shared")
    assert "mark" not in on("registry.local", "ls -A /var/lib/docker-registry")
    assert DWS not in on("ncn-m001", "podman images")


@pytest.fixture(scope="module")
def life() -> Iterator[Lab]:
    """A second lab, beside the first; nothing of it is up yet."""
    made = registry.create("life", Options())
    lifecycle.down(made)
    made = registry.create("life", Options())
    mark(made)
    yield made
    lifecycle.down(made)


@pytest.mark.matrix
def test_an_interrupted_up_is_repaired(lab: Lab, life: Lab) -> None:
    """`lab.up`, killed while hosts were booting, is mended by the next one, beside another lab that goes on."""
    interrupt(life, "booting all hosts")
    cluster.await_none(lambda: not any(machine.running(life, host) for host in life.hosts), "no host boots", 60)
    lifecycle.up(life, announce)
    cluster.await_none(lambda: ill(life), "something is wrong", 60)
    assert life.index != lab.index
    assert ssh.run(lab, "ncn-m001", "hostname") == ssh.run(life, "ncn-m001", "hostname")


@pytest.mark.matrix
def test_an_interrupted_reset_is_repaired(life: Lab) -> None:
    """`lab.reset`, killed half way, is finished by the next `lab.up`."""
    ssh.run(life, "upstream", "touch /etc/mark")
    interrupt(life, "booting all hosts", task="reset")
    lifecycle.up(life, announce)
    assert "mark" not in ssh.run(life, "upstream", "ls /etc")
    cluster.await_none(lambda: ill(life), "something is wrong", 60)


def interrupt(lab: Lab, at: str, task: str = "up") -> None:
    """Runs a task of the lab in a process of its own and kills that when it says `at`."""
    script = (
        f"from lab import lifecycle, registry; "
        f"lifecycle.{task}(registry.existing('{lab.name}'), lambda text: print(text, flush=True))"
    )
    environment = {**os.environ, "PYTHONPATH": str(registry.CHECKOUT)}
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert any(at in line for line in process.stdout)
        process.send_signal(signal.SIGKILL)


@pytest.mark.matrix
def test_a_host_that_died_comes_back_as_it_was(life: Lab) -> None:
    """A host that ended is shown as down; the next `lab.up` boots it with what it had written."""
    ssh.run(life, "nid000001", "touch /root/kept")
    machine.kill(life, life.host("nid000001"))
    states = {one.host.name: one.state for one in health.look(life)}
    assert (states["nid000001"], states["nid000002"]) == ("down", "up")
    lifecycle.up(life, announce)
    assert "kept" in ssh.run(life, "nid000001", "ls /root")


@pytest.mark.matrix
def test_down_leaves_nothing(life: Lab) -> None:
    """After `lab.down` no process, device, namespace, control group, mount or file of the lab is left."""
    assert traces(life)
    lifecycle.down(life)
    assert traces(life) == []
    assert not life.state.exists()


def traces(lab: Lab) -> list[str]:
    """What this machine still knows of a lab."""
    named = [Path("/sys/class/net", lab.tag), *(Path("/run/netns").glob(f"{lab.tag}-*")), Path("/run/netns", lab.tag)]
    groups = [str(group) for host in lab.hosts for group in cgroups.groups(lab, host)]
    mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if f"{lab.state}/" in line]
    # Not deeper: folders of another lab may go while we look.
    nspawn = [str(path) for path in Path("/run/systemd/nspawn").glob(f"*/{lab.tag}-*")]
    networks = [owner for index, owner in network.owners().items() if index == lab.index]
    there = [str(path) for path in named if path.exists()]
    return there + groups + mounts + nspawn + networks + supervisors(lab)


def supervisors(lab: Lab) -> list[str]:
    """The command lines of processes that name the lab's folder."""
    lines = [arguments(path) for path in Path("/proc").glob("[0-9]*/cmdline")]
    return [line for line in lines if re.search(rf"systemd-nspawn .*{re.escape(str(lab.state))}/", line)]


def arguments(cmdline: Path) -> str:
    """What a process was started with; "" where it has ended since it was found."""
    try:
        return cmdline.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
