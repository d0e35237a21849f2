"""`invoke check`: what the site file says, read on this machine alone. Exit code 0; 2 if the file is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dws_on_csm.config.site import Host, Site
from dws_on_csm.config.yaml_file import relative
from dws_on_csm.display.paint import printed
from dws_on_csm.display.progress import fold
from dws_on_csm.display.style import plural
from dws_on_csm.model.exit_codes import CONVERGED


def show(site: Site) -> int:
    """Print a summary of a site file that could be read. Returns the exit code."""
    printed([[("✓ ", "green"), (f"{relative(site.path)} has no mistakes; no host was contacted", "bold")]])
    printed([(f"  {name:<16}", "dim"), (value, "")] for name, value in _values(site) if value)
    return CONVERGED


def _values(site: Site) -> Iterator[tuple[str, str]]:
    for host in site.master.listed:
        yield "master", _hosts((host,))
    hosts = tuple(host for host in site.controllers if not host.pod)
    yield "controllers", _hosts(hosts)
    for host in site.controllers:
        if host.pod:
            yield "slurmctld", f"{host.name}: a pod ({host.pod.selector} in namespace {host.pod.namespace})"
    for group in site.computes:
        down = f", {group.may_be_down} may be unreachable" if group.may_be_down else ""
        yield "computes", f"{_hosts(group.hosts)}, slurm_conf: {group.slurm_conf}{down}"
    if site.external:
        yield "dws", "somebody else deploys it (external); keys that only a deployment needs have no effect"
    for name in ("plugin",) if site.external else ("dws", "plugin"):
        commit = site.versions.commit(name)
        yield name, getattr(site.versions, name) + (f", commit {commit}" if commit else "")
    if not site.external:
        yield "kube-rbac-proxy", site.versions.kube_rbac_proxy
        yield "registry", site.registry.name
    yield "access", f"{site.access.common_name}, {_login(site)}, Workflows in {site.access.namespace}"
    yield "slurm.conf", site.slurm.conf
    yield "test job", f"of {site.test_job.user}" + (f" on {site.test_job.host.name}" if site.test_job.host else "")
    yield "accepted", ", ".join(sorted(site.accept))
    yield "limited to", fold(sorted(site.limit)) if site.limit is not None else ""


def _login(site: Site) -> str:
    """How the plugin logs in, as the site file says it."""
    if site.access.via == "serviceaccount":
        return "with the tokens of the pods"
    if site.access.via == "auto" and any(host.pod for host in site.controllers):
        return "signed by ca, or with the tokens of the pods (auto)"
    return f"signed by {site.access.signer}"


def _hosts(hosts: Sequence[Host]) -> str:
    """The hosts by name, how many they are, and how they are logged in to."""
    if not hosts:
        return ""
    number = f" ({plural(len(hosts), 'host')})" if len(hosts) > 1 else ""
    users = dict.fromkeys(
        f"{host.user or 'the user from ssh_config'}{' with sudo' if host.sudo else ''}" for host in hosts
    )
    return f"{fold([host.name for host in hosts])}{number}, login as {' or '.join(users)}"
