"""The releases of CSM that a lab can have the Kubernetes and cert-manager of, as far as these can be built from their modules."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Release:
    """Which Kubernetes and cert-manager a lab has, and how they are built.

    `servers` names the module file in go/kube-servers that the API server, the controller manager, the scheduler, the
    kubelet and kubectl are built from; "" stands for go/kube, which also has etcd and kube-proxy, for every release.
    `cert_manager_source` is a folder in go/, `cert_manager_module` the path of cert-manager's module at that version.
    `old_api`: whether that cert-manager can serve more than v1.
    """

    kubernetes: str
    cert_manager: str
    servers: str = ""
    cert_manager_source: str = "cert-manager"
    cert_manager_module: str = "github.com/jetstack/cert-manager"
    old_api: bool = True

    @property
    def minor(self) -> int:
        """Kubernetes' minor version: 33 of 1.33.13."""
        return int(self.kubernetes.split(".")[1])

    @property
    def pod_security_policies(self) -> bool:
        """Whether pods need a PodSecurityPolicy: CSM switches that on, and Kubernetes has it until 1.24.

        Source: docs-csm, upgrade/scripts/k8s/enable-psp.sh.
        """
        return self.minor < 25


USUAL = Release("1.33.13", "1.5.5")
_NEWER_CERT_MANAGER = {
    "cert_manager_source": "cert-manager-1.11",
    "cert_manager_module": "github.com/cert-manager/cert-manager",
}
RELEASES: Mapping[str, Release] = {
    "": USUAL,
    "1.5": Release("1.22.17", "1.5.5", "1.22"),
    "1.6": Release("1.24.17", "1.11.5", "1.24", **_NEWER_CERT_MANAGER, old_api=False),
    "next": Release("1.37.2", "1.11.5", "next", **_NEWER_CERT_MANAGER, old_api=False),
}
"""By the value of `lab.up --csm-release`.

CSM 1.5 has Kubernetes 1.22.13, but the Go module proxy lacks some of its modules. CSM 1.6 has cert-manager 1.12.9; from 1.12
on, cert-manager's programs are Go modules that no other module can require, so 1.11 is the newest that builds. Both serve v1
alone.
"""
