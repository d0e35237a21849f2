"""The layers of a lab: which host has which, and how they are written."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab import (
    base_layer,
    cache,
    csm,
    go_builds,
    keys,
    kubernetes,
    pki,
    roots,
    services,
    slurm,
    slurm_image,
    store,
    upstream_fakes,
)
from lab.layer import Layer
from lab.model import Host, Lab

Announce = Callable[[str], None]
SHARED = {
    "master": ("kubernetes", "kubectl"),
    "worker": ("kubernetes", "kubectl"),
    "controller": ("kubectl",),
    "slurm": ("kubectl",),
}


def build(lab: Lab, announce: Announce) -> None:
    """Builds everything that the lab is made of and that the cache lacks: about 15 minutes on two cores, once."""
    if not any(cache.folder().glob("kube-*[0-9a-f]")):
        announce(f"first build: about 15 minutes on two cores; later builds use {cache.folder()}")
    # Packages come over the network while Go compiles.
    with ThreadPoolExecutor(1) as pool:
        debian = pool.submit(lambda: [root(lab, host, announce) for host in lab.hosts])
        go_builds.all_programs(lab.options.release, announce)
        upstream_fakes.images(announce)
        debian.result()
    for host in lab.hosts:
        if host.runs_pods:
            images(lab, host, announce)


def write(lab: Lab, announce: Announce) -> None:
    """Write every layer of the lab again: STATE/layers, STATE/hosts/HOST/layer."""
    shutil.rmtree(lab.state / "layers", ignore_errors=True)
    kubernetes.write_servers(lab.state / "layers/kubernetes", lab.options.release)
    kubernetes.write_kubectl(lab.state / "layers/kubectl", lab.options.release)
    cluster = kubernetes.new_keys()
    for host in lab.hosts:
        _write_own(lab, host, _empty(lab, host, announce), cluster, announce)
    _write_admin(lab, cluster)


def write_slurm(lab: Lab, host: Host, announce: Announce) -> None:
    """Write the layer of one Slurm host again, beside those of a lab that runs."""
    layer = _empty(lab, host, announce)
    base_layer.write_layer(lab, host, layer)
    slurm.write_layer(lab, host, layer.folder)


def _empty(lab: Lab, host: Host, announce: Announce) -> Layer:
    folder = lab.folder(host) / "layer"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return Layer(folder, root(lab, host, announce))


def stack(lab: Lab, host: Host) -> list[Path]:
    """The layers that a host boots on, the topmost first, without what it writes itself."""
    shared = [lab.state / "layers" / name for name in SHARED.get(host.role, ())]
    return [lab.folder(host) / "layer", *shared, root(lab, host, lambda text: None)]


def root(lab: Lab, host: Host, announce: Announce) -> Path:
    """The Debian root of a host, from the cache or made now."""
    if host.runs_slurm:
        return lab.options.slurm_root or slurm.root(announce)
    return roots.debian12(announce)


def images(lab: Lab, host: Host, announce: Announce) -> Path:
    """What containerd holds on a node from the start, from the cache or made now: a folder for store.copy()."""
    if lab.options.in_pods:
        base = lab.options.slurm_root or slurm.root(announce)
        return slurm_image.store_with(base, announce, csm.image(announce), release=lab.options.release)
    return store.filled(announce, lab.options.release)


def _write_own(lab: Lab, host: Host, layer: Layer, cluster: kubernetes.Keys, announce: Announce) -> None:
    base_layer.write_layer(lab, host, layer)
    if host.runs_pods:
        kubernetes.write_layer(lab, host, layer, cluster)
    elif host.runs_slurm:
        slurm.write_layer(lab, host, layer.folder)
    elif host.role == "registry":
        services.write_registry(lab, host, layer)
    else:
        services.write_upstream(lab, host, layer, {**upstream_fakes.images(announce), **dict(lab.options.images)})
        upstream_fakes.web_tree(layer.mkdir("/srv/www"), lab.options.dws_repo, lab.options.plugin_repo)


def _write_admin(lab: Lab, cluster: kubernetes.Keys) -> None:
    """What the lab itself uses to speak to its API server: the CA, and an administrator's certificate and key."""
    admin = pki.issue(cluster.ca, "lab", "client", "system:masters")
    keys.write(lab.state / "secrets/kubernetes-ca.pem", cluster.ca.crt)
    keys.write(lab.state / "secrets/kubernetes-admin.pem", admin.crt + admin.pem)
    keys.write(lab.state / "admin.conf", kubernetes.kubeconfig(lab, cluster, "lab", admin).encode())
