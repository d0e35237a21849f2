"""A site that was installed by hand, one command after the other: what is right is adopted, what is wrong is mended, and
from then on it is a site like any other.
"""

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from lab import registry
from lab.model import Lab
from tests.lab import product, scene
from tests.lab.conftest import On
from tests.lab.product import Answer, named
from tests.lab.scene import BACKUP, MASTER, PRIMARY
from tests.lab.test_rollback import files, rollback
from tests.lab.test_undeploy import FILES, LEFT, PODS, undeploy
from tests.lab.waits import until, until_silent

pytestmark = [pytest.mark.lab, pytest.mark.matrix, pytest.mark.timeout(1200)]

BY_HAND = "bench/by_hand.sh"
# What is easily done wrong: SlurmUser can't read the kubeconfig that root copied there, and the second controller has only
# one of the plugin's two files.
MISTAKES = {
    PRIMARY: "chown root:root /etc/slurm/slurm-dws.kubeconfig",
    BACKUP: "rm /etc/slurm/burst_buffer.conf && systemctl restart slurmctld",
}
RIGHT = {
    *(f"deploy.{step}@{MASTER}" for step in ("applied", "minimum", "webhook", "available")),
    *(f"access.{step}@{MASTER}" for step in ("role", "binding")),
    f"access.kubeconfig@{BACKUP}",
    f"plugin.conf@{PRIMARY}",
    *(f"slurm.conf@{host}" for host in (PRIMARY, BACKUP)),
}
MENDED = {
    *(f"workarea.{step}@{MASTER}" for step in ("clone", "kustomize")),
    f"access.kubeconfig@{PRIMARY}",
    f"plugin.conf@{BACKUP}",
    *(f"plugin.lua@{host}" for host in (PRIMARY, BACKUP)),  # its functions for a newer Slurm are not ours
    f"slurm.daemon@{BACKUP}",
    f"verify.job@{PRIMARY}",
}


@pytest.fixture(scope="module")
def before(lab: Lab, on: On) -> str:
    """slurm.conf as it was before anything was installed."""
    scene.pristine(lab)
    return on(PRIMARY, "cat /etc/slurm/slurm.conf")


@pytest.fixture(scope="module")
def by_hand(lab: Lab, before: str, on: On) -> Mapping[str, str]:
    """The files of Slurm on a site that was installed by hand, with its mistakes."""
    command = ["sh", BY_HAND, str(lab.state / "ssh_config"), "joe", "work", PRIMARY, BACKUP]
    done = subprocess.run(command, cwd=registry.CHECKOUT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    for host, mistake in MISTAKES.items():
        on(host, mistake)
    return files(lab)


@pytest.fixture(scope="module")
def adopted(lab: Lab, by_hand: Mapping[str, str]) -> Answer:
    """The first install there."""
    done = product.install(scene.site_file(lab))
    assert done.code == 0, done.told
    return done


@pytest.fixture(scope="module")
def site(lab: Lab, adopted: Answer) -> Path:
    """The site file of the adopted site."""
    return scene.site_file(lab)


def test_correct_parts_are_adopted_and_wrong_ones_corrected(adopted: Answer) -> None:
    """The install asks nothing, says of each step which was which, and a job proves the whole."""
    assert adopted.having("ok") >= RIGHT, RIGHT - adopted.having("ok")
    assert adopted.having("changed") >= MENDED, MENDED - adopted.having("changed")
    assert adopted.having("failed", "refused", "skipped", "unknown") == set()
    told = {named(step): step.get("diff", ()) for step in adopted.steps}
    assert "- owner: root" in told[f"access.kubeconfig@{PRIMARY}"]
    assert not any("certificate" in line for line in told[f"access.kubeconfig@{PRIMARY}"])


def test_a_second_install_changes_nothing_and_verify_proves_it(site: Path) -> None:
    """It is a site like any other."""
    again, proof = product.install(site), product.invoke("verify", f"--hosts={site}", "--json", deadline=200)
    assert (again.code, again.having("changed")) == (0, set()), again.told
    assert proof.code == 0 and f"verify.job@{PRIMARY}" in proof.having("changed"), proof.told


# which versions beside v1 cert-manager's CRDs serve: from 1.6 on none
SERVE = """
for crd in $(kubectl get crd --output name | grep cert-manager.io); do
    kubectl get "$crd" --output json | jq '(.spec.versions[] | select(.name != "v1") | .served) = {served}' | kubectl replace -f -
done
"""
OLD_ONE = "kubectl get --raw /apis/cert-manager.io | grep -q v1alpha3"


@pytest.fixture(scope="module")
def whole(lab: Lab, site: Path) -> Mapping[str, str]:
    """The files of Slurm on the adopted site."""
    return files(lab)


@pytest.fixture
def later_cert_manager(on: On, site: Path) -> Iterator[None]:
    """Since DWS was installed, cert-manager has come to serve v1 alone."""
    on(MASTER, SERVE.format(served="false"))
    until(on, MASTER, f"! {OLD_ONE}")
    yield
    on(MASTER, SERVE.format(served="true"))
    until(on, MASTER, OLD_ONE)


def test_an_installation_by_hand_is_undeployed(
    site: Path, later_cert_manager: None, whole: Mapping[str, str], before: str, on: On
) -> None:
    """Also where the clone is not there any more and cert-manager is another one by now, of which DWS's own overlay asks what
    it doesn't serve: the version that runs is cloned again, and all of it goes.
    """
    on(MASTER, "rm -rf /root/dws-on-csm/dws-0.0.20")
    done = undeploy(site, "--slurm", "--rbac", "--yes")
    assert done.code == 0, done.told
    assert f"workarea.clone@{MASTER}" in done.having("changed")
    assert "csm-v1-0.0.20 | kubectl delete" in done.err
    until_silent(on, MASTER, PODS)
    assert on(MASTER, LEFT) == ""
    for host in (PRIMARY, BACKUP):
        assert on(host, f"ls {FILES} 2>/dev/null || true") == ""
        assert on(host, "cat /etc/slurm/slurm.conf") == before


def test_an_undeploy_of_everything_is_rolled_back(lab: Lab, site: Path, whole: Mapping[str, str]) -> None:
    """DWS, its role, the very kubeconfigs, the plugin and slurm.conf are back: a job proves it, and nothing is left to do."""
    back = rollback(lab, "--yes")
    assert back.code == 0, back.told
    assert files(lab) == whole
    proof = product.invoke("verify", f"--hosts={site}", "--json", deadline=200)
    assert proof.code == 0 and f"verify.job@{PRIMARY}" in proof.having("changed"), proof.told
    assert product.install(site).having("changed") == set()


def test_the_adoption_is_rolled_back(lab: Lab, adopted: Answer, by_hand: Mapping[str, str], on: On) -> None:
    """With all that came after it: DWS stays, as it was there before, and files are as they were made by hand, but for one
    without which jobs would run without their Workflow.
    """
    back = rollback(lab, adopted.summary["run"], "--yes")
    assert back.code == 0, back.told
    assert f"/etc/slurm/burst_buffer.conf on {BACKUP} stays" in back.summary["message"]
    on(BACKUP, "rm /etc/slurm/burst_buffer.conf")
    assert files(lab) == by_hand
    on(MASTER, "kubectl get deployment --namespace dws-system dws-webhook")
