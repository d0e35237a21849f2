"""The doctor's own checks, besides those of an install: the plugin's way to the API server, whether its file loads, orphaned
Workflows, slurm.conf on each controller."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace

from dws_on_csm.commands.doctor import cert_manager, divided, storage
from dws_on_csm.commands.doctor.diagnosis import SBATCH_FAILS, copy_command, repair_fix
from dws_on_csm.config.site import Site
from dws_on_csm.domain import names, slurm_conf
from dws_on_csm.engine import site_lock
from dws_on_csm.model import render
from dws_on_csm.model.actions import STATE
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.lines import all_values, first_values, parse_pairs
from dws_on_csm.model.printable import first_few
from dws_on_csm.model.step import (
    ApiLook,
    Check,
    Constant,
    Fact,
    Finding,
    Look,
    NotYetKnown,
    ShellLook,
    Stage,
    StepContext,
    Value,
)
from dws_on_csm.redaction.diff import difference
from dws_on_csm.stages import controller_library, jobs
from dws_on_csm.stages.dws import workflows
from dws_on_csm.stages.dws.workflows import Workflow
from dws_on_csm.stages.facts import CONTROLLER, KUBECONFIG
from dws_on_csm.stages.install import procedure
from dws_on_csm.stages.jobs import Jobs
from dws_on_csm.stages.pod import discover, service_account
from dws_on_csm.stages.slurm import activate, controller, plugin, slurmctld

SLOW = 3000
"""Milliseconds of one kubectl call that a user notices: sbatch waits for one, and scontrol times out after 10 s."""

TIMED_OUT = "124"
"""The exit code of `timeout` where it ended kubectl, which then had no time to say what it asked."""


# --- the plugin's way to the API server


def _look_reach(ctx: StepContext) -> ShellLook:
    settings = {"file": names.KUBECONFIG, "slow": str(SLOW)}
    script = render.script("lib/temporary.sh", "controller/doctor_reach.sh", **settings)
    return ShellLook(script, parse_reach, controller_library.text(ctx))


def parse_reach(out: bytes) -> Value:
    """The probe's lines as a dict; `token`: each file with a token that kubectl may use besides the certificate."""
    answers = parse_pairs(out, "replace")
    single = first_values(answers)
    took = {"milliseconds": int(single["milliseconds"])} if "code" in single else {}
    return single | took | {"token": all_values(answers, "token")}


def judge_reach(ctx: StepContext, answer: Value) -> Sequence[Finding]:
    """What keeps the plugin's kubectl from the API server."""
    host, file = ctx.host, names.KUBECONFIG
    kubeconfig = ctx.facts.known(KUBECONFIG).get(host)
    by_account = bool(kubeconfig and service_account.in_file(kubeconfig))
    findings = [] if by_account else [_token(ctx, path) for path in answer["token"]]
    if "there" in answer and "readable" not in answer:
        text = f"{answer['user']} cannot read {file} on {host}; the plugin runs as {answer['user']}, so {SBATCH_FAILS}"
        findings.append(Finding("kubeconfig-unreadable", text, repair_fix(ctx, "access")))
    if "code" in answer and controller.state(ctx)["kubectl"]:
        findings += kubectl_findings(ctx, answer)
    return findings


def _token(ctx: StepContext, path: str) -> Finding:
    text = f"{path} on {ctx.host} has a token that kubectl may use instead of the certificate, and so get other rights"
    fix = "set automountServiceAccountToken: false in the pod's template"
    if not discover.pod_of(ctx):
        fix = f"remove {path}: only a pod needs one"
    if path == names.KUBECONFIG:
        fix = f"remove {path}; then {repair_fix(ctx, 'access')}, which makes a new one"
    return Finding("token-beside-certificate", text, fix)


def _server(ctx: StepContext) -> str:
    """The API server of the kubeconfig, for a message."""
    kubeconfig = ctx.facts.known(KUBECONFIG).get(ctx.host)
    return (kubeconfig and kubeconfig.get("server")) or "the server in its kubeconfig"


_REACH: Fact[Value] = Fact("doctor", "reach")


def _reach_it(ctx: StepContext, server: str) -> list[str]:
    """The other controllers whose kubectl gets an answer from this address."""
    answering = [host for host, answer in ctx.facts.known(_REACH).items() if host != ctx.host and "status" in answer]
    files = {host: ctx.facts.known(KUBECONFIG).get(host) for host in answering}
    return [host for host, file in files.items() if file and file.get("server") == server]


def _way_fix(host: str, server: str) -> str:
    """Where to look for what is wrong between a host and the API server, whose address is right."""
    name = server.partition("://")[2].partition("/")[0]
    words = shlex.quote(name.rpartition(":")[0] or name)
    fix = f"run `curl -kv --max-time 10 {shlex.quote(server)}/version` on {host}: it shows whether the name is unknown (`getent "
    fix += (
        f"hosts {words}`; correct /etc/hosts or DNS there), the route is missing (ip route get) or a firewall drops it"
    )
    return fix


