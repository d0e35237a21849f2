"""Where things are and what they are called: on the hosts, in the cluster, in the registry."""

from __future__ import annotations

from dws_on_csm.config.site import Site

NAMESPACE = "dws-system"
CONTROLLER = "dws-controller-manager"
WEBHOOK = "dws-webhook"
GROUP = "dataworkflowservices.github.io"

WORKFLOW_VERSION = "v1alpha2"
"""The API version that plugin 0.0.5 writes (its burst_buffer.lua, template of a Workflow)."""

WORKFLOWS = f"workflows.{GROUP}"
BINDING = "slurm-dws-viewer"

ROLE = "workload-manager"
"""The plugin's ClusterRole as config/rbac/workload_manager_role.yaml of every version of dws has it."""

KUBECONFIG = "/etc/slurm/slurm-dws.kubeconfig"
"""The path is fixed in the plugin's burst_buffer.lua."""


def clone(site: Site) -> str:
    """The folder of the clone of dws on the master: one a version, so that an undeploy finds the version that is installed."""
    return f"{site.master.workarea}/dws-{site.versions.dws}"


def image(site: Site, name: str, tag: str) -> str:
    """An image as the cluster's nodes ask for it."""
    return f"{site.registry.name}/{name}:{tag}"


def role(site: Site) -> str:
    """The ClusterRole for the plugin: through 0.1.0 applied by hand, from 0.1.1 deployed with a prefix (config/rbac of both)."""
    return ROLE if role_by_hand(site) else f"dws-{ROLE}"


def role_by_hand(site: Site) -> bool:
    """Whether the role has to be applied beside what DWS deploys."""
    return version_key(site.versions.dws) < (0, 1, 1)


def version_key(version: str) -> tuple[int, ...]:
    """A version that can be compared: "v0.0.20" -> (0, 0, 20); what isn't a number ends it."""
    numbers = []
    for part in version.removeprefix("v").split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)
