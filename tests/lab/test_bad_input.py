"""What is wrong with a site is said once, clearly, with what to do, within seconds; and the site is left as it was."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lab import cluster, pki
from lab.model import Lab
from tests.lab import product, scene, secret, tree
from tests.lab.conftest import On
from tests.lab.product import Answer
from tests.lab.sample import sample
from tests.lab.scene import BACKUP, MASTER, PRIMARY, REGISTRY
from tests.lab.waits import until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]

Commands = tuple[tuple[str, str], ...]
"""(host, shell command) each."""


@dataclass(frozen=True)
class Case:
    """Something that is wrong: keys of the site file, or what is done to hosts, and how it is undone.

    code    the exit code
    says    what the error says, by the name of its finding where it has one; A|B: one of these
    most    how many steps may meet it: those that are at work side by side
    """

    code: int
    says: str
    keys: Mapping[str, Any] = field(default_factory=dict)
    broken: Commands = ()
    mended: Commands = ()
    most: int = 1


def away(host: str, path: str) -> dict[str, Any]:
    """A file is moved away, and back."""
    return {"broken": ((host, f"mv {path} {path}.away"),), "mended": ((host, f"mv {path}.away {path}"),)}


def stopped(host: str, unit: str, ready: str = "true") -> dict[str, Any]:
    """A unit is stopped, and started until `ready`."""
    return {"broken": ((host, f"systemctl stop {unit}"),), "mended": ((host, f"systemctl start {unit}; {ready}"),)}


def awaited(url: str) -> str:
    """Waits for what is there to answer, whomever it lets in."""
    status = f"curl -ks --max-time 2 --output /dev/null --write-out '%{{http_code}}' {url}"
    return f"until {status} | grep -q -e 200 -e 40[13]; do sleep 0.2; done"


API, SITES_REGISTRY, WORLDS_REGISTRY = (
    awaited(url) for url in ("https://ncn-m001:6443/readyz", "https://registry.local/v2/", "https://ghcr.io/v2/")
)
# Were it at work meanwhile, it would take all nodes for dead when the API server is there again, for a minute and more.
CONTROL = "kube-controller-manager"
# Both may end once, and be started again, while the API server has only just begun to answer.
CONTROLLED = "; ".join(awaited(f"https://127.0.0.1:{port}/healthz") for port in (10257, 10259))
PASSWORDS = "/etc/docker/registry/htpasswd"
SMALL = "mkdir -p /root/dws-on-csm && mount -t tmpfs -o size=400k tmpfs /root/dws-on-csm"
UNMOUNT = "umount /root/dws-on-csm"
WRITE, RESTART = "/etc/docker/registry/write.yml", f"systemctl restart registry-write; {SITES_REGISTRY}"
READONLY = r"/^storage:/a\  maintenance: {readonly: {enabled: true}}"
CERT_MANAGER = "kubectl -n cert-manager"
NO_ENDPOINT = f"{CERT_MANAGER} wait --for=delete pod -l app.kubernetes.io/name=webhook --timeout=120s"
# Available is not yet reached by the API server: that takes the master's kube-proxy a moment more.
ADMITS = f"""{CERT_MANAGER} rollout status deployment/cert-manager-webhook --timeout=120s
until kubectl create --dry-run=server -f - <<'YAML'
{{apiVersion: cert-manager.io/v1, kind: Issuer, metadata: {{name: x}}, spec: {{selfSigned: {{}}}}}}
YAML
do sleep 0.2; done"""
CONF = "/etc/slurm/slurm.conf"
ANSWERS = """until scontrol ping | grep -q "at $(uname -n) is UP"; do sleep 0.2; done"""

# What is found before anything is touched, or by the first thing that is touched and then ends.
REFUSED: dict[str, Case] = {
    "a host that nobody knows": Case(1, "slurmctl9", {"controllers": [{"host": "slurmctl1"}, {"host": "slurmctl9"}]}),
    "no git on the master": Case(3, "tools-missing", **away(MASTER, "/usr/bin/git")),
    "no CA key": Case(3, "nobody-signs", **away(MASTER, "/etc/kubernetes/pki/ca.key")),
    "no kubectl on a controller": Case(3, "kubectl-missing", **away(BACKUP, "/usr/bin/kubectl")),
    "a refused password": Case(
        3,
        "registry-credential",
        broken=((REGISTRY, f"cp -a {PASSWORDS} /tmp/htpasswd; sed -i s/^admin/other/ {PASSWORDS}; {RESTART}"),),
        mended=((REGISTRY, f"mv /tmp/htpasswd {PASSWORDS}; {RESTART}"),),
    ),
    "a partition that does not exist": Case(3, "test-job-rejected", {"test_job": {"partition": "nosuch"}}),
    "no registry": Case(3, "registry-unreachable", **stopped(REGISTRY, "registry-write", SITES_REGISTRY)),
    "a full disk": Case(3, "disk-full", broken=((MASTER, SMALL),), mended=((MASTER, UNMOUNT),)),
    "too few workers": Case(
        3,
        "workers-few",
        broken=((MASTER, "kubectl cordon ncn-w002"),),
        mended=((MASTER, "kubectl uncordon ncn-w002"),),
    ),
    "another burst buffer": Case(
        3,
        "other-burst-buffer",
        {"accept": ["slurm-conf-not-loaded"]},
        broken=((PRIMARY, f"cp -a {CONF} /tmp/conf; echo BurstBufferType=burst_buffer/datawarp >>{CONF}"),),
        mended=((PRIMARY, f"mv /tmp/conf {CONF}; systemctl restart slurmctld; {ANSWERS}"),),
    ),
    "a slurmctld that does not run": Case(3, "slurmctld-not-running", **stopped(BACKUP, "slurmctld", ANSWERS)),
    "no API server": Case(
        1,
        "API",
        broken=((MASTER, f"systemctl stop {CONTROL} kube-apiserver"),),
        mended=((MASTER, f"systemctl start kube-apiserver; {API}; systemctl start {CONTROL}; {CONTROLLED}"),),
    ),
    "a test job's user that nobody knows": Case(3, "nosuch", {"test_job": {"user": "nosuch"}}),
}


# What shows itself only while something is made; what was made until then stays, and a run goes on from there.
HALFWAY: dict[str, Case] = {
    "a version that does not exist": Case(1, "v0.0.99", {"versions": {"dws": "0.0.99"}}),
    "no way to github.com": Case(1, "github.com", **stopped("upstream", "nginx"), most=2),
    "a disk that fills up": Case(
        1,
        "No space left|Wrote only",  # the latter is what tar says of a block of which a part went in
        {"accept": ["disk-full"]},
        broken=((MASTER, SMALL),),
        mended=((MASTER, UNMOUNT),),
        most=2,
    ),
    "no way to the images": Case(1, "ghcr.io", **stopped("upstream", "docker-registry", WORLDS_REGISTRY)),
    "a registry that is read-only": Case(
        1,
        "rejects uploads",
        broken=((REGISTRY, f"cp -a {WRITE} /tmp/write; sed -i '{READONLY}' {WRITE}; {RESTART}"),),
        mended=((REGISTRY, f"mv /tmp/write {WRITE}; {RESTART}"),),
    ),
    "no webhook of cert-manager": Case(
        1,
        "make deploy",
        broken=((MASTER, f"{CERT_MANAGER} scale deployment cert-manager-webhook --replicas=0; {NO_ENDPOINT}"),),
        mended=((MASTER, f"{CERT_MANAGER} scale deployment cert-manager-webhook --replicas=1; {ADMITS}"),),
    ),
}
LUA = "/etc/slurm/burst_buffer.lua"
RULES = "dwdirectiverules.dataworkflowservices.github.io"
RULE = (
    '{"apiVersion": "dataworkflowservices.github.io/v1alpha2", "kind": "DWDirectiveRule", "metadata": {"name": "tape", '
    '"namespace": "dws-system"}, "spec": [{"command": "tape", "watchStates": "DataIn", "ruleDefs": []}]}'
)
DRIVEN = (
    f"""cp -p {LUA} {LUA}.kept; sed -i 's/dwDirectives: \\[%s\\]/dwDirectives: ["#DW tape", %s]/' {LUA}; """
    f"! cmp -s {LUA} {LUA}.kept"
)
"""Each job's Workflow waits for a storage driver that does not exist."""
# What only the job shows.
UNPROVEN: dict[str, Case] = {
    "no node that takes jobs": Case(
        5,
        "never got resources",
        {"test_job": {"deadline": 20}},
        broken=((PRIMARY, "scontrol update nodename=nid00000[1-2] state=drain reason=test"),),
        mended=((PRIMARY, "scontrol update nodename=nid00000[1-2] state=resume"),),
    ),
    "a Workflow that does not go on": Case(
        1,
        "stays in DataIn",
        {"test_job": {"deadline": 30}, "accept": ["plugin-edited"]},
        broken=((MASTER, f"kubectl create -f - <<'EOF'\n{RULE}\nEOF"), (PRIMARY, DRIVEN)),
        mended=(
            (PRIMARY, f"mv -f {LUA}.kept {LUA}"),
            (MASTER, f"kubectl -n dws-system delete {RULES} tape"),
        ),
    ),
}


