"""What can be wrong with a site, each thing provoked for real by commands on its hosts, several at once; and taken back."""

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.lab.conftest import On
from tests.lab.scene import BACKUP, MASTER, PRIMARY, REGISTRY

NODE, LAST, NOWHERE = "nid000001", "nid000002", "nid000099"
KUBECONFIG = "/etc/slurm/slurm-dws.kubeconfig"
LUA, CONF, SLURM_CONF = (f"/etc/slurm/{name}" for name in ("burst_buffer.lua", "burst_buffer.conf", "slurm.conf"))
TAGS = "/var/lib/docker-registry/docker/registry/v2/repositories"
CLONES = "/root/dws-on-csm"
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
PLANTED = "hunter2-and-more"
"""Stands for whatever secret somebody left where it does not belong."""

WORKFLOWS = "workflows.dataworkflowservices.github.io"
WORKFLOW = """kubectl create -f - <<'YAML'
apiVersion: dataworkflowservices.github.io/v1alpha2
kind: Workflow
metadata: {name: bb90001, namespace: default, labels: {origin: burst_buffer.lua}}
spec: {desiredState: Proposal, dwDirectives: [], wlmID: slurm, jobID: "90001", userID: 1500, groupID: 1500}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: workflows.argoproj.io}
spec:
  group: argoproj.io
  names: {kind: Workflow, listKind: WorkflowList, plural: workflows, singular: workflow, shortNames: [wf]}
  scope: Namespaced
  versions:
  - {name: v1alpha1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}
YAML"""
"""Makes a Workflow without a job, an orphan after a minute; and another CRD of that name, as CSM's Argo has it."""

# A program that is called in another's place, and is gone with the file
INSTEAD = "printf '#!/bin/sh\\n{what}\\n' >/usr/local/bin/{name}; chmod +x /usr/local/bin/{name}"
AHEAD = INSTEAD.format(name="date", what='exec /usr/bin/date -d "@$(($(/usr/bin/date +%%s) + 90))" "$@"')
SLOW = INSTEAD.format(name="kubectl", what='sleep 4\\nexec /usr/bin/kubectl "$@"')
SECRET = "kubectl -n nexus get secret nexus-admin-credential -o json"
STALE = f'{SECRET} >/root/credential; {SECRET} | sed \'s/"password": ".*"/"password": "b3V0ZGF0ZWQtUmc3"/\' | kubectl replace -f -'
CLEAN = "kubectl -n dws-system set image deployment/dws-controller-manager manager=registry.local/dws:0.0.20"
# Until somebody has tried to have the image: the cluster tells of it.
DIRTY = f"""{CLEAN}-dirty
until kubectl -n dws-system get events | grep -q -e -dirty; do sleep 0.2; done"""
NO_WEBHOOK = """kubectl -n dws-system scale deployment/dws-webhook --replicas=0
kubectl -n dws-system wait --for=delete pod -l control-plane=webhook --timeout=100s"""
NO_RULES = (
    """kubectl patch clusterrole workload-manager --type=json -p '[{"op": "replace", "path": "/rules", "value": []}]'"""
)
SOMEBODY = """kubectl get clusterrolebinding slurm-dws-viewer -o json | sed 's/"slurm-dws"/"somebody"/' | kubectl replace -f -"""
SLURM_AGAIN = """kubectl get clusterrolebinding slurm-dws-viewer -o json | sed 's/"somebody"/"slurm-dws"/' | kubectl replace -f -"""

WIDE = """kubectl patch clusterrole workload-manager --type=json \
    -p '[{"op": "add", "path": "/rules/-", "value": {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]}}]'"""
FOREIGN = f"""cd $(mktemp -d)
openssl req -x509 -newkey rsa:2048 -noenc -subj /CN=kubernetes -keyout ca.key -out ca.crt -days 400
openssl req -newkey rsa:2048 -noenc -subj /CN=slurm-dws -keyout key -out csr
openssl x509 -req -in csr -CA ca.crt -CAkey ca.key -days 400 -out crt
sed -i "s|client-certificate-data: .*|client-certificate-data: $(base64 -w 0 crt)|" {KUBECONFIG}
sed -i "s|client-key-data: .*|client-key-data: $(base64 -w 0 key)|" {KUBECONFIG}"""
MOUNTS = "clientmounts.dataworkflowservices.github.io"
STUCK = f"""kubectl create -f - <<'YAML'
apiVersion: dataworkflowservices.github.io/v1alpha2
kind: ClientMount
metadata: {{name: held, namespace: default, finalizers: [example.com/held]}}
spec:
  desiredState: unmounted
  mounts: [{{device: {{type: reference}}, mountPath: /mnt/held, options: "", setPermissions: false, targetType: file, type: none}}]
  node: nid000001
YAML
kubectl delete crd {MOUNTS} --wait=false"""
LET_GO = f"""kubectl patch {MOUNTS} held --type=merge --patch '{{"metadata": {{"finalizers": null}}}}'
kubectl wait --for=delete crd/{MOUNTS} --timeout=60s"""


