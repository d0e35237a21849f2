"""The preflight: every problem that can be known in advance is reported at once, before a run changes anything."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from typing import Any

from dws_on_csm.domain import compatibility, tested
from dws_on_csm.model import render
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.lines import lines
from dws_on_csm.model.printable import first_few
from dws_on_csm.model.step import Check, Finding, ShellLook, StepContext, Value
from dws_on_csm.stages.dws import external
from dws_on_csm.stages.facts import CLUSTER, ClusterState
from dws_on_csm.stages.preflight import logins

TOOLS = ("awk", "bash", "curl", "expr", "git", "kubectl", "make", "openssl", "podman", "python3", "sed", "which")
"""What the Makefile of dws and this tool call on the master (its deploy.sh, git-version-gen and undeploy's python3)."""

TOOLS_TO_DEPLOY = ("expr", "make", "podman", "python3-yaml", "which")
"""What only the deployment of DWS needs, in the words of the look."""

REQUIRED_KB = 2_000_000
"""Kilobytes of free disk space: the clone is 100 MB; images and podman's unpacked layers need several hundred more."""

REQUIRED_KB_EXTERNAL = 100_000
"""The same where somebody else deploys DWS: the plugin's clone and this tool's records are small."""

SKEW = 30.0
"""Seconds by which a host's clock may differ: a certificate is valid from the master's time on."""

_MASTER = """
echo "uid $(id -u)"
echo "time $(date +%s)"
for tool in {tools}; do command -v "$tool" >/dev/null || echo "lacks $tool"; done
python3 -c 'import yaml' 2>/dev/null || echo "lacks python3-yaml"
folder={workarea}
while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
for one in "$folder" /var/lib/containers /var/lib; do
    [ ! -d "$one" ] || df -Pk "$one" | awk -v at="$one" 'NR == 2 {{print "room", $4, at}}'
done
[ -r {kubeconfig} ] || echo "lacks-file {kubeconfig}"
expired() {{
    until=$(printf '%s\\n' "$2" | openssl x509 -noout -enddate 2>/dev/null | sed -n 's/^notAfter=//p')
    [ -n "$until" ] || return 0
    printf '%s\\n' "$2" | openssl x509 -noout -checkend 0 >/dev/null 2>&1 || printf 'expired %s %s\\n' "$1" "$until"
}}
expired {kubeconfig} "$(tr -d '\\r' 2>/dev/null <{kubeconfig} | sed -n 's/^ *client-certificate-data: *"*\\([^"]*\\)"*$/\\1/p' |
    head -n 1 | base64 -d 2>/dev/null)"
expired {pki}/apiserver.crt "$(cat {pki}/apiserver.crt 2>/dev/null)"
for one in {kubeconfig} {pki}/ca.key; do [ ! -e "$one" ] || only_root_writes "$one" || echo "open-file $one"; done
"""


def _look_master(ctx: StepContext) -> ShellLook:
    master = ctx.site.master
    script = _MASTER.format(
        tools=" ".join(TOOLS),
        workarea=shlex.quote(master.workarea),
        pki=shlex.quote(master.pki),
        kubeconfig=shlex.quote(master.kubeconfig),
    )
    asked_at = time.time()
    return ShellLook(
        render.script("lib/as.sh") + script,
        lambda out: {"lines": _checked(lines(out)), "skew": skew(out, asked_at, time.time())},
    )


def _checked(output: list[str]) -> list[str]:
    """The lines, of which those about disk space have a number. Raises ValueError, IndexError."""
    for line in output:
        if line.startswith("room "):
            int(line.split()[1])
    return output


def skew(out: bytes, asked_at: float, answered_at: float) -> float:
    """The least number of seconds by which the host's clock is wrong. The host read it at some moment between the question and
    the answer, which is one answer for all looks there, and late where they take long."""
    clocks = [float(line.split(" ")[1]) for line in lines(out) if line.startswith("time ")]
    return round(clocks[0] - min(max(clocks[0], asked_at), answered_at), 0) if clocks else 0.0


def _judge_master(ctx: StepContext, have: Value) -> Sequence[Finding]:
    words = [line.split(" ", 1) for line in have["lines"]]
    spared = TOOLS_TO_DEPLOY if ctx.site.external else ()
    lacking = [rest for word, rest in words if word == "lacks" and rest not in spared]
    if ["uid", "0"] not in words:
        return [logins.not_root(ctx.host)]
    findings: list[Finding] = []
    if lacking:
        text = f"{ctx.host} lacks {', '.join(lacking)}"
        findings.append(
            Finding("tools-missing", text, "install them with the host's package manager, or correct master.path")
        )
    findings += [_expired(ctx.host, *rest.split(" ", 1)) for word, rest in words if word == "expired"]
    findings += [_unreadable(rest) for word, rest in words if word == "lacks-file"]
    findings += [_open(rest) for word, rest in words if word == "open-file"]
    required = REQUIRED_KB_EXTERNAL if ctx.site.external else REQUIRED_KB
    rooms = dict.fromkeys(rest for word, rest in words if word == "room" and int(rest.split()[0]) < required)
    findings += [_room(ctx.host, required, *rest.split(" ", 1)) for rest in rooms]
    return [*findings, *clock(ctx.host, have["skew"])]


def _expired(host: str, path: str, until: str) -> Finding:
    """A certificate of the control plane that has ended; its name for kubeadm is that of its file."""
    if path.endswith(".crt"):
        text = f"the API server's certificate {path} on {host} expired on {until}: nobody trusts its answers"
        fix = f"run `kubeadm certs renew apiserver` on {host}; then restart the API server: `crictl stop $(crictl ps -q --name "
        return Finding("api-certificate-expired", text, f"{fix}kube-apiserver)`, and the kubelet starts it again")
    text = (
        f"the certificate in {path} on {host} expired on {until}: the API server rejects kubectl there as Unauthorized"
    )
    name = shlex.quote(path.rpartition("/")[2])
    fix = f"run `kubeadm certs renew {name}` on {host}; `kubectl --kubeconfig {shlex.quote(path)} get nodes` there then works"
    return Finding("master-kubeconfig-expired", text, fix)


def _unreadable(path: str) -> Finding:
    fix = "set master.kubeconfig to the path of this file on the master"
    return Finding("master-file-missing", f"{path} cannot be read on the master", fix)


def _open(path: str) -> Finding:
    text = f"other users than root can write {path} or a folder above it; a kubeconfig can start programs, as root here"
    return Finding(
        "master-file-open", text, "let only root write this file and the folders above it, or correct master.kubeconfig"
    )


def _room(host: str, required: int, free: str, where: str) -> Finding:
    text = f"{where} on {host} has {int(free) // 1000} MB of free space, but {required // 1000} MB are needed"
    return Finding("disk-full", text, f"free disk space below {where}, for instance with `podman image prune`")


def clock(host: str, skew: float) -> Sequence[Finding]:
    """A finding if the clock of `host` differs too much, `skew` seconds, from the clock of this machine."""
    if abs(skew) <= SKEW:
        return ()
    text = (
        f"the clock of {host} differs from this machine's by {skew:+.0f} s: "
        "certificates would be rejected as not yet valid, or as expired"
    )
    return (Finding("clock-skew", text, set_clock(host)),)


def set_clock(host: str) -> str:
    """The fix for a clock that is wrong."""
    fix = f"run `chronyc -a makestep` on {host} (chronyd), or `systemctl restart systemd-timesyncd`, or `systemctl restart ntpd`, "
    return fix + "whichever keeps its clock; if none runs there, start one"


# --- the cluster


def read_cluster(cluster: Cluster) -> ClusterState:
    """The versions in the cluster, and its workers. Raises ClusterError."""
    version = cluster.get("/version") or {}
    served = cluster.get("/apis/cert-manager.io") or {"versions": []}
    nodes = (cluster.get("/api/v1/nodes") or {"items": []})["items"]
    return {
        "kubernetes": version.get("gitVersion", ""),
        "cert_manager": [version["version"] for version in served["versions"]],
        "workers": [node["metadata"]["name"] for node in nodes if not _away(node)],
        "away": {node["metadata"]["name"]: _away(node) for node in nodes if _away(node) and not _control_plane(node)},
    }


_CORDONED = "cordoned"


def _away(node: Mapping[str, Any]) -> str:
    """Why a node takes no pods: it is not Ready, cordoned, or has a taint; "" if it takes them."""
    spec = node["spec"]
    ready: Mapping[str, Any] = next(
        (c for c in node["status"].get("conditions", []) if c["type"] == "Ready"), {"status": "Unknown"}
    )
    if ready["status"] != "True":
        since = f" since {ready['lastTransitionTime']}" if ready.get("lastTransitionTime") else ""
        message = f": {ready['message']}" if ready.get("message") else ""
        return f"not Ready{since}{message}"[:200]
    if spec.get("unschedulable", False):
        return _CORDONED
    taints = [taint["key"] for taint in spec.get("taints", []) if taint["effect"] in ("NoSchedule", "NoExecute")]
    return f"taint {', '.join(taints)}" if taints else ""


_CONTROL_PLANE = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")


def _control_plane(node: Mapping[str, Any]) -> bool:
    labels = node["metadata"].get("labels") or {}
    return any(label in labels for label in _CONTROL_PLANE) or any(
        taint["key"] in _CONTROL_PLANE for taint in node["spec"].get("taints", [])
    )


def _versions(ctx: StepContext) -> dict[str, str]:
    return {"dws": external.version(ctx), "plugin": ctx.site.versions.plugin}


def _judge_cluster(ctx: StepContext, have: Value) -> Sequence[Finding]:
    versions = {**_versions(ctx), "kubernetes": have["kubernetes"].partition("+")[0]}
    declined = ("dws-too-new",) if ctx.site.plugin.workflow_version == "plugin" else ()
    findings = list(compatibility.findings(versions, declined=declined))
    if ctx.site.external:
        return findings
    if not {"v1", "v1alpha3"} & set(have["cert_manager"]):
        text = "cert-manager is not installed, or serves neither v1 nor v1alpha3; DWS's webhook gets its certificate from it"
        findings.append(
            Finding("cert-manager-missing", text, "install cert-manager first; on CSM it is part of the platform")
        )
    if len(have["workers"]) < 3:
        findings.append(_few_workers(have))
    return findings


def _few_workers(have: ClusterState) -> Finding:
    """Fewer than 3 workers take pods; which ones do not, why, and the command for each."""
    away = have.get("away", {})
    text = f"only {len(have['workers'])} workers are Ready and take pods; the 3 replicas of DWS's webhook must run on 3 hosts"
    text += f". These take none: {first_few([f'{name} ({why})' for name, why in away.items()])}" if away else ""
    cordoned = [name for name, why in away.items() if why == _CORDONED]
    others = [name for name, why in away.items() if why != _CORDONED]
    fixes = [f"run `{shlex.join(['kubectl', 'uncordon', *cordoned])}` on the master"] if cordoned else []
    fixes += [f"see `{shlex.join(['kubectl', 'describe', 'node', *others])}` on the master"] if others else []
    goal = "get 3 workers Ready, uncordoned and without a NoSchedule taint"
    return Finding("workers-few", text, f"{'; '.join(fixes)}: {goal}" if fixes else goal)


MASTER = Check("master", "master", _look_master, _judge_master)


def _note_cluster(ctx: StepContext, have: Value) -> str:
    return tested.note({**_versions(ctx), "kubernetes": have["kubernetes"].partition("+")[0].removeprefix("v")})


CLUSTER_CHECK = Check(CLUSTER.step, "master", lambda ctx: CLUSTER.api(read_cluster), _judge_cluster, note=_note_cluster)