@pytest.fixture(scope="module")
def untouched(lab: Lab) -> None:
    """A site to which nothing was done."""
    scene.pristine(lab)


@pytest.fixture(scope="module")
def installed(lab: Lab) -> None:
    """A site with everything as it should be."""
    scene.installed(lab)


@contextmanager
def wrong(lab: Lab, on: On, case: Case, folder: Path) -> Iterator[Path]:
    """The site file for a site with what is wrong in this case; what was done to the hosts is undone afterwards."""
    # On a busy machine, or after the API server was away, a node may not have told for a while that it is Ready.
    cluster.wait_for_nodes(lab, None)
    for host, command in case.broken:
        on(host, command, deadline=150)
    try:
        yield scene.variant(lab, folder, case.keys)
    finally:
        for host, command in case.mended:
            on(host, command, deadline=150)


def told(lab: Lab, answer: Answer, case: Case) -> None:
    """Exit code and one error, which says what it has to and what to do; and no secret."""
    failures = answer.failures()
    assert answer.code == case.code and 1 <= len(failures) <= case.most, answer.told
    for one in failures:
        said = " ".join([one["command"], one["meaning"], *one["tail"]])
        assert any(words in said for words in case.says.split("|")) and (one["fix"] or one["meaning"]), failures
    assert "Traceback" not in answer.err
    assert secret.within(secret.password(lab), {"output": (answer.out + answer.err).encode()}) == []


