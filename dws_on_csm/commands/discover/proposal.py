"""From what was seen to the values of a site file: pure functions, each value with its source, or with a question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from dws_on_csm.commands.discover.cluster import NNF, PodSlurm, Slurmctld, View
from dws_on_csm.commands.discover.hosts import HostSlurm, SlurmHost
from dws_on_csm.commands.discover.login import Login
from dws_on_csm.commands.discover.master import REGISTRY, SOURCE, MasterView, answers
from dws_on_csm.commands.discover.page import Value
from dws_on_csm.commands.discover.slurm import Configuration, Users
from dws_on_csm.config.describe import default
from dws_on_csm.domain import compatibility, tested
from dws_on_csm.model.printable import first_few
from dws_on_csm.stages.dws import external, installed

NOBODY = Users()


@dataclass(frozen=True)
class Node:
    """The compute node that was looked at: whether it has a slurm.conf of its own, or why that is unknown.

    kind   the type of its file system; "" where the file is missing
    """

    name: str
    why: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Seen:
    """All that was seen of one site.

    master   as it is reached; account: whom the login was
    slurm    the chosen Slurm, None where none was found; others: names of further ones
    conf     its slurm.conf, None where none could be read; version: of its slurmctld
    asked    the host or pod that knows the users
    silent   hosts that may run slurmctld, and could not be looked at
    """

    master: str
    login: Login
    account: str
    view: MasterView
    cluster: View
    slurm: PodSlurm | HostSlurm | None
    others: tuple[str, ...] = ()
    conf: Configuration | None = None
    conf_why: str = ""
    version: str = ""
    users: Users = NOBODY
    asked: str = ""
    node: Node | None = None
    silent: tuple[SlurmHost, ...] = ()


SHARED = frozenset({"nfs", "lustre", "gpfs", "ceph", "fuseblk", "fuse", "afs", "gfs/gfs2", "panfs", "beegfs"})
"""Types of file systems, as `stat -f` names them, that hosts share."""


def values(seen: Seen) -> list[Value]:
    """The values of the site file, in the order of its sections."""
    of_dws = (_external, _plugin_source) if external_source(seen.cluster) else (_versions, _sources, _registry)
    sections = (_master, _controllers, _computes, _ssh, *of_dws, _access, _slurm, _test_job)
    return [value for section in sections for value in section(seen)]


# --- how it is reached


def _master(seen: Seen) -> Iterator[Value]:
    view, masters = seen.view, seen.cluster.masters
    called = f"; it calls itself {view.host}" if view.host != seen.master else ""
    yield Value("master.host", seen.master, f"as it was reached{called}")
    if len(masters) > 1:
        yield Value("master", None, f"Masters of the cluster: {', '.join(masters)}. Any of them will do.")
    if view.kubeconfig and view.kubeconfig != default("master.kubeconfig"):
        yield Value("master.kubeconfig", view.kubeconfig, f"the first kubeconfig that root can read on {seen.master}")
    if view.proxy and not answers(view.source):
        yield Value("master.proxies.https", view.proxy, f"HTTPS_PROXY in the settings of {seen.master}")
    elif view.proxy:
        yield Value("master", None, f"{seen.master} has the proxy {view.proxy}; it reaches {_host(SOURCE)} without it.")


def _host(url: str) -> str:
    return urlsplit(url).hostname or url


def _ssh(seen: Seen) -> Iterator[Value]:
    login = seen.login
    if login.config:
        yield Value("ssh.config", login.config, "--ssh-config")
    if login.user:
        yield Value("ssh.user", login.user, f"logged in to {seen.master} as this user")
    else:
        yield Value(
            "ssh",
            None,
            f"The user is that of ssh_config, or your own: {seen.account or 'somebody'} logged in to {seen.master}.",
        )
    if login.sudo:
        account = seen.account or "the login"
        yield Value("ssh.sudo", True, f"{account} is not root on {seen.master}, and sudo gives root's rights there")


# --- Slurm


def _controllers(seen: Seen) -> Iterator[Value]:
    if isinstance(seen.slurm, PodSlurm):
        for number, slurmctld in enumerate(seen.slurm.controllers):
            yield from _pod(f"controllers[{number}]", slurmctld)
        yield from _unmatched(seen, len(seen.slurm.controllers))
    elif seen.slurm:
        for number, host in enumerate(seen.slurm.controllers):
            yield from _slurm_host(f"controllers[{number}]", host, seen.login)
    else:
        tried = [f"{host.name} ({host.source}): {host.why}" for host in seen.silent]
        text = "No slurmctld was found, neither in pods nor on a host that the master names. "
        text += f"Tried: {first_few(tried)}. " if tried else ""
        text += "Where does it run? `--controllers HOSTS` looks there. Without an answer `plan` fails."
        yield Value("controllers[0]", None, question=text)
        yield Value("controllers[0].host", "slurmctl", "only an example")
    if seen.others:
        yield Value(
            "controllers", None, f"Other Slurms here, each with a site file of its own: {', '.join(seen.others)}."
        )


def _pod(key: str, slurmctld: Slurmctld) -> Iterator[Value]:
    kept = f", managed by {slurmctld.manager}" if slurmctld.manager else ""
    runs = f"running: {', '.join(slurmctld.running)}" if slurmctld.running else "no pod of it is running"
    yield Value(key, None, f"{slurmctld.workload}{kept}; {runs}. {_origin(slurmctld)}")
    if len(slurmctld.running) != 1:
        one = f"{len(slurmctld.running)} pods with these labels are running, where there should be one."
        yield Value(
            key, None, question=f"{one} `kubectl -n {slurmctld.pod.namespace} get pods --show-labels` shows them."
        )
    yield Value(f"{key}.pod.name", slurmctld.name)
    yield Value(f"{key}.pod.namespace", slurmctld.pod.namespace)
    yield Value(f"{key}.pod.selector", slurmctld.pod.selector)
    yield Value(f"{key}.pod.container", slurmctld.pod.container)


def _origin(slurmctld: Slurmctld) -> str:
    if slurmctld.job:
        return f"Its slurm.conf is rendered by Job {slurmctld.job} from ConfigMap {slurmctld.templates}."
    if slurmctld.templates:
        text = f"Its slurm.conf is in ConfigMap {slurmctld.files}. ConfigMap {slurmctld.templates} looks like templates of it, "
        return f"{text}but no Job mounts them."
    return (
        f"Its slurm.conf is in ConfigMap {slurmctld.files}." if slurmctld.files else "No ConfigMap has its slurm.conf."
    )


def _unmatched(seen: Seen, count: int) -> Iterator[Value]:
    named = [entry.names[0] for entry in seen.conf.entries if entry.names] if seen.conf else []
    if seen.conf and len(named) != count:
        text = (
            f"slurm.conf names {len(named)} controllers ({', '.join(named) or 'none'}), and {count} were found in pods."
        )
        yield Value("controllers", None, question=f"{text} Add those that are missing.")


def _slurm_host(key: str, host: SlurmHost, login: Login) -> Iterator[Value]:
    if host.why:
        question = f"{host.name} could not be looked at: {host.why}. Correct its name or its login here."
        yield Value(f"{key}.host", host.name, host.source, question)
        return
    version = f"; Slurm {host.state['version']} runs there" if host.state and host.state["version"] else ""
    yield Value(f"{key}.host", host.name, f"{host.source}{version}")
    if host.login and host.login.user != login.user:
        yield Value(f"{key}.user", host.login.user, "the login that worked there")
    if host.login and host.login.sudo != login.sudo:
        yield Value(f"{key}.sudo", host.login.sudo, "the login that worked there")


def _computes(seen: Seen) -> Iterator[Value]:
    conf, node = seen.conf, seen.node
    if conf is None:
        yield Value(
            "computes",
            None,
            f"slurm.conf could not be read, so the nodes are unknown: {seen.conf_why or 'see controllers'}.",
        )
    elif conf.configless:
        yield Value(
            "computes",
            None,
            f"Slurm is configless (SlurmctldParameters): {conf.nodes or 'its nodes'} have no slurm.conf.",
        )
    elif not conf.nodes:
        yield Value("computes", None, "slurm.conf names no nodes that this tool can read.")
    elif node is None or node.why:
        why = f"{node.name} could not be looked at: {node.why}" if node else "no node was looked at"
        yield Value("computes[0].hosts", None, question=f"Do {conf.nodes} have a slurm.conf of their own? {why}.")
    elif not node.kind:
        yield Value("computes", None, f"{node.name} has no slurm.conf of its own. The nodes: {conf.nodes}.")
    elif node.kind in SHARED:
        yield Value(
            "computes",
            None,
            f"slurm.conf of {node.name} is on a file system that hosts share ({node.kind}). The nodes: {conf.nodes}.",
        )
    else:
        yield Value("computes[0].hosts", conf.nodes, f"NodeName in slurm.conf; {node.name} has a slurm.conf of its own")


def _slurm(seen: Seen) -> Iterator[Value]:
    if not isinstance(seen.slurm, HostSlurm):
        return
    first = next((host for host in seen.slurm.controllers if host.state), None)
    if first and first.folder != default("slurm.folder"):
        yield Value("slurm.folder", first.folder, f"slurmctld on {first.name} reads slurm.conf there")
    if first and first.unit != default("slurm.service"):
        yield Value("slurm.service", first.unit, f"the systemd unit of slurmctld on {first.name}")


# --- what is installed


def external_source(view: View) -> str:
    """Why somebody else deploys the DWS of this cluster, in words; "" where nothing says so."""
    dws, seen = view.dws, view.external
    if seen["manager"]:
        return f"the Deployment of DWS is delivered by {seen['manager']}"
    if seen["controller"] and not dws["tag"]:
        return f"DWS is in the namespace {seen['namespace']}, where this tool does not deploy it"
    if makers := installed.made_by(dws):
        return f"the Deployment of DWS was made by {makers}, not by `make deploy`"
    images = seen["controller"]["images"] if seen["controller"] else []
    if view.rabbit and images and not any(image.startswith(f"{default('registry.name')}/") for image in images):
        return f"Near-node-flash is there ({NNF}), whose installer deploys DWS; its image is {images[0]}"
    return ""


def _external(seen: Seen) -> Iterator[Value]:
    """What the file says of DWS and versions where somebody else deploys DWS."""
    text = external.version_text(seen.cluster.external)  # it names the manager itself
    source = "" if seen.cluster.external["manager"] else f"{external_source(seen.cluster)}; "
    yield Value("dws", "external", f"{source}{text}")
    yield _plugin_version(seen)
    yield Value("versions", None, f"Kubernetes {seen.cluster.state['kubernetes']}.")


def _versions(seen: Seen) -> Iterator[Value]:
    yield _dws_version(seen)
    yield _plugin_version(seen)
    if seen.cluster.proxy:
        yield Value("versions.kube_rbac_proxy", seen.cluster.proxy, "installed (Deployment of DWS)")
    kubernetes, managers = seen.cluster.state["kubernetes"], seen.cluster.state["cert_manager"]
    served = f"cert-manager serves {', '.join(managers)}" if managers else "cert-manager is not installed"
    question = (
        ""
        if managers
        else "cert-manager is not installed, and DWS needs it: install it first; on CSM it is part of the platform."
    )
    yield Value("versions", None, f"Kubernetes {kubernetes}; {served}.", question)
    workers = seen.cluster.state["workers"]
    few = (
        f"Only {len(workers)} workers take pods, and DWS's webhook needs 3: `plan` says more."
        if len(workers) < 3
        else ""
    )
    yield Value("versions", None, f"Workers that take pods: {first_few(workers, 5, ', ')}.", few)


def _dws_version(seen: Seen) -> Value:
    tag = seen.cluster.dws["tag"] or seen.cluster.dws["unfinished"]
    newest = f"newest pair that was seen: {' + '.join(tested.pairs()[-1])}"
    if release := installed.release(tag):
        return Value("versions.dws", release, f"installed (Deployment of DWS); {newest}")
    there = f"installed is {tag!r}, which is no release" if tag else "DWS is not installed"
    question = f"Which release is the installed DWS ({tag!r})?" if tag else ""
    return Value("versions.dws", default("versions.dws"), f"the default; {there}; {newest}", question)


def _plugin_version(seen: Seen) -> Value:
    plugin = default("versions.plugin")
    broken = compatibility.broken({"plugin": plugin, "slurm": seen.version})
    older = next((row for row in broken if row.name == "slurm-too-old"), None)
    slurm = f"Slurm {seen.version}" if seen.version else "Slurm's version is unknown"
    source = f"{older.why} ({slurm})" if older else f"the default; {slurm}"
    return Value("versions.plugin", "0.0.4" if older else plugin, source)


def _plugin_source(seen: Seen) -> Iterator[Value]:
    """Where somebody else deploys DWS, the plugin's repository is all that is needed from outside."""
    advice = "Name a mirror of the plugin, or a repository on this machine; or a proxy in master.proxies."
    yield from _from_outside(seen, "sources.plugin", advice)


