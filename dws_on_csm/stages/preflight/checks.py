"""What can be known to fail is said before anything is touched, all of it at once."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from typing import Any

from dws_on_csm.domain import compatibility
from dws_on_csm.model import render
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.lines import lines
from dws_on_csm.model.step import Check, Finding, ShellLook, Stage, StepContext, Value
from dws_on_csm.stages import verify
from dws_on_csm.stages.access import revoked_names
from dws_on_csm.stages.dws import installed, replace, workflow_namespace
from dws_on_csm.stages.dws.cert_manager_overlay import CLUSTER, ClusterState
from dws_on_csm.stages.preflight import endpoints, named_controllers, writable_folders
from dws_on_csm.stages.slurm import computes, controller, pod_checks

TOOLS = ("awk", "bash", "curl", "expr", "git", "kubectl", "make", "openssl", "podman", "python3", "sed", "which")
"""What the Makefile of dws and this tool call on the master (its deploy.sh, git-version-gen and undeploy's python3)."""

ROOM = 2_000_000
"""Kilobytes that must be free: the clone is 100 MB, images and podman's unpacked layers some hundred more."""

SKEW = 30.0
"""Seconds that a host's clock may differ: a certificate is valid from the master's time on."""

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
[ -r {pki}/ca.key ] || echo "lacks-key {pki}/ca.key"
[ -r {kubeconfig} ] || echo "lacks-file {kubeconfig}"
for one in {kubeconfig} {pki}/ca.key; do [ ! -e "$one" ] || roots "$one" || echo "open-file $one"; done
"""


def _look_master(ctx: StepContext) -> ShellLook:
    master = ctx.site.master
    script = _MASTER.format(
        tools=" ".join(TOOLS),
        workarea=shlex.quote(master.workarea),
        pki=shlex.quote(master.pki),
        kubeconfig=shlex.quote(master.kubeconfig),
    )
    asked = time.time()
    return ShellLook(
        render.script("lib/as.sh") + script,
        lambda out: {"lines": _counted(lines(out)), "skew": _skew(out, asked, time.time())},
    )


def _counted(said: list[str]) -> list[str]:
    """The lines; those that tell room tell a number. ValueError, IndexError."""
    for line in said:
        if line.startswith("room "):
            int(line.split()[1])
    return said


def _skew(out: bytes, asked: float, answered: float) -> float:
    """Seconds that the host's clock is off at least: it was read at some moment between the question and the answer, which
    comes with those of all other looks there, and takes long where they do."""
    told = [float(line.split(" ")[1]) for line in lines(out) if line.startswith("time ")]
    return round(told[0] - min(max(told[0], asked), answered), 0) if told else 0.0


def _judge_master(ctx: StepContext, have: Value) -> Sequence[Finding]:
    words = [line.split(" ", 1) for line in have["lines"]]
    lacking = [rest for word, rest in words if word == "lacks"]
    found = [_uid(ctx.host)] if ["uid", "0"] not in words else []
    if lacking:
        text = f"{ctx.host} lacks {', '.join(lacking)}"
        found.append(
            Finding("tools-missing", text, "install them with the host's package manager, or correct master.path")
        )
    needed = ("lacks-file",) if ctx.site.access.via == "csr" else ("lacks-key", "lacks-file")
    found += [_unreadable(rest) for word, rest in words if word in needed]
    found += [_open(rest) for word, rest in words if word == "open-file"]
    rooms = dict.fromkeys(rest for word, rest in words if word == "room" and int(rest.split()[0]) < ROOM)
    found += [_room(ctx.host, *rest.split(" ", 1)) for rest in rooms]
    return [*found, *clock(ctx.host, have["skew"])]


def _uid(host: str) -> Finding:
    return Finding("not-root", f"the login on {host} isn't root's", "set user: root for this host, or sudo: true")


def _unreadable(path: str) -> Finding:
    fix = "set master.pki and master.kubeconfig to where they are"
    return Finding("master-file-missing", f"{path} can't be read", fix)


def _open(path: str) -> Finding:
    text = f"others than root can write {path}, or a folder above it: a kubeconfig may name programs, and root runs kubectl"
    return Finding(
        "master-file-open", text, "let root alone write it and the folders above it, or correct master.kubeconfig"
    )


def _room(host: str, free: str, where: str) -> Finding:
    text = f"{where} on {host} has {int(free) // 1000} MB free, and {ROOM // 1000} are needed"
    return Finding("disk-full", text, f"make room below {where}, for instance with `podman image prune`")


def clock(host: str, skew: float) -> Sequence[Finding]:
    """A finding if the clock of `host` is `skew` seconds from ours, and that is too much."""
    if abs(skew) <= SKEW:
        return ()
    text = f"the clock of {host} differs from this machine's by {skew:+.0f} s: certificates would not be valid yet, or no more"
    return (Finding("clock-skew", text, f"see chronyd or ntpd on {host} and on this machine"),)


# --- the cluster


def _read_cluster(cluster: Cluster) -> ClusterState:
    version = cluster.get("/version") or {}
    served = cluster.get("/apis/cert-manager.io") or {"versions": []}
    nodes = (cluster.get("/api/v1/nodes") or {"items": []})["items"]
    return {
        "kubernetes": version.get("gitVersion", ""),
        "cert_manager": [one["version"] for one in served["versions"]],
        "workers": [node["metadata"]["name"] for node in nodes if _schedulable(node)],
    }


def _schedulable(node: Mapping[str, Any]) -> bool:
    spec = node["spec"]
    taints = [taint for taint in spec.get("taints", []) if taint["effect"] in ("NoSchedule", "NoExecute")]
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", []))
    return ready and not taints and not spec.get("unschedulable", False)


def _judge_cluster(ctx: StepContext, have: Value) -> Sequence[Finding]:
    versions = {
        "dws": ctx.site.versions.dws,
        "plugin": ctx.site.versions.plugin,
        "kubernetes": have["kubernetes"].partition("+")[0],
    }
    found = list(compatibility.findings(versions))
    if not {"v1", "v1alpha3"} & set(have["cert_manager"]):
        text = (
            "cert-manager is not there, or serves neither v1 nor v1alpha3; DWS gets its webhook's certificate from it"
        )
        found.append(
            Finding("cert-manager-missing", text, "install cert-manager first; on CSM it is part of the platform")
        )
    if len(have["workers"]) < 3:
        text = f"{len(have['workers'])} workers are Ready and take pods, and the webhook's 3 replicas need 3 hosts of their own"
        found.append(Finding("workers-few", text, "make a third one Ready, uncordoned and without a NoSchedule taint"))
    return found


STAGE = Stage(
    "preflight",
    (),
    (
        Check("master", "master", _look_master, _judge_master),
        endpoints.REGISTRY,
        Check(CLUSTER.step, "master", lambda ctx: CLUSTER.api(_read_cluster), _judge_cluster),
        installed.CHECK,
        workflow_namespace.CHECK,
        revoked_names.CHECK,
        *replace.checks("preflight"),
        pod_checks.CHECK,
        Check("controller", "controller", controller.look, controller.judge),
        named_controllers.CHECK,
        writable_folders.CHECK,
        endpoints.API,
        computes.CHECK,
        verify.USER,
    ),
)
