"""`invoke install` from nothing to a proven site, and again: what is there then, and that nothing moves any more."""

import json
import shutil
from pathlib import Path

import pytest

from lab import registry
from lab.model import Lab
from tests.lab import product, scene, tree
from tests.lab.conftest import On
from tests.lab.product import Answer
from tests.lab.scene import BACKUP, HOSTS, MASTER, PRIMARY
from tests.lab.waits import until_silent

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]
CLONE = "/root/dws-on-csm/dws-0.0.20"
SLURM_USER = "setpriv --reuid slurm --regid slurm --init-groups env HOME=/dev/shm"
AS_PLUGIN = (
    f"{SLURM_USER} kubectl --kubeconfig /etc/slurm/slurm-dws.kubeconfig --cache-dir /tmp/burst_buffer_kubectl_cache"
)
STATES = "Proposal Setup DataIn PreRun PostRun DataOut Teardown"


@pytest.fixture(scope="module")
def cold(lab: Lab) -> Answer:
    """The install on a pristine site."""
    return scene.cold(lab).answer


@pytest.fixture(scope="module")
def site(lab: Lab, cold: Answer) -> Path:
    """The site file of a site with everything as it should be."""
    scene.installed(lab)
    return scene.site_file(lab)


def test_an_install_from_nothing_ends_well(cold: Answer) -> None:
    """On a pristine site everything is put right in one run, with exit code 0 and one connection a host."""
    assert (cold.code, cold.summary["exit"]) == (0, 0), cold.told
    assert cold.having("failed", "refused", "skipped", "unknown", "would change") == set()
    assert cold.summary["connections"] == len(HOSTS)
    assert {one.partition(".")[0] for one in cold.having("changed")} == {
        *("workarea", "images", "deploy", "access", "plugin", "slurm", "verify")
    }


def test_the_install_is_proven_by_a_job(cold: Answer) -> None:
    """The proof is a job that ran: its Workflow went through all states, and bbstat answered."""
    (proof,) = (step for step in cold.steps if step["stage"] == "verify")
    assert proof["outcome"] == "changed"
    assert f"{STATES} in " in proof["note"] and "currentState=" in proof["note"]


def test_a_users_job_gets_its_workflow(site: Path, on: On) -> None:
    """An ordinary user's job with a #DW line runs to its end, and its Workflow is made and is gone afterwards."""
    submit = "cd /tmp && runuser -u joe -- sbatch --wait --parsable --output=/dev/null"
    job = on(PRIMARY, submit, feed="#!/bin/sh\n#DW\ntrue\n", deadline=180).strip()
    log = on(PRIMARY, "cat /var/log/slurm/slurmctld.log")
    assert f"name: bb{job}" in log and f"_job_complete: JobId={job} done" in log
    until_silent(on, MASTER, "kubectl get workflows.dataworkflowservices.github.io -A -o name")


# host, command, what it says
THERE = {
    "the clone at its tag": (MASTER, f"git -C {CLONE} describe --tags --dirty", "v0.0.20"),
    "kustomize in it": (MASTER, f"{CLONE}/bin/kustomize version", "v5.1.1"),
    "DWS's image in the registry": (
        MASTER,
        "curl -sS https://registry.local:5000/v2/dws/tags/list | jq -c .tags",
        '["0.0.20"]',
    ),
    "the proxy's image in the registry": (
        MASTER,
        "curl -sS https://registry.local:5000/v2/kube-rbac-proxy/tags/list | jq -c .tags",
        '["v0.14.1"]',
    ),
    "both deployments": (
        MASTER,
        "kubectl -n dws-system get deployments -o json | jq -r '.items[] | .metadata.name, .status.availableReplicas'",
        "dws-controller-manager\n1\ndws-webhook\n3",
    ),
    "with the registry's images": (
        MASTER,
        "kubectl -n dws-system get pods -o json | jq -r '[.items[].spec.containers[].image] | unique[]'",
        "registry.local/dws:0.0.20\nregistry.local/kube-rbac-proxy:v0.14.1",
    ),
    "the role as DWS's repository has it": (
        MASTER,
        f"kubectl diff -f {CLONE}/config/rbac/workload_manager_role.yaml && echo same",
        "same",
    ),
    "its binding": (
        MASTER,
        "kubectl get clusterrolebinding slurm-dws-viewer -o json | jq -c '[.roleRef.name, .subjects[].name]'",
        '["workload-manager","slurm-dws"]',
    ),
    "no serial file of the CA": (MASTER, "ls /etc/kubernetes/pki | grep -c srl || true", "0"),
}
ON_CONTROLLERS = {
    "SlurmUser's kubeconfig": ("stat -c '%a %U:%G' /etc/slurm/slurm-dws.kubeconfig", "600 slurm:slurm"),
    "which lets the plugin work": (f"{AS_PLUGIN} auth can-i create workflows.dataworkflowservices.github.io", "yes"),
    "and nothing else": (f"{AS_PLUGIN} auth can-i get secrets || true", "no"),
    "the plugin's files": ("stat -c '%a %U' /etc/slurm/burst_buffer.*", "644 root\n644 root"),
    "one line in slurm.conf": ("grep -i burstbuffertype /etc/slurm/slurm.conf", "BurstBufferType=burst_buffer/lua"),
    "two slurmctlds that answer": ("scontrol ping | grep -c 'is UP'", "2"),
    "with the burst buffer": ("scontrol show config | sed -n 's/^BurstBufferType *= *//p'", "burst_buffer/lua"),
}
TABLE = {
    **THERE,
    **{f"{what} on {host}": (host, *rest) for what, rest in ON_CONTROLLERS.items() for host in (PRIMARY, BACKUP)},
}


