"""A controller that does not respond and may be down: a run goes on with the other one, and the next run does what is left."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import lifecycle, machine
from lab.model import Lab
from tests.lab import product, scene
from tests.lab.conftest import On, announce
from tests.lab.scene import BACKUP, PRIMARY

pytestmark = [pytest.mark.lab, pytest.mark.matrix, pytest.mark.timeout(1200)]
CONF = "/etc/slurm/burst_buffer.conf"


@pytest.fixture
def site(lab: Lab, tmp_path: Path) -> Iterator[Path]:
    """An installed site, one of whose two controllers may be down; whatever is down comes back."""
    spares = scene.variant(lab, tmp_path, {"controllers": [{"host": "slurmctl[1-2]", "may_be_down": 1}]})
    scene.installed(lab, spares)
    yield spares
    lifecycle.up(lab, announce)


def test_the_primary_is_down(lab: Lab, site: Path, on: On) -> None:
    """The backup gets what it lacks, and follows the test job; then a run with both finds the primary as it was left."""
    scene.everywhere(lab, f"echo '# edited' >>{CONF}", PRIMARY, BACKUP)
    machine.kill(lab, lab.host(PRIMARY))
    strict = product.install(scene.site_file(lab), "--yes")
    assert strict.code == 1 and not strict.having("changed"), strict.told
    removal = product.invoke("undeploy", f"--hosts={site}", "--json", "--slurm", "--yes", deadline=300)
    assert removal.code == 3 and "controllers-left-out" in removal.findings(), removal.told
    done = product.install(site, "--yes")
    assert done.code == 6 and f"{PRIMARY} did not respond" in done.told, done.told
    assert done.having("changed") == {f"plugin.conf@{BACKUP}", f"slurm.daemon@{BACKUP}", f"verify.job@{BACKUP}"}
    lifecycle.up(lab, announce)
    assert "edited" in on(PRIMARY, f"cat {CONF}")
    left = product.install(site, "--yes")
    assert left.code == 0 and f"plugin.conf@{PRIMARY}" in left.having("changed"), left.told
    assert not {step for step in left.having("changed") if step.endswith(BACKUP)}
