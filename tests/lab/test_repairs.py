"""`fab -H HOST look | repair`: one host is seen and put right, by the engine of an install, and no other is touched."""

import json
from pathlib import Path

import pytest

from lab.model import Lab
from tests.lab import command, scene, tree
from tests.lab.conftest import On
from tests.lab.scene import BACKUP, MASTER, PRIMARY

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]

KUBECONFIG, LUA, CONF = (
    f"/etc/slurm/{name}" for name in ("slurm-dws.kubeconfig", "burst_buffer.lua", "burst_buffer.conf")
)


@pytest.fixture(scope="module")
def site(lab: Lab) -> Path:
    """The site file of a site with everything as it should be."""
    scene.installed(lab)
    return scene.site_file(lab)


def outcomes(said: command.Said) -> dict[str, str]:
    """ "STAGE.STEP" -> its outcome."""
    return {f"{one['stage']}.{one['step']}": one["outcome"] for one in said.records("step")}


def look(host: str, site: Path) -> command.Said:
    return command.fab(host, "look", "--site", str(site), "--json")


def repair(host: str, site: Path, what: str) -> command.Said:
    return command.fab(host, "repair", what, "--site", str(site), "--json")


def test_a_look_shows_the_state_and_changes_nothing(lab: Lab, site: Path) -> None:
    """Every step of this host with what was found; exit code 0 where all of it is right."""
    before = tree.files(lab, PRIMARY)
    said = look(PRIMARY, site)
    assert (said.code, set(outcomes(said).values())) == (0, {"ok"}), said.out + said.err
    found = {f"{one['stage']}.{one['step']}": one["found"] for one in said.records("step")}
    assert found["access.kubeconfig"]["owner"] == "SlurmUser"
    assert found["preflight.controller"]["version"] == "24.11.5"
    assert tree.differences(before, tree.files(lab, PRIMARY)) == []
    assert "deploy.applied" in outcomes(look(MASTER, site)) and "deploy.applied" not in outcomes(said)


def test_a_repair_corrects_its_step_and_nothing_else(lab: Lab, on: On, site: Path) -> None:
    """`repair plugin.lua` mends that file; the next step, and the other controller, are as wrong as before."""
    scene.everywhere(lab, f"echo '-- edited' >>{LUA}", PRIMARY, BACKUP)
    on(PRIMARY, f"echo '# edited' >>{CONF}")
    before = tree.files(lab, BACKUP)
    said = repair(PRIMARY, site, "plugin.lua")
    assert (said.code, outcomes(said)["plugin.lua"]) == (0, "changed"), said.err
    assert not {"plugin.conf", "slurm.daemon", "verify.job"} & set(outcomes(said))
    assert "edited" not in on(PRIMARY, f"cat {LUA}")
    assert "edited" in on(PRIMARY, f"cat {CONF}")
    assert tree.differences(before, tree.files(lab, BACKUP)) == []
    wrong = {key for key, one in outcomes(look(PRIMARY, site)).items() if one == "would change"}
    assert wrong == {"plugin.conf", "slurm.daemon", "verify.job"}
    assert repair(BACKUP, site, "plugin.lua").code == 0


def test_a_stage_whose_needs_are_not_right_is_refused(on: On, site: Path) -> None:
    """slurmctld isn't started again with settings that are wrong; what to do first is said, and then it goes."""
    on(PRIMARY, f"rm {CONF}")
    refused = repair(PRIMARY, site, "slurm")
    assert refused.code == 3
    (needs,) = [one for one in refused.records("step") if one["outcome"] == "refused"]
    assert f"fab -H {PRIMARY} repair plugin" in json.dumps(needs["failures"])
    assert [repair(PRIMARY, site, what).code for what in ("plugin", "slurm", "verify")] == [0, 0, 0]
    assert set(outcomes(look(PRIMARY, site)).values()) == {"ok"}


def test_a_new_kubeconfig_on_one_host(on: On, site: Path) -> None:
    """The master signs for one controller; the other keeps its key."""
    keys = {host: on(host, f"sha256sum {KUBECONFIG}") for host in (PRIMARY, BACKUP)}
    on(PRIMARY, f"rm {KUBECONFIG}")
    assert repair(PRIMARY, site, "access").code == 0
    assert {host: on(host, f"sha256sum {KUBECONFIG}") == key for host, key in keys.items()} == {
        PRIMARY: False,
        BACKUP: True,
    }


@pytest.mark.parametrize(
    ("host", "words", "said"),
    [
        ("nid999999", ["look"], "not a host of"),
        (f"joe@{PRIMARY}", ["look"], "without a user or port"),
        (f"{PRIMARY},{BACKUP}", ["repair", "plugin"], "Name one host at a time"),
        ("nid000001", ["logs"], f"Choose among the controllers and the master: {PRIMARY}, {BACKUP}, {MASTER}"),
        (PRIMARY, ["logs", "--job", "bb12"], "expected a job number"),
        (PRIMARY, ["repair", "plugins"], "did you mean plugin?"),
        (PRIMARY, ["repair", "deploy"], f"it runs on {MASTER}"),
    ],
)
def test_unknown_stages_and_hosts_are_refused_before_any_connection(
    host: str, words: list[str], said: str, site: Path
) -> None:
    """A host that the site file lacks, a user, a stage that isn't one, or isn't done there."""
    done = command.fab(host, *words, "--site", str(site))
    assert (done.code, said in done.err) == (2, True), done.err
