"""Names and paths: on the hosts, in the cluster, in the registry."""

from __future__ import annotations

from dws_on_csm.config.site import Site

NAMESPACE = "dws-system"
CONTROLLER = "dws-controller-manager"
WEBHOOK = "dws-webhook"
GROUP = "dataworkflowservices.github.io"

_CONTROLLER = f"`kubectl -n {NAMESPACE} {{}} deployment/{CONTROLLER}"
RESTART_CONTROLLER = (
    f"run {_CONTROLLER.format('rollout restart')}` on the master, which restarts DWS's controller; if that does not help, "
    f"{_CONTROLLER.format('logs')} -c manager` shows what it waits for"
)
"""What to do about a controller of DWS that runs and does nothing."""

WORKFLOW_VERSION = "v1alpha2"
"""The API version of the Workflows that plugin 0.0.5 writes (template of a Workflow in its burst_buffer.lua)."""

WORKFLOWS = f"workflows.{GROUP}"
BINDING = "slurm-dws-viewer"

INTERIM_BINDING = f"{BINDING}-interim"
"""Gives the same rights while BINDING is recreated, because the role of a binding can't be changed."""

ROLE = "workload-manager"
"""The plugin's ClusterRole in config/rbac/workload_manager_role.yaml of every version of dws."""

ROLES = (f"dws-{ROLE}", ROLE)
"""Its names: as DWS deploys it from 0.1.1 on, and as it is applied separately before that (config/rbac of both)."""

RBAC = "/apis/rbac.authorization.k8s.io/v1"
"""Where the Kubernetes API has ClusterRoles and ClusterRoleBindings."""

KUBECONFIG = "/etc/slurm/slurm-dws.kubeconfig"
"""The plugin's burst_buffer.lua has this path as a constant."""

ACCOUNT_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
ACCOUNT_TOKEN, ACCOUNT_CA = f"{ACCOUNT_FOLDER}/token", f"{ACCOUNT_FOLDER}/ca.crt"
"""Where the kubelet puts the token of a pod's ServiceAccount, and the cluster's CA (Kubernetes' documentation, "Access the
Kubernetes API from a pod"). It renews the token. burst_buffer.lua reads the first path too, and passes what it finds to kubectl."""

API_SERVICE = "https://kubernetes.default.svc"
"""The API server as pods reach it (same page); its certificate has this name."""

PLUGIN_LUA, PLUGIN_CONF = "burst_buffer.lua", "burst_buffer.conf"
"""The plugin's files, next to slurm.conf: Slurm has these names as constants (src/plugins/burst_buffer/lua)."""


def clone(site: Site) -> str:
    """The folder of the clone of dws on the master: one for each version, so that undeploy finds the installed version."""
    return f"{site.master.workarea}/dws-{site.versions.dws}"


def image(site: Site, name: str, tag: str) -> str:
    """The name by which the cluster's nodes pull an image."""
    return f"{site.registry.name}/{name}:{tag}"


def image_parts(name: str) -> tuple[str, str]:
    """The repository and the tag ("" without one) of an image's name, which may also have a digest: REPOSITORY[:TAG][@DIGEST]."""
    name = name.partition("@")[0]
    repository, colon, tag = name.rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (name, "")


def role(site: Site) -> str:
    """The plugin's ClusterRole where this tool deploys DWS."""
    return ROLE if role_by_hand(site) else ROLES[0]


def role_by_hand(site: Site) -> bool:
    """Whether the role must be applied separately, because the deployment of this dws lacks it."""
    return version_key(site.versions.dws) < (0, 1, 1)


def version_key(version: str) -> tuple[int, ...]:
    """A version for comparisons: "v0.0.20" -> (0, 0, 20); it ends before the first part that is not a number."""
    numbers = []
    for part in version.removeprefix("v").split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)
