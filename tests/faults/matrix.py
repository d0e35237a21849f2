"""The rows of the matrix: each step of an install that changes something, and how a run is brought to it on the lab."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from dws_on_csm.model.step import Stage, Step
from dws_on_csm.stages import install
from dws_on_csm.stages.dws import closing, slurm_clusters, workflow_namespace
from tests.lab import damages
from tests.lab.damages import THEN, Damage
from tests.lab.scene import BACKUP, MASTER, PRIMARY

NODE, SPACE = "nid000001", "workflows"
"""A compute node whose slurm.conf is edited; the namespace of Workflows, which the run creates."""
SETTINGS = {
    "computes": {"hosts": "nid[000001-000002]", "slurm_conf": "edit"},
    "access": {"namespace": SPACE, "create_namespace": True},
    "deadlines": {"clone": 60, "image": 90, "command": 60, "slurmctld": 60},
    "accept": ["api-slow", "disk-full"],
}
"""What the site file has besides the lab's own: so that a run comes to more steps, does not wait long for what hangs, and
begins where a folder has the small file system that is to become full."""


@dataclass(frozen=True)
class Program:
    """A program that the step starts on a host, and the text in its arguments, between blanks, by which that call is known."""

    name: str
    word: str
    host: str = MASTER


@dataclass(frozen=True)
class Edit:
    """What a second administrator does to an object that the step changes: what differs before, the edit, how it shows."""

    damages: tuple[Damage, ...]
    done: str
    shows: str
    back: str


@dataclass(frozen=True)
class Row:
    """A step, and how a run is brought to it.

    step     "STAGE.STEP"
    host     where it changes something, as far as faults are concerned
    damages  what is damaged beforehand, and where
    begins   the kind of event with which the journal says that it is at work
    folder   the folder on `host` into which it writes; "" for none
    """

    step: str
    host: str
    damages: tuple[Damage, ...]
    begins: str = "began"
    folder: str = ""
    program: Program | None = None
    edit: Edit | None = None

    @property
    def name(self) -> str:
        """As people call it: "slurm.conf@slurmctl1"."""
        return f"{self.step}@{self.host}"


def _master(command: str) -> tuple[Damage]:
    return ((MASTER, f"{THEN} {command}"),)


def _fed(command: str, data: object) -> str:
    return f"{command} <<'END'\n{json.dumps(data)}\nEND"


_RULE = {
    "apiVersion": "dataworkflowservices.github.io/v1alpha2",
    "kind": "DWDirectiveRule",
    "metadata": {"name": "kept", "namespace": "dws-system", "uid": "11111111-1111-4111-8111-111111111111"},
    "spec": [],
}
_PUT_BACK = (
    *_master("kubectl -n dws-system delete dwdirectiverule kept --ignore-not-found"),
    *_master(_fed("cat >/var/lib/dws-on-csm/put-back.json", {"items": [_RULE]})),
)
"""What a removal of DWS that was interrupted had saved."""
_OTHER_IMAGE = (
    "kubectl -n dws-system set image deployment/dws-controller-manager"
    " kube-rbac-proxy=registry.local/kube-rbac-proxy:v0.14.2"
)
_ROLE, _BINDING = "clusterrole workload-manager", "clusterrolebinding slurm-dws-viewer"


def _labelled(kind: str, before: tuple[Damage, ...], space: str = "") -> Edit:
    """A second administrator's label on an object: nothing that this tool wants there."""
    label = f"kubectl {space} label --overwrite {kind} colleague"
    return Edit(
        before, f"{label}=was-here", f"kubectl {space} get {kind} -o yaml | grep -q 'colleague: was-here'", f"{label}-"
    )


_FIRST_RULE = f"""kubectl patch {_ROLE} --type=json -p '[{{"op": "remove", "path": "/rules/0"}}]'"""
_NOBODY = f"""kubectl patch {_BINDING} --type=json -p '[{{"op": "remove", "path": "/subjects"}}]'"""