def _sources(seen: Seen) -> Iterator[Value]:
    advice = "Name a mirror here or a proxy in master.proxies, or add --bundle FILE to `plan` and `install` (docs/offline.md)."
    yield from _from_outside(seen, "sources.dws", advice)


def _from_outside(seen: Seen, key: str, advice: str) -> Iterator[Value]:
    """That the master reaches SOURCE; otherwise, and without a proxy, a question at `key` with `advice`."""
    if answers(seen.view.source):
        yield Value("sources", None, f"{seen.master} reaches {SOURCE}: the defaults of hosts.yaml will do.")
    elif not seen.view.proxy:
        yield Value(key, None, question=f"{seen.master} does not reach {SOURCE}. {advice}")


def _registry(seen: Seen) -> Iterator[Value]:
    used = [host for host in seen.cluster.registries if host != REGISTRY]
    pulled = f" Workloads have images of {', '.join(used)}." if used else ""
    if answers(seen.view.registry):
        yield Value("registry.name", REGISTRY, f"{seen.master} reaches it (HTTP {seen.view.registry})")
    else:
        text = (
            f"{seen.master} does not reach https://{REGISTRY}/v2/. Which registry does the cluster pull from?{pulled}"
        )
        yield Value("registry.name", None, question=text)
    secrets = seen.cluster.secrets
    if secrets == (default("registry.secret"),):
        yield Value("registry.secret", secrets[0], "this Secret exists; its content was not read")
    else:
        text = f"Which Secret has the registry's username and password? {default('registry.secret')} does not exist."
        yield Value("registry.secret", None, question=f"{text} Perhaps {' or '.join(secrets)}." if secrets else text)


