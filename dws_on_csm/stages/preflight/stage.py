"""The stage `preflight`: all checks before the first change."""

from __future__ import annotations

from dws_on_csm.model.step import Stage
from dws_on_csm.stages import verify
from dws_on_csm.stages.access import revoked_names, signing
from dws_on_csm.stages.dws import installed, namespace_deletion, replace, workflow_namespace
from dws_on_csm.stages.preflight import endpoints, host_state, logins, master, unlisted_controllers, writable_folders
from dws_on_csm.stages.slurm import computes, controller, pod_checks, start

STAGE = Stage(
    "preflight",
    (),
    (
        master.MASTER,
        endpoints.REGISTRY,
        master.CLUSTER_CHECK,
        installed.CHECK,
        namespace_deletion.CHECK,
        workflow_namespace.CHECK,
        revoked_names.CHECK,
        *replace.checks("preflight"),
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
    ),
)