@dataclass(frozen=True)
class Problem:
    """What happened, on which host, by which commands; what takes back what an install doesn't mend; what is to be told.

    told   names of findings at that host, or "HOST NAME"
    """

    what: str
    host: str
    commands: str
    told: Sequence[str]
    back: str = ":"

    def findings(self) -> set[tuple[str, str]]:
        """Host and name of each."""
        pairs = [one.rpartition(" ") for one in self.told]
        return {(host or self.host, name) for host, _, name in pairs}


def moved(path: str) -> tuple[str, str]:
    """Commands that take a file away, and that bring it back."""
    return f"mv {path} {path}.away", f"mv {path}.away {path}"


def full(folder: str) -> tuple[str, str]:
    """Commands that leave no room in a folder, and that give it back."""
    return (
        f"mount -t tmpfs -o size=1m full {folder}; ! dd if=/dev/zero of={folder}/fill 2>/dev/null",
        f"umount {folder}",
    )


def spread(commands: str, back: str, told: Sequence[str]) -> tuple[str, Sequence[str], str]:
    """What a Problem takes, of two commands that belong together."""
    return commands, told, back


GONE_KUBECTL = moved("/usr/bin/kubectl")

FIRST = (
    Problem("SlurmUser can't read the kubeconfig", BACKUP, f"chown root: {KUBECONFIG}", ["kubeconfig-unreadable"]),
    Problem("kubectl is gone", BACKUP, GONE_KUBECTL[0], ["kubectl-missing"], GONE_KUBECTL[1]),
    Problem("burst_buffer.conf is absent", BACKUP, f"rm {CONF}", ["burst-buffer-conf-missing"]),
    Problem(
        "slurmctld has not read what slurm.conf says",
        BACKUP,
        f"cp -p {SLURM_CONF} /root/slurm.conf.read; echo MessageTimeout=11 >>{SLURM_CONF}",
        ["slurmctld-stale", "slurm-conf-differs"],
        f"mv /root/slurm.conf.read {SLURM_CONF}",
    ),
    Problem(
        "the plugin does not load",
        BACKUP,
        f"echo 'error(\"not today\")' >>{LUA}",
        ["plugin-not-loading", "plugin-edited"],
    ),
    Problem(
        "a service account's token lies where a pod has it",
        BACKUP,
        f"mkdir -p {SERVICE_ACCOUNT}; echo {PLANTED} >{SERVICE_ACCOUNT}/token",
        ["token-beside-certificate"],
        "rm -r /var/run/secrets",
    ),
    Problem("the plugin was edited", PRIMARY, f"echo '-- edited' >>{LUA}", ["plugin-edited"]),
    Problem(
        "nothing answers where the kubeconfig points",
        PRIMARY,
        f"sed -i 's|server: .*|server: https://10.0.0.1:1|' {KUBECONFIG}",
        ["api-unreachable", "kubeconfig-server"],
    ),
    Problem(
        "the kubeconfig has a token, and another namespace",
        PRIMARY,
        f"sed -i 's|namespace: .*|namespace: other|; s|^\\( *\\)client-key-data|\\1token: {PLANTED}\\n&|' {KUBECONFIG}",
        ["token-beside-certificate", "kubeconfig-namespace"],
        f"rm {KUBECONFIG}",
    ),
    Problem("everybody can read the kubeconfig", PRIMARY, f"chmod 644 {KUBECONFIG}", ["kubeconfig-open"]),
    Problem(
        "certificates were made for 45 days only",
        BACKUP,
        ":",
        ["certificate-ends-soon"],
        f"rm {KUBECONFIG}",
    ),
    Problem(
        "a certificate has ended, in a kubeconfig that trusts another CA",
        PRIMARY,
        ":",
        ["certificate-expired", "kubeconfig-ca"],
    ),
    Problem(
        "the password was changed in Nexus, and not in the Secret",
        MASTER,
        STALE,
        ["registry-credential"],
        "kubectl replace --force -f /root/credential; rm /root/credential",
    ),
    Problem("the role has no rules", MASTER, NO_RULES, ["role-lacks-rights"]),
    Problem(
        "a clone was changed",
        MASTER,
        f"echo '# changed' >>{CLONES}/dws-0.0.20/Makefile",
        ["workarea-modified"],
        f"git -C {CLONES}/dws-0.0.20 checkout --quiet .",
    ),
    Problem(
        "the plugin's clone was changed",
        MASTER,
        f"echo '# changed' >>{CLONES}/dws-slurm-bb-plugin-0.0.5/src/burst_buffer/burst_buffer.conf",
        ["plugin-clone"],
        f"git -C {CLONES}/dws-slurm-bb-plugin-0.0.5 checkout --quiet .",
    ),
    Problem(
        "the webhook has no pods",
        MASTER,
        NO_WEBHOOK,
        ["webhook-not-answering", "pods-not-ready", "objects-differ"],
    ),
    Problem("DWS has the tag of a changed clone", MASTER, DIRTY, ["dirty-tag", "objects-differ"], CLEAN),
    Problem(
        "a node has another slurm.conf",
        NODE,
        f"echo 'SlurmctldTimeout=77' >>{SLURM_CONF}",
        ["slurm-conf-differs"],
        f"sed -i /SlurmctldTimeout=77/d {SLURM_CONF}",
    ),
    Problem("a clock is wrong", LAST, AHEAD, ["clock-skew"], "rm /usr/local/bin/date"),
    Problem("a node is away", NODE, ":", [f"{NOWHERE} host-unreachable"]),
)
"""Provoked at once; the findings are those of all of them, and no others."""

