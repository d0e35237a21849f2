"""The stage `verify`: a test job with a bare #DW, its Workflow in each state, an answer of bbstat, completion, no Workflow left."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, TypedDict

from dws_on_csm.config.site import Site
from dws_on_csm.domain import names
from dws_on_csm.model import render, stage_names
from dws_on_csm.model.actions import OWN_STATE, STATE, Action, RunElsewhere, RunScript
from dws_on_csm.model.lines import first_values, lines, parse_pairs, parse_record
from dws_on_csm.model.step import Check, Fact, Finding, ShellLook, Stage, Step, StepContext, Value
from dws_on_csm.stages import controller_library
from dws_on_csm.stages.pod import discover, files

# --- what a test job needs

AS_USER = 'slurm() { as_user "$user" "$@"; }\n'
"""Shell for a host that has no SlurmUser: all programs of Slurm's run there as the test job's user."""


def _look_user(ctx: StepContext) -> ShellLook:
    body = (AS_USER if is_login(ctx) else "") + render.read("host/test_user.sh")
    return shell_look(ctx, body, lambda out: first_values(parse_pairs(out, "replace")))


def is_login(ctx: StepContext) -> bool:
    """Whether this is the login host that the site file names, and no controller."""
    return login_host(ctx.site) == ctx.host


def login_host(site: Site) -> str:
    """The name of the login host that the site file names for the test job; "" where there is none, or a controller is named."""
    host = site.test_job.host
    return host.name if host and site.host(host.name).role != "controller" else ""


def _judge_user(ctx: StepContext, answer: Mapping[str, str]) -> Sequence[Finding]:
    """The finding of the "problem" that templates/host/test_user.sh printed."""
    return [_finding_of(ctx, answer["problem"], answer)] if "problem" in answer else []


def _finding_of(ctx: StepContext, problem: str, answer: Mapping[str, str]) -> Finding:
    job, host = ctx.site.test_job, ctx.host
    match problem:
        case "unknown":
            text = f"user {job.user} of the test job does not exist on {host}"
            return Finding("test-user-unknown", text, _SET_USER)
        case "root":
            text = f"the test job cannot run as root on {host}: Slurm's commands load plugins of whoever can write slurm.conf"
            return Finding("test-user-unknown", text, _SET_USER)
        case "other":  # a container whose user is not root runs everything as that user
            text = f"scripts run as user {answer['number']} on {host}, so they cannot submit the test job as {job.user}"
            fix = f"set test_job.user in the site file to the name of user {answer['number']} there"
            return Finding("test-user-unknown", text, fix)
        case "sbatch":
            text = f"{host} has no usable sbatch: none is on PATH, and slurmctld's folder has none or can be written by others "
            text += "than root"
            fix = "install Slurm's client commands there: the test job is submitted from that host"
            return Finding("sbatch-missing", text, fix)
        case "folder":
            text = f"{job.user} can't enter {job.folder} on {host}"
            return Finding(
                "test-folder", text, "set test_job.folder in the site file to a folder that this user can enter"
            )
        case "unread":
            file = answer["file"]
            text = f"sbatch of {job.user} on {host} cannot read slurm.conf completely: {file}: {answer['why']}"
            fix = "make that file readable, and its folders open, for everybody who submits jobs; "
            fix += f"then `runuser -u {job.user} -- cat {shlex.quote(file)}` prints it"
            return Finding("test-job-rejected", text, fix)
    words = answer.get("words", problem).strip()
    if "timed out" in words:  # Slurm's "Socket timed out on send/recv operation": it has rejected nothing
        text = f"slurmctld responds to `scontrol ping`, and not to the test job of {job.user} on {host}: {words}"
        unit = shlex.quote(ctx.site.slurm.service.removesuffix(".service"))
        fix = f"run `sdiag` on {host}. If that does not respond either, slurmctld stands still: run `systemctl restart {unit}` on "
        fix += "the controller that is in charge (`scontrol ping`), which keeps all jobs"
        return Finding("slurmctld-not-answering", text, fix)
    text = f"Slurm rejects the test job of {job.user} on {host}: {words}"
    fix = "set test_job.partition, account, qos and reservation in the site file to what this user may use: `sinfo --summarize`"
    fix += f" lists partitions, `sacctmgr show assoc user={job.user}` accounts"
    return Finding("test-job-rejected", text, fix)


_SET_USER = "set test_job.user in the site file to an ordinary user of that host"

USER = Check("user", "login", _look_user, _judge_user)
"""Whether the test job's user can submit it on the login host; without one, on the first controller."""

