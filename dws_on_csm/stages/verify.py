"""The stage `verify`: a test job with a bare #DW, its Workflow in each state, an answer of bbstat, completion, no Workflow left."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypedDict

from dws_on_csm.config.site import Site
from dws_on_csm.domain import names
from dws_on_csm.model import render
from dws_on_csm.model.actions import OWN_STATE, STATE, Action, RunScript
from dws_on_csm.model.lines import lines, parse_record
from dws_on_csm.model.step import Check, Fact, Finding, ShellLook, Stage, Step, StepContext, Value
from dws_on_csm.stages.pod import discover, files

# --- what a test job needs

_LOOK_USER = r"""
slurm_path
find_account "$user" || { echo unknown; exit 0; }
[ "$as_number" != 0 ] || { echo root; exit 0; }
[ "$(id -u)" = 0 ] || [ "$as_number" = "$(id -u)" ] || { echo "other $(id -u)"; exit 0; }
(PATH=$users_path; command -v sbatch >/dev/null) || echo sbatch
as "$user" test -x "$job_folder" || { echo folder; exit 0; }
[ -z "$reservation" ] || exit 0 # --test-only refuses one that begins later, for which a job may wait
case $(pings) in *\ UP*) ;; *) exit 0 ;; esac # that slurmctld does not respond is another finding
rejected=$(printf '#!/bin/sh\ntrue\n' | eval "as_user \"\$user\" timeout 60 sbatch --test-only --time=1 $options" 2>&1) && exit 0
# Slurm says the same of nodes that are all drained, or of a closed partition: the test job then says so, and an install goes on
states=$(slurm timeout 30 sinfo --noheader --format '%a %t' ${partition:+"--partition=$partition"} 2>/dev/null || :)
if [ -n "$states" ] && ! printf '%s\n' "$states" | grep -q '^up \(idle\|mix\|alloc\|comp\)'; then exit 0; fi
printf 'rejected %s\n' "$(printf %s "$rejected" | tr '\n' ' ' | cut -c 1-400)"
"""


def _look_user(ctx: StepContext) -> ShellLook:
    return ShellLook(script(ctx, _LOOK_USER), lines)


def _judge_user(ctx: StepContext, answer: Value) -> Sequence[Finding]:
    job, host = ctx.site.test_job, ctx.host
    every = {
        "unknown": Finding(
            "test-user-unknown",
            f"user {job.user} of the test job does not exist on {host}",
            "set test_job.user in the site file to an ordinary user of that host",
        ),
        "root": Finding(
            "test-user-unknown",
            f"the test job cannot run as root on {host}: Slurm's commands load plugins of whoever can write slurm.conf",
            "set test_job.user in the site file to an ordinary user of that host",
        ),
        "sbatch": Finding(
            "sbatch-missing",
            f"sbatch on {host} is neither on PATH nor in slurmctld's folder, or others than root can write that folder",
            "install Slurm's client commands there: the test job is submitted from that host",
        ),
        "folder": Finding(
            "test-folder",
            f"{job.user} can't enter {job.folder} on {host}",
            "set test_job.folder in the site file to a folder that this user can enter",
        ),
    }
    return [every[word] if word in every else _other(ctx, word) for word in answer]


def _other(ctx: StepContext, answer: str) -> Finding:
    """The finding of an answer of two parts: "rejected WORDS" or "other NUMBER"."""
    word, _, rest = answer.partition(" ")
    if word != "rejected":
        return _other_user(ctx, answer)
    text = f"Slurm would not take the test job of {ctx.site.test_job.user} on {ctx.host}: {rest.strip()}"
    fix = "set test_job.partition, account, qos and reservation in the site file to what this user may use: `sinfo --summarize`"
    return Finding(
        "test-job-rejected",
        text,
        f"{fix} lists partitions, `sacctmgr show assoc user={ctx.site.test_job.user}` accounts",
    )


def _other_user(ctx: StepContext, word: str) -> Finding:
    """A container whose user is not root runs everything as that user; `word`: "other NUMBER", with its number."""
    number = word.partition(" ")[2]
    text = f"scripts run as user {number} on {ctx.host}, so they cannot submit the test job as {ctx.site.test_job.user}"
    return Finding("test-user-unknown", text, f"set test_job.user in the site file to the name of user {number} there")


USER = Check("user", "submitter", _look_user, _judge_user)
"""Whether the test job can be submitted."""


def script(ctx: StepContext, body: str, **more: str) -> str:
    """A script that submits jobs as the test user: `body` after as.sh, temporary.sh and slurmctld.sh, with $user, $job_folder,
    $options (sbatch's, from the site file), $kubeconfig, $workflows, $namespace and `more` set."""
    slurm, job = ctx.site.slurm, ctx.site.test_job
    given = {
        "kubeconfig": names.KUBECONFIG,
        "workflows": names.WORKFLOWS,
        "namespace": ctx.site.access.namespace,
        "user": job.user,
        "job_folder": job.folder,
        "options": shlex.join(_options(ctx.site)),
        "partition": job.partition,
        "reservation": job.reservation,
        **more,
    }
    parts = ("lib/as.sh", "lib/temporary.sh", "lib/slurmctld.sh")
    return render.script(*parts, folder=slurm.folder, unit=slurm.service, **given) + body


def _options(site: Site) -> list[str]:
    job = site.test_job
    given = {"account": job.account, "partition": job.partition, "qos": job.qos, "reservation": job.reservation}
    return [f"--{key}={value}" for key, value in given.items() if value]


# --- the job


class Proof(TypedDict):
    """The host's time, and the proof of the last test job there; None without one that can be read."""

    now: int
    proof: dict[str, Any] | None


JOB: Fact[Proof] = Fact("verify", "job")


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
    # what is there is right as long as it is a proof; where there is none, a text that no reading equals asks for the job
    return _read(ctx, ctx.facts.all(JOB)[ctx.host]) or "proven by a test job"


def _change(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    job = ctx.site.test_job
    body = render.read("controller/test_job.sh")
    test_job = script(ctx, body, allowed=str(int(job.deadline)), state_folder=STATE)
    submit = RunScript(f"submit a test job as {job.user} and follow its Workflow", test_job, job.deadline + 300.0)
    # somebody else may have started the pod: what its slurmctld has read is not recorded then
    return [files.record_read_files(ctx), submit] if discover.pod_of(ctx) else [submit]


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
    "verify",
    ("deploy.webhook", "access", "slurm"),
    (
        Step(
            JOB.step,
            "submitter",
            _look,
            _want,
            _change,
            read=_read,
            status_text=lambda have: str(have or "no proof yet"),
            table=_table,
            repeat_text="a test job proves the result; the earlier proof holds until something changes",
            hint="do what the last lines of its output say; `invoke logs` shows what the plugin and DWS reported of it",
        ),
    ),
    proves=True,
)

ALONE = (replace(STAGE, needs=(), steps=(USER, *STAGE.steps)),)
"""The proof without the rest of an install."""
