"""What the doctor looks at beside what an install looks at: how the plugin fares, whether it loads, what became of jobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from dws_on_csm.commands.doctor import disk_space
from dws_on_csm.domain import names, slurm_conf
from dws_on_csm.engine import site_lock
from dws_on_csm.model import render
from dws_on_csm.model.actions import STATE
from dws_on_csm.model.lines import all_values, first_values, parse_pairs
from dws_on_csm.model.step import (
    ApiLook,
    Check,
    Constant,
    Finding,
    Look,
    NotYetKnown,
    ShellLook,
    Stage,
    StepContext,
    Value,
)
from dws_on_csm.runner.inspect import redo
from dws_on_csm.stages import jobs
from dws_on_csm.stages.dws import workflows
from dws_on_csm.stages.dws.workflows import Workflow
from dws_on_csm.stages.install import STAGES
from dws_on_csm.stages.jobs import Jobs
from dws_on_csm.stages.pod import discover
from dws_on_csm.stages.preflight import checks
from dws_on_csm.stages.slurm import activate, controller, plugin

SLOW = 3000
"""Milliseconds of one kubectl call from which a user notices: sbatch waits for one, and scontrol gives up after 10 s."""

TIMED_OUT = "124"
"""The exit code of `timeout` where it ended kubectl, which then had no time to say what it asked."""


# --- the way of the plugin to the API server


def _look_reach(ctx: StepContext) -> ShellLook:
    slurm = ctx.site.slurm
    settings = {"file": names.KUBECONFIG, "folder": slurm.folder, "unit": slurm.service, "slow": str(SLOW)}
    parts = ("lib/as.sh", "lib/slurmctld.sh", "lib/vanishing.sh", "controller/doctor_reach.sh")
    return ShellLook(render.script(*parts, **settings), _parse_reach)


def _parse_reach(out: bytes) -> Value:
    """The probe's lines as a dict; `token`: where a token lies that is used beside the certificate, each place once."""
    told = parse_pairs(out, "replace")
    found = first_values(told)
    took = {"milliseconds": int(found["milliseconds"])} if "code" in found else {}
    return found | took | {"token": all_values(told, "token")}


def _judge_reach(ctx: StepContext, found: Value) -> Sequence[Finding]:
    host, file = ctx.host, names.KUBECONFIG
    told = [_token(ctx, where) for where in found["token"]]
    if "there" in found and "readable" not in found:
        text = f"{file} on {host} can't be read by {found['user']}, as whom the plugin runs: every #DW sbatch fails"
        told.append(Finding("kubeconfig-unreadable", text, redo(ctx.site, host, "access")))
    if "code" in found and controller.found(ctx)["kubectl"]:
        told += _answered(ctx, found)
    return told


def _token(ctx: StepContext, where: str) -> Finding:
    host = ctx.host
    text = f"{where} on {host}: kubectl may take this token in place of the certificate, and be somebody else"
    fix = "set automountServiceAccountToken: false in the pod's template"
    if not discover.of(ctx):
        fix = "remove it: only a pod has one"
    if where == names.KUBECONFIG:
        fix = f"remove that file; {redo(ctx.site, host, 'access')} then makes a new one"
    return Finding("token-beside-certificate", text, fix)


def _answered(ctx: StepContext, found: Value) -> Iterator[Finding]:
    host, seconds = ctx.host, found["milliseconds"] / 1000
    said = found.get("said", "") or f"kubectl ended with {found['code']}"
    if "asked" not in found and found["code"] not in ("0", TIMED_OUT):
        text = f"kubectl can't use the kubeconfig on {host}, and asks no server: {said}; every #DW sbatch fails"
        yield Finding("kubeconfig-broken", text, redo(ctx.site, host, "access"))
    elif "status" not in found:
        server = ctx.facts.found.get("access.kubeconfig", {}).get(host, {}).get("server", "its server")
        text = f"the kubeconfig on {host} names {server}, and kubectl gets no answer there: {said}"
        fix = "see whether the API server answers on the master (`kubectl get --raw /readyz`); if it does, "
        fix += f"correct access.server in the site file, then {redo(ctx.site, host, 'access')}"
        yield Finding("api-unreachable", text, fix)
    elif found["status"] != "200":
        text = f"the API server refuses the kubeconfig on {host} (HTTP {found['status']}): {said}"
        yield Finding("kubeconfig-refused", text, redo(ctx.site, host, "access"))
    elif found["milliseconds"] >= SLOW:
        text = f"the quickest of three kubectl calls on {host} took {seconds:.1f} s; "
        text += "every sbatch with #DW waits for one, and Slurm for sbatch"
        fix = "look at the API server and etcd on the master (load, disk), and at the network in between"
        yield Finding("api-slow", text, fix)


# --- whether the plugin's file, as it lies there, loads


