"""Slurm as CSM ships it: a Job generates the pods' files from templates. Installed, and kept right.

Each test begins with what the one before it has left.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from lab import csm, ssh
from lab.model import Lab, Options
from tests.lab import product, scene
from tests.lab.conftest import brought_up
from tests.lab.scene import MASTER

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]

Kubectl = Callable[[str], str]
LINE, PLUGIN = "BurstBufferType=burst_buffer/lua", ("burst_buffer.conf", "burst_buffer.lua")
TEMPLATES = "--namespace=services configmap/slurm-config-templates"
RESULT = "--namespace=user configmap/slurm-conf"
PODS = {"primary": "app=slurmctld", "backup": "app=slurmctld-backup"}


@pytest.fixture(scope="module")
def csm_lab() -> Iterator[Lab]:
    """A site of CSM's chart, pristine at first."""
    yield from brought_up("csm", Options(csm="helm"))


@pytest.fixture(scope="module")
def site(csm_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lab's site file; the account of all pods of the namespace is accepted, since the chart gives slurmctld no other."""
    return scene.variant(csm_lab, tmp_path_factory.mktemp("site"), {"accept": ["account-shared"]})


@pytest.fixture
def kubectl(csm_lab: Lab) -> Kubectl:
    """kubectl(WORDS) as the admin on the master."""
    return lambda words: ssh.run(csm_lab, MASTER, f"kubectl {words}", deadline=150)


def data(kubectl: Kubectl, which: str) -> dict[str, str]:
    """The keys of a ConfigMap and their texts."""
    found: dict[str, str] = json.loads(kubectl(f"get {which} --output=json"))["data"]
    return found


def patch(kubectl: Kubectl, which: str, keys: Mapping[str, str | None]) -> None:
    """Changes keys of a ConfigMap, as a person does; None removes one."""
    kubectl(f"patch {which} --type=merge --patch '{json.dumps({'data': keys})}'")


def pods(kubectl: Kubectl) -> dict[str, tuple[str, str]]:
    """primary and backup -> when its pod was made, and the pod's uid."""
    columns = "custom-columns=A:.metadata.creationTimestamp,B:.metadata.uid"
    found = {
        name: kubectl(f"get pods --namespace=user --selector={label} --no-headers --output={columns}").split()
        for name, label in PODS.items()
    }
    return {name: (made, uid) for name, (made, uid) in found.items()}


def workloads(kubectl: Kubectl) -> dict[str, object]:
    """The pods' templates of slurmctld's Deployments, without what a restart notes there."""
    found = json.loads(kubectl("get deployments --namespace=user --output=json"))["items"]
    templates = {one["metadata"]["name"]: one["spec"]["template"] for one in found}
    for template in templates.values():
        template["metadata"].get("annotations", {}).pop("kubectl.kubernetes.io/restartedAt", None)
        template["metadata"] = {key: value for key, value in template["metadata"].items() if value}
    return templates


def test_an_install_edits_the_templates_and_restarts_the_backup_first(site: Path, kubectl: Kubectl) -> None:
    """Placeholders stay as they are, the Job renders the rest, and nothing of the Deployments is edited."""
    before, deployments = data(kubectl, TEMPLATES), workloads(kubectl)
    done = product.install(site, "--yes")
    assert done.code == 0, done.told
    templates, result = data(kubectl, TEMPLATES), data(kubectl, RESULT)
    assert templates.keys() - before.keys() == {*PLUGIN, "slurm-dws.kubeconfig"}
    assert csm.PLACEHOLDER in templates["slurm.conf"] and csm.PLACEHOLDER not in result["slurm.conf"]
    added = [line for line in templates["slurm.conf"].splitlines() if line not in before["slurm.conf"].splitlines()]
    assert LINE in added and LINE in result["slurm.conf"].splitlines()
    assert {key: text for key, text in templates.items() if key not in ("slurm.conf", *PLUGIN)}.items() >= {
        key: text for key, text in before.items() if key != "slurm.conf"
    }.items()
    assert workloads(kubectl) == deployments
    made = pods(kubectl)
    assert made["backup"][0] < made["primary"][0]
    assert "slurm-dws" not in kubectl("get secrets --namespace=user --output=name")


def test_again_nothing_changes(site: Path, kubectl: Kubectl) -> None:
    """No other pod, no other run of the Job."""
    job = "get job --namespace=services slurm-config --output=jsonpath={.metadata.uid}"
    before = pods(kubectl), kubectl(job)
    done = product.install(site)
    assert (done.code, done.having("changed", "failed")) == (0, set()), done.told
    assert (pods(kubectl), kubectl(job)) == before


def test_what_others_changed_is_corrected_without_a_restart(site: Path, kubectl: Kubectl) -> None:
    """A key that left the templates, and a file that was edited in what the Job has rendered."""
    before, templates = pods(kubectl), data(kubectl, TEMPLATES)
    patch(kubectl, TEMPLATES, {"burst_buffer.conf": None})
    patch(kubectl, RESULT, {"burst_buffer.lua": "-- mine"})
    planned = product.plan(site)
    assert planned.code == 4 and "plugin.templates@slurmctld" in planned.having("would change"), planned.told
    done = product.install(site)
    assert done.code == 0, done.told
    assert data(kubectl, TEMPLATES) == templates
    assert data(kubectl, RESULT)["burst_buffer.lua"] == templates["burst_buffer.lua"]
    assert pods(kubectl) == before
