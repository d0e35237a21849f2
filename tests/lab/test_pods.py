"""slurmctld in a pod: installed from nothing, kept right, given new certificates, undeployed and brought back.

Each test begins with what the one before it has left.
"""

import json
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dws_on_csm.config.load import load
from dws_on_csm.model.step import Facts, StepContext
from dws_on_csm.stages.pod import discover as stage
from dws_on_csm.stages.pod import rollout
from lab import ssh
from lab.model import POD_HOSTS, Lab
from tests.lab import command, pod, product, scene, secret, tree
from tests.lab.plugin_calls import GET, KUBECONFIG, KUBECTL
from tests.lab.pod_states import (
    CONFIG,
    LISTED,
    NAME,
    SUBPATHS,
    WHOLE,
    Kubectl,
    as_a_stateful_set,
    delivered,
    mounted,
    owned,
    released_by_helm,
)
from tests.lab.scene import MASTER

pytestmark = [pytest.mark.lab, pytest.mark.matrix, pytest.mark.timeout(1200)]


@pytest.fixture
def site(pod_lab: Lab) -> Path:
    """The site file that the lab has written."""
    return scene.site_file(pod_lab)


@pytest.fixture
def kubectl(pod_lab: Lab) -> Kubectl:
    """kubectl(WORDS) in the pod's namespace, as the admin on the master."""
    return lambda words: ssh.run(pod_lab, MASTER, f"kubectl --namespace=user {words}", deadline=150)


def config(kubectl: Kubectl) -> dict[str, str]:
    data: dict[str, str] = json.loads(kubectl(f"get {CONFIG} --output=json"))["data"]
    return data


def pods(kubectl: Kubectl) -> list[str]:
    return kubectl("get pods --selector=app=slurmctld --output=name").split()


def test_a_plan_says_where_slurmctld_stops_and_changes_nothing(pod_lab: Lab, site: Path, kubectl: Kubectl) -> None:
    """Every rollout is told with what it means, and neither the master nor the cluster is another afterwards."""
    there = pods(kubectl)  # first: kubectl itself keeps what it learns of the API
    objects = tree.settled(pod_lab, MASTER)
    before = tree.files(pod_lab, MASTER), objects
    done = product.invoke("plan", f"--hosts={site}", deadline=300)
    assert done.code == 4, done.err
    assert done.out.count("slurmctld stops while Deployment slurmctld rolls out (Recreate)") >= 2
    assert "secret slurmctld-slurm-dws: slurm-dws.kubeconfig (mode 0444)" in done.out
    assert "+ BurstBufferType=burst_buffer/lua" in done.out
    assert tree.differences(before[0], tree.files(pod_lab, MASTER)) == []
    assert (before[1], there) == (tree.objects(pod_lab), pods(kubectl))


def refused(done: product.Answer) -> list[tuple[str, str, str]]:
    """Name, text and fix of each finding of a run that was refused."""
    assert (done.code, done.having("changed", "failed")) == (3, set()), done.told
    told = [one for one in done.steps if one["outcome"] == "refused"]
    return [(one["command"], one["meaning"], one["fix"]) for step in told for one in step["failures"]]


