"""All layers of a lab: which lie under which host, and how they are written."""

import shutil
from collections.abc import Callable
from pathlib import Path

from lab import every, keys, kubernetes, pki, roots, services, stand_ins

try:
    from lab import slurm
except ImportError:
    slurm = None
from lab.layer import Layer
from lab.model import Host, Lab

Announce = Callable[[str], None]


def write(lab: Lab, announce: Announce) -> None:
    """Builds what the cache lacks and writes every layer of the lab anew; STATE/layers and STATE/hosts/*/layer."""
    own_roots = {host: root(lab, host, announce) for host in lab.hosts}
    _write_shared(lab, announce)
    cluster = kubernetes.new_keys()
    for host, below in own_roots.items():
        folder = lab.folder(host) / "layer"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _write_own(lab, host, Layer(folder, below), cluster, announce)
    _write_admin(lab, cluster)


def stack(lab: Lab, host: Host, announce: Announce) -> list[Path]:
    """The layers that a host boots on, the topmost first, without its upper layer."""
    shared = [lab.state / "layers" / name for name in _shared(host)]
    return [lab.folder(host) / "layer", *shared, root(lab, host, announce)]


def root(lab: Lab, host: Host, announce: Announce) -> Path:
    """The Debian root of a host, from the cache or made now."""
    if host.runs_slurm:
        return lab.options.slurm_root or (slurm.root() if slurm else roots.debian12(announce))
    return roots.debian12(announce)


def _shared(host: Host) -> tuple[str, ...]:
    by_role = {"master": ("kubernetes", "images"), "worker": ("kubernetes", "images"), "controller": ("kubectl",)}
    return by_role.get(host.role, ())


def _write_shared(lab: Lab, announce: Announce) -> None:
    shutil.rmtree(lab.state / "layers", ignore_errors=True)
    kubernetes.write_programs(lab.state / "layers/kubernetes", kubernetes.PROGRAMS, announce)
    kubernetes.write_programs(lab.state / "layers/kubectl", ("kubectl",), announce)
    kubernetes.write_images(lab.state / "layers/images", announce)


def _write_own(lab: Lab, host: Host, layer: Layer, cluster: kubernetes.Keys, announce: Announce) -> None:
    every.write_layer(lab, host, layer)
    if host.runs_pods:
        kubernetes.write_layer(lab, host, layer, cluster)
    elif host.role == "registry":
        services.write_registry(lab, host, layer)
    elif host.role == "upstream":
        services.write_upstream(lab, host, layer, {**stand_ins.images(announce), **dict(lab.options.images)})
        stand_ins.web_tree(layer.mkdir("/srv/www"), lab.options.dws_repo, lab.options.plugin_repo)
    elif slurm:
        slurm.write_layer(lab, host, layer.folder)


def _write_admin(lab: Lab, cluster: kubernetes.Keys) -> None:
    """What the lab itself uses to speak to its API server: the CA, and an administrator's certificate and key."""
    admin = pki.issue(cluster.ca, "lab", "client", "system:masters")
    for name, content in {"ca": cluster.ca.crt, "admin": admin.crt + admin.pem}.items():
        path = lab.state / "secrets" / f"kubernetes-{name}.pem"
        path.unlink(missing_ok=True)
        keys.kept(path, lambda content=content: content)  # type: ignore[misc]
    kubeconfig = lab.state / "admin.conf"
    kubeconfig.unlink(missing_ok=True)
    keys.kept(kubeconfig, lambda: kubernetes.kubeconfig(lab, cluster, "lab", admin).encode())
