"""SlurmUser on a controller: which account it is, and what it may do in the cluster with a kubeconfig."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dws_on_csm.domain import names
from dws_on_csm.model import render
from dws_on_csm.model.step import Finding, Refused, StepContext
from dws_on_csm.stages.facts import KUBECONFIG

# can_i ARGUMENTS: kubectl auth can-i with $file, as SlurmUser, with a temporary cache in memory. A kubeconfig may name a program to
# run: nothing is run where SlurmUser is unknown, or is root and others can write the file.
_CAN_I = """
can_i() {
    choose_runner "$file" && runner_kubectl 20 "$file" auth can-i "$@"
}
if choose_runner "$file" 2>/dev/null; then
    make_memory_folder "$runner"
    remove_at_exit "$work"
fi
"""

# A new certificate is tried before it replaces a working one. An API server may learn of a new binding, or reach the certificate's
# first second, a moment later than the master.
_TRY = """
{slurm_user}{can_i}
end=$(($(uptime_seconds) + {seconds}))
until said=$(can_i create {workflows} 2>&1); do
    [ "$(uptime_seconds)" -lt "$end" ] || {{ printf '%s\n' "$said"; exit 1; }}
    sleep 0.5
done
"""


def can_i() -> str:
    """Shell lines that define `can_i ARGUMENTS`: what SlurmUser may do with the kubeconfig $file. They go after `shell`'s."""
    return render.script("lib/temporary.sh") + _CAN_I


def shell(ctx: StepContext) -> str:
    """Shell lines that set $slurm_uid to SlurmUser as this controller's slurm.conf has it (templates/lib/slurm_conf.sh)."""
    return render.script("lib/slurm_conf.sh", folder=ctx.site.slurm.folder, unit=ctx.site.slurm.service)


def owner(ctx: StepContext) -> str:
    """SlurmUser's uid and gid as chown takes them, "UID:GID". Raises Refused where SlurmUser is unknown."""
    file = ctx.facts.all(KUBECONFIG)[ctx.host]
    numbers = (file.get("slurm_uid", ""), file.get("slurm_group", ""))
    if not all(re.fullmatch("[0-9]+", number, re.ASCII) for number in numbers):
        why = file.get("slurm_why") or f"SlurmUser on {ctx.host} is unknown"
        raise Refused(Finding("slurm-user-unknown", why, "correct SlurmUser in slurm.conf"))
    return ":".join(numbers)


def try_script(ctx: StepContext) -> str:
    """A script that retries until the kubeconfig $file may create Workflows, and fails after 10 seconds."""
    return _TRY.format(slurm_user=shell(ctx), can_i=can_i(), seconds=10, workflows=names.WORKFLOWS)


@dataclass(frozen=True)
class Permissions:
    """What the API server lets SlurmUser do with a kubeconfig.

    refused   kubectl's message in place of an answer; "" where it answered
    lacking   the verbs on Workflows that the plugin needs and SlurmUser lacks
    secrets   whether SlurmUser may read Secrets
    """

    refused: str = ""
    lacking: tuple[str, ...] = ()
    secrets: bool = False


NEEDED = Permissions()
"""What the plugin needs, and no more."""


def permissions(table: Sequence[str]) -> Permissions:
    """The permissions in the lines of `kubectl auth can-i --list`: resource first, verbs in the last brackets."""
    verbs = {
        row.split()[0]: set(row.rpartition("[")[2].rstrip("] ").split()) for row in table if row.rstrip().endswith("]")
    }
    if not verbs:
        return Permissions(refused=table[-1][:200] if table else "kubectl printed nothing")
    lacking = {"create", "get", "patch", "delete"} - verbs.get(names.WORKFLOWS, set())
    return Permissions("", tuple(sorted(lacking)), bool({"secrets", "*.*", "*"} & set(verbs)))


def permissions_text(present: Permissions) -> str:
    """Permissions in words, to follow SlurmUser's name."""
    if present.refused:
        return f"is refused: {present.refused}"
    if present.lacking:
        return f"may not {', '.join(present.lacking)} Workflows"
    return "may read Secrets" if present.secrets else "may work on Workflows, and may not read Secrets"
