"""The procedure: its stages in order, each with what it needs."""

from fabfile.stages import access, computes, deploy, images, plugin, pod, preflight, slurm, upgrade, verify, workarea

STAGES = (
    preflight.STAGE,
    workarea.STAGE,
    images.STAGE,
    upgrade.STAGE,
    deploy.STAGE,
    pod.STAGE,
    access.STAGE,
    plugin.STAGE,
    slurm.STAGE,
    computes.STAGE,
    verify.STAGE,
)
