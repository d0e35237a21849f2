"""`invoke doctor` on a real site: each problem is provoked, and told by its name where it is; several at once, none hidden."""

import json
import tarfile
import time
from pathlib import Path

import pytest

from fabfile.redact import GONE
from lab.model import Lab
from tests.lab import command, scene, secret
from tests.lab.conftest import On
from tests.lab.scene import BACKUP, MASTER, PRIMARY, REGISTRY

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

NODE, LAST = "nid000001", "nid000002"
KUBECONFIG = "/etc/slurm/slurm-dws.kubeconfig"
LUA, CONF, SLURM_CONF = (f"/etc/slurm/{name}" for name in ("burst_buffer.lua", "burst_buffer.conf", "slurm.conf"))
TAGS = "/var/lib/docker-registry/docker/registry/v2/repositories"
CLONE = "/root/dws-on-csm/dws-0.0.20"
SECRET = "kubectl -n nexus get secret nexus-admin-credential -o json"
ANSWERS = "until scontrol ping | grep -q 'slurmctl2 is UP'; do sleep 0.2; done"
# A program that is called in another's place, and is gone with the file
INSTEAD = "printf '#!/bin/sh\\n{what}\\n' >/usr/local/bin/{name}; chmod +x /usr/local/bin/{name}"
AHEAD = INSTEAD.format(name="date", what='exec /usr/bin/date -d "@$(($(/usr/bin/date +%%s) + 90))" "$@"')
SLOW = INSTEAD.format(name="kubectl", what='sleep 4\\nexec /usr/bin/kubectl "$@"')
WEBHOOK = "kubectl -n dws-system scale deployment/dws-webhook --replicas=0"
CLEAN = "kubectl -n dws-system set image deployment/dws-controller-manager manager=registry.local/dws:0.0.20"
DIRTY = f"{CLEAN}-dirty"
ORPHAN = """
kubectl create -f - <<'YAML'
apiVersion: dataworkflowservices.github.io/v1alpha2
kind: Workflow
metadata: {name: bb90001, namespace: default, labels: {origin: burst_buffer.lua}}
spec: {desiredState: Proposal, dwDirectives: [], wlmID: slurm, jobID: "90001", userID: 1500, groupID: 1500}
YAML
"""
MADE = "kubectl get workflows.dataworkflowservices.github.io bb90001 -o jsonpath={.metadata.creationTimestamp}"
ARGO = """
kubectl create -f - <<'YAML'
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: workflows.argoproj.io}
spec:
  group: argoproj.io
  names: {kind: Workflow, listKind: WorkflowList, plural: workflows, singular: workflow, shortNames: [wf]}
  scope: Namespaced
  versions:
  - {name: v1alpha1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}
YAML
"""

Problem = tuple[str, str, str, str, tuple[tuple[str, str], ...]]
"""What happened, the host, the commands that do it, those that take back what an install doesn't, and what is to be told."""

