"""The layers of registry.local, where the site keeps its images, and of upstream, which plays the world outside."""

from pathlib import Path

import bcrypt

from lab import images, keys, pki
from lab.layer import Layer
from lab.model import UPSTREAM_NAMES, Host, Lab

REGISTRY_USER = "admin"
STORE = "/var/lib/docker-registry"


def write_registry(lab: Lab, host: Host, layer: Layer) -> None:
    """A registry with TLS and a password at 443, and a read-only one for the nodes on the same store at 5000."""
    layer.tree("registry", {})
    secret = bcrypt.hashpw(keys.password(lab, "registry").encode(), bcrypt.gensalt(6)).decode()
    owner = layer.account("docker-registry")
    layer.put("/etc/docker/registry/htpasswd", f"{REGISTRY_USER}:{secret}\n", 0o640, owner)
    pair = pki.issue(keys.authority(lab), host.name, "server", names=[host.name])
    _put_pair(layer, "/etc/docker/registry", pair, owner)
    layer.enable("registry-write.service", "registry-read.service")


def write_upstream(lab: Lab, host: Host, layer: Layer, archives: dict[str, Path]) -> None:
    """github.com and the registries of the world; `archives` maps HOST/REPOSITORY:TAG to an OCI archive.

    What github.com and raw.githubusercontent.com serve lies in the layer's /srv/www/NAME.
    """
    layer.tree("upstream", {})
    pair = pki.issue(keys.authority(lab), "upstream", "server", names=UPSTREAM_NAMES)
    _put_pair(layer, "/etc/nginx", pair, (0, 0))
    store = layer.mkdir(STORE, 0o755, layer.account("docker-registry"))
    for name, archive in archives.items():
        images.push_layout(store, name, archive)
    layer.enable("nginx.service", "docker-registry.service")


def _put_pair(layer: Layer, folder: str, pair: pki.Pair, owner: tuple[int, int]) -> None:
    layer.put(f"{folder}/tls.crt", pair.crt)
    layer.put(f"{folder}/tls.key", pair.pem, 0o600, owner)
