"""Nights of an administrator: something breaks, `invoke doctor` names the cause, its fix is typed as it stands, all is well again.

A table: each row breaks one thing on an installed site. `make matrix` tries the rows of the sample; `make nights` tries all of them
(NIGHTS=1 does so too; -k WHAT chooses some). All rows share one lab, and each leaves it as it was.
"""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab import ssh
from lab.model import Lab
from tests.lab import command, scene
from tests.lab.conftest import On
from tests.lab.scene import BACKUP, MASTER, PRIMARY

pytestmark = [pytest.mark.lab, pytest.mark.matrix, pytest.mark.timeout(1200)]


@dataclass(frozen=True)
class Night:
    """What broke, and how the night ends.

    what     one sentence, the test's name
    host     where `breaks` is typed, by root; several hosts with spaces between them
    breaks   the commands that break it; they wait until it is broken
    causes   the findings that are counted, "NAME" on `host` or "HOST NAME": exactly these; others follow from them
    says     a text that the first cause's finding has: what an administrator has to know
    typed    which commands of the first cause's fix are typed, by their number: those in backticks, in order, from 0. Those of
             invoke, fab and scp here, the others on `on`. A command that asks is confirmed with --yes. None where the fix has to
             leave the repair to people, who know where the right program or file is: `back` plays them
    on       where commands that are not invoke's or fab's are typed: a host, or several
    until    a command on `on`, or on the master where that is several hosts, that ends when the fix has worked
    back     what else to take back on `host`, whatever happened
    sample   whether `make matrix` tries this row
    """

    what: str
    host: str
    breaks: str
    causes: tuple[str, ...]
    says: str = ""
    typed: tuple[int, ...] = (0,)
    on: str = MASTER
    until: str = ":"
    back: str = ":"
    sample: bool = False

    @property
    def expected(self) -> set[tuple[str, str]]:
        """Host and name of each cause."""
        pairs = [cause.rpartition(" ") for cause in self.causes]
        return {(host or self.host, name) for host, _, name in pairs}


SCALED = "kubectl -n dws-system scale deployment dws-webhook --replicas=0"

HELD = """kubectl -n dws-system create configmap held
kubectl -n dws-system patch configmap held --type=merge -p '{"metadata": {"finalizers": ["example.com/held"]}}'"""
LET_GO = """kubectl -n dws-system patch configmap held --type=merge -p '{"metadata": {"finalizers": null}}'"""
ISSUER = "{apiVersion: cert-manager.io/v1, kind: Issuer, metadata: {name: tried, namespace: default}, spec: {selfSigned: {}}}"
ADMITS = f"until echo '{ISSUER}' | kubectl create --dry-run=server -f - 2>/dev/null; do sleep 0.5; done"

