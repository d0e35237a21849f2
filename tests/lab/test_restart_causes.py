"""What would keep slurmctld from starting, on a real site: it is named, slurmctld is not stopped for it, and its fix is typed."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.model import Lab
from tests.lab import command, product, scene, waits
from tests.lab.conftest import On
from tests.lab.scene import PRIMARY

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]
CONF, STATE = "/etc/slurm/slurm.conf", "/var/lib/slurm/shared"


@dataclass(frozen=True)
class Cause:
    """What is broken on the primary while slurmctld runs on; the finding, and what follows from it; the commands of its fix that
    are typed, of which `first` is typed before where the fix says in words what to correct."""

    name: str
    breaks: str
    followers: tuple[str, ...] = ()
    first: str = ""


CAUSES = (
    Cause(
        "slurm-conf-unparsable",
        f"echo 'SchedulerTyp=sched/backfill' >>{CONF}",
        ("slurmctld-not-answering",),
        f"sed -i /SchedulerTyp=/d {CONF}",
    ),
    Cause("munge-down", "systemctl stop munge", ("slurmctld-not-answering",)),
    Cause("state-folder-unusable", f"chown root {STATE} && chmod 755 {STATE}"),
)


# Without munge slurmctld hears nothing of its nodes, and those that it has taken for down it asks no more: ping_nodes() in Slurm's
# slurmctld/ping_nodes.c passes them by until somebody returns them.
NODES_RETURN = """down=$(sinfo --noheader --Node --states=down --format=%N | paste -s -d, -)
[ -z "$down" ] || scontrol update NodeName="$down" State=RESUME
said=$(sinfo --noheader --format=%t | sort -u); echo "$said"; [ "$said" = idle ]"""


@pytest.fixture(scope="module")
def site(lab: Lab, on: On) -> Iterator[Path]:
    """An installed site, whose nodes take jobs again afterwards."""
    path = lab.state / "hosts.yaml"
    scene.installed(lab, path)
    yield path
    waits.until(on, PRIMARY, NODES_RETURN, 180)


def findings(site: Path) -> dict[str, dict[str, str]]:
    """The doctor's findings about the primary, by name."""
    said = command.invoke("doctor", f"--hosts={site}", "--json", deadline=250)
    return {one["name"]: one for one in said.records("finding") if one["host"] == PRIMARY}


def process(on: On) -> str:
    """The number of slurmctld's process, and slurm.conf's checksum."""
    return on(PRIMARY, f"systemctl show -p MainPID --value slurmctld; sha256sum {CONF}")


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.name)
def test_slurmctld_runs_on_until_the_cause_is_fixed(site: Path, on: On, cause: Cause) -> None:
    """The cause is named with a fix, `repair slurm` is no fix of what follows, an install changes nothing; then all is well."""
    on(PRIMARY, cause.breaks)
    before = process(on)
    found = findings(site)
    assert {cause.name, *cause.followers} <= found.keys(), found
    for name in cause.followers:
        assert "repair slurm" not in found[name]["fix"] and f"first fix {cause.name}" in found[name]["fix"]
    for answer in (product.plan(site), product.install(site, "--yes")):
        assert answer.code == 3 and cause.name in str(answer.findings()), answer
    assert process(on) == before
    on(PRIMARY, cause.first or ":")
    for typed in re.findall(r"`([^`]+)`", found[cause.name]["fix"]):
        on(PRIMARY, typed)
    assert cause.name not in (after := findings(site)) and not after.keys() & set(cause.followers), after
    assert process(on).split()[0] == before.split()[0]
