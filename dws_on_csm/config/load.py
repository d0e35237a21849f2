"""hosts.yaml -> a frozen Site: read by the schema, checked as a whole, and limited to the requested hosts."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from dws_on_csm.config.acceptable import refusal
from dws_on_csm.config.nodeset import did_you_mean, expand
from dws_on_csm.config.schema import Problem
from dws_on_csm.config.site import (
    Access,
    ComputeGroup,
    ControllerGroup,
    Deadlines,
    Host,
    HostsError,
    Kustomize,
    Master,
    Plugin,
    Pod,
    Proxies,
    Registry,
    Role,
    Site,
    Slurm,
    Sources,
    Ssh,
    TestJob,
    Versions,
)
from dws_on_csm.config.yaml_file import Content, SiteError, local_path, read, relative

ROOT = Path(__file__).resolve().parents[2]
"""The folder of this project."""
SCHEMA = Path(__file__).with_name("hosts.schema.json")
DEFAULT = ROOT / "hosts.yaml"
"""The site file of a command without --hosts PATH."""


def load(path: Path, option: str = "--hosts", text: str | None = None) -> Site:
    """The site that a file describes. SiteError with all mistakes in it.

    option  the command's option that names another site file, for the message
    text    the content, where the file is not written yet
    """
    content = read(path, SCHEMA, option, text)
    problems = sorted({*content.problems, *_conflicts(content, path)})
    if problems:
        raise SiteError(path, tuple(problems))
    return _site(path, content.data)


def line_of(path: Path, key: str) -> int:
    """The line of the site file in which the value of `key` ("access.common_name") begins; 0 where the file lacks it."""
    return read(path, SCHEMA).places.get(key, (0, 0))[0]


def narrow(site: Site, nodeset: str) -> Site:
    """The same site, limited to these hosts. HostsError for hosts that are not in it, or outside its present limit.

    All hosts stay in it: the CA and the cluster come from the master even where the limit leaves the master out.
    """
    try:
        names = frozenset(expand(nodeset))
    except ValueError as error:
        raise HostsError(f"{nodeset!r} is not a node set: {error}") from None
    masters = {host.name for host in site.master.listed}
    if names & masters:  # which of them is used is not known yet
        names |= masters
    known = {host.name for host in (*site.hosts(), *site.master.listed) if site.active(host)}
    lacks = f"not a host of {relative(site.path)}" if site.limit is None else "not among the hosts selected so far"
    unknown = [f"{name}: {lacks}{did_you_mean(name, known)}" for name in sorted(names - known)]
    if unknown:
        raise HostsError("\n".join(unknown))
    return replace(site, limit=names)


def from_hosts_option(value: str | bool | None, limit: str | None, default: Path = DEFAULT) -> Site:
    """The site for `--hosts VALUE --limit LIMIT`. SiteError, HostsError.

    Without a value: the default file. A value that contains a / or ends with .yaml: that file. Any other value: a node set,
    which limits the default file's hosts.
    """
    text = value if isinstance(value, str) else ""
    is_file = "/" in text or text.endswith(".yaml")
    site = load(Path(text).expanduser() if is_file else default)
    for nodeset in (text if not is_file else "", limit):
        site = narrow(site, nodeset) if nodeset else site
    return site


# --- mistakes that only other keys or this machine reveal


def _conflicts(content: Content, path: Path) -> Iterator[Problem]:
    """The problems between keys, and with files of this machine; a key with a problem of its own is skipped."""
    yield from _duplicate_hosts(content)
    yield from _misplaced_controllers(content)
    yield from _constant_renewal(content)
    yield from _account_of_a_host(content)
    yield from _half_kustomize(content)
    yield from _not_acceptable(content)
    yield from _unreadable_command(content)
    config = (content.data.get("ssh") or {}).get("config")
    if config and not local_path(path, config).is_file():
        yield content.problem("ssh.config", f"no such file: {relative(local_path(path, config))}")


def _constant_renewal(content: Content) -> Iterator[Problem]:
    access = content.data.get("access") or {}
    days, left = access.get("days"), access.get("renew_below")
    if days is not None and left is not None and left >= days:
        text = f"expected less than access.days ({days}): otherwise every run renews the certificates"
        yield content.problem("access.renew_below", text)


def _account_of_a_host(content: Content) -> Iterator[Problem]:
    """A problem where a ServiceAccount should log in and a controller is no pod."""
    hosts = [
        rule["host"] for rule in content.data.get("controllers") or [] if rule and not rule["pod"] and rule["host"]
    ]
    if (content.data.get("access") or {}).get("via") == "serviceaccount" and hosts:
        text = f"serviceaccount needs controllers that are pods, and {hosts[0]} is a host: use ca or csr"
        yield content.problem("access.via", text)


def _unreadable_command(content: Content) -> Iterator[Problem]:
    """A problem where the words of ssh.sudo_password_command can't be told apart."""
    try:
        shlex.split((content.data.get("ssh") or {}).get("sudo_password_command") or "")
    except ValueError as error:
        yield content.problem("ssh.sudo_password_command", f"expected a command: {str(error).lower()}")