POLICY = """kubectl create -f - <<'YAML'
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: no-storage}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - {apiGroups: [dataworkflowservices.github.io], apiVersions: ["*"], operations: [CREATE], resources: [workflows]}
  validations: [{expression: "false", message: storage needs a ticket}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: everywhere}
spec: {policyName: no-storage, validationActions: [Deny]}
YAML"""
GATEKEEPER = """kubectl create -f - <<'YAML'
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: gatekeeper}
webhooks:
- name: validation.gatekeeper.sh
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Fail
  timeoutSeconds: 3
  clientConfig: {service: {namespace: gatekeeper-system, name: gatekeeper-webhook-service, path: /v1/admit}}
  rules: [{apiGroups: [dataworkflowservices.github.io], apiVersions: ["*"], operations: [CREATE], resources: [workflows]}]
YAML"""
SERVICE = "service: {namespace: gatekeeper-system, name: gatekeeper-webhook-service, path: /v1/admit}"
SILENT = (
    "ip neigh replace 192.0.2.9 lladdr 02:00:00:00:00:01 nud permanent dev eth0; ip route replace 192.0.2.9 dev eth0"
)
TRIED = """kubectl create --dry-run=server -f - 2>/dev/null <<'YAML'
{apiVersion: dataworkflowservices.github.io/v1alpha2, kind: Workflow, metadata: {name: tried, namespace: default},
 spec: {desiredState: Proposal, dwDirectives: [], wlmID: slurm, jobID: "1", userID: 1500, groupID: 1500}}
YAML"""
WORKFLOWS = "/apis/dataworkflowservices.github.io/v1alpha2/workflows"
REJECTED, ADMITTED = (f"{word} {TRIED}\ndo sleep 0.5; done" for word in ("while", "until"))
NO_WEBHOOKS = "--disable-admission-plugins=MutatingAdmissionWebhook,ValidatingAdmissionWebhook"
API_UNIT = "/etc/systemd/system/kube-apiserver.service"
API_RESTARTED = (
    "systemctl daemon-reload; systemctl restart kube-apiserver; until kubectl get --raw /readyz; do sleep 0.5; done"
)
WRONG = TRIED.replace("dwDirectives: []", "dwDirectives: ['#DW bogus']")
WRONG_REJECTED, WRONG_ADMITTED = (f"{word} {WRONG}\ndo sleep 0.5; done" for word in ("while", "until"))
KUBECONFIG, KUBECTL = "/etc/slurm/slurm-dws.kubeconfig", "/usr/bin/kubectl"
API = f"$(sed -n 's|.*https://\\([0-9.]*\\):.*|\\1|p' {KUBECONFIG})"
DROP_IN, RESTARTED = "/etc/systemd/system/slurmctld.service.d", "systemctl restart slurmctld"
LEASE = "kubectl -n dws-system get leases -o jsonpath='{.items[0].spec.renewTime}'"
TOKENS_RENEWED = """for space in cert-manager dws-system; do kubectl -n $space delete pods --all; done
for space in cert-manager dws-system; do kubectl -n $space wait --for=condition=Available deployment --all --timeout=90s; done"""
LIMITED = f"mkdir -p {DROP_IN}; printf '[Service]\\nLimitAS=%s\\n'"
UNLIMITED = f"rm -f {DROP_IN}/limit.conf {DROP_IN}/zz-no-limit.conf; systemctl daemon-reload"
POD = "$(kubectl -n dws-system get pods --selector control-plane=webhook -o jsonpath='{.items[0].status.podIP}')"
OF_WORKER = "kubectl --kubeconfig /etc/kubernetes/kubelet.conf -n dws-system"
PODS_HERE = f"{OF_WORKER} get pods --field-selector spec.nodeName=$(hostname)"
DELETED_HERE = f"{OF_WORKER} delete $({PODS_HERE} -o name)"
WORKERS = "ncn-w001 ncn-w002 ncn-w003"
BOTH_HEARD = "until [ $(scontrol ping | grep -c 'is UP') = 2 ]; do sleep 0.5; done"

