"""The site as frozen data: what hosts.yaml says, with every default in its place."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dws_on_csm.config.nodeset import near
from dws_on_csm.config.sources import Proxies, Registry, Sources, Versions
from dws_on_csm.config.yaml_file import shown

if TYPE_CHECKING:
    from dws_on_csm.config.bundle_contents import Bundle

Role = Literal["master", "controller", "compute"]


class HostsError(LookupError):
    """A host or node set that was asked for is not in the site file; says which, and what may have been meant."""


@dataclass(frozen=True)
class Pod:
    """A slurmctld that runs in a pod: its namespace, the labels that find it (`app=slurmctld`), its container."""

    namespace: str
    selector: str
    container: str


@dataclass(frozen=True)
class Host:
    """A host of the site. `user` "": as ssh_config says, or else the name of who runs this.

    pod   where it isn't a host by itself: it is reached through the master
    """

    name: str
    role: Role
    user: str
    sudo: bool
    pod: Pod | None = None


@dataclass(frozen=True)
class Master:
    """The CSM master, and where things lie on it; `context` "": the kubeconfig's current one."""

    host: Host
    kubeconfig: str
    context: str
    pki: str
    path: str
    workarea: str
    proxies: Proxies


@dataclass(frozen=True)
class ComputeGroup:
    """Nodes with a slurm.conf of their own, what is done about it, and how many of them may be unreachable."""

    hosts: tuple[Host, ...]
    slurm_conf: Literal["check", "edit", "print"]
    may_be_down: int


@dataclass(frozen=True)
class Ssh:
    """How hosts are reached; `config` None: the user's ssh_config and the system's."""

    config: Path | None
    user: str
    sudo: bool
    connections: int


@dataclass(frozen=True)
class Access:
    """The controllers' access to the API server; `days` and `renew_below` in days, `server` "": the admin's.

    via     who signs: the CA's key on the master, or the cluster, by a CertificateSigningRequest
    """

    common_name: str
    days: int
    via: Literal["ca", "csr"]
    renew_below: int
    namespace: str
    create_namespace: bool
    server: str


@dataclass(frozen=True)
class Slurm:
    """The folder of slurm.conf, and slurmctld's systemd unit."""

    folder: str
    service: str

    @property
    def conf(self) -> str:
        """slurm.conf itself."""
        return f"{self.folder}/slurm.conf"


@dataclass(frozen=True)
class TestJob:
    """The job that proves the result; "": sbatch's own choice; deadline in seconds."""

    __test__ = False  # pytest would take it for a test

    user: str
    account: str
    partition: str
    qos: str
    reservation: str
    folder: str
    deadline: float


@dataclass(frozen=True)
class Deadlines:
    """Seconds for each thing that is waited for."""

    connect: float
    look: float
    clone: float
    image: float
    deploy: float
    slurmctld: float
    command: float


@dataclass(frozen=True)
class Site:
    """All that hosts.yaml says.

    limit   the hosts that a run may change, None for all; the others are only read
    bundle  what everything comes from in place of `sources`, if anything
    deletes what was typed for persistent storage that a run may delete: its names or their number (see stages/storage)
    """

    path: Path
    master: Master
    controllers: tuple[Host, ...]
    computes: tuple[ComputeGroup, ...]
    ssh: Ssh
    versions: Versions
    sources: Sources
    registry: Registry
    access: Access
    slurm: Slurm
    test_job: TestJob
    deadlines: Deadlines
    accept: frozenset[str]
    keep_runs: int
    limit: frozenset[str] | None = None
    bundle: Bundle | None = None
    deletes: str = ""

    @cached_property
    def _by_name(self) -> dict[str, Host]:
        nodes = (host for group in self.computes for host in group.hosts)
        return {host.name: host for host in (self.master.host, *self.controllers, *nodes)}

    def hosts(self, role: Role | None = None) -> tuple[Host, ...]:
        """The hosts of a role or all of them: master, controllers, nodes; in the file's order, whatever the limit."""
        return tuple(host for host in self._by_name.values() if role in (None, host.role))

    def host(self, name: str) -> Host:
        """The host of this name. HostsError where the site file has none."""
        if name not in self._by_name:
            raise HostsError(f"{name}: not a host of {shown(self.path)}{near(name, self._by_name)}")
        return self._by_name[name]

    def active(self, host: Host | str) -> bool:
        """Whether the run may change this host."""
        return self.limit is None or (host if isinstance(host, str) else host.name) in self.limit
