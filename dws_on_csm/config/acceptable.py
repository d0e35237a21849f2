"""Which findings a site may live with, by name (`accept` in the site file), and why it can't live with the others."""

from __future__ import annotations

from collections.abc import Mapping

from dws_on_csm.config.nodeset import near

LIVED_WITH: Mapping[str, str] = {
    "api-slow": "a job waits a little longer",
    "certificate-ends-soon": "it is renewed when the site sees fit",
    "clock-skew": "the clocks are somebody else's, and certificates are made with the master's",
    "dirty-tag": "the site built that DWS itself",
    "controller-unlisted": "that slurmctld never takes over; if it does, jobs with #DW lines run without their storage",
    "controllers-unclear": "that name in slurm.conf means a controller that the site file has",
    "disk-full": "the images may be there already, or small",
    "dws-not-installed": "it is on purpose",
    "dws-too-new": "a DWS of the site's own sources may serve the plugin's version of Workflows",
    "host-unreachable": "it is known to be away",
    "image-differs": "the site pushed that image itself",
    "kubernetes-too-old": "nobody tried it there; what is refused shows itself while DWS is deployed",
    "master-file-open": "whoever can write it is trusted as root on the master is",
    "objects-differ": "the site changed them itself",
    "orphan": "it takes no more than its name",
    "other-version": "it is on purpose",
    "owners-unknown": "nothing of that kind belongs to an object of DWS",
    "plugin-clone": "nothing uses the clone once the plugin is installed",
    "plugin-edited": "the site changed the plugin itself",
    "pod-state-on-node": "all nodes that may run the pod share that folder",
    "pod-kept": "whoever keeps the object carries the same content",
    "role-differs": "the site changed it itself",
    "slurm-conf-differs": "the difference is meant",
    "slurm-conf-not-loaded": "whoever changed the file wants slurmctld to load it, and an activation puts it back if it fails",
    "slurm-file-writable": "the site trusts whoever can write it with slurmctld, slurmd and the jobs of all users",
    "slurm-folder-writable": "the site trusts whoever can write there with slurmctld, and with the jobs of all users",
    "slurmctld-stale": "it is restarted when the site sees fit",
    "workarea-modified": "the site changed it itself",
    "workers-few": "the webhook's third replica waits for a worker",
}
"""Name -> what a site lives with then."""

_REFUSALS: Mapping[str, tuple[str, ...]] = {
    "data of users or of jobs would be lost": (
        "pod-state-lost",
        *("workflow-live", "workflow-ending", "workflow-orphan", "workflow-lost", "workflow-foreign"),
        "workflow-at-work",
        "workflows-in-old-namespace",
        *("workflows-more", "job-in-slurm", "jobs-more", "jobs-unknown"),
        *("storage-persistent", "storage-in-use", "storage-unknown-kind", "storage-not-agreed", "storage-owned"),
    ),
    "somebody who must not may have, or get, rights in the cluster": (
        *(
            "binding-former",
            "burst-buffer-conf-mode",
            "certificate-foreign",
            "kubeconfig-ca",
            "kubeconfig-open",
            "name-in-use",
            "name-revoked",
        ),
        *(
            "name-unknown",
            "other-name",
            "plugin-mode",
            "role-too-wide",
            "slurm-conf-secret",
            "token-beside-certificate",
        ),
    ),
    "root would run what nobody vouches for": (
        *("commit-differs", "digest-differs", "slurm-user-open", "workarea-not-roots"),
    ),
    "what somebody else changed would be lost": (
        *("file-changed", "namespace-in-use", "object-changed", "plugin-modified", "run-since"),
    ),
    "nobody agreed to what would be taken away": ("not-agreed",),
    "it could not be done": ("master-left-out",),
    "slurmctld might not start again": (
        *("burst-buffer-included", "controllers-left-out", "hooks-unknown", "not-a-controller", "other-burst-buffer"),
        *(
            "slurm-conf-include",
            "slurm-conf-missing",
            "slurm-conf-too-long",
            "slurm-file-link",
            "slurm-missing",
            "slurm-unit-missing",
            "slurm-user-unknown",
        ),
        *("bb-plugin-missing", "slurmctld-not-answering", "slurmctld-not-running"),
    ),
    "no #DW job would work": (
        *("api-refuses", "api-unreachable", "binding-wrong", "burst-buffer-conf-edited", "burst-buffer-conf-missing"),
        *("burst-buffer-off", "certificate-expired", "certificate-missing", "certificate-short", "kubeconfig-broken"),
        *("kubeconfig-missing", "kubeconfig-namespace", "kubeconfig-refused", "kubeconfig-server"),
        *("kubeconfig-unreadable", "kubectl-missing", "plugin-missing", "plugin-not-active", "plugin-not-loading"),
        *(
            "plugin-too-old",
            "role-lacks-rights",
            "slurm-lua-5.1",
            "slurm-too-old",
            "webhook-not-answering",
            "dws-closed",
        ),
    ),
    "what is changed would not last": ("pod-folder", "pod-immutable", "pod-on-delete", "pod-subpath", "pod-workload"),
    "nothing could be proven": ("sbatch-missing", "test-folder", "test-user-unknown"),
    "a run would fail half-way": (
        *("bundle-damaged", "bundle-format", "bundle-image", "bundle-kustomize", "bundle-unreadable", "bundle-version"),
        *("cert-manager-missing", "cluster-unclear", "cluster-unreachable", "crds-stuck", "file-is-folder"),
        *("git-missing", "image-elsewhere", "image-missing", "image-unknown", "kube-rbac-proxy-version"),
        *("kustomize-checksum", "kustomize-missing", "kustomize-unknown", "kustomize-unreadable"),
        *(
            "master-file-missing",
            "namespace-missing",
            "needs-not-right",
            "nobody-signs",
            "not-as-wanted",
            "not-installed",
            "not-root",
        ),
        *("objects-missing", "pods-not-ready", "registry-credential", "registry-secret", "registry-unreachable"),
        *("registry-unreadable", "source-failed", "source-missing", "source-unreadable", "tools-missing"),
        *("undeploy-unfinished", "workarea-missing"),
    ),
}
"""Why a finding can't be lived with -> the names."""

WHY_NOT: Mapping[str, str] = {name: why for why, names in _REFUSALS.items() for name in names}
"""Name -> why a site can't live with it."""


def refusal(name: str) -> str:
    """Why the site file can't accept the finding of this name; "" where it can."""
    if name in LIVED_WITH:
        return ""
    if name in WHY_NOT:
        return f"{name} can't be accepted: {WHY_NOT[name]}; do what the finding says"
    meant = near(name, [*LIVED_WITH, *WHY_NOT])
    return f"no finding has the name {name}{meant or '; those that can be accepted: ' + ', '.join(sorted(LIVED_WITH))}"