@pytest.mark.parametrize("what", TABLE)
def test_the_result_of_an_install(site: Path, on: On, what: str) -> None:
    """Each thing that the procedure makes is there, as it has to be."""
    host, command, said = TABLE[what]
    assert on(host, command).strip() == said


def test_the_certificate(site: Path, on: On) -> None:
    """Both certificates are for slurm-dws, of the cluster's CA, for clients, for 500 days; each has its own key."""
    pem = "sed -n 's/.*client-certificate-data: *//p' /etc/slurm/slurm-dws.kubeconfig | base64 -d"
    certificates = [on(host, pem) for host in (PRIMARY, BACKUP)]
    read = "openssl x509 -noout -subject -pubkey -ext extendedKeyUsage -checkend $((499 * 86400))"
    told = [
        on(MASTER, f"tee /dev/shm/crt | {read}; openssl verify -CAfile {CA} /dev/shm/crt", pem) for pem in certificates
    ]
    on(MASTER, "rm /dev/shm/crt")
    for text in told:
        assert "CN = slurm-dws" in text and "TLS Web Client Authentication" in text
        assert "Certificate will not expire" in text and "OK" in text
    assert len({text.partition("-----END PUBLIC KEY")[0] for text in told}) == 2


CA = "/etc/kubernetes/pki/ca.crt"


def test_an_install_on_an_installed_site_changes_nothing(lab: Lab, site: Path) -> None:
    """The second install finds all as it should be, takes one exec a host and one for the API, and writes nothing."""
    objects = tree.settled(lab)
    before = tree.files(lab), objects
    again = product.install(site)
    assert again.code == 0, again.told
    assert {step["outcome"] for step in again.steps} == {"ok"}
    looked = {step["host"] for step in again.steps}
    assert (again.summary["connections"], again.summary["commands"]) == (len(HOSTS), len(looked) + 1)
    assert [*tree.differences(before[0], tree.files(lab)), *tree.differences(before[1], tree.objects(lab))] == []


def test_a_plan_after_an_install_is_empty(site: Path) -> None:
    """There is nothing left to plan: exit code 0, and every step is ok."""
    planned = product.plan(site)
    assert (planned.code, {step["outcome"] for step in planned.steps}) == (0, {"ok"}), planned.told


def test_the_last_proof_is_shown_and_verify_makes_a_new_one(site: Path) -> None:
    """Without changes the last job is told of; --verify submits another."""
    first, second = product.install(site), product.install(site, "--verify")
    jobs = [
        step["note"].split(",")[0] for answer in (first, second) for step in answer.steps if step["stage"] == "verify"
    ]
    assert second.code == 0 and second.having("changed") == {f"verify.job@{PRIMARY}"}
    assert int(jobs[1].removeprefix("job ")) > int(jobs[0].removeprefix("job "))


# --- a part of the hosts


def edit(on: On) -> None:
    """Something to put right on each controller."""
    for host in (PRIMARY, BACKUP):
        on(host, "echo '-- edited' >>/etc/slurm/burst_buffer.lua")


def test_limit_leaves_the_other_hosts_alone(site: Path, on: On) -> None:
    """--limit puts right what is wrong on these hosts and touches no other."""
    edit(on)
    limited = product.install(site, f"--limit={BACKUP}")
    assert limited.code == 0, limited.told
    assert limited.having("changed") == {f"plugin.lua@{BACKUP}"}
    assert {step["host"] for step in limited.steps} == {BACKUP}
    assert "edited" in on(PRIMARY, "tail -n 1 /etc/slurm/burst_buffer.lua")
    assert product.install(site).having("changed") >= {f"plugin.lua@{PRIMARY}"}


def test_hosts_takes_a_node_set_of_the_checkouts_own_site_file(lab: Lab, site: Path, on: On, tmp_path: Path) -> None:
    """In a checkout whose hosts.yaml is the site, --hosts alone means all of it, and --hosts NODESET a part."""
    for name in ("dws_on_csm", "templates", "lab"):
        # without what other runs may be compiling just now
        shutil.copytree(registry.CHECKOUT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(registry.CHECKOUT / "tasks.py", tmp_path)
    scene.variant(lab, tmp_path, {})
    edit(on)
    part = product.invoke("plan", "--hosts", "slurmctl[2]", "--json", deadline=300, checkout=tmp_path)
    every = product.invoke("install", "--hosts", "--json", deadline=600, checkout=tmp_path)
    assert (part.code, part.having("would change")) == (4, {f"plugin.lua@{BACKUP}"}), part.told
    assert every.code == 0 and every.having("changed") >= {f"plugin.lua@{host}" for host in (PRIMARY, BACKUP)}, (
        every.told
    )


def test_a_host_that_the_site_does_not_have(site: Path) -> None:
    """A node set with a host that the site file lacks is an error of exit code 2, said before any host is reached."""
    answer = product.install(site, "--limit=slurmctl[1-3]")
    assert answer.code == 2 and "slurmctl3" in answer.err


# --- what is told


def test_json_is_all_there_is_on_standard_output(cold: Answer) -> None:
    """Every line of --json is a step or the summary, which comes last and counts what the steps say."""
    lines = [json.loads(line) for line in cold.out.splitlines()]
    assert [line["event"] for line in lines] == ["step"] * (len(lines) - 1) + ["summary"]
    counted = {outcome: len(cold.having(outcome)) for outcome in ("ok", "changed", "failed", "refused", "skipped")}
    assert counted == {outcome: cold.summary[outcome] for outcome in counted}
