"""`invoke discover` finds what the lab's own site file says, and leaves every host and the cluster as they were."""

from pathlib import Path

import pytest

from dws_on_csm.config.load import load
from lab.model import Lab
from tests.lab import product, scene, tree
from tests.lab.scene import MASTER

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]


def test_a_site_with_slurm_on_hosts(lab: Lab, tmp_path: Path) -> None:
    """The file that it writes has the lab's hosts and nodes, one question, and no difference to the lab's own file."""
    scene.pristine(lab)
    objects = tree.settled(lab)
    before = tree.files(lab), objects
    file, options = tmp_path / "site.yaml", ("--master", MASTER, "--ssh-config", str(lab.state / "ssh_config"))
    found = product.invoke("discover", *options, "--out", str(file), "--json", deadline=300)
    assert (found.code, found.summary["questions"]) == (0, 1), found.err
    compared = product.invoke("discover", *options, "--diff", str(scene.site_file(lab)), "--json", deadline=300)
    assert (compared.code, compared.summary["diff"]) == (0, [])
    assert [*tree.differences(before[0], tree.files(lab)), *tree.differences(before[1], tree.objects(lab))] == []
    assert [host.name for host in load(file).hosts()] == [host.name for host in load(scene.site_file(lab)).hosts()]
