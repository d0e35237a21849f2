"""Sites with the Kubernetes and cert-manager of other releases of CSM: an install, again, verify, another DWS, undeploy."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import ssh
from lab.model import Lab, Options
from lab.releases import RELEASES
from tests.lab import command, product, scene
from tests.lab.conftest import brought_up
from tests.lab.product import Answer
from tests.lab.scene import MASTER, PRIMARY

pytestmark = [pytest.mark.lab, pytest.mark.matrix, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module", params=[name for name in RELEASES if name])
def csm(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab of its own, as `lab.up --csm-release` makes it, gone when its tests are through."""
    release = request.param
    yield from brought_up(f"csm{release.replace('.', '')}", Options(csm_release=release))


@pytest.fixture(scope="module")
def first(csm: Lab) -> Answer:
    """The install from nothing."""
    return product.install(scene.site_file(csm))


def test_the_lab_has_that_kubernetes(csm: Lab) -> None:
    """The API server, kubectl on the master, and all kubelets."""
    wanted = f"v{csm.options.release.kubernetes}"
    versions = json.loads(ssh.run(csm, MASTER, "kubectl version --output json"))
    kubelets = ssh.run(csm, MASTER, "kubectl get nodes --output jsonpath='{..kubeletVersion}'").split()
    assert {versions["serverVersion"]["gitVersion"], versions["clientVersion"]["gitVersion"], *kubelets} == {wanted}


def test_an_install_is_proven(csm: Lab, first: Answer) -> None:
    """By a test job, whatever cert-manager and Kubernetes there are."""
    assert first.code == 0, first.told
    assert f"verify.job@{PRIMARY}" in first.having("changed")


def test_a_second_install_changes_nothing(csm: Lab, first: Answer) -> None:
    """What the API server filled in is no difference."""
    again = product.install(scene.site_file(csm))
    assert again.code == 0 and {step["outcome"] for step in again.steps} == {"ok"}, again.told


def test_it_can_be_verified(csm: Lab, first: Answer) -> None:
    """Once more, by itself."""
    verified = product.invoke("verify", f"--hosts={scene.site_file(csm)}", "--json", deadline=240)
    assert verified.code == 0, verified.told


def test_the_doctor_finds_nothing(csm: Lab, first: Answer) -> None:
    """Not even in what other versions report differently."""
    looked = command.invoke("doctor", f"--hosts={scene.site_file(csm)}", "--json")
    assert (looked.code, looked.records("finding"), looked.records("unseen")) == (0, [], []), looked.err


def test_a_rotation_is_proven(csm: Lab, first: Answer) -> None:
    """The certificate is signed by that cluster's CA, and accepted by its API server."""
    rotated = product.invoke("certs.rotate", f"--hosts={scene.site_file(csm)}", "--json", deadline=240)
    assert rotated.code == 0, rotated.told


def test_pods_that_no_policy_admits(csm: Lab, first: Answer, tmp_path: Path) -> None:
    """Newer DWS mounts folders of the host, which the lab's PodSecurityPolicy forbids: doctor has the command that allows it."""
    if not csm.options.release.pod_security_policies:
        pytest.skip("this Kubernetes has no PodSecurityPolicies")
    newer = scene.variant(csm, tmp_path, {"versions": {"dws": "0.1.9"}, "deadlines": {"connect": 30, "deploy": 20}})
    refused = product.install(newer, "--yes")
    (failure,) = refused.failures()
    assert refused.code == 1 and refused.having("failed") == {f"deploy.minimum@{MASTER}"}, refused.told
    assert "PodSecurityPolicy: unable to admit pod" in failure["meaning"]
    looked = command.invoke("doctor", f"--hosts={newer}", "--json")
    (cause,) = (at for at in looked.records("finding") if at["follows_from"] is None)
    assert (looked.code, cause["name"]) == (1, "rejected-by-rule"), looked.err
    ssh.run(csm, MASTER, re.findall(r"`([^`]+)`", cause["fix"])[-1])


def test_another_version_and_back(csm: Lab, first: Answer, tmp_path: Path) -> None:
    """DWS is replaced by a newer one, then by the first one."""
    newer = scene.variant(csm, tmp_path, {"versions": {"dws": "0.1.9"}})
    for site in (newer, scene.site_file(csm)):
        replaced = product.install(site, "--yes")
        assert replaced.code == 0 and f"verify.job@{PRIMARY}" in replaced.having("changed"), replaced.told


def test_an_undeploy_leaves_nothing_of_dws(csm: Lab, first: Answer) -> None:
    """What was deployed goes, in the versions that this Kubernetes serves."""
    done = product.invoke("undeploy", f"--hosts={scene.site_file(csm)}", "--json", "--yes", deadline=240)
    assert done.code == 0, done.told
    left = "kubectl get crd,validatingwebhookconfigurations,mutatingwebhookconfigurations --output name | grep -e dws -e dataw"
    assert ssh.run(csm, MASTER, f"{left} || true") == ""