def test_what_does_not_last_is_refused(pod_lab: Lab, kubectl: Kubectl, tmp_path: Path) -> None:
    """All at once, with the object, the reason, the place to change it; a plan and an install tell it, and touch nothing.

    With a certificate: its Secret has to be mounted, also where somebody else manages the workload.
    """
    site = scene.variant(pod_lab, tmp_path, {"access": {"via": "ca"}})
    mounted(kubectl, SUBPATHS, {"name": "slurm-conf"})
    pod.run(pod_lab, 'rm "$(command -v kubectl)"')
    with released_by_helm(kubectl):
        before = tree.settled(pod_lab, MASTER)
        helm = refused(product.plan(site))
        assert tree.objects(pod_lab) == before
    with delivered(kubectl):
        gitops = refused(product.plan(site))
    with owned(kubectl):
        before = tree.settled(pod_lab, MASTER)
        operator = refused(product.install(site))
        assert tree.objects(pod_lab) == before
    mounted(kubectl, WHOLE, LISTED)
    for told, keepers in (
        (helm, ("Helm", "Helm release slurm")),
        (gitops, ("Argo CD application wlm", "Flux Kustomization site")),
        (operator, ("ConfigMap kube-root-ca.crt",) * 2),
    ):
        assert [name for name, _, _ in told] == ["pod-subpath", "pod-kept", "pod-kept", "kubectl-missing"]
        subpath, workload, config_map, image = told
        assert "/etc/slurm/slurm.conf" in subpath[1] and "template of Deployment user/slurmctld" in subpath[2]
        assert f"Deployment user/slurmctld is managed by {keepers[0]}," in workload[1]
        assert f"ConfigMap user/slurm-conf is managed by {keepers[1]}," in config_map[1]
        assert "burst_buffer.lua" in config_map[2] and "slurmctld-slurm-dws" in config_map[2]
        assert "container slurmctld" in image[2] and "image" in image[2]


def test_an_install_from_nothing_is_proven_by_a_job(pod_lab: Lab, site: Path, kubectl: Kubectl) -> None:
    """ConfigMap, Secret and template have what the plugin needs, whose volume lists its files; a job went through all states."""
    seen = scene.watched(pod_lab, lambda: needles(pod_lab))
    done = seen.answer
    assert done.code == 0, done.told
    no_secret_is_where_it_does_not_belong(pod_lab, kubectl, seen)
    assert {
        "pod.mount@slurmctld",
        "access.kubeconfig@slurmctld",
        "slurm.conf@slurmctld",
        "verify.job@slurmctld",
    } <= done.having("changed")
    assert "BurstBufferType=burst_buffer/lua" in config(kubectl)["slurm.conf"]
    assert pod.run(pod_lab, f"{KUBECTL} {KUBECONFIG} {GET} 2>&1") == ""
    with pytest.raises(RuntimeError, match="Read-only file system"):
        pod.run(pod_lab, "touch /etc/slurm/burst_buffer.lua")


def needles(lab: Lab) -> secret.Needles:
    """The secrets of this site."""
    return secret.of(lab, {"the pod": pod.run(lab, f"cat {secret.KUBECONFIG}")})


OBJECTS = "configmaps,pods,deployments,replicasets,statefulsets,daemonsets,controllerrevisions,events"


def no_secret_is_where_it_does_not_belong(lab: Lab, kubectl: Kubectl, seen: scene.Cold) -> None:
    """In no program, file, journal, output, object or log; but in etcd, and in the memory that is the pod's volume."""
    assert seen.leaks == ()
    told = {"objects": kubectl(f"get {OBJECTS} --all-namespaces --output=json")}
    told["slurmctld's log"] = kubectl(f"logs deployment/{NAME}")
    assert secret.within(needles(lab), {where: text.encode() for where, text in told.items()}) == []
    paths = {path.partition(":")[2] for path in seen.kept if path.startswith(f"{POD_HOSTS[0]}:")}
    assert {path.rpartition("/")[2] for path in paths} == {"slurm-dws.kubeconfig"}
    kinds = ssh.run(lab, POD_HOSTS[0], f"stat --file-system --format=%T {shlex.join(paths)}").split()
    assert set(kinds) == {"tmpfs"}
    assert any(path.startswith(f"{MASTER}:/var/lib/etcd/") for path in seen.kept)
    assert {path.partition(":")[0] for path in seen.kept} == {MASTER, POD_HOSTS[0]}


def test_again_nothing_changes(site: Path, kubectl: Kubectl) -> None:
    """No other pod, no other object; one exec in the pod."""
    before = pods(kubectl)
    done = product.install(site)
    assert (done.code, done.having("changed", "failed")) == (0, set()), done.told
    assert pods(kubectl) == before
    assert product.plan(site).code == 0


def test_a_new_pod_needs_nothing_but_a_proof(site: Path, kubectl: Kubectl) -> None:
    """What was installed outlives the pod: nothing was copied into it."""
    kubectl("delete pod --selector=app=slurmctld")
    kubectl(f"rollout status deployment/{NAME} --timeout=120s")
    done = product.install(site)
    assert (done.code, done.having("changed")) == (0, {"verify.job@slurmctld"}), done.told


