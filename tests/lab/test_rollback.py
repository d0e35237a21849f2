"""A rollback brings a site back to how it was before a run: files, slurm.conf and the cluster, as far as that may be."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from dws_on_csm.commands.history import journal
from lab import cluster
from lab.model import Lab
from tests.lab import product, scene, tree
from tests.lab.conftest import On
from tests.lab.product import Answer, Record, Running
from tests.lab.scene import BACKUP, MASTER, PRIMARY
from tests.lab.test_undeploy import BURST_BUFFER, SUBMIT, WORKFLOWS
from tests.lab.waits import until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]

CONTROLLERS = (PRIMARY, BACKUP)
SLURM = """cd /etc/slurm; find . -type f -printf '%P %m %u:%g ' -exec sha256sum {} \\; | sort"""
UP = 'scontrol ping | grep -c "at $(uname -n) is UP"'

# What pods and their Deployments come and go with, and what controllers write as time passes.
PASSING = re.compile(
    r"/(pods|endpoints|endpointslices|replicasets|controllerrevisions|configmaps kube-system/extension-)"
)


def rollback(lab: Lab, *options: str) -> Answer:
    """`invoke rollback --hosts=SITE --json`."""
    return product.invoke("rollback", f"--hosts={scene.site_file(lab)}", "--json", *options, deadline=600)


def files(lab: Lab) -> Mapping[str, str]:
    """Controller -> its /etc/slurm: each file's mode, owner and checksum."""
    return scene.everywhere(lab, SLURM, *CONTROLLERS)


def objects(lab: Lab) -> set[str]:
    """The names of all objects of the cluster, but for those that come and go by themselves."""
    return {name for name in tree.objects(lab)["cluster"] if not PASSING.search(name)}


def as_before(lab: Lab, untouched: tuple[Mapping[str, str], set[str]]) -> None:
    """Returns when both are `untouched` again; what went with its owner may take a moment."""
    cluster.await_none(lambda: objects(lab) ^ untouched[1], "the objects are not those from before", 60)
    assert files(lab) == untouched[0]


def runs(lab: Lab, task: str, result: str) -> list[str]:
    """The runs of a task with a result that `invoke journal` lists and that can be rolled back, the oldest first."""
    listed = product.invoke("journal", f"--hosts={scene.site_file(lab)}", "--json", deadline=300).out
    found = [record for record in map(json.loads, listed.splitlines()) if record["can_be_rolled_back"]]
    return [one["run"] for one in found if (one["task"], one["result"]) == (task, result)]


def said(answer: Answer) -> str:
    """All that a run had to say of what stood in its way."""
    return "\n".join(f"{one['command']}: {one['meaning']} {one['fix']}" for one in answer.failures())


def activating(record: Record) -> bool:
    """Whether a run has just begun to change the second controller's slurm.conf."""
    return [record.get(key) for key in ("event", "host", "stage", "step")] == ["began", BACKUP, "slurm", "conf"]


@pytest.fixture(scope="module")
def untouched(lab: Lab) -> tuple[Mapping[str, str], set[str]]:
    """The pristine site's files of Slurm and objects of the cluster."""
    scene.pristine(lab)
    return files(lab), objects(lab)


@pytest.mark.matrix
def test_an_install_that_was_killed(lab: Lab, on: On, untouched: tuple[Mapping[str, str], set[str]]) -> None:
    """What a run had done when it was killed is known on the hosts: a rollback finds and undoes it, and slurmctld answers."""
    with Running("install", f"--hosts={scene.site_file(lab)}", "--json") as run:
        assert run.until(activating), run.end(9).err
        run.process.kill()
        folder = run.folder()
    assert folder
    assert runs(lab, "install", journal.INTERRUPTED) == [folder.name]
    back = rollback(lab, "--yes")
    assert back.code == 0, back.err
    as_before(lab, untouched)
    assert scene.everywhere(lab, UP, *CONTROLLERS) == dict.fromkeys(CONTROLLERS, "1\n")


def test_an_install(lab: Lab, untouched: tuple[Mapping[str, str], set[str]]) -> None:
    """After install and rollback Slurm's files are the same to the byte, and the cluster has the objects that it had."""
    run = scene.installed(lab).summary["run"]
    planned = rollback(lab, "--plan")
    assert planned.code == 4 and {f"slurm.conf@{one}" for one in CONTROLLERS} <= planned.having("would change"), (
        planned.err
    )
    asked = rollback(lab)
    assert asked.code == 3 and "Nothing was removed" in asked.summary["message"], asked.err
    back = rollback(lab, run, "--yes")
    assert back.code == 0, back.err
    as_before(lab, untouched)
    assert "/root/dws-on-csm and the images in registry.local stay" in back.summary["message"]


def test_a_rollback_is_undone(lab: Lab) -> None:
    """A rollback is a run like any other: undone, it leaves an installed site in which nothing is to be done but to prove it."""
    back = rollback(lab, runs(lab, "rollback", "done")[-1], "--yes")
    assert back.code == 0, back.err
    planned = product.plan(scene.site_file(lab))
    assert planned.having("would change", "unknown") <= {f"verify.job@{PRIMARY}"}, planned.err