def _access(seen: Seen) -> Iterator[Value]:
    bound = [name for name in seen.cluster.bound if name != default("access.common_name")]
    if seen.slurm and seen.others:
        name = seen.slurm.name
        yield Value(
            "access.common_name", f"{default('access.common_name')}-{name}", "a name for each Slurm that uses this DWS"
        )
        space = seen.slurm.controllers[0].pod.namespace if isinstance(seen.slurm, PodSlurm) else f"slurm-{name}"
        yield Value("access.namespace", _namespace(space), "a namespace for the Workflows of each Slurm")
        if not isinstance(seen.slurm, PodSlurm):
            yield Value("access.create_namespace", True, "it may not exist yet")
    elif len(seen.cluster.bound) == 1 and bound:
        yield Value("access.common_name", bound[0], "the only name in the plugin's binding")
    if seen.others and seen.cluster.bound:
        names = ", ".join(seen.cluster.bound)
        yield Value(
            "access", None, f"Names in the plugin's binding: {names}. Keep the one that this Slurm has already."
        )
    if not seen.view.pki:
        yield Value("access.via", "csr", f"the key of the CA is not in {default('master.pki')} of {seen.master}")
    host = urlsplit(seen.view.server).hostname or ""
    if host in ("localhost", "::1") or host.startswith("127."):
        text = f"The kubeconfig of {seen.master} has {seen.view.server}, which others do not reach. What is its address for them?"
        yield Value("access.server", None, question=text)
    elif host:
        yield Value("access", None, f"The API server is {seen.view.server}, as in the kubeconfig of {seen.master}.")


def _namespace(text: str) -> str:
    return "".join(c if c.isalnum() and c.isascii() else "-" for c in text.lower()).strip("-")[:63] or "slurm"


# --- the test job


def _test_job(seen: Seen) -> Iterator[Value]:
    users = seen.users
    if users.own:
        yield Value("test_job.user", users.own[0], f"your own name, which {seen.asked} knows")
    elif len(users.known) == 1:
        yield Value("test_job.user", users.known[0], f"the only ordinary user that {seen.asked} lists")
    else:
        candidates = list(dict.fromkeys((*users.queued, *users.known)))
        text = "As which ordinary user shall the test job run?"
        text += f" {seen.asked} knows {first_few(candidates, 5, ', ')}" if candidates else ""
        text += "; jobs in Slurm now: " + ", ".join(users.queued) if users.queued else ""
        yield Value("test_job.user", None, question=text)
    conf = seen.conf
    if not conf or conf.default:
        return
    if len(conf.partitions) == 1:
        yield Value("test_job.partition", conf.partitions[0], "the only partition; none is the default")
    elif conf.partitions:
        names: Sequence[str] = conf.partitions
        yield Value(
            "test_job.partition", None, question=f"No partition is the default. Which one? {first_few(names, 8, ', ')}"
        )