SAMPLE = {
    "a refused password",
    "too few workers",
    "no API server",
    "a disk that fills up",
    "no webhook of cert-manager",
}
"""The cases that `make test` tries, too."""


@pytest.mark.parametrize("what", sample(REFUSED, SAMPLE.__contains__))
def test_before_anything_is_touched(lab: Lab, on: On, untouched: None, tmp_path: Path, what: str) -> None:
    """One clear error with its fix, soon, and every file is what it was."""
    with wrong(lab, on, REFUSED[what], tmp_path) as site:
        files = tree.files(lab, MASTER, PRIMARY, BACKUP, REGISTRY)
        answer = product.install(site)
        changed = tree.differences(files, tree.files(lab, *files))
    assert not changed, "\n".join(changed)
    told(lab, answer, REFUSED[what])
    assert answer.seconds < 120


# How ssh is told what it needs, and what is wrong with it.
SSH = {
    "a key that the host refuses": ("IdentityFile", "stranger", "refuse"),
    "a host that has another key": ("UserKnownHostsFile", "changed", "host key"),
    "a host whose key nobody knows": ("UserKnownHostsFile", "empty", "host key"),
}


@pytest.mark.parametrize("what", SSH)
def test_hosts_that_ssh_does_not_reach(lab: Lab, untouched: None, tmp_path: Path, what: str) -> None:
    """Each host that can't be reached is told, with the reason and the fix, and nothing is done on the others."""
    key, name, says = SSH[what]
    (tmp_path / "empty").touch()
    (tmp_path / "stranger").touch(mode=0o600)
    (tmp_path / "stranger").write_bytes(pki.ssh_key()[0])
    known = [line.split(" ", 1) for line in (lab.state / "known_hosts").read_text().splitlines()]
    moved = zip(known, known[1:] + known[:1], strict=True)
    (tmp_path / "changed").write_text("".join(f"{host} {other}\n" for (host, _), (_, other) in moved))
    config = (lab.state / "ssh_config").read_text()
    (tmp_path / "ssh_config").write_text(re.sub(rf"( {key}) .*", rf"\1 {tmp_path / name}", config))
    answer = product.install(scene.variant(lab, tmp_path, {"ssh": {"config": str(tmp_path / "ssh_config")}}))
    assert answer.code == 1 and answer.seconds < 120, answer.told
    assert {step["host"] for step in answer.steps} == set(scene.HOSTS)
    assert all(says in one["meaning"].lower() and one["fix"] for one in answer.failures()), answer.told


