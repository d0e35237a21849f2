"""The stage `access`: what the plugin may do in the cluster, and the kubeconfig with which it proves who it is."""

from __future__ import annotations

from dws_on_csm.model.step import Stage
from dws_on_csm.stages.access import kubeconfig, old_file, rbac, slurm_record
from dws_on_csm.stages.dws import workflow_namespace

STAGE = Stage(
    "access",
    ("workarea", "pod"),
    (
        rbac.CLUSTER_CHECK,
        rbac.ROLE_STEP,
        rbac.BINDING_STEP,
        workflow_namespace.CHECK,
        kubeconfig.TEMPLATES_STEP,
        kubeconfig.STEP,
        old_file.STEP,
        rbac.OLD_SUBJECTS_STEP,
        slurm_record.STEP,
    ),
)
