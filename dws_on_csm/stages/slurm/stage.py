"""The stage `slurm`: slurm.conf has the burst buffer, and slurmctld runs with it."""

from __future__ import annotations

from dws_on_csm.model.step import Stage
from dws_on_csm.stages import restart_notice
from dws_on_csm.stages.slurm import activate

STAGE = Stage(
    "slurm",
    ("plugin", "access", "images"),
    (activate.HOOKS, restart_notice.CHECK, activate.ACTIVATION, activate.CONF, activate.DAEMON),
    serial=True,
    order=activate.restart_order,
)