def _half_kustomize(content: Content) -> Iterator[Problem]:
    """A problem where kustomize has a source without a checksum, or a checksum without a source."""
    kustomize = (content.data.get("sources") or {}).get("kustomize") or {}
    source, digits = kustomize.get("from"), kustomize.get("sha256")
    if source and digits == "":
        text = "missing: the sha256 of the file that `from` names; `sha256sum` prints it"
        yield content.problem("sources.kustomize.sha256", text)
    if digits and source == "":
        yield content.problem("sources.kustomize.from", "missing: the path or URL of the file with this sha256")


def _not_acceptable(content: Content) -> Iterator[Problem]:
    """A problem for each name in `accept` that cannot be accepted or is unknown: it would have no effect, unnoticed."""
    for number, name in enumerate(content.data.get("accept") or []):
        if name and (why := refusal(name)):
            yield content.problem(f"accept[{number}]", why)


def _duplicate_hosts(content: Content) -> Iterator[Problem]:
    """A problem for each key that names a host of an earlier key."""
    owner: dict[str, str] = {}
    for key, nodeset in _nodesets(content.data):
        names = expand(nodeset)
        again = [name for name in names if name in owner]
        if again:
            more = f" and {len(again) - 1} more" if again[1:] else ""
            yield content.problem(key, f"{again[0]}{more}: already in {owner[again[0]]}; a host can have only one role")
        owner |= dict.fromkeys(names, key)


def _misplaced_controllers(content: Content) -> Iterator[Problem]:
    """A problem for each controller that has both a host and a pod, or neither."""
    for number, rule in enumerate(content.data.get("controllers") or []):
        key = f"controllers[{number}].host"
        if rule and rule["pod"] is not None and key in content.places:
            yield content.problem(key, "a controller is a host or a pod, not both")
        elif rule and rule["pod"] is None and key not in content.places and f"{key[:-4]}pod" not in content.places:
            yield content.problem(key, "missing: a host's name or a node set, like nid[000001-000008]; or a pod")


