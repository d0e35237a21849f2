"""The proof: a job with a bare #DW, its Workflow seen, bbstat answered, completed, the Workflow gone."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fabfile import names
from fabfile.actions import STATE
from fabfile.inventory import Site
from fabfile.stages.access import slurm_user
from fabfile.step import Action, Place, Sh, Shell, Stage, Step, Value

PROOF = f"{STATE}/proof.json"

FORGET = f"rm -f {PROOF}\n"
"""A proof holds until something is changed: it is taken away before, so that a run that is cut off leaves none."""

TEMPLATE = Path(__file__).parents[2] / "templates" / "test_job.sh"


def _look(place: Place) -> Shell:
    return Shell(f"date +%s; cat {PROOF} 2>/dev/null || true", _parse)


def _parse(out: bytes) -> Value:
    now, _, rest = out.decode().partition("\n")
    return {"now": int(now), "proof": json.loads(rest)} if rest.strip() else {"now": int(now), "proof": None}


def _read(place: Place, found: Value) -> Value:
    """The proof in a sentence, None where there is none."""
    proof = found["proof"]
    if proof is None:
        return None
    age = _ago(max(0, found["now"] - proof["at"]))
    return f"job {proof['job']}, {age}: {proof['states']} in {proof['seconds']} s; bbstat: {proof['bbstat']}"


def _want(place: Place) -> Value:
    return _read(place, place.facts.all("verify.job")[place.host]) or "proven by a job"


def _change(place: Place, have: Value, want: Value) -> Sequence[Action]:
    job = place.site.test_job
    given = {
        "kubeconfig": names.KUBECONFIG,
        "workflows": names.WORKFLOWS,
        "namespace": place.site.access.namespace,
        "user": job.user,
        "folder": job.folder,
        "options": shlex.join(_options(place.site)),
        "patience": str(int(job.deadline)),
        "state_folder": STATE,
    }
    settings = "".join(f"{key}={shlex.quote(value)}\n" for key, value in given.items())
    script = f"{settings}{slurm_user(place)}slurm_user=$user\nuser={shlex.quote(job.user)}\n{TEMPLATE.read_text()}"
    return [Sh(f"submit a test job as {job.user}, and follow its Workflow", script, job.deadline + 240.0)]


def _options(site: Site) -> list[str]:
    job = site.test_job
    given = {"account": job.account, "partition": job.partition, "qos": job.qos, "reservation": job.reservation}
    return [f"--{key}={value}" for key, value in given.items() if value]


def _ago(seconds: int) -> str:
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
    ("deploy", "access", "slurm"),
    (
        Step(
            "job",
            "submitter",
            _look,
            _want,
            _change,
            read=_read,
            why=lambda have: str(have or "no proof yet"),
            hint="`invoke logs` shows what the plugin and DWS said; test_job in the site file is how the job is submitted",
        ),
    ),
)

ALONE = (replace(STAGE, needs=()),)
"""The proof without the rest of the procedure."""
