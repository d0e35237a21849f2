"""The install: its stages in order."""

from __future__ import annotations

from dataclasses import replace

from dws_on_csm.config.site import Site
from dws_on_csm.domain import names
from dws_on_csm.model.step import Stage
from dws_on_csm.stages import verify
from dws_on_csm.stages.access.stage import STAGE as ACCESS
from dws_on_csm.stages.dws import deploy, images, workarea, workflow_namespace
from dws_on_csm.stages.dws import replace as dws_replace
from dws_on_csm.stages.pod.stage import STAGE as POD
from dws_on_csm.stages.preflight.stage import STAGE as PREFLIGHT
from dws_on_csm.stages.slurm import computes, plugin
from dws_on_csm.stages.slurm.stage import STAGE as SLURM

STAGES = (
    PREFLIGHT,
    workarea.STAGE,
    images.STAGE,
    dws_replace.STAGE,
    deploy.STAGE,
    POD,
    ACCESS,
    plugin.STAGE,
    SLURM,
    computes.STAGE,
    verify.STAGE,
)


def procedure(site: Site) -> tuple[Stage, ...]:
    """STAGES as this site's version of DWS needs them.

    From 0.1.1 on DWS brings the plugin's role, so that no kubeconfig has any rights before DWS is deployed. The namespace of
    Workflows is created where the site file says so.
    """
    more = {"access": () if names.role_by_hand(site) else ("deploy.applied",), "deploy": ()}
    if site.access.create_namespace:
        more = {name: (*needs, workflow_namespace.STAGE.name) for name, needs in more.items()}
    stages = tuple(replace(stage, needs=(*stage.needs, *more.get(stage.name, ()))) for stage in STAGES)
    return (stages[0], workflow_namespace.STAGE, *stages[1:]) if site.access.create_namespace else stages