def _look_loads(ctx: StepContext) -> Look:
    lua = controller.interpreter(ctx)
    if not lua:
        return Constant({"lua": "", "said": ""})
    file = f"{ctx.site.slurm.folder}/{plugin.LUA}"
    given = f"file={file}\n[ -e $file ] || exit 0\n"
    script = given + plugin.loading(ctx, lua, _LOADS)
    return ShellLook(script, lambda out: {"lua": lua, "said": out.decode(errors="replace").strip()})


_LOADS = """
[ -n "$slurm_uid" ] || exit 0
content=$(text_of "$(reader "$slurm_uid" "$file")" "$file") || { echo "it can't be read to its end"; exit 0; }
said=$(printf %s "$content" | base64 -d | loads 2>&1) || printf "%s" "${said:-it does not load}"
"""


def _judge_loads(ctx: StepContext, found: Value) -> Sequence[Finding]:
    if not found["said"]:
        return ()
    text = (
        f"{plugin.LUA} on {ctx.host} does not load: {found['said']}; slurmctld refuses every #DW job, "
        "and would not start again"
    )
    return (Finding("plugin-not-loading", text, redo(ctx.site, ctx.host, "plugin.lua")),)


# --- Workflows whose job is gone

_JOBS, _WORKFLOWS = "doctor.jobs", "doctor.workflows"


def _look_jobs(ctx: StepContext) -> Look:
    ctx.facts.one(_WORKFLOWS)  # Slurm is asked after these were seen: see workflows.fate
    return jobs.look(ctx)


def _judge_workflows(ctx: StepContext, found: Value) -> Sequence[Finding]:
    seen = _jobs(ctx)
    orphans = [one for one in found if workflows.fate(one, seen) == "orphan"] if seen else []
    if found and not seen:
        raise NotYetKnown("doctor")
    return [Finding("orphan", workflows.told(one, seen), _delete(one)) for one in orphans if seen]


def _delete(one: Workflow) -> str:
    command = f"kubectl delete {names.WORKFLOWS} --namespace {one['namespace']} {one['name']}"
    return f"nothing needs it any more, and Slurm will never take it down: `{command}` on the master"


def _jobs(ctx: StepContext) -> Jobs | None:
    """Slurm's jobs as a controller told them; None if none did."""
    return next((one for one in ctx.facts.found.get(_JOBS, {}).values() if one["answers"]), None)


# --- slurm.conf from one controller to the next


def _judge_alike(ctx: StepContext, found: Value) -> Sequence[Finding]:
    first = ctx.site.controllers[0].name
    mine, theirs = controller.found(ctx), ctx.facts.all(controller.FACT).get(first)
    if ctx.host == first or theirs is None:
        return ()
    differing = [
        path
        for path in sorted({*mine["files"], *theirs["files"]})
        if _bare(mine["files"].get(path)) != _bare(theirs["files"].get(path))
    ]
    return [
        Finding(
            "slurm-conf-differs",
            f"{path} on {ctx.host} differs from that on {first}: a slurmctld that takes over would have other settings",
            "make them the same, and restart the slurmctld whose file was wrong",
        )
        for path in differing
    ]


def _bare(text: str | None) -> str | None:
    """A file without the line that is ours, which has a finding of its own where it is missing."""
    return None if text is None else slurm_conf.without_setting(text, activate.KEY)


# --- whether a run is at work

_AT_WORK = f"""
cd {STATE} 2>/dev/null || exit 0
{render.script("master/lock_holder.sh", hold=str(site_lock.LEASE_SECONDS), proc=site_lock.PROC)}
count
end=$(ending)
if [ -e lock/holder ] && [ "${{end:-$until}}" -gt "$up" ]; then line 3; fi
[ ! -e busy ] || flock -n busy true || printf 'a command of run %s\\n' "$(cat busy)"
"""


def _parse_at_work(out: bytes) -> str:
    return ", ".join(out.decode(errors="replace").split("\n")).rstrip(", ")


# --- all of it

PROBES = Stage(
    "doctor",
    (),
    (
        Check("cluster", "master", lambda ctx: ApiLook(lambda cluster: cluster.get("/version")), lambda ctx, found: ()),
        Check("at-work", "master", lambda ctx: ShellLook(_AT_WORK, _parse_at_work), lambda ctx, found: ()),
        Check("workflows", "master", lambda ctx: ApiLook(workflows.read), _judge_workflows),
        Check("jobs", "controller", _look_jobs, lambda ctx, found: ()),
        Check("reach", "controller", _look_reach, _judge_reach),
        Check("loads", "controller", _look_loads, _judge_loads),
        disk_space.CHECK,
        Check("alike", "controller", lambda ctx: Constant(None), _judge_alike),
    ),
)


def stages() -> tuple[Stage, ...]:
    """Everything that is looked at: the doctor's own first, and the procedure but for what an install alone asks."""
    asked = tuple(item for item in checks.STAGE.steps if item.name not in ("jobs", "workflows", "api"))
    return (PROBES, *(replace(s, steps=asked) if s is checks.STAGE else s for s in STAGES if s.name != "previous"))
