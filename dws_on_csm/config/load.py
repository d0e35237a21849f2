"""hosts.yaml -> a frozen Site: read against the schema, checked as a whole, and narrowed to the hosts asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from dws_on_csm.config.conflicts import conflicts
from dws_on_csm.config.nodeset import expand, near
from dws_on_csm.config.schema import Problem
from dws_on_csm.config.site import (
    Access,
    ComputeGroup,
    Deadlines,
    Host,
    HostsError,
    Master,
    Pod,
    Role,
    Site,
    Slurm,
    Ssh,
    TestJob,
)
from dws_on_csm.config.sources import Kustomize, Proxies, Registry, Sources, Versions
from dws_on_csm.config.yaml_file import SiteError, local, read, shown

__all__ = [
    "DEFAULT",
    "ROOT",
    "SCHEMA",
    "ComputeGroup",
    "Host",
    "HostsError",
    "Kustomize",
    "Problem",
    "Role",
    "Site",
    "SiteError",
    "from_hosts_option",
    "line_of",
    "load",
    "narrow",
]

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = Path(__file__).with_name("hosts.schema.json")
DEFAULT = ROOT / "hosts.yaml"


def load(path: Path, option: str = "--hosts") -> Site:
    """The site that a file describes, of which the command was told with `option`. SiteError with all that is wrong."""
    content = read(path, SCHEMA, option)
    problems = sorted({*content.problems, *conflicts(content, path)})
    if problems:
        raise SiteError(path, tuple(problems))
    return _site(path, content.data)


def line_of(path: Path, key: str) -> int:
    """The line of the site file in which the value of `key` ("access.common_name") begins; 0 if the file doesn't have it."""
    return read(path, SCHEMA).places.get(key, (0, 0))[0]


def narrow(site: Site, nodeset: str) -> Site:
    """The same site, limited to these hosts (within the limit that it has). HostsError for hosts that it lacks.

    All hosts stay in it: a master that is not among them still says what the CA and the cluster are.
    """
    try:
        names = frozenset(expand(nodeset))
    except ValueError as error:
        raise HostsError(f"{nodeset!r} is no node set: {error}") from None
    known = {host.name for host in site.hosts() if site.active(host)}
    where = shown(site.path) if site.limit is None else "what it is narrowed to already"
    unknown = [f"{name}: not a host of {where}{near(name, known)}" for name in sorted(names - known)]
    if unknown:
        raise HostsError("\n".join(unknown))
    return replace(site, limit=names)


def from_hosts_option(value: str | bool | None, limit: str | None, default: Path = DEFAULT) -> Site:
    """The site that `--hosts VALUE --limit LIMIT` mean. SiteError, HostsError.

    No value: the default file. A value with a / in it or with .yaml at its end: that file. Another one: a node set
    that narrows the default file's hosts.
    """
    text = value if isinstance(value, str) else ""
    a_file = "/" in text or text.endswith(".yaml")
    site = load(Path(text).expanduser() if a_file else default)
    for nodeset in (text if not a_file else "", limit):
        site = narrow(site, nodeset) if nodeset else site
    return site


def _site(path: Path, data: dict[str, Any]) -> Site:
    """The site for content without problems."""
    ssh, registry = data["ssh"], data["registry"]
    config = local(path, ssh["config"]) if ssh["config"] else None
    namespace, _, secret = registry["secret"].partition("/")
    return Site(
        path=path,
        master=_master(data["master"], ssh),
        controllers=tuple(host for rule in data["controllers"] for host in _controllers(rule, data["master"], ssh)),
        computes=_computes(data["computes"] or [], ssh),
        ssh=Ssh(config, ssh["user"] or "", ssh["sudo"], ssh["connections"]),
        versions=_versions(data["versions"]),
        sources=_sources(path, data["sources"]),
        registry=Registry(registry["name"], namespace, secret),
        access=Access(**data["access"]),
        slurm=Slurm(**data["slurm"]),
        test_job=TestJob(**data["test_job"]),
        deadlines=Deadlines(**{name: float(seconds) for name, seconds in data["deadlines"].items()}),
        accept=frozenset(data["accept"]),
        keep_runs=data["keep_runs"],
    )


def _master(rule: dict[str, Any], ssh: dict[str, Any]) -> Master:
    (host,) = _hosts(rule["host"], "master", rule, ssh)
    proxies = Proxies(rule["proxies"]["https"], tuple(rule["proxies"]["no_proxy"]))
    return Master(host, rule["kubeconfig"], rule["context"], rule["pki"], rule["path"], rule["workarea"], proxies)


def _hosts(nodeset: str, role: Role, rule: dict[str, Any], ssh: dict[str, Any]) -> tuple[Host, ...]:
    user = rule["user"] or ssh["user"] or ""
    sudo = ssh["sudo"] if rule["sudo"] is None else rule["sudo"]
    return tuple(Host(name, role, user, sudo) for name in expand(nodeset))


def _controllers(rule: dict[str, Any], master: dict[str, Any], ssh: dict[str, Any]) -> tuple[Host, ...]:
    """A controller of its own or several; a pod is reached as the master is."""
    if not (pod := rule["pod"]):
        return _hosts(rule["host"], "controller", rule, ssh)
    (way,) = _hosts(master["host"], "master", master, ssh)
    where = Pod(pod["namespace"], pod["selector"], pod["container"])
    return (Host(pod["name"] or pod["container"], "controller", way.user, way.sudo, where),)


def _computes(rules: dict[str, Any] | list[dict[str, Any]], ssh: dict[str, Any]) -> tuple[ComputeGroup, ...]:
    groups = [rules] if isinstance(rules, dict) else rules
    return tuple(_group(rule, _hosts(rule["hosts"], "compute", rule, ssh)) for rule in groups)


def _group(rule: dict[str, Any], hosts: tuple[Host, ...]) -> ComputeGroup:
    """The group, with a share of its hosts made a number of them."""
    down = rule["may_be_down"]
    if isinstance(down, str):
        down = len(hosts) * int(down.removesuffix("%")) // 100
    return ComputeGroup(hosts, rule["slurm_conf"], down)


def _versions(rule: dict[str, Any]) -> Versions:
    """A tag may be given with the commit that it has to be."""
    pinned = {name: one for name, one in rule.items() if isinstance(one, dict)}
    tags = {name: one["tag"] if name in pinned else one for name, one in rule.items()}
    commits = {f"{name} {one['tag']}": one["commit"].lower() for name, one in pinned.items()}
    return Versions(**tags, commits=commits)


def _sources(path: Path, rule: dict[str, Any]) -> Sources:
    kustomize, lists = rule["kustomize"], {name: tuple(rule[name]) for name in rule if name != "kustomize"}
    source = kustomize["from"]
    if not source:
        return Sources(**lists, kustomize=None)
    if not source.startswith("https://"):
        source = str(local(path, source))
    return Sources(**lists, kustomize=Kustomize(source, kustomize["sha256"].lower()))