# The rows of a table are provoked at once; the findings are those of all rows together, and no others.
FIRST: tuple[Problem, ...] = (
    (
        "SlurmUser can't read the kubeconfig",
        BACKUP,
        f"chown root: {KUBECONFIG}",
        "",
        ((BACKUP, "kubeconfig-unreadable"),),
    ),
    ("burst_buffer.conf is absent", BACKUP, f"rm {CONF}", "", ((BACKUP, "burst-buffer-conf-missing"),)),
    ("the plugin was edited", PRIMARY, f"echo '-- edited' >>{LUA}", "", ((PRIMARY, "plugin-edited"),)),
    (
        "the password was changed in Nexus, and not in the Secret",
        MASTER,
        f'{SECRET} >/root/credential; {SECRET} | sed \'s/"password": ".*"/"password": "c3RhbGU="/\' | kubectl replace -f -',
        "kubectl replace --force -f /root/credential; rm /root/credential",
        ((MASTER, "registry-credential"),),
    ),
    ("a clock is wrong", LAST, AHEAD, "rm /usr/local/bin/date", ((LAST, "clock-skew"),)),
    (
        "the role has no rules",
        MASTER,
        'kubectl patch clusterrole workload-manager --type=json -p \'[{"op": "replace", "path": "/rules", "value": []}]\'',
        "",
        ((MASTER, "role-lacks-rights"), (PRIMARY, "role-lacks-rights")),
    ),
    (
        "a node has another slurm.conf",
        NODE,
        f"echo 'SlurmctldTimeout=77' >>{SLURM_CONF}",
        f"sed -i /SlurmctldTimeout=77/d {SLURM_CONF}",
        ((NODE, "slurm-conf-differs"),),
    ),
)
SECOND: tuple[Problem, ...] = (
    (
        "nothing answers where the kubeconfig points, which has a token besides",
        PRIMARY,
        f"sed -i 's|server: .*|server: https://10.0.0.1:1|; s|^\\( *\\)client-key-data|\\1token: abc\\n&|' {KUBECONFIG}",
        "",
        ((PRIMARY, "api-unreachable"), (PRIMARY, "kubeconfig-server"), (PRIMARY, "token-beside-certificate")),
    ),
    (
        "kubectl is gone",
        BACKUP,
        "mv /usr/bin/kubectl /usr/bin/kubectl.away",
        "mv /usr/bin/kubectl.away /usr/bin/kubectl",
        ((BACKUP, "kubectl-missing"),),
    ),
    (
        "the webhook does not answer, and DWS has the tag of a changed clone",
        MASTER,
        f"{WEBHOOK}; {DIRTY}; kubectl -n dws-system wait --for=delete pod -l control-plane=webhook --timeout=60s",
        CLEAN,
        (
            (MASTER, "webhook-not-answering"),
            (MASTER, "dirty-tag"),
            (MASTER, "objects-differ"),
            (MASTER, "pods-not-ready"),
        ),
    ),
    (
        "the clone was changed",
        MASTER,
        f"echo '# changed' >>{CLONE}/Makefile",
        f"git -C {CLONE} checkout --quiet .",
        ((MASTER, "workarea-modified"),),
    ),
    (
        "an image is gone from the registry",
        REGISTRY,
        f"rm -r {TAGS}/dws/_manifests/tags",
        "",
        ((MASTER, "image-missing"),),
    ),
    ("a slurmctld is older than slurm.conf", BACKUP, f"touch {SLURM_CONF}", "", ((BACKUP, "slurmctld-stale"),)),
    (
        "the plugin does not load",
        BACKUP,
        f"echo 'error(\"not today\")' >>{LUA}",
        "",
        ((BACKUP, "plugin-not-loading"), (BACKUP, "plugin-edited")),
    ),
)
THIRD: tuple[Problem, ...] = (
    ("a Workflow is there whose job may yet appear", MASTER, ORPHAN + ARGO, "", ()),
    ("the API answers slowly", PRIMARY, SLOW, "rm /usr/local/bin/kubectl", ((PRIMARY, "api-slow"),)),
    ("a slurmctld does not answer", BACKUP, "systemctl stop slurmctld", "", ((BACKUP, "slurmctld-not-answering"),)),
    ("everybody can read the kubeconfig", BACKUP, f"chmod 644 {KUBECONFIG}", "", ((BACKUP, "kubeconfig-open"),)),
    (
        "the binding names somebody else",
        MASTER,
        'kubectl get clusterrolebinding slurm-dws-viewer -o json | sed \'s/"slurm-dws"/"somebody"/\' | kubectl replace -f -',
        "",
        ((MASTER, "binding-wrong"), (PRIMARY, "role-lacks-rights"), (BACKUP, "role-lacks-rights")),
    ),
    (
        "the controllers include different files",
        BACKUP,
        "echo '# other' >>/etc/slurm/nodes.conf",
        "sed -i '/# other/d' /etc/slurm/nodes.conf",
        ((BACKUP, "slurm-conf-differs"),),
    ),
)


def examined(site: Path) -> set[tuple[str, str]]:
    """Host and name of every finding of `invoke doctor --json`; its exit code says whether there are any."""
    said = command.invoke("doctor", f"--hosts={site}", "--json", deadline=250)
    found = said.records("finding")
    assert said.code == (1 if found else 0), said.err
    assert all(one["fix"] and one["text"] for one in found)
    return {(one["host"], one["name"]) for one in found}


@pytest.mark.parametrize("table", [FIRST, SECOND, THIRD], ids=["first", "second", "third"])
def test_each_problem_is_told_by_its_name(lab: Lab, on: On, table: tuple[Problem, ...]) -> None:
    """Exactly what was provoked is found, each at its host, whatever else is wrong."""
    scene.installed(lab)
    try:
        for _, host, commands, _, _ in table:
            on(host, commands)
        found = examined(scene.site_file(lab)) - {(MASTER, "orphan")}
        assert found == {finding for *_, findings in table for finding in findings}
    finally:
        for _, host, _, back, _ in table:
            on(host, back or ":")


