"""The doctor's diagnosis as data and as JSON, and the words that its findings share."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dws_on_csm.commands.doctor import causes
from dws_on_csm.config.site import Site
from dws_on_csm.model.exit_codes import CONVERGED, FAILED, UNPROVEN
from dws_on_csm.model.step import Finding, StepContext
from dws_on_csm.runner import commands_to_paste

SBATCH_FAILS = "every sbatch with #DW lines fails"
"""What users notice of most findings."""


def repair_fix(ctx: StepContext, step: str, host: str = "") -> str:
    """The fix that repairs a stage or step on the host (the context's, if none is given), as a command to type."""
    return f"run `{commands_to_paste.repair(ctx.site, host or ctx.host, step)}`"


def shows_unit(ctx: StepContext) -> str:
    """The command that shows slurmctld's unit with all its drop-ins, for a fix."""
    return f"`systemctl cat {shlex.quote(ctx.site.slurm.service)}` on {ctx.host} shows the unit's files"


def drop_in(ctx: StepContext, name: str, *settings: str) -> str:
    """The command that gives slurmctld's unit more settings, in a file of their own; the next start has them."""
    unit = ctx.site.slurm.service.removesuffix(".service")
    folder = shlex.quote(f"/etc/systemd/system/{unit}.service.d")
    lines = shlex.quote("".join(f"{line}\\n" for line in ("[Service]", *settings)))
    return f"`mkdir -p {folder} && printf {lines} >{folder}/{name}.conf && systemctl daemon-reload`"


def copy_command(site: Site, source: str, target: str, path: str) -> str:
    """The command that copies a file from one controller to another; "" where ssh may not write it there, as in a pod."""
    hosts = {host.name: host for host in site.controllers if not host.pod and not host.sudo}
    if not {source, target} <= hosts.keys():
        return ""
    config = ["-F", str(site.ssh.config)] if site.ssh.config else []
    ends = [f"{hosts[name].user}@{name}:{path}".removeprefix("@") for name in (source, target)]
    return shlex.join(["scp", "-3", *config, *ends])


@dataclass(frozen=True)
class HostFinding:
    """A finding and its host; `follows_from`: the finding that is its cause, by name and host, or None."""

    host: str
    finding: Finding
    follows_from: HostFinding | None = None

    @property
    def place(self) -> causes.FindingAt:
        """Where it is, for `causes`."""
        return self.host, self.finding.name


@dataclass(frozen=True)
class Unseen:
    """A step or check that could not be made or judged on a host, and why.

    waits    it lacks only what another check would have found
    """

    host: str
    step: str
    why: str
    waits: bool = False

    def reason(self, subject: str) -> str:
        """Why, with these words in place of the check's name: "it", or "each" of several with the same reason."""
        return self.why.replace(f"the check {self.step}", subject).replace(self.step, subject)


@dataclass(frozen=True)
class Diagnosis:
    """All findings; those that the site file accepts by name; checks that could not be made; notes; how many checks there were."""

    findings: tuple[HostFinding, ...]
    accepted: tuple[HostFinding, ...]
    unseen: tuple[Unseen, ...]
    notes: tuple[str, ...]
    checks: int

    @property
    def causes(self) -> tuple[HostFinding, ...]:
        """The findings that follow from no other one."""
        return tuple(at for at in self.findings if at.follows_from is None)

    @property
    def exit_code(self) -> int:
        """What the findings mean for the command's exit code; a check that could not be made may hide one."""
        if self.findings:
            return FAILED
        return UNPROVEN if self.unseen else CONVERGED


def with_causes(findings: Sequence[HostFinding]) -> tuple[HostFinding, ...]:
    """The findings, each that follows from another one of them with that one."""
    first = {at.place: at for at in reversed(findings)}
    roots = causes.roots(first)
    return tuple(replace(at, follows_from=first[roots[at.place]]) if at.place in roots else at for at in findings)


def records(diagnosis: Diagnosis, code: int) -> Iterator[dict[str, object]]:
    """The diagnosis as JSON objects: findings, checks that could not be made, a summary with the exit code."""
    for accepted, findings in ((False, diagnosis.findings), (True, diagnosis.accepted)):
        for at in findings:
            fields = {"name": at.finding.name, "text": at.finding.text, "fix": at.finding.fix}
            cause = {"follows_from": at.follows_from.finding.name if at.follows_from else None}
            yield {"event": "finding", "host": at.host, **fields, "accepted": accepted, **cause}
    for unseen in diagnosis.unseen:
        yield {"event": "unseen", "host": unseen.host, "step": unseen.step, "why": unseen.why}
    followers = len(diagnosis.findings) - len(diagnosis.causes)
    counts = {"findings": len(diagnosis.causes), "following": followers}
    counts |= {"accepted": len(diagnosis.accepted), "unseen": len(diagnosis.unseen)}
    yield {"event": "summary", "exit": code, **counts, "looked": diagnosis.checks}
