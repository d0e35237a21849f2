"""Which findings follow from which: of several findings with one cause, a report shows the cause first. Data and pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

FindingAt = tuple[str, str]
"""A host, and the name of a finding there."""


@dataclass(frozen=True)
class Row:
    """A cause, and the findings that it makes: where they are ("here": on the host of the cause), and why they follow from it."""

    cause: str
    followers: tuple[str, ...]
    where: Literal["here", "everywhere"]
    why: str


def _row(cause: str, followers: str, where: Literal["here", "everywhere"], why: str) -> Row:
    return Row(cause, tuple(followers.split()), where, why)


TABLE = (
    _row(
        "api-certificate-expired",
        "cluster-unreachable api-unreachable cluster-unclear registry-secret",
        "everywhere",
        "no client accepts a server with an expired certificate",
    ),
    _row(
        "master-kubeconfig-expired",
        "cluster-unreachable registry-secret cluster-unclear",
        "here",
        "the API server rejects an expired certificate",
    ),
    _row(
        "cluster-unreachable",
        "api-unreachable api-slow registry-secret cluster-unclear",
        "everywhere",
        "an API server that does not respond to the master does not respond to the controllers either",
    ),
    _row(
        "namespace-terminating",
        """
        undeploy-unfinished crds-stuck dws-closed objects-missing objects-differ pods-not-ready webhook-not-answering
        webhook-certificate dws-not-installed other-version
        """,
        "here",
        "Kubernetes removes what the namespace has, and lets nobody create anything in it",
    ),
    _row(
        "dws-not-installed",
        """
        workarea-missing kustomize-missing image-missing namespace-missing role-lacks-rights binding-wrong
        kubeconfig-missing plugin-clone plugin-missing burst-buffer-conf-missing burst-buffer-off workflow-gone
        """,
        "everywhere",
        "one `invoke install` installs DWS and everything that it needs",
    ),
    _row(
        "dws-missing",
        "dws-closed webhook-not-answering role-lacks-rights binding-wrong workflow-gone",
        "everywhere",
        "without DWS there are no Workflows, and no role for them",
    ),
    _row("dws-not-available", "webhook-not-answering", "here", "the pods of the webhook answer for it"),
    _row(
        "undeploy-unfinished",
        """
        crds-stuck dws-closed objects-missing objects-differ pods-not-ready webhook-not-answering webhooks-not-called
        role-lacks-rights workflow-gone
        """,
        "everywhere",
        "the undeploy has removed a part of DWS",
    ),
    _row(
        "crds-stuck",
        "objects-missing webhook-not-answering",
        "here",
        "the API server creates no object of a CRD that is being deleted",
    ),
    _row(
        "other-version",
        """
        objects-missing objects-differ role-differs role-too-wide role-lacks-rights binding-wrong workarea-missing
        kustomize-missing image-missing
        """,
        "here",
        "objects, role and images are compared with those of the version that the site file asks for",
    ),
    _row(
        "dirty-tag",
        "objects-differ pods-not-ready webhook-not-answering",
        "here",
        "the Deployments have another image, which no registry has",
    ),
    _row(
        "controller-manager-away",
        "pods-not-ready webhook-not-answering cert-manager-away",
        "here",
        "kube-controller-manager creates the pods of all Deployments, and counts them",
    ),
    _row(
        "scheduler-away",
        "pods-not-ready webhook-not-answering cert-manager-away",
        "here",
        "kube-scheduler chooses the worker of each new pod",
    ),
    _row(
        "kube-proxy-away",
        "cert-manager-refuses webhook-not-answering webhook-slow",
        "here",
        "the API server asks every webhook at the address of its Service",
    ),
    _row(
        "pod-network-broken",
        """
        webhook-pod-unreachable cert-manager-away cert-manager-refuses dws-controller-idle pods-not-ready
        webhook-not-answering webhook-slow
        """,
        "here",
        "the API server and the pods talk through this network",
    ),
    _row(
        "webhook-pod-unreachable",
        "webhook-not-answering webhook-slow",
        "here",
        "the API server chooses one of the webhook's pods for each new Workflow",
    ),
    _row(
        "cluster-stores-nothing",
        "pods-not-ready webhook-not-answering dws-controller-idle cert-manager-refuses webhook-certificate",
        "here",
        "nothing takes effect that cannot be stored",
    ),
    _row("workarea-noexec", "kustomize-missing", "here", "a program there cannot be started, as if it were missing"),
    _row(
        "rejected-by-rule",
        "pods-not-ready webhook-not-answering webhook-certificate",
        "here",
        "a rule of the cluster that refuses pods or certificates keeps DWS's from being replaced",
    ),
    _row(
        "cert-manager-missing",
        "cert-manager-away cert-manager-refuses webhook-certificate objects-missing pods-not-ready webhook-not-answering",
        "here",
        "DWS's webhook gets its certificate from cert-manager",
    ),
    _row(
        "cert-manager-away",
        "cert-manager-refuses webhook-ca-differs webhook-certificate objects-missing pods-not-ready webhook-not-answering",
        "here",
        "DWS's webhook gets its certificate from cert-manager",
    ),
    _row(
        "cert-manager-refuses",
        "webhook-certificate objects-missing pods-not-ready webhook-not-answering",
        "here",
        "cert-manager can change no certificate while its own webhook rejects it",
    ),
    _row(
        "objects-missing",
        "webhook-certificate pods-not-ready webhook-not-answering webhooks-not-called workflow-gone",
        "here",
        "pods need all objects of DWS, and a Workflow its CRD",
    ),
    _row(
        "objects-differ",
        "webhook-ca-differs pods-not-ready webhook-not-answering webhooks-not-called",
        "here",
        "pods start, and are reached, as the objects of DWS say",
    ),
    _row(
        "webhook-certificate",
        "pods-not-ready webhook-not-answering",
        "here",
        "the pods of DWS's webhook start with this certificate, and the API server trusts no other one",
    ),
    _row(
        "webhook-ca-differs",
        "webhook-not-answering",
        "here",
        "the API server trusts only a webhook whose certificate comes from the CA in the caBundle",
    ),
    _row(
        "dws-token-missing",
        "pods-not-ready webhook-not-answering dws-controller-idle",
        "here",
        "DWS's programs end when they find no token for the API server",
    ),
    _row("workers-few", "pods-not-ready", "here", "each pod of the webhook needs a worker of its own"),
    _row("pods-not-ready", "webhook-not-answering", "here", "the pods of the webhook answer for it"),
    _row("binding-wrong", "role-lacks-rights", "everywhere", "the binding gives the role to the plugin"),
    _row(
        "certificate-missing",
        "kubeconfig-broken kubeconfig-server kubeconfig-ca certificate-key",
        "here",
        "a kubeconfig without its certificate is not whole, and is written again as a whole",
    ),
    _row("kubeconfig-server", "api-unreachable", "here", "kubectl asks the server that the kubeconfig names"),
    _row("kubeconfig-ca", "api-unreachable", "here", "kubectl accepts only a server with a certificate of that CA"),
    _row("certificate-expired", "kubeconfig-refused", "here", "the API server rejects an expired certificate"),
    _row("certificate-foreign", "kubeconfig-refused", "here", "the API server rejects a certificate of another CA"),
    _row("slurm-conf-include", "slurm-conf-unparsable", "here", "Slurm stops at an Include that it cannot read"),
    _row(
        "slurm-files-closed",
        "kubeconfig-unreadable plugin-not-loading slurmctld-not-answering slurmctld-not-running slurmctld-stale",
        "here",
        "slurmctld, Slurm's commands and the plugin read their files as SlurmUser",
    ),
    _row(
        "slurm-conf-unparsable",
        "slurmctld-not-answering slurmctld-not-running slurmctld-stale",
        "here",
        "slurmctld and Slurm's commands start with slurm.conf",
    ),
    _row("munge-down", "slurmctld-not-answering slurmctld-not-running", "here", "Slurm's programs need munge to talk"),
    _row("slurm-key-unreadable", "slurmctld-not-answering slurmctld-not-running", "here", "AuthType needs its key"),
    _row(
        "auth-key-differs",
        "controllers-divided slurmctld-not-answering",
        "everywhere",
        "Slurm's programs accept only what was signed with their own key",
    ),
    _row(
        "bb-plugin-missing",
        "slurmctld-not-running",
        "here",
        "slurmctld starts only with the burst buffer that slurm.conf names",
    ),
    _row("state-folder-unusable", "slurmctld-not-running", "here", "slurmctld does not start without its state"),
    _row(
        "cluster-name-mismatch",
        "slurmctld-not-running",
        "here",
        "slurmctld does not start with the state of another cluster",
    ),
    _row(
        "lua-library-missing",
        "slurmctld-not-running slurmctld-stale",
        "here",
        "slurmctld does not start with a burst buffer that lacks its library",
    ),
    _row(
        "host-name-differs",
        "slurmctld-not-running slurmctld-not-answering controllers-divided",
        "here",
        "slurmctld starts only on a host whose own name is in slurm.conf",
    ),
    _row("slurm-unit-masked", "slurmctld-not-running", "here", "systemd does not start a masked unit"),
    _row("slurmctld-port-used", "slurmctld-not-running", "here", "slurmctld does not start without its port"),
    _row("slurm-plugin-missing", "slurmctld-not-running", "here", "slurmctld does not start without its plugins"),
    _row(
        "other-burst-buffer",
        "plugin-edited burst-buffer-conf-edited",
        "here",
        "the files are another tool's, not DWS's",
    ),
    _row(
        "slurm-file-link",
        "plugin-missing burst-buffer-conf-missing kubeconfig-missing slurm-conf-missing",
        "here",
        "nothing is written through a link to nothing, or to a place that others can change",
    ),
    _row("plugin-edited", "plugin-not-loading", "here", "Lua reads the edited file"),
)
"""The rows, the most general cause first: of two causes that explain a finding, the earlier row's is shown."""


def roots(present: Collection[FindingAt]) -> dict[FindingAt, FindingAt]:
    """Finding -> the finding from which it follows in the end, of those that are present; without those that follow from none."""
    causes = {place: cause for place in present if (cause := _cause(place, present))}
    return {place: _root(place, causes) for place in causes}


def _cause(place: FindingAt, present: Collection[FindingAt]) -> FindingAt | None:
    """The finding that explains this one: by the first row that does, on the same host if possible."""
    host, name = place
    for row in TABLE:
        if name in row.followers:
            if (host, row.cause) in present:
                return host, row.cause
            elsewhere = [other for other in present if other[1] == row.cause] if row.where == "everywhere" else []
            if elsewhere:
                return elsewhere[0]
    return None


def _root(place: FindingAt, causes: Mapping[FindingAt, FindingAt]) -> FindingAt:
    while place in causes:  # ends, as the table has no circle
        place = causes[place]
    return place
