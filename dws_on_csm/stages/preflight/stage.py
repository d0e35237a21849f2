"""The stage `preflight`: all checks before the first change."""

from __future__ import annotations

from dataclasses import replace

from dws_on_csm.model import stage_names
from dws_on_csm.model.step import Stage
from dws_on_csm.stages import verify
from dws_on_csm.stages.access import revoked_names, signing
from dws_on_csm.stages.dws import (
    api_services,
    installed,
    namespace_deletion,
    other_installer,
    slurm_clusters,
    workflow_namespace,
)
from dws_on_csm.stages.dws import replace as dws_replace
from dws_on_csm.stages.preflight import (
    cluster,
    endpoints,
    external_dws,
    host_state,
    job_user,
    login_cluster,
    logins,
    master,
    unlisted_controllers,
    writable_folders,
)
from dws_on_csm.stages.slurm import computes, controller, pod_checks, start

_INSTALLER = other_installer.check()

STAGE = Stage(
    stage_names.PREFLIGHT,
    (),
    (
        master.CHECK,
        endpoints.REGISTRY,
        cluster.CHECK,
        api_services.CHECK,
        installed.CHECK,
        _INSTALLER,
        namespace_deletion.CHECK,
        workflow_namespace.CHECK,
        revoked_names.CHECK,
        slurm_clusters.CHECK,
        *dws_replace.checks("preflight"),
        pod_checks.CHECK,
        logins.CONTROLLER,
        host_state.HOST,
        controller.CHECK,
        start.CHECK,
        unlisted_controllers.CHECK,
        writable_folders.CHECK,
        endpoints.API,
        signing.CHECK,
        logins.COMPUTE,
        host_state.NODE,
        computes.CHECK,
        verify.USER,
        login_cluster.CHECK,
        job_user.CHECK,
    ),
)

_OF_A_DEPLOYMENT = {
    check.name for check in (endpoints.REGISTRY, _INSTALLER, namespace_deletion.CHECK, *dws_replace.checks(STAGE.name))
}

EXTERNAL = replace(
    STAGE,
    steps=(external_dws.CHECK, *(item for item in STAGE.steps if item.name not in _OF_A_DEPLOYMENT)),
)
"""Where somebody else deploys DWS: that DWS is checked in place of what a deployment needs."""