def test_a_certificate_that_ends_soon_and_a_host_that_is_away(lab: Lab, on: On, tmp_path: Path) -> None:
    """A new certificate for 45 days is made by a repair of that host alone; it is told, and so is who can't be reached."""
    scene.installed(lab)
    variant = scene.variant(lab, tmp_path, {"access": {"days": 45, "renew_below": 30}})
    on(PRIMARY, f"rm {KUBECONFIG}")
    assert command.fab(PRIMARY, "redo", "access", "--site", str(variant)).code == 0
    text = variant.read_text().replace("nid[000001-000002]", "nid[000001-000002],nid000099")
    assert "nid000099" in text
    variant.write_text(text)
    assert examined(variant) - {(MASTER, "orphan")} == {
        (PRIMARY, "certificate-ends-soon"),
        ("nid000099", "host-unreachable"),
    }
    on(PRIMARY, f"rm {KUBECONFIG}")


def test_orphans_are_told_by_doctor_and_workflows(lab: Lab, on: On) -> None:
    """A minute after it was made a Workflow without a job is an orphan; another CRD of the same name is named."""
    scene.installed(lab)
    on(MASTER, f'[ -n "$({MADE} --ignore-not-found)" ] || {{ {ORPHAN}\n{ARGO}\n}}')
    old = float(on(MASTER, f'echo $(($(date +%s) - $(date -d "$({MADE})" +%s)))'))
    time.sleep(max(0.0, 62 - old))  # the time in which its job may still appear
    site = scene.site_file(lab)
    assert examined(site) == {(MASTER, "orphan")}
    listed = command.invoke("workflows", f"--hosts={site}")
    assert listed.code == 0
    assert "default/bb90001" in listed.out and "ORPHAN" in listed.out and "1 orphan" in listed.out
    assert "workflows.argoproj.io" in listed.out
    (record,) = command.invoke("workflows", f"--hosts={site}", "--json").records("workflow")
    assert (record["name"], record["fate"], record["slurm"]) == ("bb90001", "orphan", None)
    shown = command.invoke("workflows", f"--hosts={site}", "--yaml", "90001")
    assert "apiVersion: dataworkflowservices.github.io/" in shown.out and "name: bb90001" in shown.out
    on(
        MASTER,
        "kubectl delete workflows.dataworkflowservices.github.io bb90001; kubectl delete crd workflows.argoproj.io",
    )


def test_nothing_is_wrong_and_the_archive_has_no_secret(lab: Lab, on: On, tmp_path: Path) -> None:
    """On a site that is right nothing is found; the archive holds looks, logs and objects, and no key, password or token."""
    scene.installed(lab)
    planted = "hunter2-and-more"
    on(
        PRIMARY,
        f"printf '[%s] error: lua: password=%s\\n' \"$(date +%Y-%m-%dT%H:%M:%S)\" {planted} >>/var/log/slurm/slurmctld.log",
    )
    archive = tmp_path / "support.tar.gz"
    said = command.invoke("doctor", f"--hosts={scene.site_file(lab)}", "--bundle", str(archive), deadline=250)
    assert (said.code, "Nothing is wrong." in said.out) == (0, True), said.out + said.err
    assert archive.stat().st_mode & 0o077 == 0
    with tarfile.open(archive) as tar:
        content = {one.name.partition("/")[2]: tar.extractfile(one).read() for one in tar}  # type: ignore[union-attr]
    assert {
        "README.txt",
        "doctor.jsonl",
        "logs.txt",
        "versions.txt",
        f"looks/{PRIMARY}.json",
        "cluster/pods.json",
    } <= set(content)
    assert f"password={GONE}".encode() in content["logs.txt"]
    assert b"slurm_bb_job_process" in content["logs.txt"] and b"manager@" in content["logs.txt"]
    assert json.loads(content[f"looks/{PRIMARY}.json"])["found"]["plugin.lua"]["mode"] == "644"
    assert b"dws-controller-manager" in content["cluster/pods.json"]
    assert secret.within({**secret.of(lab), "what was planted": (planted.encode(),)}, content) == []
    again = command.invoke("doctor", f"--hosts={scene.site_file(lab)}", "--bundle", str(archive))
    assert (again.code, "is there already" in again.err) == (3, True)
