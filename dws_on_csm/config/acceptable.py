"""Which findings a site file may accept (`accept: [clock-skew]`), and why it cannot accept the others."""

from __future__ import annotations

from collections.abc import Mapping

from dws_on_csm.config.nodeset import did_you_mean

ACCEPTABLE: Mapping[str, str] = {
    "account-shared": "you trust all pods with that ServiceAccount as you trust slurmctld",
    "api-slow": "you can live with jobs that wait a little longer",
    "binding-shared": "another Slurm uses this DWS, with a site file of its own",
    "certificate-ends-soon": "you will renew it before it expires",
    "clock-skew": "somebody else keeps the clocks right; certificates get the master's time",
    "dirty-tag": "you built that DWS yourself",
    "controller-unlisted": "that slurmctld never takes over. If it did, jobs with #DW lines would run without their storage",
    "controllers-unclear": "you checked that this name in slurm.conf means a controller of the site file",
    "disk-full": "the images are already there, or are small",
    "driver-error": "those who run the storage driver know, and will fix it",
    "driver-slow": "that storage driver needs so much time",
    "dws-not-installed": "DWS is not installed on purpose",
    "dws-too-new": "you built DWS yourself, and it serves the Workflow version that the plugin writes",
    "host-unreachable": "you know that the host is down",
    "image-differs": "you pushed that image yourself",
    "kubernetes-too-old": "you want to try an untested version. If the cluster rejects something, the stage deploy shows it",
    "master-file-open": "you trust everybody who can write it as you trust root on the master",
    "namespace-shared": "the numbers of their jobs are never the same (FirstJobId and MaxJobId in both slurm.confs)",
    "nodes-unavailable": "the nodes are closed on purpose",
    "objects-differ": "you changed them yourself",
    "orphan": "you do not mind the orphaned Workflow: it takes up its name and nothing else",
    "other-slurm-breaks": "you run `invoke install` with that Slurm's site file right after; until then its #DW jobs are refused",
    "other-version": "that version is installed on purpose",
    "owners-unknown": "you checked that no object of that kind belongs to an object of DWS",
    "plugin-clone": "you do not need the clone: the installed plugin does not use it",
    "plugin-edited": "you changed the plugin yourself",
    "pod-state-on-node": "all nodes that may run the pod share that folder",
    "pod-generated": "these templates are not in use: no Job renders them",
    "pod-kept": "the program that manages the object has the same content",
    "role-differs": "you changed the role yourself",
    "slurm-conf-differs": "the files differ on purpose",
    "slurm-conf-not-loaded": "slurmctld should load these changes. If the activation fails, it restores the file",
    "slurm-file-writable": "you trust everybody who can write it with slurmctld, slurmd and the jobs of all users",
    "slurm-folder-writable": "you trust everybody who can write there with slurmctld and the jobs of all users",
    "slurmctld-stale": "you will restart slurmctld later",
    "storage-left": "you asked those who run the storage driver: nothing of these jobs is left",
    "test-rule-left": "you need the rule",
    "webhook-slow": "you can live with jobs that wait so much longer",
    "workarea-modified": "you changed the clone yourself",
    "workers-few": "the webhook's third replica may wait for a worker",
}
"""Finding -> when to accept it ("accept it if ..."); docs/install.md shows these sentences."""

