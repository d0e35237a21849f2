"""Persistent storage on a site with a storage driver: nothing that users stored goes unless it is typed, and what the driver
had configured is there again.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dws_on_csm.stages.dws import closing
from lab.model import Lab
from tests.lab import driver, product, scene
from tests.lab.conftest import On
from tests.lab.scene import MASTER, PRIMARY
from tests.lab.test_undeploy import BURST_BUFFER, SUBMIT, WORKFLOWS, told, undeploy
from tests.lab.test_upgrade import images
from tests.lab.waits import until

pytestmark = [pytest.mark.lab, pytest.mark.matrix, pytest.mark.timeout(1200)]

INSTANCES = f"kubectl get persistentstorageinstances.{driver.GROUP} --all-namespaces --output name"


@pytest.fixture(scope="module")
def site(lab: Lab, on: On, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The site file; DWS is installed, a driver has configured it, and joe has a file system."""
    scene.installed(lab)
    driver.configured(on)
    driver.instance(on, "scratch")
    made = scene.variant(lab, tmp_path_factory.mktemp("new"), {})
    yield made
    scene.installed(lab, made)
    driver.gone(on)


@pytest.fixture(scope="module")
def older(lab: Lab, site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same one, asking for 0.0.19."""
    return scene.variant(lab, tmp_path_factory.mktemp("old"), {"versions": {"dws": "0.0.19"}})


CLAIM = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: rabbit-2-data
  namespace: default
  ownerReferences: [{apiVersion: dataworkflowservices.github.io/v1alpha2, kind: Storage, name: rabbit-2, uid: UID}]
spec: {accessModes: [ReadWriteOnce], storageClassName: none, resources: {requests: {storage: 1Mi}}}
"""


def test_yes_takes_no_storage_along(site: Path, older: Path, on: On) -> None:
    """Neither an undeploy nor another version: refused by name, owner and size, and nothing is touched."""
    for refused in (undeploy(site, "--yes"), product.install(older, "--yes"), undeploy(site, "--yes", "--plan")):
        assert refused.code == 3, refused.err
        assert refused.findings() == {"storage-persistent", "storage-not-agreed"}
        words = " ".join(told(refused))
        assert "PersistentStorageInstance default/scratch: lustre file system" in words
        assert "with Servers default/scratch, on Storage rabbit-1, of user 1500, 2 GiB" in words
        assert "--delete-persistent-storage=default/scratch" in " ".join(told(refused).values())
        assert refused.having("changed") == set()
    assert images(on, "0.0.20") and "scratch" in on(MASTER, INSTANCES)


def test_another_version_deletes_the_named_storage_and_restores_the_rest(older: Path, on: On) -> None:
    """The driver frees the instance while DWS is there; what it had configured is as it was, and is kept no longer."""
    before = driver.content(on)
    assert len(before) == 4 and "Storage default/rabbit-2" in before
    done = product.install(older, "--yes", "--delete-persistent-storage=scratch")
    assert done.code == 0, done.err
    assert images(on, "0.0.19") and on(MASTER, INSTANCES) == ""
    assert {f"replace.storage@{MASTER}", f"deploy.kept@{MASTER}", f"deploy.saved@{MASTER}"} <= done.having("changed")
    assert driver.content(on) == before
    assert product.install(older).having("changed") == set()


def test_an_undeploy_saves_the_configuration(site: Path, older: Path, on: On) -> None:
    """It says where, and how it comes back; nothing of ours is left in the cluster."""
    before = driver.content(on)
    done = undeploy(older, "--yes")
    assert done.code == 0, done.err
    (kept,) = (one for one in done.steps if product.named(one) == f"undeploy.kept@{MASTER}")
    assert "Storage default/rabbit-2" in kept["note"]
    command = kept["note"].partition("`")[2].partition("`")[0]
    assert on(MASTER, f"stat -c %a:%U {command.split()[-1]}").strip() == "600:root"
    assert closing.NAME not in on(MASTER, "kubectl get validatingwebhookconfigurations --output name")
    assert product.install(site, "--yes").code == 0
    assert driver.content(on) == {}
    on(MASTER, command)
    assert driver.content(on) == before


def test_a_dws_that_was_left_closed_refuses_jobs_with_words_until_an_install(site: Path, on: On) -> None:
    """As after a master that went down in the middle of an undeploy."""
    on(MASTER, "kubectl apply --filename -", feed=json.dumps(closing.CONFIGURATION))
    said = on(PRIMARY, f"{SUBMIT} 2>&1 || true", feed=BURST_BUFFER)
    assert "dws-is-being-removed.submit-again-later" in said
    done = product.install(site)
    assert done.code == 0 and f"deploy.open@{MASTER}" in done.having("changed"), done.err
    job = on(PRIMARY, SUBMIT, feed=BURST_BUFFER).strip()
    # Slurm leaves the Workflow of a job that is cancelled before its storage is set up
    until(on, MASTER, f"kubectl get {WORKFLOWS} bb{job} --output jsonpath={{.status.state}} | grep -q PreRun")
    on(PRIMARY, f"scancel {job}")
    until(on, MASTER, f"! kubectl get {WORKFLOWS} bb{job} 2>/dev/null")


def test_what_a_storage_owns_stops_an_undeploy_until_it_has_no_owner(site: Path, on: On) -> None:
    """A driver's claim: refused by name; after the command of the refusal, as it is shown, the undeploy goes through and the claim
    stays, with all that it stands for.
    """
    uid = on(MASTER, f"kubectl get storages.{driver.GROUP} rabbit-2 --output jsonpath={{.metadata.uid}}").strip()
    on(MASTER, "kubectl create --filename -", feed=CLAIM.replace("UID", uid))
    claim = "kubectl get persistentvolumeclaims rabbit-2-data --output jsonpath={.metadata.uid}/{.metadata.deletionTimestamp}"
    before = on(MASTER, claim)
    refused = undeploy(site, "--yes")
    assert refused.code == 3 and refused.findings() == {"storage-owned"}, refused.err
    (words, fix) = next(iter(told(refused).items()))
    assert "PersistentVolumeClaim default/rabbit-2-data" in words and "Storage default/rabbit-2" in words
    assert on(MASTER, claim) == before and before.endswith("/")
    on(MASTER, fix.split("`")[1])
    done = undeploy(site, "--yes")
    assert done.code == 0, done.err
    assert on(MASTER, claim) == before
    on(MASTER, "kubectl delete persistentvolumeclaims rabbit-2-data")
