"""`verify.cancel`: what it needs, and the scripts that submit and cancel jobs on the submitter."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from dws_on_csm.domain import names
from dws_on_csm.model import render, stage_names
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.errors import Unreachable
from dws_on_csm.model.lines import parse_pairs
from dws_on_csm.model.step import ApiLook, Check, Finding, ShellLook, Stage, StepContext, Value
from dws_on_csm.stages import verify
from dws_on_csm.stages.dws import installed
from dws_on_csm.stages.pod import discover
from dws_on_csm.stages.slurm import slurmctld

JOB = "dws-on-csm-cancel"
"""The jobs' names begin with this; the run's id follows."""

DRIVER = "dws-on-csm-test"
"""Our storage driver, and its DWDirectiveRule: Workflows of jobs that ask for it stay in a state until the run releases them."""

LOOK_ACTIVE = """
find_slurm
cd /
fact type "$(running_setting 60 BurstBufferType)"
if why=$(choose_runner "$kubeconfig" 2>&1); then
    choose_runner "$kubeconfig"
    make_memory_folder "$runner"
    remove_at_exit "$work"
    runner_kubectl 30 "$kubeconfig" --namespace "$namespace" get "$workflows" --output name 2>"$work/said" >/dev/null ||
        sed 's/^/refused=/' "$work/said"
else
    fact refused "$why"
fi
"""


def look_active(ctx: StepContext) -> ShellLook:
    """The look for the BurstBufferType that slurmctld runs with, and whether SlurmUser can list Workflows."""
    return verify.shell_look(ctx, LOOK_ACTIVE, answers)


def answers(out: bytes) -> dict[str, str]:
    """Parse "name=value" lines into a dict; lines of the same name are joined."""
    joined: dict[str, str] = {}
    for name, value in parse_pairs(out, "replace"):
        joined[name] = f"{joined[name]} {value}" if name in joined else value
    return joined


def job_ids(host: str, printed: Mapping[str, str]) -> list[str]:
    """The job ids that `host` printed in the steps `submit` and `clear`; the names of Workflows are made of them.

    Raises Unreachable where it printed something else: in a path of the API that could mean any object.
    """
    ids = printed.get("id", "").split()
    if wrong := [number for number in ids if not re.fullmatch("[0-9]{1,20}", number, re.ASCII)]:
        text = f"it printed {wrong[0][:80]!r} in place of a job number"
        raise Unreachable(host, text, f"run `squeue` on {host}, and find out what prints that")
    return ids


def judge_active(ctx: StepContext, answer: Value) -> Sequence[Finding]:
    """That the slurmctld in charge has the burst buffer."""
    findings = []
    if not slurmctld.is_lua(answer.get("type", "")):
        text = f"slurmctld on {ctx.host} does not respond"
        if answer.get("type"):
            text = f"slurmctld on {ctx.host} runs with BurstBufferType={answer['type']}"
        findings.append(Finding("plugin-not-active", text, "run `invoke install`"))
    if "refused" in answer:
        text = f"SlurmUser on {ctx.host} can't list Workflows: {answer['refused']}"
        findings.append(
            Finding("api-refuses", text, "run `invoke install`; if that does not help, check that the API server is up")
        )
    return findings


def _look_rule(ctx: StepContext) -> ApiLook:
    return ApiLook(lambda cluster: rule_exists(cluster))


def rule_exists(cluster: Cluster) -> bool:
    """Whether our DWDirectiveRule exists. Raises ClusterError."""
    crd = installed.crd(cluster, "dwdirectiverules")
    if crd is None:
        return False
    above, _, plural = installed.path("dwdirectiverules", crd).rpartition("/")
    return cluster.get(f"{above}/namespaces/{names.NAMESPACE}/{plural}/{DRIVER}") is not None


def script(ctx: StepContext, step: str, run: str, **given: str) -> str:
    """The script for `step` of templates/controller/cancel.sh. `run`: the run whose jobs are meant; "": leftovers of any run."""
    given |= {"name": f"{JOB}-{run}" if run else JOB, "in_pod": "yes" if discover.pod_of(ctx) else ""}
    return verify.script(ctx, render.read("controller/cancel.sh"), step=step, **given)


STAGE = Stage(
    stage_names.CANCEL,
    (),
    (
        verify.USER_OF_CONTROLLER,
        Check("active", "submitter", look_active, judge_active),
        Check("rule", "master", _look_rule, lambda ctx, exists: ()),  # the API has to respond
    ),
    proves=True,
)