USER_OF_CONTROLLER = replace(USER, role="submitter")
"""The same on the first controller, for jobs that are submitted and cancelled there."""


def script(ctx: StepContext, body: str, **more: str) -> str:
    """A script that submits jobs as the test user: `body` after as.sh, temporary.sh and slurmctld.sh, with $user, $job_folder,
    $options (sbatch's, from the site file), $kubeconfig, $workflows, $namespace and `more` set."""
    slurm = ctx.site.slurm
    given = {"folder": slurm.folder, "unit": slurm.service, **_settings(ctx), **more}
    return render.script("lib/as.sh", "lib/temporary.sh", "lib/slurmctld.sh", **given) + body


def shell_look(ctx: StepContext, body: str, parse: Callable[[bytes], Value]) -> ShellLook:
    """A look with the same functions and settings."""
    return ShellLook(
        render.script("lib/temporary.sh", **_settings(ctx)) + body, parse, controller_library.with_slurmctld(ctx)
    )


def _settings(ctx: StepContext) -> dict[str, str]:
    job = ctx.site.test_job
    return {
        "kubeconfig": names.KUBECONFIG,
        "workflows": names.WORKFLOWS,
        "namespace": ctx.site.access.namespace,
        "user": job.user,
        "job_folder": job.folder,
        "options": shlex.join(_options(ctx.site)),
        "partition": job.partition,
        "reservation": job.reservation,
    }


def _options(site: Site) -> list[str]:
    job = site.test_job
    given = {"account": job.account, "partition": job.partition, "qos": job.qos, "reservation": job.reservation}
    return [f"--{key}={value}" for key, value in given.items() if value]


# --- the job


class Proof(TypedDict):
    """The host's time, and the proof of the last test job there; None without one that can be read."""

    now: int
    proof: dict[str, Any] | None


JOB: Fact[Proof] = Fact(stage_names.VERIFY, "job")


def _look(ctx: StepContext) -> ShellLook:
    return JOB.shell(f'date +%s\nSTATE={STATE}\n{OWN_STATE}cat "$STATE/proof.json" 2>/dev/null || true', _parse)


def _parse(out: bytes) -> Proof:
    now, _, rest = out.decode(errors="replace").partition("\n")
    return {"now": int(now), "proof": parse_record(rest) or None}


def _read(ctx: StepContext, state: Proof) -> Value:
    """The proof as a sentence; None without one."""
    proof = state["proof"]
    if proof is None:
        return None
    age = _age_text(max(0, state["now"] - proof["at"]))
    return f"job {proof['job']}, {age}: {proof['states']} in {proof['seconds']} s; bbstat: {proof['bbstat']}"


def _table(state: Proof) -> tuple[tuple[str, ...], ...]:
    """A table of the seconds that the API took to respond to SlurmUser, and that the Workflow spent in each state."""
    times = (state["proof"] or {}).get("times", {})
    return (tuple(times), tuple(f"{seconds:.1f}s" for seconds in times.values())) if times else ()


def _want(ctx: StepContext) -> Value:
    # a proof that is there is right; where there is none, `have` is None, and this text shows what is asked for
    proof = _read(ctx, ctx.facts.all(JOB)[ctx.host])
    return "proven by a test job" if proof is None else proof


