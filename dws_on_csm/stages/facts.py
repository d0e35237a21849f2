"""Facts that several packages of stages read, some of them below the package whose look returns the fact."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from dws_on_csm.model.step import Fact


class Away(TypedDict):
    """Why a worker takes no pods. `text`: in this tool's words; a kubelet's own message, or the names of taints, may follow."""

    kind: Literal["not-ready", "cordoned", "tainted"]
    text: str


class ClusterState(TypedDict):
    """The versions of Kubernetes, the API versions of cert-manager, the workers that take pods, and those that take none."""

    kubernetes: str
    cert_manager: list[str]
    workers: list[str]
    away: NotRequired[dict[str, Away]]


class RegistryAnswer(TypedDict):
    """How the registry answered the master. `tls`, `problem`, `cause`: words of templates/master/registry.py; `text`: what was
    wrong."""

    tls: str
    problem: str
    text: str
    cause: NotRequired[str]


class ApiServer(TypedDict):
    """The cluster in the administrator's kubeconfig: its name, and its server's URL.

    ca      the certificates of the cluster's CA (PEM): several while it is being renewed
    trusts  those in the administrator's kubeconfig, and those of the CA
    """

    name: str
    server: str
    trusts: str
    ca: str


class Role(TypedDict):
    """The rules of the plugin's ClusterRole.

    name, own  where somebody else deploys DWS: which one was found, and whether this tool made it
    """

    rules: list[dict[str, object]]
    name: NotRequired[str]
    own: NotRequired[bool]


class Binding(TypedDict):
    """The plugin's ClusterRoleBinding: its role, and its subjects as "User slurm-dws".

    interim  an interrupted run left names.INTERIM_BINDING, "beside" this one or "instead" of it; its subjects are among these
    """

    role: str
    subjects: list[str]
    interim: NotRequired[str]


KubeconfigCertificate = TypedDict(
    "KubeconfigCertificate", {"client-certificate-data": NotRequired[str], "key_fits": NotRequired[str]}
)
"""The certificate of a kubeconfig, as the file has it. key_fits: whether the key beside it is its own,
"yes" or "no"; "" where that is unknown."""

_Values = TypedDict(
    "_Values",
    {"certificate-authority-data": str, "certificate-authority": str, "current-context": str},
    total=False,
)


class Kubeconfig(KubeconfigCertificate, _Values):
    """A controller's kubeconfig without its key, and SlurmUser's account there. Without `mode` there is no file.

    slurm_uid, slurm_group   SlurmUser's numbers; "" or missing where they are unknown, and `slurm_why` may say why
    tokenFile                the file with a token that it names
    proxy                    the proxy that it sends kubectl through (proxy-url); "" for none
    token                    whether SlurmUser can read the token of the host's own pod, "readable" or "unreadable"; "" for none
    service                  "yes": the host knows the API server by its name in the cluster
    may                      the lines of `kubectl auth can-i --list` with this file, as SlurmUser
    """

    slurm_user: str
    slurm_uid: NotRequired[str]
    slurm_group: NotRequired[str]
    slurm_why: NotRequired[str]
    mode: NotRequired[str]
    owner: NotRequired[str]
    owner_uid: NotRequired[str]
    server: NotRequired[str]
    namespace: NotRequired[str]
    tokenFile: NotRequired[str]
    proxy: NotRequired[str]
    token: NotRequired[str]
    service: NotRequired[str]
    may: list[str]


class ControllerValues(TypedDict):
    """The values that a controller prints once; "" for what is missing.

    host, program, version, main, LoadState, ActiveState   the host's name; slurmctld: its file, process, service
    fqdn, addresses   what else the host calls itself, and where it is reached
    user, uid, lacks, why   SlurmUser, or why it is not known who that is, in a word and in a sentence
    path, kubectl     PATH as slurmctld has it, and kubectl in it
    closed            a file of that name on PATH that is not executable
    library           burst_buffer_lua.so; `unreadable_library`: the same where it cannot be read to its end
    """

    host: str
    program: str
    version: str
    main: str
    LoadState: str
    ActiveState: str
    fqdn: str
    addresses: str
    user: str
    uid: str
    lacks: str
    why: str
    path: str
    kubectl: str
    closed: str
    library: str
    unreadable_library: str


class Controller(ControllerValues):
    """Slurm, Lua and kubectl on a controller.

    hooks      the functions that slurmctld calls
    linked     the Lua of its burst_buffer_lua.so: ["5.4"]
    absent     the Lua libraries that burst_buffer_lua.so needs and the host lacks: ["liblua5.4.so.0"]
    lua        [version, path] of each interpreter on the host
    files      path -> text of slurm.conf, which is the first, and of its includes; `unreadable` lists the other includes
    plugins    the plugins of Slurm beside it: ["auth_munge", ...]
    elsewhere  each slurm.conf that slurmctld reads, or will read, in place of the site file's: "PATH (HOW IT IS KNOWN)"
    """

    hooks: list[str]
    linked: list[str]
    absent: list[str]
    lua: list[list[str]]
    files: dict[str, str]
    unreadable: list[str]
    plugins: NotRequired[list[str]]
    elsewhere: NotRequired[list[str]]


class Dependents(TypedDict):
    """Objects that Kubernetes deletes together with objects of DWS, and API groups that do not say whether they have any: see
    templates/master/dependents.py."""

    owned: list[dict[str, Any]]
    unasked: list[dict[str, Any]]


def dependents(stage: str) -> Fact[Dependents]:
    """What the check `owned` of a stage found."""
    return Fact(stage, "owned")


CONTROLLER: Fact[Controller] = Fact("preflight", "controller")
CLUSTER: Fact[ClusterState] = Fact("preflight", "cluster")
REGISTRY_ANSWER: Fact[RegistryAnswer] = Fact("preflight", "registry")
API_SERVER: Fact[ApiServer] = Fact("access", "cluster")
AUTHORITY: Fact[ApiServer] = Fact("preflight", "authority")
"""The same as API_SERVER, read before the preflight is judged."""
ROLE: Fact[Role | None] = Fact("access", "role")
BINDING: Fact[Binding | None] = Fact("access", "binding")
"""None where it does not exist."""
KUBECONFIG: Fact[Kubeconfig] = Fact("access", "kubeconfig")
PREFLIGHT_KUBECONFIG: Fact[Kubeconfig] = Fact("preflight", "kubeconfig")
"""What kubeconfig.NAME reads in a stage `preflight`."""