def test_exactly_the_edited_parts_are_corrected(pod_lab: Lab, site: Path, kubectl: Kubectl) -> None:
    """A key of the ConfigMap that somebody removed comes back, in the pod that is there."""
    before = pods(kubectl)
    kubectl(f"""patch {CONFIG} --type=merge --patch '{{"data": {{"burst_buffer.lua": null}}}}'""")
    kubectl("annotate pod --selector=app=slurmctld look=now")  # or else the kubelet may take a minute to show it
    gone = "timeout 90 sh -c 'while [ -e /etc/slurm/burst_buffer.lua ]; do sleep 0.2; done'"
    pod.run(pod_lab, gone, deadline=300)
    done = product.install(site)
    assert done.code == 0, done.told
    assert done.having("changed") == {"plugin.lua@slurmctld", "verify.job@slurmctld"}
    assert pods(kubectl) == before


def test_the_certificate_outranks_a_token_beside_it(pod_lab: Lab, site: Path) -> None:
    """With both, as the plugin calls kubectl in a pod, the API server takes the certificate; the doctor tells of the token."""
    token = "$(cat /var/run/secrets/kubernetes.io/serviceaccount/token)"
    assert "slurm-dws" in pod.run(pod_lab, f'{KUBECTL} {KUBECONFIG} --token="{token}" auth whoami 2>&1')
    with pytest.raises(RuntimeError, match="system:serviceaccount:user:default"):
        pod.run(
            pod_lab,
            f'kubectl --server="$(sed -n "s/^ *server: //p" {KUBECONFIG})" --insecure-skip-tls-verify --token="{token}" {GET}',
        )
    findings = {one["name"]: one for one in command.invoke("doctor", f"--hosts={site}", "--json").records("finding")}
    assert set(findings) == {"token-beside-certificate", "kubeconfig-open"}
    assert "automountServiceAccountToken: false" in findings["token-beside-certificate"]["fix"]
    assert "fsGroup: 64030" in findings["kubeconfig-open"]["fix"]


_LOOP = f"""while :; do
    if said=$({KUBECTL} {KUBECONFIG} {GET} 2>&1); then echo ok; else echo "$said"; fi
    read -r -t 1 line || [ $? -gt 128 ] || exit 0
done"""