def kubectl_findings(ctx: StepContext, answer: Value) -> Iterator[Finding]:
    """The first thing that is wrong with kubectl's call: kubeconfig, connection, the server's answer, its speed."""
    host, seconds, fix = ctx.host, answer["milliseconds"] / 1000, repair_fix(ctx, "access")
    output = answer.get("said", "")
    message = f"kubectl says: {output}" if output else f"kubectl ended with exit code {answer['code']}"
    if "broken" in answer:
        kubectl = controller.state(ctx)["kubectl"]
        text = f"{kubectl} on {host} does not work, whatever the kubeconfig, so {SBATCH_FAILS}; {message}"
        repeat = f"until `{shlex.quote(kubectl)} version --client` there ends without an error"
        yield Finding("kubectl-broken", text, f"install a kubectl of the cluster's version there again, {repeat}")
    elif "asked" not in answer and answer["code"] not in ("0", TIMED_OUT):
        text = f"kubectl cannot use the kubeconfig on {host}, so {SBATCH_FAILS}; {message}"
        yield Finding("kubeconfig-broken", text, fix)
    elif "status" not in answer:
        server = _server(ctx)
        text = f"kubectl on {host} gets no answer from {server}, so {SBATCH_FAILS}; {message}"
        if others := _reach_it(ctx, server):
            text += f". {', '.join(others)} reaches that server with the same address: the cause is on {host}, or between the two"
            yield Finding("api-unreachable", text, _way_fix(host, server))
            return
        check = "run `kubectl get --raw /readyz` on the master. If the API server responds there, "
        check += f"correct access.server in the site file and {fix}"
        yield Finding("api-unreachable", text, check)
    elif answer["status"] != "200":
        text = (
            f"the API server rejects the kubeconfig on {host} (HTTP {answer['status']}), so {SBATCH_FAILS}; {message}"
        )
        yield Finding("kubeconfig-refused", text, fix)
    elif answer["milliseconds"] >= SLOW:
        text = f"kubectl on {host} is slow: the fastest of three calls took {seconds:.1f} s. "
        text += "Every sbatch with #DW lines waits for such a call, and other Slurm commands may time out meanwhile"
        fix = f"check the load and the disks of the master (API server, etcd), and its network to {host}"
        yield Finding("api-slow", text, fix)


# --- whether the plugin's file on the controller loads


def _look_loads(ctx: StepContext) -> Look:
    lua = controller.interpreter(ctx)
    if not lua:
        return Constant({"lua": "", "said": ""})
    file = f"{ctx.site.slurm.folder}/{names.PLUGIN_LUA}"
    given = f"file={file}\n[ -e $file ] || exit 0\n"
    script = given + plugin.loading(ctx, lua, _LOADS)
    return ShellLook(script, lambda out: {"lua": lua, "said": out.decode(errors="replace").strip()})


_LOADS = """
[ -n "$slurm_uid" ] || exit 0
content=$(text_of "$(choose_reader "$slurm_uid" "$file")" "$file") || { echo "the file cannot be read to its end"; exit 0; }
said=$(printf %s "$content" | base64 -d | loads 2>&1) || printf "%s" "${said:-Lua gives no reason}"
"""


def judge_loads(ctx: StepContext, answer: Value) -> Sequence[Finding]:
    """A plugin that Lua does not load."""
    if not answer["said"]:
        return ()
    text = f"{names.PLUGIN_LUA} on {ctx.host} does not load: Slurm rejects every #DW sbatch, and slurmctld cannot restart. "
    return (Finding("plugin-not-loading", f"{text}Lua says: {answer['said']}", repair_fix(ctx, "plugin.lua")),)


# --- orphaned Workflows

_JOBS: Fact[Jobs] = Fact("doctor", "jobs")


def _look_jobs(ctx: StepContext) -> Look:
    # read the jobs after the Workflows: see workflows.fate
    return jobs.look(ctx, (workflow["job"] for workflow in ctx.facts.one(storage.WORKFLOWS)))


def judge_workflows(ctx: StepContext, existing: Value) -> Sequence[Finding]:
    """Orphans, and storage drivers that are slow or failed. Raises NotYetKnown where Slurm's jobs are unknown."""
    seen = _jobs(ctx)
    if seen is None:
        if existing:
            raise NotYetKnown("doctor")
        return []
    orphans = [workflow for workflow in existing if _orphaned(workflow, seen)]
    return [*(_orphan(workflow, seen) for workflow in orphans), *storage.drivers(ctx, existing, seen["now"])]


def _orphaned(workflow: Workflow, seen: Jobs) -> bool:
    """Whether its job is over, or unknown here, which is reported too: it may be of another Slurm in the same namespace."""
    unneeded = workflows.fate(workflow, seen) in ("orphan", "foreign") and not workflows.needed(workflow, seen)
    return unneeded and bool(workflow["job"]) and workflow["namespace"] == seen.get("namespace")


def _orphan(workflow: Workflow, seen: Jobs) -> Finding:
    fix = workflows.orphan_fix(workflow)
    if workflows.doubt(workflow, seen):
        fix = "first make sure that no other Slurm that uses this DWS needs it; "
        fix += f"then run `{workflows.deletion(workflow)}` on the master"
    return Finding("orphan", workflows.describe(workflow, seen), fix)


