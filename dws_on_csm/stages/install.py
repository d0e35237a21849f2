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
from dws_on_csm.stages.preflight import stage as preflight
from dws_on_csm.stages.slurm import computes, plugin
from dws_on_csm.stages.slurm.stage import STAGE as SLURM

STAGES = (
    preflight.STAGE,
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


OF_DWS = (workarea.STAGE.name, images.STAGE.name, dws_replace.STAGE.name)
"""The stages that only a deployment of DWS needs."""

_INSTEAD = {stage.name: stage for stage in (preflight.EXTERNAL, deploy.EXTERNAL)}

# this tool cannot correct that DWS, so slurmctld gets its burst buffer only once the webhook responds
_NEEDS = {SLURM.name: (f"{deploy.EXTERNAL.name}.{deploy.WEBHOOK.name}",)}

EXTERNAL = tuple(
    replace(stage, needs=(*(need for need in stage.needs if need not in OF_DWS), *_NEEDS.get(stage.name, ())))
    for stage in (_INSTEAD.get(stage.name, stage) for stage in STAGES if stage.name not in OF_DWS)
)
"""STAGES where somebody else deploys DWS."""


def procedure(site: Site) -> tuple[Stage, ...]:
    """STAGES as this site's version of DWS needs them; EXTERNAL where somebody else deploys DWS.

    From 0.1.1 on DWS brings the plugin's role, so that no kubeconfig has any rights before DWS is deployed. The namespace of
    Workflows is created where the site file says so.
    """
    every, applied = (EXTERNAL, ()) if site.external else (STAGES, ("deploy.applied",))
    more = {"access": () if names.role_by_hand(site) else applied, "deploy": ()}
    if site.access.create_namespace:
        more = {name: (*needs, workflow_namespace.STAGE.name) for name, needs in more.items()}
    stages = tuple(replace(stage, needs=(*stage.needs, *more.get(stage.name, ()))) for stage in every)
    return (stages[0], workflow_namespace.STAGE, *stages[1:]) if site.access.create_namespace else stages
