"""The procedure: its stages in order, each with what it needs."""

from fabfile.stages import access, computes, deploy, images, plugin, preflight, slurm, upgrade, verify, workarea

STAGES = (
    preflight.STAGE,
    workarea.STAGE,
    images.STAGE,
    upgrade.STAGE,
    deploy.STAGE,
    access.STAGE,
    plugin.STAGE,
    slurm.STAGE,
    computes.STAGE,
    verify.STAGE,
)
