"""`invoke install` with another version in the site file, older or newer: refused, asked about, done, mended when cut off."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.model import Lab
from tests.lab import product, scene
from tests.lab.conftest import On
from tests.lab.product import Answer, Record, Running
from tests.lab.scene import BACKUP, MASTER, PRIMARY
from tests.lab.test_undeploy import BURST_BUFFER, SUBMIT, WORKFLOWS, told, undeploy_by_hand
from tests.lab.waits import until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]

IMAGES = "kubectl get deployments --namespace dws-system --output jsonpath='{..containers[*].image}'"


def images(on: On, version: str) -> bool:
    """Whether both deployments have this version of DWS, and no other."""
    found = {image for image in on(MASTER, IMAGES).split() if "/dws:" in image}
    return found == {f"registry.local/dws:{version}"}


@pytest.fixture(scope="module")
def site(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site file that asks for 0.0.20."""
    scene.installed(lab)
    return scene.variant(lab, tmp_path_factory.mktemp("new"), {})


@pytest.fixture(scope="module")
def older(lab: Lab, site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same one, asking for 0.0.19."""
    return scene.variant(lab, tmp_path_factory.mktemp("old"), {"versions": {"dws": "0.0.19"}})


@pytest.fixture(scope="module")
def newer(lab: Lab, site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same one, asking for 0.1.9, where the plugin's role comes with DWS and has another name."""
    return scene.variant(lab, tmp_path_factory.mktemp("newer"), {"versions": {"dws": "0.1.9"}})


@pytest.fixture
def held(site: Path, on: On) -> Iterator[str]:
    """The number of a job with a Workflow; it ends, and its Workflow with it."""
    job = on(PRIMARY, SUBMIT, feed=BURST_BUFFER).strip()
    until(on, MASTER, f"kubectl get {WORKFLOWS} bb{job} --output jsonpath={{.status.state}} | grep -q PreRun")
    yield job
    on(PRIMARY, f"scancel {job}")
    until(on, MASTER, f"! kubectl get {WORKFLOWS} bb{job} 2>/dev/null")


def test_another_version_is_refused_while_dws_is_needed(older: Path, held: str, on: On) -> None:
    """The same refusals as an undeploy's, and nothing is touched: not even the other version is cloned."""
    refused = product.install(older, "--yes")
    assert refused.code == 3, refused.err
    assert refused.findings() == {"workflow-live"}
    assert f"job {held} of joe" in " ".join(told(refused))
    assert refused.having("changed") == set() and images(on, "0.0.20")
    assert on(MASTER, "ls /root/dws-on-csm").split().count("dws-0.0.19") == 0


def test_another_version_is_asked_about(older: Path, on: On) -> None:
    """Both versions and what the plugin writes are told; nobody answers here, so nothing is done."""
    asked = product.install(older)
    assert asked.code == 3, asked.err
    assert "DWS 0.0.20 is undeployed, then DWS 0.0.19 is deployed" in asked.err
    assert "writes Workflows of v1alpha2, which DWS 0.0.19 serves" in asked.err
    assert asked.having("changed") == set() and images(on, "0.0.20")


def cut(site: Path, kind: str, step: str, seconds: float) -> None:
    """An install that is killed so many seconds after this event of the step."""

    def reached(record: Record) -> bool:
        return record["event"] == kind and f"{record.get('stage')}.{record.get('step')}" == step

    with Running("install", f"--hosts={site}", "--json", "--yes") as run:
        assert run.until(reached, 200), f"{step} was never reached"
        time.sleep(seconds)
        run.process.send_signal(signal.SIGKILL)
        run.process.wait(20)


def mended(site: Path) -> Answer:
    """The run after it."""
    done = product.install(site, "--yes")
    assert done.code == 0, done.err
    return done


@pytest.mark.matrix
def test_a_downgrade_continues_after_any_interruption(older: Path, on: On) -> None:
    """Killed within `make undeploy`, and while the new one is deployed: the last run ends proven."""
    cut(older, "began", "replace.removed", 1.5)
    cut(older, "began", "deploy.applied", 0.5)
    done = mended(older)
    assert images(on, "0.0.19")
    assert f"verify.job@{PRIMARY}" in done.having("changed") and done.having("failed", "refused", "skipped") == set()
    assert "undeploying" not in on(MASTER, "kubectl get namespace dws-system --output yaml")


@pytest.mark.matrix
def test_an_upgrade_without_the_old_clone_clones_that_tag_again(site: Path, older: Path, on: On) -> None:
    """What is installed is undeployed with its own clone: a plan says that it is missing, the run that it is made."""
    on(MASTER, "rm -rf /root/dws-on-csm/dws-0.0.19")
    plan = product.plan(site)
    clone = next(step for step in plan.steps if (step["stage"], step["step"]) == ("replace", "clone"))
    assert (plan.code, clone["outcome"]) == (4, "would change") and "- at: absent" in clone["diff"]
    done = mended(site)
    assert {f"replace.clone@{MASTER}", f"replace.removed@{MASTER}"} <= done.having("changed")
    assert "its clone is missing: clone dws v0.0.19" in done.err
    assert images(on, "0.0.20")
    assert product.install(site).having("changed") == set()


@pytest.mark.matrix
def test_an_install_repairs_an_undeploy_by_hand_with_a_live_workflow(site: Path, held: str, on: On) -> None:
    """The CRD that would never go is set free, DWS comes back, and a job proves it."""
    undeploy_by_hand(on)
    asked, done = product.install(site), product.install(site, "--yes")
    assert asked.code == 3 and f"Workflow default/bb{held}" in asked.err
    assert done.code == 0, done.err
    assert {f"replace.stuck@{MASTER}", f"deploy.applied@{MASTER}", f"verify.job@{PRIMARY}"} <= done.having("changed")


ROLE = "kubectl get clusterrolebinding slurm-dws-viewer --output jsonpath={.roleRef.name}"


def bound_anew(done: Answer) -> bool:
    """Whether a run made the binding anew, said how long it was not there, and proved it all with a job."""
    (binding,) = (one for one in done.steps if product.named(one) == f"access.binding@{MASTER}")
    told = "ClusterRoleBinding slurm-dws-viewer was recreated: missing for" in binding["note"]
    return told and {f"access.binding@{MASTER}", f"verify.job@{PRIMARY}"} <= done.having("changed")


def test_a_role_of_another_name_takes_the_binding_along(site: Path, newer: Path, on: On) -> None:
    """To 0.1.9, whose role is another one, and back: a binding can't change its role, so it is made anew, and the gap told."""
    forth = mended(newer)
    assert bound_anew(forth) and images(on, "0.1.9"), forth.told
    assert on(MASTER, ROLE) == "dws-workload-manager"
    assert product.install(newer).having("changed") == set()
    back = mended(site)
    assert bound_anew(back) and images(on, "0.0.20"), back.told
    assert on(MASTER, ROLE) == "workload-manager"


@pytest.mark.matrix
def test_a_rollback_of_an_upgrade_puts_the_old_version_back(site: Path, newer: Path, on: On) -> None:
    """Its objects, its role and the binding to it: a job proves that, and the site file of that version finds nothing to do."""
    back = product.invoke("rollback", f"--hosts={site}", "--json", "--yes", deadline=600)
    assert back.code == 0 and f"replace.removed@{MASTER}" in back.having("changed"), back.told
    assert images(on, "0.1.9") and on(MASTER, ROLE) == "dws-workload-manager"
    proof = product.invoke("verify", f"--hosts={newer}", "--json", deadline=200)
    assert proof.code == 0 and f"verify.job@{PRIMARY}" in proof.having("changed"), proof.told
    assert product.install(newer).having("changed") == set()


LUA = "/etc/slurm/burst_buffer.lua"
WRITES = f"sed -n 's/^apiVersion: .*github.io.//p; /changed by dws-on-csm/p' {LUA}"


@pytest.mark.matrix
def test_a_dws_that_does_not_serve_the_plugins_version(newer: Path, lab: Lab, tmp_path: Path, on: On) -> None:
    """To 0.1.17, and back: the plugin's file follows on both controllers while DWS is away, a job proves it, and it becomes the
    plugin's own again."""
    newest = scene.variant(lab, tmp_path, {"versions": {"dws": "0.1.17"}})
    own = on(PRIMARY, f"sha256sum {LUA}")
    asked = product.install(newest)
    assert asked.code == 3 and asked.having("changed") == set() and images(on, "0.1.9")
    assert "burst_buffer.lua is changed to write" in asked.err
    forth = mended(newest)
    assert {f"plugin.lua@{host}" for host in (PRIMARY, BACKUP)} <= forth.having("changed") and images(on, "0.1.17")
    for host in (PRIMARY, BACKUP):
        version, mark = on(host, WRITES).splitlines()
        assert version == "v1alpha7" and "v1alpha2 is now v1alpha7" in mark and "DWS 0.1.17" in mark
    assert product.install(newest).having("changed") == set()
    back = mended(newer)
    assert f"plugin.lua@{PRIMARY}" in back.having("changed") and images(on, "0.1.9")
    assert on(PRIMARY, f"sha256sum {LUA}") == own
