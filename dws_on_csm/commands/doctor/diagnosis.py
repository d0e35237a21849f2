"""The doctor's diagnosis as data and as JSON, and the words that its findings share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dws_on_csm.model.step import Finding, StepContext
from dws_on_csm.runner import commands_to_paste

SBATCH_FAILS = "every sbatch with #DW lines fails"
"""What users notice of most findings."""


def repair_fix(ctx: StepContext, step: str, host: str = "") -> str:
    """The fix that repairs a stage or step on the host (the context's, if none is given), as a command to type."""
    return f"run `{commands_to_paste.repair(ctx.site, host or ctx.host, step)}`"


@dataclass(frozen=True)
class HostFinding:
    """A finding and its host."""

    host: str
    finding: Finding


@dataclass(frozen=True)
class Unseen:
    """A step or check that could not be made or judged on a host, and why."""

    host: str
    step: str
    why: str


@dataclass(frozen=True)
class Diagnosis:
    """All findings; those that the site file accepts by name; checks that could not be made; notes; how many checks there were."""

    findings: tuple[HostFinding, ...]
    accepted: tuple[HostFinding, ...]
    unseen: tuple[Unseen, ...]
    notes: tuple[str, ...]
    checks: int


def records(diagnosis: Diagnosis) -> Iterator[dict[str, object]]:
    """The diagnosis as JSON objects: findings, checks that could not be made, a summary."""
    for accepted, findings in ((False, diagnosis.findings), (True, diagnosis.accepted)):
        for at in findings:
            fields = {"name": at.finding.name, "text": at.finding.text, "fix": at.finding.fix}
            yield {"event": "finding", "host": at.host, **fields, "accepted": accepted}
    for unseen in diagnosis.unseen:
        yield {"event": "unseen", "host": unseen.host, "step": unseen.step, "why": unseen.why}
    counts = {"findings": len(diagnosis.findings), "accepted": len(diagnosis.accepted), "unseen": len(diagnosis.unseen)}
    yield {"event": "summary", "exit": 1 if diagnosis.findings else 0, **counts, "looked": diagnosis.checks}