SECOND = (
    Problem("an image is gone", REGISTRY, f"rm -r {TAGS}/dws/_manifests/tags", [f"{MASTER} image-missing"]),
    Problem("the API answers slowly", PRIMARY, SLOW, ["api-slow"], "rm /usr/local/bin/kubectl"),
    Problem("a slurmctld does not run", BACKUP, "systemctl stop slurmctld", ["slurmctld-not-running"]),
    Problem(
        "the binding names somebody else",
        MASTER,
        SOMEBODY,
        ["binding-wrong", "binding-shared", f"{PRIMARY} role-lacks-rights"],
        SLURM_AGAIN,
    ),
    Problem("the role allows more than DWS asks for", MASTER, WIDE, ["role-too-wide"]),
    Problem("a certificate is another CA's", BACKUP, FOREIGN, ["certificate-foreign", "kubeconfig-refused"]),
    Problem("a CRD is deleted and held back", MASTER, STUCK, ["crds-stuck", "objects-differ"], LET_GO),
    Problem(
        "the controllers include different files",
        BACKUP,
        "echo MessageTimeout=12 >>/etc/slurm/nodes.conf",
        ["slurm-conf-differs"],
        "sed -i /MessageTimeout=12/d /etc/slurm/nodes.conf",
    ),
    Problem(
        "a Workflow has no job any more",
        MASTER,
        ":",
        ["orphan"],
        f"kubectl delete {WORKFLOWS} bb90001; kubectl delete crd workflows.argoproj.io",
    ),
)
"""What would have hidden, or been hidden by, one of FIRST for a good reason: who is refused by the registry sees no image."""

THIRD = (
    Problem(
        "the kubeconfig is no use to kubectl",
        PRIMARY,
        f"cp -a {KUBECONFIG} {KUBECONFIG}.away; sed -i 's|certificate-data: .*|certificate-data: Z2FyYmFnZQ==|' {KUBECONFIG}",
        ["kubeconfig-broken", "certificate-missing"],
        f"mv {KUBECONFIG}.away {KUBECONFIG}",
    ),
    Problem("the kubeconfig is gone", BACKUP, *spread(*moved(KUBECONFIG), ["kubeconfig-missing"])),
    Problem("a controller's disk is full", BACKUP, *spread(*full("/var/log/slurm"), ["disk-full"])),
    Problem("the master's disk is full", MASTER, *spread(*full("/var/lib/containers"), ["disk-full"])),
)
"""Of what hides too much for the others; all of it is taken back, so that no install has to follow."""


def expected(problems: Sequence[Problem]) -> set[tuple[str, str]]:
    """Host and name of every finding that there is to be."""
    return {finding for problem in problems for finding in problem.findings()}


@contextlib.contextmanager
def provoked(on: On, problems: Sequence[Problem]) -> Iterator[None]:
    """All of them, side by side on their hosts; taken back at last as far as an install would not see to it."""
    try:
        everywhere(on, [(one.host, one.commands) for one in problems])
        yield
    finally:
        everywhere(on, [(one.host, one.back) for one in problems])


def everywhere(on: On, commands: Sequence[tuple[str, str]]) -> None:
    """Each host's commands in their order, all hosts at once."""
    hosts = dict.fromkeys(host for host, _ in commands)
    joined = {host: "\n".join(["set -e", *(what for at, what in commands if at == host)]) for host in hosts}
    with ThreadPoolExecutor(len(hosts)) as pool:
        list(pool.map(lambda host: on(host, joined[host], deadline=300), hosts))