NIGHTS = (
    Night(
        "the webhook was scaled to no pods",
        MASTER,
        f"{SCALED}; kubectl -n dws-system wait --for=delete pod -l control-plane=webhook --timeout=100s",
        ("objects-differ",),
        sample=True,
    ),
    Night(
        "the namespace of DWS was deleted, and an object with a finalizer holds it",
        MASTER,
        f"""{HELD}; kubectl delete namespace dws-system --wait=false
kubectl wait namespace/dws-system --for=condition=NamespaceFinalizersRemaining --timeout=100s""",
        ("namespace-terminating",),
        says="configmaps/held (finalizer example.com/held)",
        typed=(0, 1, 2),
        back=f"{LET_GO} 2>/dev/null || true",
    ),
    Night(
        "a finalizer of another program holds a Workflow that the plugin has deleted",
        PRIMARY,
        # the finding is about a job that has been over for a minute: the time itself is what is awaited
        f"""job=$(su joe -c 'cd /tmp; printf "#!/bin/sh\\n#DW\\ntrue\\n" | sbatch --parsable --output=/dev/null --hold')
kubectl="kubectl --kubeconfig {KUBECONFIG}" workflow=workflows.dataworkflowservices.github.io/bb$job
$kubectl patch $workflow --type=json -p '[{{"op": "add", "path": "/metadata/finalizers/-", "value": "example.com/held"}}]'
scontrol release $job; until $kubectl get $workflow -o yaml | grep deletionTimestamp; do sleep 0.5; done
end=$(($(date +%s) + 65)); until [ "$(date +%s)" -gt $end ]; do sleep 1; done""",
        (f"{MASTER} orphan",),
        says="finalizer example.com/held",
        until="while kubectl get workflows -A --no-headers | grep bb; do sleep 0.5; done",
    ),
    Night(
        "cert-manager was scaled to no pods",
        MASTER,
        """kubectl -n cert-manager scale deployment --all --replicas=0
kubectl -n cert-manager wait --for=delete pod --all --timeout=100s""",
        ("cert-manager-away",),
        says="cert-manager-webhook 0 of 0",
        typed=(0, 1),
        until=ADMITS,
        back="kubectl -n cert-manager scale deployment --all --replicas=1",
    ),
    Night(
        "cert-manager's cainjector was scaled to no pods, and DWS's webhook configurations have another CA",
        MASTER,
        f"""kubectl -n cert-manager scale deployment cert-manager-cainjector --replicas=0
kubectl -n cert-manager wait --for=delete pod -l app=cainjector --timeout=100s
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=other -keyout /dev/null -out /root/other.crt
for kind in mutating validating
do kubectl patch ${{kind}}webhookconfiguration dws-$kind-webhook-configuration --type=json -p \
    '[{{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": "'$(base64 -w0 /root/other.crt)'"}}]'
done
{REJECTED}""",
        ("cert-manager-away",),
        says="the caBundle of mutatingwebhookconfiguration dws-mutating-webhook-configuration and",
        typed=(0, 1),
        until=ADMITTED,
        back="rm -f /root/other.crt; kubectl -n cert-manager scale deployment cert-manager-cainjector --replicas=1",
    ),
    Night(
        "kube-proxy does not run on the master, and its rules are gone",
        MASTER,
        """systemctl stop kube-proxy; nft list tables | sed -n 's/.* kube-proxy$/delete &/p' | nft -f -
systemctl restart kube-apiserver; until kubectl get --raw /readyz; do sleep 0.5; done""",
        ("kube-proxy-away",),
        says="at their own addresses",
        until=ADMITTED,
        back="systemctl start kube-proxy",
    ),
    Night(
        "the issuer of the webhook's certificate was deleted, and the certificate",
        MASTER,
        """kubectl -n dws-system delete issuer dws-selfsigned-issuer; kubectl -n dws-system delete secret webhook-server-cert
kubectl -n dws-system wait certificate dws-serving-cert --for=condition=Ready=False --timeout=100s""",
        ("objects-missing",),
        says="Issuer dws-selfsigned-issuer",
        until="kubectl -n dws-system wait certificate dws-serving-cert --for=condition=Ready --timeout=100s",
    ),
    Night(
        "a worker was cordoned, and nobody remembers which",
        MASTER,
        "kubectl cordon ncn-w003",
        ("workers-few",),
        says="ncn-w003 (cordoned)",
        back="kubectl uncordon ncn-w003",
    ),
    Night(
        "a policy of the site rejects Workflows",
        MASTER,
        f"{POLICY}\n{REJECTED}",
        ("rejected-by-rule",),
        says="validatingadmissionpolicy no-storage",
        typed=(1,),
        until=ADMITTED,
        back="kubectl delete --ignore-not-found validatingadmissionpolicybinding/everywhere validatingadmissionpolicy/no-storage",
    ),
    Night(
        "the webhook of another program, which is gone, is asked about Workflows",
        MASTER,
        f"{GATEKEEPER}\n{REJECTED}",
        ("rejected-by-rule",),
        says="Service gatekeeper-webhook-service do not respond",
        typed=(0, 1),
        until=ADMITTED,
        back="kubectl delete --ignore-not-found validatingwebhookconfiguration gatekeeper",
    ),
    Night(
        "a quota leaves no room for Workflows",
        MASTER,
        f"kubectl create quota few --hard=count/workflows.dataworkflowservices.github.io=0\n{REJECTED}",
        ("rejected-by-rule",),
        says="resourcequota few",
        typed=(0, 1),
        until=ADMITTED,
        back="kubectl delete --ignore-not-found quota few",
    ),
    Night(
        "somebody set another image in the controller's Deployment",
        MASTER,
        """kubectl -n dws-system set image deployment/dws-controller-manager manager=registry.local/dws:0.0.99
until kubectl -n dws-system get pods | grep -q -e ErrImagePull -e ImagePullBackOff; do sleep 0.5; done""",
        ("objects-differ",),
        says='is "registry.local/dws:0.0.99", not',
    ),
    Night(
        "the CRD of Workflows was deleted",
        MASTER,
        "kubectl delete crd workflows.dataworkflowservices.github.io --timeout=100s",
        ("objects-missing",),
        says="CustomResourceDefinition workflows.dataworkflowservices.github.io",
        until=ADMITTED,
    ),
    Night(
        "munge has another key on the backup",
        BACKUP,
        "head -c 128 /dev/urandom >/etc/munge/munge.key; systemctl restart munge",
        ("auth-key-differs",),
        typed=(0, 1, 2),
        on=BACKUP,
        until=BOTH_HEARD,
    ),
    Night(
        "the unit of slurmctld was masked on the backup",
        BACKUP,
        "systemctl mask --now slurmctld",
        ("slurm-unit-masked",),
        on=BACKUP,
        back=f"systemctl unmask slurmctld; systemctl enable --now slurmctld; {BOTH_HEARD}",
    ),
    Night(
        "the backup lost Lua's library",
        BACKUP,
        "mkdir -p /root/away; mv /usr/lib/*/liblua5.4.so.0* /root/away/",
        ("lua-library-missing",),
        says="liblua5.4.so.0",
        typed=(),
        back="mv /root/away/* /usr/lib/$(uname -m)-linux-gnu/ 2>/dev/null || true",
    ),
    Night(
        "the folder of slurm.conf was closed to SlurmUser",
        PRIMARY,
        "chmod 700 /etc/slurm",
        ("slurm-files-closed",),
        says="may not enter /etc/slurm",
        on=PRIMARY,
        back="chmod 755 /etc/slurm",
    ),
    Night(
        "kubectl is not executable",
        PRIMARY,
        f"chmod 644 {KUBECTL}",
        ("kubectl-missing",),
        says=f"{KUBECTL} is not executable",
        on=PRIMARY,
        back=f"chmod 755 {KUBECTL}",
    ),
    Night(
        "kubectl was cut off",
        PRIMARY,
        f"cp -p {KUBECTL} /root/kubectl; truncate -s 2000000 {KUBECTL}",
        ("kubectl-broken",),
        typed=(),
        back=f"[ ! -e /root/kubectl ] || mv /root/kubectl {KUBECTL}",
    ),
    Night(
        "the backup has no way to the API server",
        BACKUP,
        f"ip route add blackhole {API}",
        ("api-unreachable",),
        says=f"{PRIMARY} reaches that server",
        typed=(),
        back=f"ip route del blackhole {API} 2>/dev/null || true",
    ),
    Night(
        "the plugin is a link to a disk that is not there",
        PRIMARY,
        "mv /etc/slurm/burst_buffer.lua /root/; ln -s /opt/none/burst_buffer.lua /etc/slurm/burst_buffer.lua",
        ("slurm-file-link",),
        says="is a link to /opt/none/burst_buffer.lua",
        typed=(0, 1),
        on=PRIMARY,
    ),
    Night(
        "kube-scheduler does not run, and a pod of the webhook was lost",
        MASTER,
        # the finding is about a pod that has waited for half a minute: the time itself is what is awaited
        """systemctl stop kube-scheduler
kubectl -n dws-system delete --timeout=100s $(kubectl -n dws-system get pods -l control-plane=webhook -o name | head -n 1)
sleep 45""",
        ("scheduler-away",),
        says="it has not looked at dws-webhook-",
        typed=(),
        back="systemctl start kube-scheduler; kubectl -n dws-system rollout status deployment/dws-webhook --timeout=100s",
    ),
    Night(
        "the backup looks for the primary at a wrong address",
        BACKUP,
        f"""sed -i.was 's/^[0-9.]*\\([[:space:]].*{PRIMARY}\\)/192.0.2.9\\1/' /etc/hosts; getent hosts {PRIMARY} | grep -F 192.0.2.9
{RESTARTED}; until scontrol ping | grep '{PRIMARY} is DOWN'; do sleep 0.5; done""",
        ("controllers-divided",),
        says=f"resolves {PRIMARY} to 192.0.2.9",
        typed=(),
        back=f"[ ! -e /etc/hosts.was ] || mv /etc/hosts.was /etc/hosts; {RESTARTED}; {BOTH_HEARD}",
    ),
    Night(
        "SlurmUser cannot write /tmp",
        PRIMARY,
        "chmod 755 /tmp",
        ("tmp-closed",),
        on=PRIMARY,
        back="chmod 1777 /tmp",
    ),
    Night(
        "a profile gave slurmctld a proxy",
        PRIMARY,
        f"""mkdir -p {DROP_IN}; printf '[Service]\\nEnvironment=HTTPS_PROXY=http://192.0.2.9:3128\\n' >{DROP_IN}/proxy.conf
systemctl daemon-reload; {RESTARTED}; {BOTH_HEARD}""",
        ("slurmctld-proxy",),
        says="HTTPS_PROXY=http://192.0.2.9:3128",
        typed=(1, 2),
        on=PRIMARY,
        until=BOTH_HEARD,
        back=f"rm -f {DROP_IN}/proxy.conf {DROP_IN}/zz-no-proxy.conf; systemctl daemon-reload; {RESTARTED}; {BOTH_HEARD}",
    ),
    Night(
        "the cluster shows its APIs to nobody",
        MASTER,
        "kubectl delete clusterrolebinding system:discovery",
        (f"{PRIMARY} discovery-refused", f"{BACKUP} discovery-refused"),
        typed=(1,),
        back="kubectl get clusterrolebinding system:discovery || "
        "kubectl create clusterrolebinding system:discovery --clusterrole=system:discovery --group=system:authenticated",
    ),
    Night(
        "the webhook of another program, which is gone, is asked about Workflows, and may be silent",
        MASTER,
        f"{SILENT}\n{GATEKEEPER.replace('Policy: Fail', 'Policy: Ignore').replace(SERVICE, 'url: https://192.0.2.9/')}",
        ("webhook-slow",),
        says="validatingwebhookconfiguration gatekeeper",
        typed=(0, 1),
        back="kubectl delete --ignore-not-found validatingwebhookconfiguration gatekeeper; "
        "ip neigh del 192.0.2.9 dev eth0 2>/dev/null; ip route del 192.0.2.9 2>/dev/null || true",
    ),
    Night(
        "the nodes were drained, and nobody returned them",
        PRIMARY,
        "scontrol update NodeName=ALL State=DRAIN Reason=maintenance",
        ("nodes-unavailable",),
        says="maintenance",
        on=PRIMARY,
        back="scontrol update NodeName=ALL State=RESUME 2>/dev/null || true",
    ),
    Night(
        "the key of the service accounts was replaced, and no pod was restarted",
        MASTER,
        # the finding is about a Lease that is a minute old: the time itself is what is awaited
        f"""cd /etc/kubernetes/pki; openssl genrsa -out sa.key 2048; openssl rsa -in sa.key -pubout -out sa.pub
systemctl restart kube-apiserver kube-controller-manager; until kubectl get --raw /readyz; do sleep 0.5; done
until [ $(($(date +%s) - $(date -d "$({LEASE})" +%s))) -gt 75 ]; do sleep 1; done""",
        ("dws-controller-idle",),
        until="kubectl -n dws-system rollout status deployment/dws-controller-manager --timeout=100s",
        back=TOKENS_RENEWED,
    ),
    Night(
        "a LimitRange gives the pods of DWS less memory than they ask for, and one was lost",
        MASTER,
        """kubectl -n dws-system create -f - <<'YAML'
{apiVersion: v1, kind: LimitRange, metadata: {name: small}, spec: {limits: [{type: Container, max: {memory: 16Mi}}]}}
YAML
kubectl -n dws-system delete --timeout=100s $(kubectl -n dws-system get pods -l control-plane=webhook -o name | head -n 1)
kubectl -n dws-system wait deployment/dws-webhook --for=condition=ReplicaFailure --timeout=100s""",
        ("rejected-by-rule",),
        says="limitrange small",
        typed=(0, 1),
        until="kubectl -n dws-system rollout status deployment/dws-webhook --timeout=190s",
        back="kubectl -n dws-system delete --ignore-not-found limitrange small",
    ),
    Night(
        "somebody started the backup's slurmctld by hand, outside its unit",
        BACKUP,
        "systemctl stop slurmctld; slurmctld; until scontrol ping | grep '2.* is UP'; do sleep 0.5; done",
        ("slurmctld-not-running",),
        says="outside its unit",
        typed=(0, 1),
        on=BACKUP,
        until=BOTH_HEARD,
        back=f"systemctl is-active slurmctld || {{ pkill -x slurmctld; sleep 1; systemctl start slurmctld; }}; {BOTH_HEARD}",
    ),
    Night(
        "the backup has the primary's name, as a clone of its disk",
        BACKUP,
        f"hostname {PRIMARY}; echo {PRIMARY} >/etc/hostname",
        ("host-name-differs",),
        says=f"gives itself the name of {PRIMARY}",
        on=BACKUP,
        back=f"hostname {BACKUP}; echo {BACKUP} >/etc/hostname",
    ),
    Night(
        "slurmctld's unit leaves kubectl too little memory",
        PRIMARY,
        f"{LIMITED} 500M >{DROP_IN}/limit.conf; systemctl daemon-reload; {RESTARTED}; {BOTH_HEARD}",
        ("slurmctld-limit",),
        says="LimitAS",
        typed=(1, 2),
        on=PRIMARY,
        until=BOTH_HEARD,
        back=f"{UNLIMITED}; {RESTARTED}; {BOTH_HEARD}",
    ),
    Night(
        "slurmctld's unit leaves slurmctld itself too little memory",
        BACKUP,
        f"""{LIMITED} 20M >{DROP_IN}/limit.conf; systemctl daemon-reload; {RESTARTED} || true
while systemctl -q is-active slurmctld; do sleep 0.5; done""",
        ("slurmctld-not-running",),
        says="LimitAS",
        typed=(2, 3),
        on=BACKUP,
        until=BOTH_HEARD,
        back=f"{UNLIMITED}; systemctl is-active slurmctld || {RESTARTED}; {BOTH_HEARD}",
    ),
    Night(
        "somebody restarted the pods of the webhook, on as many workers as there are pods",
        MASTER,
        """kubectl -n dws-system rollout restart deployment/dws-webhook
until kubectl -n dws-system get pods -o json |
    jq -e 'any(.items[].status.conditions[]?; .type == "PodScheduled" and .status == "False")'
do sleep 0.5; done""",
        ("update-blocked",),
        says="The old pods still serve",
        until="kubectl -n dws-system rollout status deployment/dws-webhook --timeout=100s",
    ),
    Night(
        "a hardening took the tokens from the ServiceAccounts of DWS",
        MASTER,
        """kubectl -n dws-system patch serviceaccount dws-controller-manager dws-webhook --type=merge \\
    -p '{"automountServiceAccountToken": false}'
kubectl -n dws-system delete pods --all
until kubectl -n dws-system get pods | grep CrashLoopBackOff; do sleep 0.5; done""",
        ("dws-token-missing",),
        says="ServiceAccounts dws-controller-manager, dws-webhook",
        typed=(0, 1, 2),
        until="kubectl -n dws-system wait --for=condition=Available deployment --all --timeout=90s",
    ),
    Night(
        "a worker lost the image with which containerd starts every pod",
        "ncn-w001",
        f"""ctr -n k8s.io images export /root/sandbox-image.tar lab.local/pause:1
ctr -n k8s.io images rm lab.local/pause:1
{DELETED_HERE}
until journalctl -u kubelet --since -60s | grep 'failed to get sandbox image'; do sleep 0.5; done""",
        ("ncn-m001 pods-not-ready",),
        says="lab.local/pause:1, with which containerd starts every pod, is missing on ncn-w001",
        typed=(1, 4),
        on="ncn-w001",
        back="cd /root; if [ -e sandbox-image.tar ]; then ctr -n k8s.io images import sandbox-image.tar; rm *.tar; fi",
    ),
    Night(
        "a worker lost its way of reading the registry, and the images of DWS",
        "ncn-w001",
        f"""mv /etc/containerd/certs.d/registry.local /root/
ctr -n k8s.io images rm $(ctr -n k8s.io images ls -q | grep registry.local)
{DELETED_HERE}
until {PODS_HERE} | grep -E 'ErrImagePull|ImagePullBackOff'; do sleep 0.5; done""",
        ("ncn-m001 pods-not-ready",),
        says="but containerd on ncn-w001 is asked for a password",
        typed=(),
        back=f"""if [ -e /root/registry.local ]
then mv /root/registry.local /etc/containerd/certs.d/; {DELETED_HERE}
fi
until {PODS_HERE} | grep 1/1; do sleep 0.5; done""",
    ),
    Night(
        "the master lost its route to a pod of the webhook",
        MASTER,
        f"ip route add blackhole {POD}",
        ("webhook-pod-unreachable",),
        says="cannot reach 1 of 3 pods",
        typed=(),
        back="for one in $(ip route show type blackhole | sed 's/^blackhole //'); do ip route del blackhole $one; done",
    ),
    Night(
        "another team's cleanup deletes Workflows",
        PRIMARY,
        # the finding is about a job that is a minute old: the time itself is what is awaited
        f"""job=$(su joe -c 'cd /tmp; printf "#!/bin/sh\\n#DW\\ntrue\\n" | sbatch --parsable --output=/dev/null --hold')
kubectl --kubeconfig {KUBECONFIG} delete workflows.dataworkflowservices.github.io bb$job
end=$(($(date +%s) + 65)); until [ "$(date +%s)" -gt $end ]; do sleep 1; done""",
        (f"{MASTER} workflow-gone",),
        says="(PENDING)",
        on=PRIMARY,
        until='while [ -n "$(squeue --noheader --states=PENDING)" ]; do sleep 0.5; done',
        back="scancel --state=PENDING --user=joe",
    ),
    Night(
        "a hardening of the workers turned the forwarding of packets off",
        WORKERS,
        "sysctl -w net.ipv4.ip_forward=0",
        (f"{MASTER} pod-network-broken",),
        says="3 of 3 pods of DWS's webhook",
        typed=(0, 1),
        on=WORKERS,
        until=f"""{ADMITTED}\nuntil [ $(($(date +%s) - $(date -d "$({LEASE})" +%s))) -lt 20 ]; do sleep 1; done
for space in cert-manager dws-system; do kubectl -n $space wait --for=condition=Available deployment --all --timeout=90s; done""",
        back="sysctl -w net.ipv4.ip_forward=1",
    ),
    Night(
        "an APIService sends the requests for Workflows to a Service that does not exist",
        MASTER,
        f"""kubectl replace -f - <<'YAML'
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {{name: v1alpha2.dataworkflowservices.github.io}}
spec:
  group: dataworkflowservices.github.io
  version: v1alpha2
  groupPriorityMinimum: 1000
  versionPriority: 100
  insecureSkipTLSVerify: true
  service: {{namespace: default, name: storage-api}}
YAML
while kubectl get --raw {WORKFLOWS} 2>/dev/null; do sleep 0.5; done""",
        ("api-redirected",),
        says="to the Service default/storage-api",
        until=f"until kubectl get --raw {WORKFLOWS}; do sleep 0.5; done",
        back="kubectl delete apiservice v1alpha2.dataworkflowservices.github.io; "
        f"until kubectl get --raw {WORKFLOWS}; do sleep 0.5; done",
    ),
    Night(
        "the API server runs without the plugins that call webhooks",
        MASTER,
        f"sed -i 's/--profiling=false/& {NO_WEBHOOKS}/' {API_UNIT}; {API_RESTARTED}; {WRONG_ADMITTED}",
        ("webhooks-not-called",),
        says="a #DW line that no rule has",
        back=f"sed -i 's/ {NO_WEBHOOKS}//' {API_UNIT}; {API_RESTARTED}; {WRONG_REJECTED}",
    ),
    Night(
        "the plugin has a syntax error",
        PRIMARY,
        "sed -i 's/^function slurm_bb_setup/functin slurm_bb_setup/' /etc/slurm/burst_buffer.lua",
        ("plugin-edited",),
        says="functin",
    ),
)