def _jobs(ctx: StepContext) -> Jobs | None:
    """Slurm's jobs from the first controller whose squeue responded; None if none did."""
    return next((answer for answer in ctx.facts.known(_JOBS).values() if answer["answers"]), None)


# --- slurm.conf from one controller to the next


def judge_alike(ctx: StepContext) -> Iterator[Finding]:
    """Controllers whose slurm.confs differ."""
    first = ctx.site.controllers[0].name
    mine, theirs = controller.state(ctx), ctx.facts.all(CONTROLLER).get(first)
    if ctx.host == first or theirs is None:
        return
    for path in sorted({*mine["files"], *theirs["files"]}):
        here, there = slurm_conf.differing_lines(*(_bare(state["files"].get(path)) for state in (mine, theirs)))
        if here == there:
            continue
        lines = [line for line in difference(here, there) if line[:2] in ("+ ", "- ")]
        loaded = "; ".join(_loaded(ctx, host, path) for host in (first, ctx.host))
        text = f"{path} on {ctx.host} differs from that on {first} (- {ctx.host}, + {first}): {first_few(lines, 5, noun='lines')}. "
        text += f"After a takeover slurmctld would run with other settings; {loaded}"
        yield Finding("slurm-conf-differs", text, _equal(ctx, first, path))


def _loaded(ctx: StepContext, host: str, path: str) -> str:
    """Which text of the file the slurmctld of a controller runs with, in words."""
    daemon = ctx.facts.known(slurmctld.FACT).get(host)
    if daemon is None:
        return f"it is unknown what slurmctld on {host} has loaded"
    if not daemon["main"]:
        return f"slurmctld does not run on {host}"
    has = (
        "runs with an earlier text of its file" if path in slurmctld.unread(ctx.site, daemon) else "has loaded its file"
    )
    return f"slurmctld on {host} {has}"


def _equal(ctx: StepContext, first: str, path: str) -> str:
    """The fix for a file that differs: the command that copies it, where ssh may write it, and the restart."""
    restart = f"{repair_fix(ctx, 'slurm')}, which restarts slurmctld where its file is newer"
    copy, back = (copy_command(ctx.site, *ends, path) for ends in ((first, ctx.host), (ctx.host, first)))
    if not copy:
        return f"make both files the same; then {restart}"
    return f"if the file on {first} is right, run `{copy}`, else `{back}`; then {restart}"


def _bare(text: str | None) -> str:
    """A file without BurstBufferType, whose absence has a finding of its own; "" for a missing one."""
    return slurm_conf.without_setting(text or "", activate.KEY)


# --- what is running on the master

RUNNING_SCRIPT = f"""
cd {STATE} 2>/dev/null || exit 0
{render.script("master/lock_holder.sh", hold=str(site_lock.LEASE_SECONDS), proc=site_lock.PROC)}
count
end=$(lock_end)
if [ -e lock/holder ] && [ "${{end:-$until}}" -gt "$up" ]; then line 3; fi
[ ! -e busy ] || flock -n busy true || printf 'a command of run %s\\n' "$(cat busy)"
"""


def parse_running(out: bytes) -> str:
    """What runs on the master, in words; "" for nothing."""
    return ", ".join(out.decode(errors="replace").split("\n")).rstrip(", ")


# --- whether the API server responds


def _read_cluster(cluster: Cluster) -> Value:
    """Something that the API server knows alone, and something that it has to ask etcd for."""
    return [cluster.get("/version"), cluster.get("/api/v1/namespaces/kube-system")]


# --- all of it

PROBES = Stage(
    "doctor",
    (),
    (
        Check("cluster", "master", lambda ctx: ApiLook(_read_cluster), lambda ctx, have: ()),
        Check("at-work", "master", lambda ctx: ShellLook(RUNNING_SCRIPT, parse_running), lambda ctx, have: ()),
        cert_manager.CHECK,
        Check("workflows", "master", lambda ctx: ApiLook(workflows.read), judge_workflows),
        Check("jobs", "controller", _look_jobs, lambda ctx, have: ()),
        Check("reach", "controller", _look_reach, judge_reach),
        Check("loads", "controller", _look_loads, judge_loads),
        storage.CHECK,
        storage.RULE,
        Check("alike", "controller", lambda ctx: Constant(None), lambda ctx, have: tuple(judge_alike(ctx))),
        *divided.CHECKS,
    ),
)


def stages(site: Site) -> tuple[Stage, ...]:
    """All stages that the doctor checks: its own, then an install's of this site, without the checks for an install alone."""
    first, *others = procedure(site)
    asked = tuple(item for item in first.steps if item.name not in ("jobs", "workflows", "api"))
    own = tuple(item for item in PROBES.steps if not (site.external and item is cert_manager.CHECK))
    return (
        replace(PROBES, steps=own),
        replace(first, steps=asked),
        *(stage for stage in others if stage.name != "replace"),
    )