def submit_actions(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    """The actions that run a test job and follow its Workflow."""
    job = ctx.site.test_job
    submit: Action = _follow(ctx, f"submit a test job as {job.user} and follow its Workflow")
    if job.host and job.host.name != ctx.host:
        title = f"submit a test job as {job.user} on {job.host.name}, held"
        submission = AS_USER + render.read("host/submit_job.sh")
        then, abandon = partial(_then_follow, ctx), partial(_abandon, ctx)
        submit = RunElsewhere(
            title, "login", script(ctx, submission, name=NAME), then, 300.0, show_output=True, abandon=abandon
        )
    # somebody else may have started the pod: what its slurmctld has read is not recorded then
    return [files.record_read_files(ctx), submit] if discover.pod_of(ctx) else [submit]


NAME = "dws-on-csm-test"
"""The test jobs' names begin with this; a hyphen and the run's id follow."""

_CANCEL = r"""
find_slurm
as_user "$user" timeout 30 scancel --quiet --name="$name-$RUN" --user="$user"
"""


def _then_follow(ctx: StepContext, out: bytes) -> Sequence[Action]:
    """Release the job that the login host submitted, and follow its Workflow on the controller."""
    printed = _printed(out)
    return [_follow(ctx, f"release job {printed['job']} and follow its Workflow", printed)]


def _printed(out: bytes) -> dict[str, str]:
    """What the login host printed, by its first words."""
    return dict(line.partition(" ")[::2] for line in lines(out))


def _abandon(ctx: StepContext, out: bytes) -> Sequence[RunElsewhere]:
    """Clear away the job that the login host submitted, by its name: its number may be unknown, or another job's.

    On the controller, which alone can delete its Workflow; then on the login host, which may belong to another cluster.
    """
    printed, host = _printed(out), ctx.site.test_job.host
    login = host.name if host else ctx.host
    named = f" ({login} named job {printed['job']})" if "job" in printed else ""
    title = f"cancel the test job{named} and delete its Workflow (otherwise the next test job deletes it)"
    there = f"cancel the test job if {login} submitted it to another cluster"
    given = {"job": "none", "user": printed.get("user", "")}
    return [
        RunElsewhere(title, "submitter", _test_job(ctx, given), deadline=300.0, show_output=True),
        RunElsewhere(there, "login", script(ctx, AS_USER + _CANCEL, name=NAME)),
    ]


def _follow(ctx: StepContext, title: str, printed: Mapping[str, str] = MappingProxyType({})) -> RunScript:
    """Prove with a job: a new one, or one that was submitted elsewhere, as that host `printed`."""
    return RunScript(title, _test_job(ctx, printed), ctx.site.test_job.deadline + 300.0)


def _test_job(ctx: StepContext, printed: Mapping[str, str]) -> str:
    """templates/controller/test_job.sh, with the job, the number of its user and bbstat's answer, as a login host `printed`."""
    given = {
        "submitted": printed.get("job", ""),
        "user_number": printed.get("user", ""),
        "bbstat": printed.get("bbstat", ""),
    }
    restart = "those who deploy DWS can restart it" if ctx.site.external else names.RESTART_CONTROLLER
    given |= {"controller": restart[0].upper() + restart[1:]}
    given |= {"name": NAME, "allowed": str(int(ctx.site.test_job.deadline))}
    return script(ctx, render.read("controller/test_job.sh"), state_folder=STATE, **given)


def _age_text(seconds: int) -> str:
    if seconds < 120:
        return "just now"
    return (
        f"{seconds // 60} min ago"
        if seconds < 7200
        else f"{seconds // 3600} h ago"
        if seconds < 172800
        else f"{seconds // 86400} days ago"
    )


STAGE = Stage(
    JOB.stage,
    ("deploy.webhook", "access", "slurm"),
    (
        Step(
            JOB.step,
            "submitter",
            _look,
            _want,
            submit_actions,
            read=_read,
            status_text=lambda have: str(have or "no proof yet"),
            table=_table,
            repeat_text="a test job proves the result; the earlier proof holds until something changes",
            hint="do what the last lines of its output say; `invoke logs` shows what the plugin and DWS reported of it",
        ),
    ),
    proves=True,
)

PROCEDURE = (replace(STAGE, needs=(), steps=(USER, *STAGE.steps)),)
"""The proof without the rest of an install."""