def tried() -> list[Night]:
    """The rows of this run."""
    return [night for night in NIGHTS if night.sample or os.environ.get("NIGHTS")]


@pytest.fixture(scope="module")
def site(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site file of an installed site, which accepts an API that is slow: a machine with little to spare is no finding here."""
    site = scene.variant(lab, tmp_path_factory.mktemp("nights"), {"accept": ["api-slow"]})
    scene.installed(lab, site)
    return site


@pytest.fixture
def broken(lab: Lab, on: On, site: Path, request: pytest.FixtureRequest) -> Iterator[Night]:
    """One row, broken; whatever the test says, it is taken back, and what that leaves is installed."""
    night: Night = request.param
    try:
        for host in night.host.split():
            on(host, night.breaks, deadline=200)
        yield night
    finally:
        for host in night.host.split():
            on(host, night.back, deadline=200)
        if request.node.stash.get(UNDONE, True):
            scene.installed(lab, site)


UNDONE = pytest.StashKey[bool]()
"""Of a test: whether its row may have left anything broken."""


@pytest.mark.parametrize("broken", tried(), ids=lambda night: night.what, indirect=True)
def test_the_cause_is_named_and_its_fix_works(
    lab: Lab, on: On, site: Path, broken: Night, request: pytest.FixtureRequest
) -> None:
    """Exactly the causes are counted, everything else follows from them; after the fix, typed literally, nothing is wrong."""
    findings, unseen = examined(site)
    causes = [finding for finding in findings if finding["follows_from"] is None]
    assert {(finding["host"], finding["name"]) for finding in causes} == broken.expected, (findings, unseen)
    first = broken.causes[0].rpartition(" ")[2]
    cause = next(finding for finding in causes if finding["name"] == first)
    assert broken.says in f"{cause['text']} {cause['fix']}"
    commands = re.findall(r"`([^`]+)`", cause["fix"])
    for number in broken.typed:
        typed(lab, broken, commands[number])
    on(MASTER if " " in broken.on else broken.on, broken.until, deadline=200)
    for host in broken.host.split():
        on(host, broken.back, deadline=200)
    assert examined(site) == ([], [])
    request.node.stash[UNDONE] = False


def typed(lab: Lab, night: Night, words: str) -> None:
    """Type a command of a fix as it stands: ours here, which must succeed, and others on a host."""
    program, *options = shlex.split(words)
    if program == "invoke":
        asks = ["--yes"] if options[0] in ("install", "undeploy", "rollback", "workflows") else []
        done = command.invoke(*options, *asks, deadline=400)
        assert done.code == 0, f"{words}\n{done.out[-3000:]}{done.err[-3000:]}"
    elif program == "scp":
        subprocess.run([program, "-q", *options], timeout=100, check=True)
    elif program == "fab":
        done = command.fab(*options[1:], deadline=400)
        assert done.code == 0, f"{words}\n{done.out[-3000:]}{done.err[-3000:]}"
    else:
        for host in night.on.split():
            ssh.run(lab, host, words, "", 200)


def examined(site: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What `invoke doctor --json` found that the site does not accept, and what it could not check."""
    answer = command.invoke("doctor", f"--hosts={site}", "--json", deadline=400)
    return [finding for finding in answer.records("finding") if not finding["accepted"]], answer.records("unseen")
