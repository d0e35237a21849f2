"""The procedure: its stages in order, each with what it needs."""

from __future__ import annotations

from dataclasses import replace

from fabfile import names
from fabfile.inventory import Site
from fabfile.stages import (
    access,
    computes,
    deploy,
    images,
    namespace,
    plugin,
    podmount,
    preflight,
    slurm,
    upgrade,
    verify,
    workarea,
)
from fabfile.step import Stage

STAGES = (
    preflight.STAGE,
    workarea.STAGE,
    images.STAGE,
    upgrade.STAGE,
    deploy.STAGE,
    podmount.STAGE,
    access.STAGE,
    plugin.STAGE,
    slurm.STAGE,
    computes.STAGE,
    verify.STAGE,
)


def procedure(site: Site) -> tuple[Stage, ...]:
    """STAGES as this site's version of DWS needs them.

    From 0.1.1 on the plugin's role comes with DWS, so that no kubeconfig has any rights before that is deployed. The
    namespace of Workflows is made where the site file says so.
    """
    more = {"access": () if names.role_by_hand(site) else ("deploy.applied",), "deploy": ()}
    if site.access.create_namespace:
        more = {name: (*needs, namespace.STAGE.name) for name, needs in more.items()}
    stages = tuple(replace(one, needs=(*one.needs, *more.get(one.name, ()))) for one in STAGES)
    return (stages[0], namespace.STAGE, *stages[1:]) if site.access.create_namespace else stages
