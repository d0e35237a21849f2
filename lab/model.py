"""What a lab is: its hosts, their addresses, where its state lies. Everything else in this package takes a Lab."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from lab.releases import RELEASES, Release

Csm = Literal["", "helm", "operator"]
Role = Literal["master", "worker", "registry", "upstream", "controller", "compute", "slurm"]

# The last number of each host's address; it is also in its MAC address and in the name of its veth device.
SITE: tuple[tuple[str, Role, int], ...] = (
    ("ncn-m001", "master", 11),
    ("upstream", "upstream", 12),
    ("registry.local", "registry", 13),
    ("ncn-w001", "worker", 14),
    ("ncn-w002", "worker", 15),
    ("ncn-w003", "worker", 16),
    ("slurmctl1", "controller", 21),
    ("slurmctl2", "controller", 22),
    ("nid000001", "compute", 31),
    ("nid000002", "compute", 32),
)
SECOND: tuple[str, Role, int] = (
    "slurm2",
    "slurm",
    41,
)  # all of the second Slurm cluster: slurmctld and slurmd on one host
POD_HOSTS = ("ncn-w001", "ncn-w002")  # where the pods of slurmctld and of its backup run, in the hosts' network
UPSTREAM_NAMES = ("github.com", "raw.githubusercontent.com", "ghcr.io", "gcr.io", "quay.io")


@dataclass(frozen=True)
class Host:
    """One host of a lab; `number` is the last part of its address."""

    name: str
    role: Role
    number: int
    address: str

    @property
    def runs_pods(self) -> bool:
        """Whether a kubelet runs here."""
        return self.role in ("master", "worker")

    @property
    def runs_slurm(self) -> bool:
        """Whether slurmctld or slurmd runs here: such a host stands on the Debian root of the Slurm hosts."""
        return self.role in ("controller", "compute", "slurm")


@dataclass(frozen=True)
class Options:
    """What a lab is made with: real parts in place of fakes (None and (): the fakes), other shapes."""

    dws_repo: Path | None = None
    plugin_repo: Path | None = None
    images: tuple[tuple[str, Path], ...] = ()
    slurm_root: Path | None = None
    old_api: bool = True  # whether cert-manager serves more than v1
    slurmctld_pod: bool = False  # whether slurmctld runs in a pod instead of on hosts of its own
    csm: Csm = ""  # slurmctld and its backup in pods, /etc/slurm generated, as a chart or an operator has it
    csm_release: str = ""  # a key of releases.RELEASES: which Kubernetes and cert-manager
    slurm_clusters: int = 1  # 2: another Slurm cluster, on a host of its own

    @property
    def release(self) -> Release:
        """The Kubernetes and cert-manager of the lab."""
        return RELEASES[self.csm_release]

    @property
    def old_cert_manager_api(self) -> bool:
        """Whether cert-manager serves more than v1."""
        return self.old_api and self.release.old_api

    @property
    def in_pods(self) -> bool:
        """Whether slurmctld runs in pods."""
        return self.slurmctld_pod or bool(self.csm)


@dataclass(frozen=True)
class Lab:
    """One lab: `state` is its folder (.lab or .lab-NAME), `index` its network 10.77.INDEX.0/24."""

    name: str
    state: Path
    index: int
    options: Options = field(default_factory=Options)

    @property
    def gateway(self) -> str:
        """This machine's own address on the lab's bridge."""
        return f"10.77.{self.index}.1"

    @property
    def tag(self) -> str:
        """What the names of the lab's bridge, namespaces and control groups begin with; at most 9 characters."""
        return f"dwslab{self.index}"

    @property
    def hosts(self) -> tuple[Host, ...]:
        """All hosts, in the order of their addresses; controllers only where slurmctld runs in no pod."""
        site = [entry for entry in SITE if entry[1] != "controller" or not self.options.in_pods]
        site += [SECOND] if self.options.slurm_clusters > 1 else []
        return tuple(Host(name, role, number, f"10.77.{self.index}.{number}") for name, role, number in site)

    @property
    def with_second(self) -> "Lab":
        """This lab with its second Slurm cluster, which it may have or get."""
        return replace(self, options=replace(self.options, slurm_clusters=2))

    def host(self, name: str) -> Host:
        """The host of that name; KeyError names those that exist."""
        hosts = {host.name: host for host in self.hosts}
        if name not in hosts:
            raise KeyError(f"no host {name!r} in the lab; there are {', '.join(hosts)}")
        return hosts[name]

    @property
    def slurmctlds(self) -> tuple[Host, ...]:
        """The hosts that slurm.conf names as SlurmctldHost, the primary first."""
        if not self.options.in_pods:
            return self.role("controller")
        return tuple(self.host(name) for name in (POD_HOSTS if self.options.csm else POD_HOSTS[:1]))

    def role(self, role: Role) -> tuple[Host, ...]:
        """All hosts of one role."""
        return tuple(host for host in self.hosts if host.role == role)

    def folder(self, host: Host) -> Path:
        """Where one host's files lie: layer/, upper/, work/, data/."""
        return self.state / "hosts" / host.name