@contextmanager
def plugin_calls(lab: Lab) -> Iterator[list[str]]:
    """Calls as the plugin makes them, in the pod, one a second at least; what they printed is there when it is over."""
    inside = "kubectl -n user exec -i deployment/slurmctld -- bash -c " + "'" + _LOOP.replace("'", "'\\''") + "'"
    loop = subprocess.Popen(
        ["ssh", "-F", str(lab.state / "ssh_config"), MASTER, inside],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    said: list[str] = []
    try:
        yield said
    finally:
        said += loop.communicate(timeout=60)[0].splitlines()


def test_a_rotation_leaves_no_gap(pod_lab: Lab, site: Path, kubectl: Kubectl) -> None:
    """The plugin goes on calling the API meanwhile; the pod stays, and its slurmctld is current."""
    before, secret = (
        pods(kubectl),
        kubectl("get secret slurmctld-slurm-dws --output=jsonpath={.metadata.resourceVersion}"),
    )
    with plugin_calls(pod_lab) as calls:
        done = product.invoke("certs.rotate", f"--hosts={site}", "--json", deadline=400)
    assert done.code == 0, done.told
    assert set(calls) == {"ok"} and len(calls) > 3
    assert kubectl("get secret slurmctld-slurm-dws --output=jsonpath={.metadata.resourceVersion}") != secret
    assert pods(kubectl) == before
    assert product.plan(site).code == 0


def test_a_rollout_whose_slurmctld_does_not_start_is_put_back(pod_lab: Lab, site: Path, kubectl: Kubectl) -> None:
    """With a slurm.conf that no slurmctld starts with, what was changed comes back, and slurmctld answers."""
    before = config(kubectl)
    place = StepContext(load(site), Facts(), NAME)
    facts = stage.read(_Api(kubectl), load(site).controllers[0].pod)  # type: ignore[arg-type]
    place = StepContext(place.site, Facts({stage.FACT.name: {NAME: facts}}), NAME)
    wrong = before["slurm.conf"] + "NoSuchKey=1\n"
    edit = {
        "object": "configmap/slurm-conf",
        "at": ["data", "slurm.conf"],
        "seen": before["slurm.conf"],
        "value": wrong,
    }
    made = rollout.action(place, "a slurm.conf that does not do", [edit])
    script = f"export KUBECONFIG=/etc/kubernetes/admin.conf\nset -eu\n{made.script}"
    with pytest.raises(RuntimeError, match="all changes were undone; slurmctld responds"):
        ssh.run(pod_lab, MASTER, "sh -s", feed=script, deadline=200)
    assert config(kubectl) == before
    assert "is UP" in pod.run(pod_lab, "scontrol ping")


class _Api:
    """The API by kubectl's raw requests."""

    def __init__(self, kubectl: Kubectl) -> None:
        self.kubectl = kubectl

    def get(self, path: str, **query: str) -> object:
        words = "&".join(f"{key}={value.replace('=', '%3D')}" for key, value in query.items())
        try:
            return json.loads(self.kubectl(f"get --raw '{path}{'?' if words else ''}{words}'"))
        except RuntimeError as error:
            if "(NotFound)" not in str(error):
                raise
            return None


def test_an_undeploy_takes_all_of_it_away(pod_lab: Lab, site: Path, kubectl: Kubectl) -> None:
    """slurm.conf's line goes with a rollout before the plugin's files do; the Secret goes too."""
    done = product.invoke("undeploy", f"--hosts={site}", "--slurm", "--rbac", "--yes", "--json", deadline=300)
    assert done.code == 0, done.told
    assert sorted(config(kubectl)) == ["cgroup.conf", "nodes.conf", "slurm.conf"]
    assert "BurstBufferType" not in config(kubectl)["slurm.conf"]
    assert "slurm-dws" not in kubectl("get secrets --output=name")
    assert "is UP" in pod.run(pod_lab, "scontrol ping")


def test_a_rollback_brings_it_back(site: Path, kubectl: Kubectl) -> None:
    """ConfigMap and template are as before the undeploy, the kubeconfig is a new one, and a job proves it."""
    done = product.invoke("rollback", f"--hosts={site}", "--yes", "--json", deadline=300)
    assert done.code == 0, done.told
    assert "BurstBufferType=burst_buffer/lua" in config(kubectl)["slurm.conf"]
    assert product.invoke("verify", f"--hosts={site}", "--json", deadline=300).code == 0
    again = product.install(site)
    assert (again.code, again.having("changed")) == (0, set()), again.told


def test_a_volume_that_lists_its_files_keeps_the_certificate(pod_lab: Lab, tmp_path: Path) -> None:
    """The kubeconfig that names the pod's token would be a key that does not reach the pod: refused, before anything is changed."""
    by_token = scene.variant(pod_lab, tmp_path, {"access": {"via": "serviceaccount"}})
    assert {name for name, _, _ in refused(product.install(by_token))} == {"account-shared", "account-hidden"}


@pytest.mark.matrix
def test_a_stateful_set_is_rolled_out_too(site: Path, kubectl: Kubectl) -> None:
    """A slurm.conf whose line is gone gets it back in the pod of a StatefulSet, whose slurmctld proves it by a job."""
    text = config(kubectl)["slurm.conf"].replace("BurstBufferType=burst_buffer/lua", "")
    as_a_stateful_set(kubectl, {"slurm.conf": text})
    before = kubectl("get pod slurmctld-0 --output=jsonpath={.metadata.uid}")
    done = product.install(site)
    assert (done.code, done.having("failed")) == (0, set()), done.told
    assert {"slurm.conf@slurmctld", "verify.job@slurmctld"} <= done.having("changed")
    assert kubectl("get pod slurmctld-0 --output=jsonpath={.metadata.uid}") != before