ROWS: tuple[Row, ...] = (
    Row("namespace.made", MASTER, _master(f"kubectl delete namespace {SPACE} --timeout=100s")),
    Row("workarea.clone", MASTER, (damages.NO_CLONE,), folder="/root/dws-on-csm", program=Program("git", " clone ")),
    Row(
        "workarea.kustomize",
        MASTER,
        (damages.NO_KUSTOMIZE,),
        folder="/root/dws-on-csm",
        program=Program("make", " kustomize "),
    ),
    Row("images.pushed", MASTER, damages.NO_IMAGES, program=Program("podman", " push ")),
    Row(
        "deploy.applied",
        MASTER,
        (damages.NO_DEPLOYMENTS,),
        program=Program("make", " deploy "),
        edit=_labelled("deployment dws-controller-manager", _master(_OTHER_IMAGE), "-n dws-system"),
    ),
    Row("deploy.minimum", MASTER, (damages.NO_DEPLOYMENTS,), begins="awaiting"),
    Row("deploy.open", MASTER, _master(_fed("kubectl create -f -", closing.CONFIGURATION))),
    Row("deploy.available", MASTER, (damages.NO_DEPLOYMENTS,), begins="awaiting"),
    Row("deploy.kept", MASTER, _PUT_BACK),
    Row("deploy.saved", MASTER, _PUT_BACK),
    Row("access.role", MASTER, _master(f"kubectl delete {_ROLE}"), edit=_labelled(_ROLE, _master(_FIRST_RULE))),
    Row("access.binding", MASTER, _master(f"kubectl delete {_BINDING}"), edit=_labelled(_BINDING, _master(_NOBODY))),
    Row(
        "access.kubeconfig",
        PRIMARY,
        damages.NO_KUBECONFIG,
        folder="/etc/slurm",
        program=Program("openssl", " ca "),
    ),
    Row(
        "access.slurm-cluster",
        MASTER,
        _master(f"kubectl -n {slurm_clusters.NAMESPACE} delete configmap {slurm_clusters.NAME}"),
    ),
    Row(
        "plugin.repository",
        MASTER,
        _master("rm -r /root/dws-on-csm/dws-slurm-bb-plugin-0.0.5"),
        folder="/root/dws-on-csm",
        program=Program("git", " clone "),
    ),
    # not removed: slurmctld, which is restarted where its folder becomes full, would not start without it
    Row("plugin.lua", BACKUP, ((BACKUP, f"{THEN} echo '-- edited' >>{damages.LUA}"),), folder="/etc/slurm"),
    Row("plugin.conf", PRIMARY, ((PRIMARY, f"{THEN} rm -f /etc/slurm/burst_buffer.conf"),), folder="/etc/slurm"),
    Row(
        "slurm.conf", PRIMARY, damages.DISABLED, folder="/etc/slurm", program=Program("systemctl", " restart ", PRIMARY)
    ),
    Row("slurm.daemon", BACKUP, ((BACKUP, f"{THEN} touch /etc/slurm/burst_buffer.conf"),)),
    Row("computes.conf", NODE, ((NODE, f"{THEN} sed -i '/^BurstBufferType/d' /etc/slurm/slurm.conf"),)),
    Row("verify.job", PRIMARY, (damages.NO_PROOF,), program=Program("sbatch", "dws-on-csm-test", PRIMARY)),
)

_UPGRADE = "only where another version of DWS is installed: tests/lab/test_upgrade.py"
_POD = "only where slurmctld is in a pod, in another lab: tests/lab/test_pods.py"
_CSM = "only where files of a pod are rendered from templates, in another lab: tests/lab/test_csm.py"
NOT_HERE: dict[str, str] = {
    **{f"replace.{name}": _UPGRADE for name in ("clone", "kustomize", "storage", "stuck", "removed")},
    "deploy.overlay": "only where cert-manager serves no v1alpha3: tests/lab/test_cert_manager.py",
    "pod.mount": _POD,
    "access.old-file": _POD,
    "access.templates": _CSM,
    "plugin.templates": _CSM,
    "access.old-subjects": "only after access.common_name has changed: tests/lab/test_certificates.py",
    "slurm.activation": "only after an activation that nothing has undone: tests/lab/test_activation.py",
}
"""Steps that this lab does not come to: why, and the tests that they have instead."""


def changing(stages: Sequence[Stage] = (workflow_namespace.STAGE, *install.STAGES)) -> tuple[str, ...]:
    """The steps that change something, as "STAGE.STEP"."""
    return tuple(
        f"{stage.name}.{step.name}"
        for stage in stages
        for step in stage.steps
        if isinstance(step, Step) and step.change
    )


def uncovered(steps: Sequence[str]) -> list[str]:
    """What is wrong with the rows for these steps: one without a row or a reason, or with both; a row or a reason too many."""
    rows = {row.step for row in ROWS}
    wrong = [f"{step} has neither a row nor a reason" for step in steps if step not in rows | NOT_HERE.keys()]
    wrong += [f"{step} has a row and a reason" for step in rows & NOT_HERE.keys()]
    return wrong + [f"there is no step {step} that changes something" for step in (rows | NOT_HERE.keys()) - {*steps}]
