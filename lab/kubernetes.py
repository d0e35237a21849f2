"""The layers of the Kubernetes nodes: certificates and kubeconfigs in kubeadm's layout, settings, units, programs."""

from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

import yaml

from lab import go_builds, pki, store
from lab.layer import Layer
from lab.model import Host, Lab
from lab.releases import USUAL, Release

PKI = "/etc/kubernetes/pki"
SERVERS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
NODE_UNITS = ("node-prepare", "containerd", "kubelet", "kube-proxy")
MASTER_UNITS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
# From this minor version on, the kubelet reads its runtime's address from its configuration file.
RUNTIME_IN_CONFIGURATION = 27
RUNTIME_FLAGS = "--container-runtime=remote --container-runtime-endpoint=unix:///run/containerd/containerd.sock"
TAINT = "{key: node-role.kubernetes.io/control-plane, effect: NoSchedule}"


@dataclass(frozen=True)
class Keys:
    """What a cluster's certificates hang on."""

    ca: pki.Pair
    front_proxy_ca: pki.Pair
    service_accounts: tuple[bytes, bytes]


def new_keys() -> Keys:
    """The keys of a new cluster."""
    return Keys(pki.authority("kubernetes"), pki.authority("front-proxy-ca"), pki.service_account_keys())


def write_layer(lab: Lab, host: Host, layer: Layer, keys: Keys) -> None:
    """Writes what makes `host` a node, and the control plane if it is the master."""
    values = _values(lab, host)
    layer.tree("node", values)
    layer.put(f"{PKI}/ca.crt", keys.ca.crt)
    kubelet = pki.issue(keys.ca, f"system:node:{host.name}", "client", "system:nodes")
    layer.put("/etc/kubernetes/kubelet.conf", kubeconfig(lab, keys, f"system:node:{host.name}", kubelet), 0o600)
    proxy = pki.issue(keys.ca, "system:kube-proxy", "client")
    layer.put("/etc/kubernetes/kube-proxy.conf", kubeconfig(lab, keys, "kube-proxy", proxy), 0o600)
    layer.enable(*(f"{unit}.service" for unit in NODE_UNITS))
    if host.role == "master":
        _write_control_plane(lab, host, layer, keys, values)


def write_servers(folder: Path, release: Release) -> None:
    """Fills `folder`, a layer that nodes share, with the servers of Kubernetes: links to as few files as there can be.

    etcd is the usual one everywhere. So is kube-proxy, or nearly: the lab's packet filter is nftables, which kube-proxy knows
    from 1.29 on.
    """
    programs = folder / "usr/bin"
    programs.mkdir(parents=True)
    store.link_or_copy(go_builds.kubernetes(), programs / "kube")
    if release.servers:
        store.link_or_copy(go_builds.servers(release), programs / "kube-servers")
    own_proxy = go_builds.kube_proxy(release) != go_builds.kubernetes()
    if own_proxy:
        store.link_or_copy(go_builds.kube_proxy(release), programs / "kube-proxy")
    for name in SERVERS:
        if name != "kube-proxy" or not own_proxy:
            own = release.servers and name not in ("etcd", "kube-proxy")
            (programs / name).symlink_to("kube-servers" if own else "kube")


def write_kubectl(folder: Path, release: Release = USUAL) -> None:
    """Fills `folder`, a layer that hosts share, with kubectl."""
    target = folder / "usr/bin/kubectl"
    target.parent.mkdir(parents=True)
    store.link_or_copy(go_builds.kubectl(release), target)


def kubeconfig(lab: Lab, keys: Keys, user: str, pair: pki.Pair) -> str:
    """A kubeconfig with everything embedded, named as kubeadm names it (context USER@kubernetes)."""
    (master,) = lab.role("master")
    server = {"server": f"https://{master.address}:6443", "certificate-authority-data": _base64(keys.ca.crt)}
    login = {"client-certificate-data": _base64(pair.crt), "client-key-data": _base64(pair.pem)}
    context = f"{user}@kubernetes"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "kubernetes", "cluster": server}],
        "contexts": [{"name": context, "context": {"cluster": "kubernetes", "user": user}}],
        "current-context": context,
        "users": [{"name": user, "user": login}],
    }
    return yaml.safe_dump(content, sort_keys=False)


def _write_control_plane(lab: Lab, host: Host, layer: Layer, keys: Keys, values: dict[str, str]) -> None:
    layer.tree("master", values)
    layer.mkdir("/var/lib/etcd", 0o700)
    _write_pki(host, layer, keys)
    users = {"admin": ("kubernetes-admin", "system:masters"), "scheduler": ("system:kube-scheduler", "")}
    users["controller-manager"] = ("system:kube-controller-manager", "")
    for name, (user, group) in users.items():
        pair = pki.issue(keys.ca, user, "client", group)
        layer.put(f"/etc/kubernetes/{name}.conf", kubeconfig(lab, keys, user, pair), 0o600)
    layer.mkdir("/root/.kube", 0o700)
    layer.link("/root/.kube/config", "/etc/kubernetes/admin.conf")
    layer.enable(*(f"{unit}.service" for unit in MASTER_UNITS))


def _write_pki(host: Host, layer: Layer, keys: Keys) -> None:
    cluster = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
    names = (host.name, *cluster, "localhost", "10.96.0.1", host.address, "127.0.0.1")
    pairs = {
        "ca": keys.ca,
        "front-proxy-ca": keys.front_proxy_ca,
        "front-proxy-client": pki.issue(keys.front_proxy_ca, "front-proxy-client", "client"),
        "apiserver": pki.issue(keys.ca, "kube-apiserver", "server", names=names),
        "apiserver-kubelet-client": pki.issue(keys.ca, "kube-apiserver-kubelet-client", "client", "system:masters"),
    }
    for name, pair in pairs.items():
        layer.put(f"{PKI}/{name}.crt", pair.crt)
        layer.put(f"{PKI}/{name}.key", pair.pem, 0o600)
    private, public = keys.service_accounts
    layer.put(f"{PKI}/sa.key", private, 0o600)
    layer.put(f"{PKI}/sa.pub", public)


def _values(lab: Lab, host: Host) -> dict[str, str]:
    nodes = [node for node in lab.hosts if node.runs_pods]
    others = [node for node in nodes if node != host]
    release = lab.options.release
    return {
        "NAME": host.name,
        "ADDRESS": host.address,
        "MASTER": lab.role("master")[0].address,
        "PODS": _pods(host),
        "POD_ROUTES": "\n".join(f"ip route replace {_pods(node)} via {node.address}" for node in others),
        "TAINTS": TAINT if host.role == "master" else "",
        "RUNTIME": "" if release.minor >= RUNTIME_IN_CONFIGURATION else RUNTIME_FLAGS,
        "ADMISSION": ",".join(["NodeRestriction", *(["PodSecurityPolicy"] if release.pod_security_policies else [])]),
        "PAUSE": store.PAUSE,
        "PKI": PKI,
    }


def _pods(host: Host) -> str:
    return f"10.244.{host.number}.0/24"


def _base64(data: bytes) -> str:
    return b64encode(data).decode()