_REASONS: Mapping[str, str] = {
    "data of users or of jobs would be lost": """
        pod-state-lost workflow-live workflow-ending workflow-orphan workflow-lost workflow-foreign workflow-at-work
        dws-shared controller-name-shared workflow-ambiguous workflows-in-old-namespace workflows-more
        job-in-slurm jobs-more jobs-unknown storage-persistent
        storage-in-use storage-unknown-kind storage-not-agreed storage-owned
    """,
    "unauthorized users may have, or get, rights in the cluster": """
        binding-former burst-buffer-conf-mode certificate-foreign kubeconfig-ca kubeconfig-open name-in-use
        name-revoked name-shared name-unknown other-name plugin-mode role-too-wide slurm-conf-secret token-beside-certificate
    """,
    "root would run untrusted code": "commit-differs digest-differs slurm-user-open workarea-not-roots",
    "changes by others would be lost": """
        dws-managed file-changed namespace-in-use object-changed plugin-modified run-since slurm-conf-acl
    """,
    "the removal was not confirmed": "not-agreed",
    "the run needs the master": "master-left-out",
    "slurmctld might not restart": """
        burst-buffer-included controllers-left-out hooks-unknown not-a-controller other-burst-buffer
        slurm-conf-elsewhere slurm-conf-include slurm-conf-missing slurm-conf-too-long slurm-file-link slurm-missing
        slurm-conf-unparsable munge-down slurm-key-unreadable state-folder-unusable slurmctld-port-used slurm-plugin-missing
        cluster-name-mismatch auth-key-differs controllers-divided host-name-differs
        lua-library-missing slurm-files-closed slurm-unit-masked slurm-unit-missing slurm-user-unknown bb-plugin-missing
        slurmctld-not-answering slurmctld-not-running
    """,
    "#DW jobs would fail": """
        account-hidden account-token-missing account-token-unreadable
        api-redirected
        api-refuses api-unreachable binding-wrong burst-buffer-conf-edited burst-buffer-conf-missing burst-buffer-off ca-ends-soon
        certificate-expired certificate-key certificate-missing certificate-short discovery-refused kubeconfig-broken
        kubeconfig-missing kubeconfig-namespace
        kubeconfig-other-login kubeconfig-refused kubeconfig-server kubeconfig-unreadable kubectl-broken kubectl-missing
        plugin-missing plugin-not-active plugin-not-loading plugin-too-old role-lacks-rights slurm-lua-5.1 slurm-too-old
        workflow-gone dws-missing dws-not-available dws-controller-idle webhook-pod-unreachable
        webhook-not-answering dws-closed rejected-by-rule slurmctld-proxy kube-proxy-away pod-network-broken
        webhook-ca-differs webhooks-not-called dws-token-missing
        slurmctld-limit tmp-closed webhook-certificate cert-manager-away cert-manager-refuses workflow-version-unfit
    """,
    "the change would not last": "pod-folder pod-immutable pod-on-delete pod-subpath pod-workload",
    "the result could not be verified": "sbatch-missing test-folder test-host-cluster test-job-rejected test-user-unknown",
    "the run would fail half-way": """
        file-system-read-only bundle-damaged bundle-format bundle-image bundle-kustomize bundle-unreadable bundle-version
        cert-manager-missing cluster-unclear cluster-unreachable
        api-certificate-expired master-kubeconfig-expired master-kubeconfig-refused
        crds-stuck file-is-folder git-missing dry-run-refused
        image-elsewhere image-missing image-unknown kube-rbac-proxy-version kustomize-checksum kustomize-missing kustomize-unknown
        kustomize-unreadable master-file-missing namespace-missing namespace-terminating needs-not-right nobody-signs not-as-wanted
        not-installed not-root objects-missing podman-broken controller-manager-away scheduler-away update-blocked pods-not-ready
        policy-of-creations registry-credential registry-secret
        registry-token registry-unreachable registry-unreadable sudo-refused source-failed source-missing source-unreadable
        tools-missing undeploy-unfinished workarea-missing workarea-noexec cluster-stores-nothing
    """,
}
"""Reason -> the findings that cannot be accepted for it."""

WHY_NOT: Mapping[str, str] = {name: why for why, names in _REASONS.items() for name in names.split()}
"""Finding -> why it cannot be accepted."""


def refusal(name: str) -> str:
    """Why the site file cannot accept the finding of this name; "" where it can."""
    if name in ACCEPTABLE:
        return ""
    if name in WHY_NOT:
        return f"{name} cannot be accepted: {WHY_NOT[name]}; follow the finding's fix"
    meant = did_you_mean(name, [*ACCEPTABLE, *WHY_NOT])
    return f"unknown finding {name}{meant or '; findings that can be accepted: ' + ', '.join(sorted(ACCEPTABLE))}"
