"""The site as frozen data: all values of the site file, defaults included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dws_on_csm.config.nodeset import did_you_mean
from dws_on_csm.config.yaml_file import relative

if TYPE_CHECKING:
    from dws_on_csm.config.bundle_contents import Bundle

Role = Literal["master", "controller", "compute", "login"]


class HostsError(LookupError):
    """A requested host or node set is not in the site file; the message names it, and similar names."""


@dataclass(frozen=True)
class Pod:
    """A slurmctld that runs in a pod: namespace, labels that select the pod (`app=slurmctld`), container.

    templates, job  NAMESPACE/NAME of the ConfigMap and of the Job from which its files come; "": they are found
    kubectl         "hostPath": where the image has no kubectl, that of the pod's worker may be mounted
    """

    namespace: str
    selector: str
    container: str
    templates: str = ""
    job: str = ""
    kubectl: Literal["image", "hostPath"] = "image"


@dataclass(frozen=True)
class Host:
    """A host of the site.

    user  "": the user from ssh_config, or the name of the local user
    pod   for a slurmctld in a pod, which is reached through the master
    """

    name: str
    role: Role
    user: str
    sudo: bool
    pod: Pod | None = None


@dataclass(frozen=True)
class Proxies:
    """How the master reaches https:// sources: through this proxy ("": directly), and which hosts always directly."""

    https: str
    no_proxy: tuple[str, ...]


@dataclass(frozen=True)
class Master:
    """The CSM master and its paths.

    host     the master that is used: the first of the site file; where a list was given, runner/masters.py chooses the first that
             answers
    context  "": the kubeconfig's current context
    listed   all masters of the site file, in its order
    silent   why those before `host` are not used, each with its name ("ncn-m001: no route to host")
    """

    host: Host
    kubeconfig: str
    context: str
    pki: str
    path: str
    workarea: str
    proxies: Proxies
    listed: tuple[Host, ...] = ()
    silent: tuple[str, ...] = ()

    @property
    def several(self) -> bool:
        """Whether the site file names several masters."""
        return len(self.listed) > 1


@dataclass(frozen=True)
class ComputeGroup:
    """Nodes with a slurm.conf of their own, what happens to it, and how many of them may be unreachable."""

    hosts: tuple[Host, ...]
    slurm_conf: Literal["check", "edit", "print"]
    may_be_down: int


@dataclass(frozen=True)
class ControllerGroup:
    """The controllers of one entry of the site file, and how many of them may be unreachable."""

    hosts: tuple[Host, ...]
    may_be_down: int


@dataclass(frozen=True)
class Ssh:
    """How hosts are reached.

    config                 None: the user's ssh_config and the system's
    sudo_password_command  "": a person is asked
    """

    config: Path | None
    user: str
    sudo: bool
    connections: int
    transport: Literal["auto", "fabric", "openssh"] = "auto"
    sudo_password_command: str = ""


@dataclass(frozen=True)
class Versions:
    """Tags of dws and plugin without their v (`0.0.20`), and the complete tag of the kube_rbac_proxy image (`v0.14.1`).

    dws       "" where somebody else deploys it
    commits   the pins of the site file: "dws 0.0.20" -> the commit that this tag must have
    """

    dws: str
    plugin: str
    kube_rbac_proxy: str
    commits: Mapping[str, str] = field(default_factory=dict)

    def commit(self, name: str) -> str:
        """The commit that the tag of "dws" or "plugin" must have; "" where the site file pins none for this version."""
        return self.commits.get(f"{name} {getattr(self, name)}", "")


@dataclass(frozen=True)
class Plugin:
    """What an install changes in the plugin's files.

    workflow_version    "auto": the API version that it writes, where DWS does not serve that; "plugin": nothing
    """

    workflow_version: Literal["auto", "plugin"] = "auto"


@dataclass(frozen=True)
class Kustomize:
    """Where kustomize comes from: an absolute path on this machine, or a URL for the master; sha256 in lower-case digits."""

    source: str
    sha256: str


@dataclass(frozen=True)
class Sources:
    """Where things come from; the entries of each are tried in order.

    Repositories are git URLs; images are names without a tag, optionally with a digest that they must have. A source that begins
    with / is on this machine: a repository or git bundle, or an image's archive.
    """

    dws: tuple[str, ...]
    plugin: tuple[str, ...]
    dws_image: tuple[str, ...]
    kube_rbac_proxy_image: tuple[str, ...]
    kustomize: Kustomize | None


@dataclass(frozen=True)
class Registry:
    """The registry from which the cluster pulls, and the Secret with its `username` and `password`.

    name         HOST[:PORT][/PATH], as in the names of images
    token_hosts  other hosts (HOST[:PORT]) that may get the password too, to issue tokens
    """

    name: str
    secret_namespace: str
    secret_name: str
    token_hosts: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        """HOST[:PORT]: where its API is, whatever the path in its name."""
        return self.name.partition("/")[0]


