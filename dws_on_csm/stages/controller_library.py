"""What the looks at a controller begin with: its slurm.conf, and where Slurm's programs are, found once for all of them."""

from __future__ import annotations

from dws_on_csm.model import render
from dws_on_csm.model.actions import STATE
from dws_on_csm.model.step import StepContext


def text(ctx: StepContext) -> str:
    """Shell lines with the functions of templates/lib/safe_file.sh and slurmctld.sh (and of all that this needs), that set $folder,
    $unit, $state, and what read_conf, find_slurm_user and find_slurm set. It only reads."""
    slurm = ctx.site.slurm
    settings = {"folder": slurm.folder, "unit": slurm.service, "state": STATE}
    return render.script("lib/safe_file.sh", "lib/slurmctld.sh", **settings) + "\nfind_slurm\n"


def with_slurmctld(ctx: StepContext) -> str:
    """The same for looks that ask slurmctld: it is asked once for all of them. One that does not respond takes 30 s."""
    return text(ctx) + "ask_slurmctld\n"
