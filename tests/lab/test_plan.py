"""`invoke plan` leaves every host and the cluster as they were, whatever their state: over all files and objects."""

import pytest

from lab.model import Lab
from tests.lab import product, scene, tree
from tests.lab.conftest import On
from tests.lab.product import Answer
from tests.lab.scene import MASTER, PRIMARY

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]


def untouched(lab: Lab) -> Answer:
    """A plan, after which every file of every host and every object of the cluster is what it was."""
    objects = tree.settled(lab)
    before = tree.files(lab), objects
    planned = product.plan(scene.site_file(lab))
    assert [*tree.differences(before[0], tree.files(lab)), *tree.differences(before[1], tree.objects(lab))] == []
    return planned


def test_on_an_installed_site(lab: Lab) -> None:
    """A plan where nothing is to be done says so with exit code 0, and writes nothing anywhere."""
    scene.installed(lab)
    planned = untouched(lab)
    assert (planned.code, {step["outcome"] for step in planned.steps}) == (0, {"ok"}), planned.told


def test_on_a_site_with_differences(lab: Lab, on: On) -> None:
    """A plan names exactly what was edited and shows the difference, with exit code 4, and puts nothing right."""
    scene.installed(lab)
    on(PRIMARY, "echo '-- edited' >>/etc/slurm/burst_buffer.lua; chmod 644 /etc/slurm/slurm-dws.kubeconfig")
    on(MASTER, "kubectl delete clusterrolebinding slurm-dws-viewer")
    planned = untouched(lab)
    assert planned.code == 4, planned.told
    assert planned.having("would change") >= {
        f"plugin.lua@{PRIMARY}",
        f"access.kubeconfig@{PRIMARY}",
        f"access.binding@{MASTER}",
    }
    assert {one.partition(".")[0] for one in planned.having("would change")} == {"plugin", "access", "verify"}
    assert "- -- edited" in "\n".join(line for step in planned.steps for line in step.get("diff", ()))


def test_on_a_pristine_site(lab: Lab) -> None:
    """A plan on a site to which nothing was done shows what can be known, with exit code 4, and writes nothing."""
    scene.pristine(lab)
    planned = untouched(lab)
    assert planned.code == 4, planned.told
    assert planned.having("changed", "failed", "refused", "skipped") == set()
    diffs = {product.named(step): step.get("diff", []) for step in planned.steps if step["outcome"] == "would change"}
    assert "+ BurstBufferType=burst_buffer/lua" in diffs[f"slurm.conf@{PRIMARY}"]
    assert f"workarea.clone@{MASTER}" in diffs and f"access.kubeconfig@{PRIMARY}" in diffs


def test_a_plan_says_unknown_where_it_cannot_know(lab: Lab) -> None:
    """What depends on the clone, which isn't there, is "known after workarea" in a plan: neither ok nor made up."""
    scene.pristine(lab)
    planned = product.plan(scene.site_file(lab))
    notes = {product.named(step): step["note"] for step in planned.steps if step["outcome"] == "unknown"}
    assert notes[f"images.pushed@{MASTER}"] == "known after workarea"
    assert notes[f"deploy.applied@{MASTER}"] == "known after workarea"