@dataclass(frozen=True)
class Access:
    """The controllers' access to the API server.

    days, renew_below  a certificate's lifetime, and the rest of it below which it is renewed, in days
    via                how the plugin logs in: with a certificate of the CA's key on the master ("ca"), or of the cluster, through a
                       CertificateSigningRequest ("csr"); with its pod's token ("serviceaccount"); "auto": as
                       stages/pod/service_account decides
    signed_via         who signs certificates in this run, whatever the site file says; "": as `via` says
    server             "": the API server of the admin's context
    """

    common_name: str
    days: int
    via: Literal["auto", "ca", "csr", "serviceaccount"]
    renew_below: int
    namespace: str
    create_namespace: bool
    server: str
    signed_via: Literal["", "ca", "csr"] = ""

    @property
    def signer(self) -> Literal["ca", "csr"]:
        """Who signs certificates, where there are any."""
        return self.signed_via or ("csr" if self.via == "csr" else "ca")


@dataclass(frozen=True)
class Slurm:
    """The folder of slurm.conf, and slurmctld's systemd unit."""

    folder: str
    service: str

    @property
    def conf(self) -> str:
        """The path of slurm.conf."""
        return f"{self.folder}/slurm.conf"


@dataclass(frozen=True)
class TestJob:
    """The job that verifies the installation; "": sbatch's default; deadline in seconds.

    host  the login host where it is submitted, which may be another host of the site, too; None: the first controller
    """

    __test__ = False  # keeps pytest from collecting it as a test

    user: str
    host: Host | None
    account: str
    partition: str
    qos: str
    reservation: str
    folder: str
    deadline: float


@dataclass(frozen=True)
class Deadlines:
    """Seconds that each operation may take."""

    connect: float
    look: float
    clone: float
    image: float
    deploy: float
    slurmctld: float
    command: float


def is_count(typed: str) -> bool:
    """Whether `Site.deletes` is only a number: a number may count storage that the user has not seen."""
    return typed.strip().isascii() and typed.strip().isdigit()


@dataclass(frozen=True)
class Site:
    """All values of the site file, and what the command line adds.

    dws      "deploy": this tool deploys DWS, replaces and removes it. "external": somebody else does; then versions.dws is "",
             because a version that this tool does not deploy must decide nothing
    limit    the hosts that a run may change, None for all; the others are only read
    bundle   the offline bundle that replaces `sources`, if any
    deletes  the persistent storage that a run may delete, as typed: names or a number (see stages/dws/persistent_storage)
    absent   the controllers that may be down and do not respond: a run continues without them
    """

    path: Path
    master: Master
    controllers: tuple[Host, ...]
    computes: tuple[ComputeGroup, ...]
    ssh: Ssh
    versions: Versions
    plugin: Plugin
    sources: Sources
    registry: Registry
    access: Access
    slurm: Slurm
    test_job: TestJob
    deadlines: Deadlines
    accept: frozenset[str]
    keep_runs: int
    dws: Literal["deploy", "external"] = "deploy"
    limit: frozenset[str] | None = None
    bundle: Bundle | None = None
    deletes: str = ""
    controller_groups: tuple[ControllerGroup, ...] = ()
    absent: frozenset[str] = frozenset()

    @property
    def first_controller(self) -> Host:
        """The first controller in the file's order that is not absent: test jobs are followed there, and Slurm is asked there."""
        return next(host for host in self.controllers if host.name not in self.absent)

    @property
    def outside_limit(self) -> list[str]:
        """The controllers that the command line leaves out."""
        return [host.name for host in self.controllers if self.limit is not None and host.name not in self.limit]

    @property
    def external(self) -> bool:
        """Whether somebody else deploys DWS."""
        return self.dws == "external"

    @cached_property
    def _by_name(self) -> dict[str, Host]:
        nodes = (host for group in self.computes for host in group.hosts)
        hosts = {host.name: host for host in (self.master.host, *self.controllers, *nodes)}
        login = self.test_job.host
        if login and login.name not in hosts:
            hosts[login.name] = login
        return hosts

    def hosts(self, role: Role | None = None) -> tuple[Host, ...]:
        """The hosts of a role, or all: master, controllers, nodes, login host; in the file's order, regardless of the limit."""
        return tuple(host for host in self._by_name.values() if role in (None, host.role))

    def host(self, name: str) -> Host:
        """The host of this name. HostsError where the site file has none."""
        if name not in self._by_name:
            raise HostsError(f"{name}: not a host of {relative(self.path)}{did_you_mean(name, self._by_name)}")
        return self._by_name[name]

    def active(self, host: Host | str) -> bool:
        """Whether the run may change this host."""
        name = host if isinstance(host, str) else host.name
        return name not in self.absent and (self.limit is None or name in self.limit)
