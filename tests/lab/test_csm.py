"""Slurm as CSM ships it: a Job generates the pods' files from templates. Installed, and kept right.

Each test begins with what the one before it has left.
"""

import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from lab import csm, ssh
from lab.model import Lab, Options
from tests.lab import product, scene
from tests.lab.conftest import brought_up
from tests.lab.product import Record, Running
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


def test_the_first_plan_shows_the_lines_to_choose_from(csm_lab: Lab) -> None:
    """The chart names no ServiceAccount: the plan is refused with each way out, and names no pod of this Slurm as a stranger."""
    refused = product.plan(scene.site_file(csm_lab))
    assert refused.code == 3 and refused.findings() == {"account-shared"}, refused.err
    for words in ("now no other pod", "create serviceaccount slurmctld", "patch deployment slurmctld-backup --patch"):
        assert words in refused.err, words


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


# --- what others change, and runs that are killed


def without_line(text: str) -> str:
    """slurm.conf, or its template, without the burst buffer."""
    return "".join(line for line in text.splitlines(keepends=True) if line.strip() != LINE)


Drift = tuple[str, str, str, frozenset[str]]
"""What happened, the ConfigMap, its key, and the steps that correct it."""

DRIFT: tuple[Drift, ...] = (
    ("a file left the templates", TEMPLATES, "burst_buffer.lua", frozenset({"plugin.templates"})),
    ("a file left what the Job rendered", RESULT, "burst_buffer.conf", frozenset({"plugin.templates"})),
    ("the line left the template alone", TEMPLATES, "slurm.conf", frozenset({"plugin.templates"})),
    ("the kubeconfig left the templates", TEMPLATES, "slurm-dws.kubeconfig", frozenset({"access.templates"})),
    ("the kubeconfig left what the Job rendered", RESULT, "slurm-dws.kubeconfig", frozenset({"access.templates"})),
)


@pytest.mark.matrix
@pytest.mark.parametrize("drift", DRIFT, ids=lambda drift: drift[0])
def test_drift(site: Path, kubectl: Kubectl, drift: Drift) -> None:
    """Just the step of what was changed corrects it, without a restart, and a plan finds nothing more."""
    _, which, key, steps = drift
    before, texts = pods(kubectl), (data(kubectl, TEMPLATES), data(kubectl, RESULT))
    patch(kubectl, which, {key: without_line(data(kubectl, which)[key]) if key == "slurm.conf" else None})
    done = product.install(site)
    assert done.code == 0, done.told
    assert {step.partition("@")[0] for step in done.having("changed")} - {"verify.job"} >= steps, done.told
    assert (data(kubectl, TEMPLATES), data(kubectl, RESULT)) == texts
    assert pods(kubectl) == before
    assert product.plan(site).code == 0


Moment = tuple[str, str, float, frozenset[str]]
"""Kind of event, step, seconds after it, and the keys that are removed beforehand, so that a run comes to it."""

LUA = frozenset({"burst_buffer.lua"})
MOMENTS: tuple[Moment, ...] = (
    ("began", "plugin.templates", 0.0, LUA),
    ("began", "plugin.templates", 1.0, LUA),
)


def remove_keys(kubectl: Kubectl, keys: frozenset[str]) -> None:
    """Remove these files from the templates and from the result."""
    for which in (TEMPLATES, RESULT):
        patch(kubectl, which, dict.fromkeys(keys))


@pytest.mark.matrix
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: f"{moment[0]} {moment[1]} +{moment[2]}")
def test_killed(csm_lab: Lab, site: Path, kubectl: Kubectl, moment: Moment) -> None:
    """The next run converges, whatever the killed one had begun; what it began on the master goes on there."""
    kind, step, seconds, keys = moment
    remove_keys(kubectl, keys)

    def this(record: Record) -> bool:
        return record["event"] == kind and f"{record.get('stage')}.{record.get('step')}" == step

    with Running("install", f"--hosts={site}", "--json", "--yes") as run:
        assert run.until(this), run.end(10).told
        time.sleep(seconds)  # the moment itself
        run.process.kill()
        assert run.process.wait() == -signal.SIGKILL, run.end(10).told
    done = product.install(site, "--yes")
    assert done.code == 0, done.told
    planned = product.plan(site)
    assert (planned.code, {step["outcome"] for step in planned.steps}) == (0, {"ok"}), planned.told
    for which in (TEMPLATES, RESULT):
        assert (
            data(kubectl, which)["slurm.conf"].splitlines().count(LINE) == 1
            and {*PLUGIN} <= data(kubectl, which).keys()
        )
    assert ssh.run(csm_lab, MASTER, "ls /var/lib/dws-on-csm | grep -e ^lock -e '^job[.]' || true") == ""