def _nodesets(data: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Key and node set of every valid key that names hosts."""
    master = (data.get("master") or {}).get("host")
    named = [("master.host", master)]
    if isinstance(master, list):
        named = [(f"master.host[{number}]", name) for number, name in enumerate(master)]
    for number, rule in enumerate(data.get("controllers") or []):
        named.append((f"controllers[{number}].host", (rule or {}).get("host")))
        if pod := (rule or {}).get("pod"):
            named.append((f"controllers[{number}].pod", pod["name"] or pod["container"]))
    computes = data.get("computes") or []
    if isinstance(computes, dict):
        named.append(("computes.hosts", computes.get("hosts")))
    else:
        named += [(f"computes[{i}].hosts", (group or {}).get("hosts")) for i, group in enumerate(computes)]
    return ((key, nodeset) for key, nodeset in named if nodeset is not None)


# --- the Site


def _site(path: Path, data: dict[str, Any]) -> Site:
    """The Site of content without problems."""
    ssh, registry = data["ssh"], data["registry"]
    config = local_path(path, ssh["config"]) if ssh["config"] else None
    groups = tuple(
        ControllerGroup(_controllers(rule, data["master"], ssh), rule["may_be_down"]) for rule in data["controllers"]
    )
    namespace, _, secret = registry["secret"].partition("/")
    return Site(
        path=path,
        master=_master(data["master"], ssh),
        controllers=tuple(host for group in groups for host in group.hosts),
        computes=_computes(data["computes"] or [], ssh),
        ssh=Ssh(
            config, ssh["user"] or "", ssh["sudo"], ssh["connections"], ssh["transport"], ssh["sudo_password_command"]
        ),
        versions=_versions(data["versions"], data["dws"]),
        plugin=Plugin(**data["plugin"]),
        sources=_sources(path, data["sources"]),
        registry=Registry(registry["name"], namespace, secret, tuple(registry["token_hosts"])),
        access=Access(**data["access"]),
        slurm=Slurm(**data["slurm"]),
        test_job=_test_job(data["test_job"], ssh),
        deadlines=Deadlines(**{name: float(seconds) for name, seconds in data["deadlines"].items()}),
        accept=frozenset(data["accept"]),
        keep_runs=data["keep_runs"],
        dws=data["dws"],
        controller_groups=groups,
    )


def _master(rule: dict[str, Any], ssh: dict[str, Any]) -> Master:
    hosts = tuple(host for name in _names(rule["host"]) for host in _hosts(name, "master", rule, ssh))
    proxies = Proxies(rule["proxies"]["https"], tuple(rule["proxies"]["no_proxy"]))
    paths = (rule["kubeconfig"], rule["context"], rule["pki"], rule["path"], rule["workarea"])
    return Master(hosts[0], *paths, proxies, hosts)


def _names(value: str | list[str]) -> list[str]:
    """The masters of `master.host`: one, or a list."""
    return [value] if isinstance(value, str) else value


def _test_job(rule: dict[str, Any], ssh: dict[str, Any]) -> TestJob:
    host = Host(rule["host"], "login", ssh["user"] or "", ssh["sudo"]) if rule["host"] else None
    return TestJob(**{**rule, "host": host})


def _hosts(nodeset: str, role: Role, rule: dict[str, Any], ssh: dict[str, Any]) -> tuple[Host, ...]:
    user = rule["user"] or ssh["user"] or ""
    sudo = ssh["sudo"] if rule["sudo"] is None else rule["sudo"]
    return tuple(Host(name, role, user, sudo) for name in expand(nodeset))


def _controllers(rule: dict[str, Any], master: dict[str, Any], ssh: dict[str, Any]) -> tuple[Host, ...]:
    """The controllers of one entry; a pod is reached through the master, as the master's user."""
    if not (pod := rule["pod"]):
        return _hosts(rule["host"], "controller", rule, ssh)
    (through,) = _hosts(_names(master["host"])[0], "master", master, ssh)
    where = Pod(**{name: value for name, value in pod.items() if name != "name"})
    return (Host(pod["name"] or pod["container"], "controller", through.user, through.sudo, where),)


def _computes(rules: dict[str, Any] | list[dict[str, Any]], ssh: dict[str, Any]) -> tuple[ComputeGroup, ...]:
    groups = [rules] if isinstance(rules, dict) else rules
    return tuple(_group(rule, _hosts(rule["hosts"], "compute", rule, ssh)) for rule in groups)


def _group(rule: dict[str, Any], hosts: tuple[Host, ...]) -> ComputeGroup:
    """The group, with `may_be_down` as a number of hosts."""
    down = rule["may_be_down"]
    if isinstance(down, str):
        down = len(hosts) * int(down.removesuffix("%")) // 100
    return ComputeGroup(hosts, rule["slurm_conf"], down)


def _versions(rule: dict[str, Any], dws: str) -> Versions:
    """Each version is a tag, or a tag with the commit that it must have. That of dws is dropped where somebody else deploys DWS."""
    rule = {**rule, "dws": ""} if dws == "external" else rule
    pinned = {name: version for name, version in rule.items() if isinstance(version, dict)}
    tags = {name: version["tag"] if name in pinned else version for name, version in rule.items()}
    commits = {f"{name} {version['tag']}": version["commit"].lower() for name, version in pinned.items()}
    return Versions(**tags, commits=commits)


def _sources(path: Path, rule: dict[str, Any]) -> Sources:
    kustomize, lists = rule["kustomize"], {name: tuple(rule[name]) for name in rule if name != "kustomize"}
    source = kustomize["from"]
    if not source:
        return Sources(**lists, kustomize=None)
    if not source.startswith("https://"):
        source = str(local_path(path, source))
    return Sources(**lists, kustomize=Kustomize(source, kustomize["sha256"].lower()))