ERRORS = """\
master: {host: ncn-m001, kubeconfig: admin.conf}
controllers: []
slurm: {folder: /etc/slurm, servise: slurmctld}
"""


def test_a_site_file_with_errors(tmp_path: Path) -> None:
    """All errors of a site file are told at once, each with its line, column and key; exit code 2."""
    (tmp_path / "hosts.yaml").write_text(ERRORS)
    answer = product.install(tmp_path / "hosts.yaml")
    assert (answer.code, answer.out) == (2, "")
    for place, key in ((":1:", "master.kubeconfig"), (":2:", "controllers"), (":3:", "slurm.servise")):
        assert any(place in line and key in line for line in answer.err.splitlines()), answer.told


def test_no_site_file(tmp_path: Path) -> None:
    """A site file that isn't there is told with what to do; exit code 2."""
    answer = product.install(tmp_path / "none.yaml")
    assert answer.code == 2 and "none.yaml" in answer.err and "hosts.yaml" in answer.err


@pytest.mark.parametrize("what", sample(HALFWAY, SAMPLE.__contains__))
def test_halfway(lab: Lab, on: On, untouched: None, tmp_path: Path, what: str) -> None:
    """One clear error with what to do, soon; nothing half made is left, and slurmctld answers."""
    with wrong(lab, on, HALFWAY[what], tmp_path) as site:
        answer = product.install(site)
        left = on(MASTER, "ls -d /root/dws-on-csm/*.part /var/lib/dws-on-csm/lock 2>/dev/null || true")
    told(lab, answer, HALFWAY[what])
    assert answer.seconds < 200 and left == ""
    until(on, PRIMARY, "[ $(scontrol ping | grep -c 'is UP') = 2 ]")


@pytest.mark.parametrize("what", UNPROVEN)
def test_not_proven(lab: Lab, on: On, installed: None, tmp_path: Path, what: str) -> None:
    """A job that does not get through is cancelled and its Workflow gone; without resources that is exit code 5."""
    with wrong(lab, on, UNPROVEN[what], tmp_path) as site:
        answer = product.install(site, "--verify")
        left = (
            on(PRIMARY, "squeue --noheader"),
            on(MASTER, "kubectl get workflows.dataworkflowservices.github.io -A -o name"),
        )
    told(lab, answer, UNPROVEN[what])
    assert left == ("", "")
    assert answer.having("failed") == {f"verify.job@{PRIMARY}"}
