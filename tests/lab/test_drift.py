"""Whatever is removed or edited on an installed site, a run puts exactly that right again."""

from pathlib import Path

import pytest

from lab.model import Lab
from tests.lab import product, scene
from tests.lab.conftest import On
from tests.lab.sample import sample
from tests.lab.scene import BACKUP, MASTER, PRIMARY, REGISTRY

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]

KUBECONFIG = "/etc/slurm/slurm-dws.kubeconfig"
LUA, CONF, SLURM_CONF = (f"/etc/slurm/{name}" for name in ("burst_buffer.lua", "burst_buffer.conf", "slurm.conf"))
CLONE = "/root/dws-on-csm/dws-0.0.20"
TAGS = "/var/lib/docker-registry/docker/registry/v2/repositories"
ANSWERS = "until scontrol ping | grep -q 'slurmctl1 is UP'; do sleep 0.2; done"
DEPLOY = "kubectl -n dws-system"
SETTLES = {f"deploy.{step}@{MASTER}" for step in ("minimum", "webhook", "available")}
"""What may not be right for a while after a Deployment was put right."""

Drift = tuple[str, str, str, tuple[str, ...]]
"""What happened, the host, the commands that do it, and the steps that are to be put right there."""

# Each table is broken at once and mended by one run; no two of its rows are about the same step of the same host.
FIRST: tuple[Drift, ...] = (
    ("the plugin is gone", PRIMARY, f"rm {LUA}", ("plugin.lua",)),
    ("its settings were edited", BACKUP, f"echo '# edited' >>{CONF}", ("plugin.conf", "slurm.daemon")),
    ("everybody can read the kubeconfig", PRIMARY, f"chmod 644 {KUBECONFIG}", ("access.kubeconfig",)),
    ("root owns the kubeconfig", BACKUP, f"chown root:root {KUBECONFIG}", ("access.kubeconfig",)),
    (
        "the role has lost a rule",
        MASTER,
        'kubectl patch clusterrole workload-manager --type=json -p \'[{"op": "remove", "path": "/rules/0"}]\'',
        ("access.role",),
    ),
    (
        "the binding names nobody",
        MASTER,
        'kubectl patch clusterrolebinding slurm-dws-viewer --type=json -p \'[{"op": "remove", "path": "/subjects"}]\'',
        ("access.binding",),
    ),
    ("kustomize is gone", MASTER, f"rm {CLONE}/bin/kustomize", ("workarea.kustomize",)),
    (
        "the plugin's repository is gone",
        MASTER,
        "rm -r /root/dws-on-csm/dws-slurm-bb-plugin-0.0.5",
        ("plugin.repository",),
    ),
    ("an image is gone from the registry", REGISTRY, f"rm -r {TAGS}/dws/_manifests/tags", ("images.pushed",)),
)
SECOND: tuple[Drift, ...] = (
    ("the plugin was edited", BACKUP, f"echo '-- edited' >>{LUA}", ("plugin.lua",)),
    ("its settings are gone", PRIMARY, f"rm {CONF}", ("plugin.conf", "slurm.daemon")),
    ("the kubeconfig is gone", PRIMARY, f"rm {KUBECONFIG}", ("access.kubeconfig",)),
    ("the kubeconfig was cut off", BACKUP, f"truncate -s 700 {KUBECONFIG}", ("access.kubeconfig",)),
    ("the role is gone", MASTER, "kubectl delete clusterrole workload-manager", ("access.role",)),
    ("the binding is gone", MASTER, "kubectl delete clusterrolebinding slurm-dws-viewer", ("access.binding",)),
    ("the clone is gone", MASTER, f"rm -r {CLONE}", ("workarea.clone", "workarea.kustomize")),
    (
        "the proxy's image is another one",
        MASTER,
        f"{DEPLOY} set image deployment/dws-controller-manager kube-rbac-proxy=registry.local/kube-rbac-proxy:v0.14.2",
        ("deploy.applied",),
    ),
)
THIRD: tuple[Drift, ...] = (
    (
        "the kubeconfig names another server",
        PRIMARY,
        f"sed -i 's|server: .*|server: https://10.0.0.1:6443|' {KUBECONFIG}",
        ("access.kubeconfig",),
    ),
    ("slurmctld was stopped", BACKUP, "systemctl stop slurmctld", ("slurm.daemon",)),
    (
        "the webhook has two replicas",
        MASTER,
        f"{DEPLOY} scale deployment/dws-webhook --replicas=2",
        ("deploy.applied",),
    ),
    ("what was pushed is not remembered", MASTER, "rm /var/lib/dws-on-csm/images", ("images.pushed",)),
)
FOURTH: tuple[Drift, ...] = (
    (
        "slurm.conf has lost its line",
        PRIMARY,
        f"sed -i '/^BurstBufferType/d' {SLURM_CONF}; systemctl restart slurmctld; {ANSWERS}",
        ("slurm.conf",),
    ),
    ("a CRD is gone", MASTER, "kubectl delete crd clientmounts.dataworkflowservices.github.io", ("deploy.applied",)),
    ("the last proof is gone", PRIMARY, "rm /var/lib/dws-on-csm/proof.json", ("verify.job",)),
)


TABLES = {"first": FIRST, "second": SECOND, "third": THIRD, "fourth": FOURTH}


@pytest.mark.parametrize("name", sample(TABLES, {"first", "third"}.__contains__))
def test_drift(lab: Lab, on: On, name: str) -> None:
    """Just the steps of what was broken are put right, a job proves it, and a plan finds nothing more."""
    table = TABLES[name]
    scene.installed(lab)
    for _, host, commands, _ in table:
        on(host, commands)
    mended = product.install(scene.site_file(lab))
    assert mended.code == 0, mended.told
    expected = {f"{step}@{MASTER if host == REGISTRY else host}" for _, host, _, steps in table for step in steps}
    settles = SETTLES if f"deploy.applied@{MASTER}" in expected else set()
    assert mended.having("changed") - settles == expected | {f"verify.job@{PRIMARY}"}
    assert product.plan(scene.site_file(lab)).code == 0


def test_a_pod_that_finds_no_worker_is_not_awaited_where_that_is_accepted(lab: Lab, on: On, tmp_path: Path) -> None:
    """The run ends as degraded, at once, and names the pod's cause; once there is a worker it is no more."""
    scene.installed(lab)
    # the webhook's alone: the controller, were it there too, might need longer than the deadline to come up elsewhere
    webhook = "pod --selector control-plane=webhook --field-selector spec.nodeName=ncn-w003"
    on(MASTER, f"kubectl cordon ncn-w003; {DEPLOY} delete {webhook}")
    try:
        lacking = product.install(scene.variant(lab, tmp_path, {"accept": ["workers-few"]}))
    finally:
        on(MASTER, "kubectl uncordon ncn-w003")
    assert lacking.code == 6 and not lacking.failures(), lacking.told
    assert "Degraded: " in lacking.summary["message"] and "2 of 3: not scheduled" in lacking.summary["message"]
    assert product.install(scene.site_file(lab)).code == 0