@pytest.mark.matrix
def test_a_repair(lab: Lab, on: On) -> None:
    """What a run put right is wrong again after its rollback (an open key stays closed); what slurmctld needs to start stays."""
    scene.installed(lab)
    on(PRIMARY, "echo '-- edited' >>/etc/slurm/burst_buffer.lua; chmod 644 /etc/slurm/slurm-dws.kubeconfig")
    on(BACKUP, "rm /etc/slurm/burst_buffer.conf")
    on(MASTER, "kubectl label clusterrole workload-manager mine=yes")
    on(MASTER, """kubectl patch clusterrole workload-manager --type json -p '[{"op": "remove", "path": "/rules/0"}]'""")
    on(MASTER, "kubectl delete clusterrolebinding slurm-dws-viewer")
    role = "kubectl get clusterrole workload-manager -o jsonpath='{.metadata.labels} {.rules}'"
    drifted, rules = files(lab)[PRIMARY], on(MASTER, role)
    scene.installed(lab)
    assert files(lab)[PRIMARY] != drifted and on(MASTER, role) != rules
    back = rollback(lab, "--yes")
    assert back.code == 0, back.err
    closed = drifted.replace(
        "slurm-dws.kubeconfig 644", "slurm-dws.kubeconfig 600"
    )  # no key is readable for others again
    assert closed != drifted
    assert (files(lab)[PRIMARY], on(MASTER, role)) == (closed, rules)
    assert on(MASTER, "kubectl get clusterrolebinding slurm-dws-viewer --ignore-not-found") == ""
    assert f"/etc/slurm/burst_buffer.conf on {BACKUP} stays" in back.summary["message"]
    assert on(BACKUP, "ls /etc/slurm/burst_buffer.conf")


def test_later_changes_stop_a_rollback(lab: Lab, on: On, untouched: tuple[Mapping[str, str], set[str]]) -> None:
    """A file and an object that somebody changed after the run, a Workflow and a job that need DWS: each is named at once,
    and nothing is touched.
    """
    scene.installed(lab)
    on(PRIMARY, "echo '# a node was added' >>/etc/slurm/slurm.conf")
    on(MASTER, "kubectl label clusterrole workload-manager since=yes")
    job = on(PRIMARY, f"{SUBMIT} --hold", feed=BURST_BUFFER).strip()
    until(on, MASTER, f"kubectl get {WORKFLOWS} bb{job}")
    first, before = runs(lab, "install", "done")[0], files(lab)
    back = rollback(lab, first, "--yes")
    assert back.code == 3, back.told
    assert back.findings() >= {"file-changed", "object-changed", "workflow-live"}
    told = said(back)
    assert f"/etc/slurm/slurm.conf on {PRIMARY} was modified after run {first}" in told
    assert f"clusterroles/workload-manager was modified after run {first}" in told
    assert f"Workflow default/bb{job}" in told and f"job {job} of joe, PENDING" in told
    assert (files(lab), back.having("changed")) == (before, set())


def test_it_continues_after_later_changes_are_resolved_and_after_a_kill(
    lab: Lab, on: On, untouched: tuple[Mapping[str, str], set[str]]
) -> None:
    """The first install is undone, with all that came after it, by a rollback that is killed midway and one that goes on."""
    on(PRIMARY, "sed -i '$d' /etc/slurm/slurm.conf; scancel --user joe")
    on(MASTER, "kubectl label clusterrole workload-manager since-")
    on(MASTER, f"kubectl delete {WORKFLOWS} --all-namespaces --all --wait", deadline=300)
    until(on, PRIMARY, "! squeue --noheader --user joe | grep -q .")
    first = runs(lab, "install", "done")[0]
    with Running("rollback", first, f"--hosts={scene.site_file(lab)}", "--json", "--yes") as run:
        assert run.until(activating), run.end(9).err
        run.process.kill()
    back = rollback(lab, first, "--yes")
    assert back.code == 0, back.told
    as_before(lab, untouched)
    assert scene.everywhere(lab, UP, *CONTROLLERS) == dict.fromkeys(CONTROLLERS, "1\n")


def deployed(record: Record) -> bool:
    """Whether a run has just deployed DWS."""
    return [record.get(key) for key in ("event", "stage", "step")] == ["done", "deploy", "applied"]


# What comes anew, under a name of its own, with DWS's Services and certificates.
WITH_DWS = re.compile(r"dws-on-csm-revoked|/certificaterequests |/ipaddresses ")


@pytest.mark.matrix
def test_a_rollback_over_a_version_change_and_a_revocation(
    lab: Lab, on: On, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Killed once the former version was deployed again, it goes on from there; a third one has nothing to do. The plugin's
    new name has its rights by the role that the former version has, and a job with the burst buffer runs.
    """

    def site(version: str, name: str) -> Path:
        changes = {"versions": {"dws": version}, "access": {"common_name": name}}
        return scene.variant(lab, tmp_path_factory.mktemp("site"), changes)

    scene.installed(lab, site("0.0.20", "before"))
    before = objects(lab)
    upgraded = product.install(site("0.1.9", "before"), "--yes")
    assert upgraded.code == 0, upgraded.told
    renamed = f"--hosts={site('0.1.9', 'after')}"
    revoked = product.invoke("certs.revoke", renamed, "--json", "--yes", deadline=600)
    assert revoked.code == 0, revoked.told
    order = ("rollback", upgraded.summary["run"], renamed, "--json", "--yes")
    with Running(*order) as cut:
        assert cut.until(deployed), cut.end(9).err
        cut.process.kill()
    back = product.invoke(*order, deadline=600)
    assert back.code == 0, back.told
    again = product.invoke(*order, deadline=600)
    assert (again.code, again.having("changed")) == (0, set()), again.told
    bound = on(
        MASTER, "kubectl get clusterrolebinding slurm-dws-viewer -o jsonpath='{.roleRef.name} {.subjects[*].name}'"
    )
    assert bound == "workload-manager after"
    cluster.await_none(
        lambda: {one for one in objects(lab) ^ before if not WITH_DWS.search(one)}, "other objects than before", 60
    )
    proven = product.invoke("verify", f"--hosts={site('0.0.20', 'after')}", "--json", deadline=600)
    assert proven.code == 0, proven.told
