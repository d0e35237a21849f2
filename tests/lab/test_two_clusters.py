"""Two Slurm clusters on one DWS, each with a site file of its own: neither undoes anything of the other's."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dws_on_csm.domain import names
from lab import access, lifecycle, machine
from lab.model import Lab
from tests.lab import product, scene
from tests.lab.conftest import On, announce
from tests.lab.product import Answer
from tests.lab.scene import MASTER

pytestmark = [pytest.mark.lab, pytest.mark.matrix, pytest.mark.timeout(1200)]

SUBJECTS = f"kubectl get clusterrolebinding {names.BINDING} --output jsonpath='{{.subjects[*].name}}'"
SECOND = "slurm2"


def run(command: str, site: Path, *options: str) -> Answer:
    return product.invoke(command, f"--hosts={site}", "--json", *options, deadline=400)


def told(answer: Answer) -> str:
    """All that was told of what went wrong."""
    return "\n".join(f"{failure.get('meaning', '')} {failure.get('fix', '')}" for failure in answer.failures())


@pytest.fixture(scope="module")
def first(lab: Lab) -> Path:
    """The site file of the lab's own Slurm cluster, which is installed."""
    scene.installed(lab)
    return scene.site_file(lab)


@pytest.fixture(scope="module")
def second(lab: Lab, first: Path) -> Iterator[Path]:
    """The site file of a second Slurm cluster, which joins the lab for these tests."""
    both = lifecycle.add_second(lab, announce)
    yield lab.state / access.SECOND
    for host in both.role("slurm"):
        machine.kill(both, host)


@pytest.fixture
def other(second: Path, lab: Lab, tmp_path: Path) -> "Variant":
    return Variant(second, lab, tmp_path)


class Variant:
    """The second site file with other values of `access`."""

    def __init__(self, second: Path, lab: Lab, folder: Path) -> None:
        self._site = yaml.safe_load(second.read_text())
        self._site["ssh"]["config"] = str(lab.state / "ssh_config")
        self._folder = folder

    def __call__(self, **values: str) -> Path:
        path = self._folder / "hosts.yaml"
        path.write_text(yaml.safe_dump({**self._site, "access": {**self._site["access"], **values}}))
        return path


def test_a_second_slurm_cluster_is_set_up_beside_the_first(first: Path, second: Path, on: On) -> None:
    """Its test job proves it; DWS stays as it is, and neither site file has anything to change afterwards."""
    made = run("install", second)
    assert made.code == 0, made.told
    assert {step.partition("@")[2] for step in made.having("changed")} == {MASTER, SECOND}
    assert not any(step.startswith(("deploy.", "replace.", "images.")) for step in made.having("changed"))
    assert sorted(on(MASTER, SUBJECTS).split()) == ["slurm-dws", "slurm-dws-second"]
    for site in (first, second):
        again = product.plan(site)
        assert again.code == 0, again.told


def test_the_first_finds_itself_well(first: Path, second: Path) -> None:
    """The other's name in the binding is no finding, since it is recorded whose it is."""
    seen = product.invoke("doctor", f"--hosts={first}", deadline=300)
    assert seen.code == 0, seen.out


def test_what_they_must_not_share_is_refused(first: Path, other: Variant) -> None:
    """One namespace would mix their Workflows, one name their rights."""
    shared = product.plan(other(namespace="default", common_name="slurm-dws"))
    assert shared.code == 3 and "name-shared" in shared.findings(), shared.err
    shared = product.plan(other(namespace="default"))
    assert shared.code == 3 and shared.findings() == {"namespace-shared"}, shared.err
    assert "Slurm cluster lab" in told(shared)


def test_no_version_of_dws_that_the_others_plugin_cannot_use(lab: Lab, second: Path, tmp_path: Path) -> None:
    """It is refused with the other's name, also with --yes."""
    refused = product.install(scene.variant(lab, tmp_path, {"versions": {"dws": "0.1.17"}}), "--yes")
    assert refused.code == 3 and refused.findings() == {"other-slurm-breaks"}, refused.err
    assert "Slurm cluster second" in told(refused) and not refused.having("changed")


@pytest.mark.matrix
def test_another_version_of_dws_is_asked_about_with_the_others_name(lab: Lab, second: Path, tmp_path: Path) -> None:
    """And with what its plugin writes; nobody answers here, so nothing is done."""
    assert run("install", second).code == 0
    asked = product.install(scene.variant(lab, tmp_path, {"versions": {"dws": "0.1.9"}}))
    assert asked.code == 3 and "Slurm cluster second" in asked.err and "which DWS 0.1.9 serves" in asked.err, asked.err
    assert not asked.having("changed")


def test_dws_stays_while_the_other_uses_it(first: Path, second: Path, on: On) -> None:
    """What one Slurm has can go all the same, and the other works on."""
    kept = run("undeploy", first, "--yes", "--slurm", "--rbac")
    assert kept.code == 3 and kept.findings() == {"dws-shared"}, kept.err
    assert "Slurm cluster second" in told(kept) and "invoke undeploy --keep-dws" in told(kept)
    gone = run("undeploy", second, "--yes", "--keep-dws")
    assert gone.code == 0, gone.told
    assert sorted(on(MASTER, SUBJECTS).split()) == ["slurm-dws"]
    assert on(SECOND, f"ls {names.KUBECONFIG} /etc/slurm/burst_buffer.lua 2>/dev/null || true") == ""
    proven = run("verify", first)
    assert proven.code == 0, proven.told


@pytest.mark.matrix
def test_certificates_and_rollbacks_of_one_leave_the_other(first: Path, second: Path, other: Variant, on: On) -> None:
    """A rotation, a revocation and a rollback of the second; the first has nothing to change, and its jobs run."""
    assert run("install", second).code == 0
    assert run("certs.rotate", second).code == 0
    renamed = other(common_name="slurm-dws-third")
    revoked = run("certs.revoke", renamed, "--yes")
    assert revoked.code == 0, revoked.told
    assert sorted(on(MASTER, SUBJECTS).split()) == ["slurm-dws", "slurm-dws-third"]
    assert product.plan(renamed).code == 0
    own = run("rollback", first)
    assert own.code == 3 and "another Slurm uses this DWS" in own.err, own.err
    for answer in (product.plan(first), run("verify", first)):
        assert answer.code == 0, answer.told
    gone = run("undeploy", renamed, "--yes", "--keep-dws")
    assert gone.code == 0 and sorted(on(MASTER, SUBJECTS).split()) == ["slurm-dws"], gone.told


@pytest.mark.matrix
def test_the_one_that_deployed_dws_may_leave_it_to_the_other(first: Path, second: Path, other: Variant, on: On) -> None:
    """The second works on with the role that the first had brought; the first is set up again beside it."""
    site = other(common_name="slurm-dws-fourth")
    assert run("install", site).code == 0
    gone = run("undeploy", first, "--yes", "--keep-dws")
    assert gone.code == 0, gone.told
    assert sorted(on(MASTER, SUBJECTS).split()) == ["slurm-dws-fourth"]
    for answer in (product.plan(site), run("verify", site), run("install", first), product.plan(site)):
        assert answer.code == 0, answer.told
    assert run("undeploy", site, "--yes", "--keep-dws").code == 0
    assert "dws-shared" not in run("undeploy", first, "--plan", "--slurm", "--rbac").findings()
