"""A site whose cert-manager serves v1 alone, as on CSM 1.6: DWS's csm overlay asks for a version that nobody serves there."""

from collections.abc import Iterator

import pytest

from lab import ssh
from lab.model import Lab, Options
from tests.lab import product, scene
from tests.lab.conftest import brought_up
from tests.lab.product import Answer
from tests.lab.scene import MASTER, PRIMARY

pytestmark = [pytest.mark.lab, pytest.mark.matrix, pytest.mark.timeout(1200)]

CLONE = "/root/dws-on-csm/dws-0.0.20"
OVERLAY = "/root/dws-on-csm/csm-v1-0.0.20"


@pytest.fixture(scope="module")
def modern() -> Iterator[Lab]:
    """A lab of its own, as `lab.up --no-old-api` makes it, gone when these tests are through."""
    yield from brought_up("v1", Options(old_api=False))


@pytest.fixture(scope="module")
def first(modern: Lab) -> Answer:
    """The install from nothing."""
    return product.install(scene.site_file(modern))


def test_the_lab_serves_v1_alone(modern: Lab) -> None:
    """What the csm overlay asks for is not there."""
    served = ssh.run(modern, MASTER, "kubectl get --raw /apis/cert-manager.io | jq -c '[.versions[].version]'")
    assert served.strip() == '["v1"]'


def test_a_plan_of_an_empty_site_shows_the_overlay(modern: Lab) -> None:
    """Its text, line by line, and where it will lie."""
    planned = product.plan(scene.site_file(modern))
    (step,) = (one for one in planned.steps if one["step"] == "overlay")
    assert (planned.code, step["outcome"]) == (4, "would change"), planned.told
    assert {f"+ path: {OVERLAY}/kustomization.yaml", "+ - ../dws-0.0.20/config/csm"} <= set(step["diff"])


def test_an_install_is_proven_and_leaves_the_clone_alone(modern: Lab, first: Answer) -> None:
    """An overlay of ours beside the clone puts v1 back; nothing else is different from another install."""
    assert first.code == 0, first.told
    assert f"verify.job@{PRIMARY}" in first.having("changed")
    assert ssh.run(modern, MASTER, f"ls {OVERLAY}; git -C {CLONE} status --porcelain").split() == ["kustomization.yaml"]
    secret = "kubectl --namespace dws-system get secret webhook-server-cert --output name"
    assert ssh.run(modern, MASTER, secret).strip() == "secret/webhook-server-cert"


def test_a_second_install_changes_nothing(modern: Lab, first: Answer) -> None:
    """v1 is what is wanted there."""
    again = product.install(scene.site_file(modern))
    assert again.code == 0 and {step["outcome"] for step in again.steps} == {"ok"}, again.told


def test_an_undeploy_takes_all_of_it(modern: Lab, first: Answer) -> None:
    """What was deployed with v1 goes with v1: nothing of DWS is left but its namespace, the role and the binding."""
    done = product.invoke("undeploy", f"--hosts={scene.site_file(modern)}", "--json", "--yes", deadline=240)
    assert done.code == 0, done.told
    left = "kubectl get crd,validatingwebhookconfigurations,mutatingwebhookconfigurations --output name | grep -e dws -e dataw"
    assert ssh.run(modern, MASTER, f"{left} || true") == ""
    of_ours = "kubectl --namespace dws-system get deployments,services,certificates,issuers --output name"
    assert ssh.run(modern, MASTER, of_ours) == ""
