"""Which versions are wanted and where they come from, as frozen data: sources, the cluster's registry, the master's proxies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Versions:
    """Tags without their v (`0.0.20`) for dws and plugin, the image's tag as it is for kube_rbac_proxy (`v0.14.1`).

    commits   what the site file pins: "dws 0.0.20" -> the commit that this tag has to be
    """

    dws: str
    plugin: str
    kube_rbac_proxy: str
    commits: Mapping[str, str] = field(default_factory=dict)

    def commit(self, name: str) -> str:
        """The commit that the tag of "dws" or "plugin" has to be; "" for any, as for a version that the site file doesn't name."""
        return self.commits.get(f"{name} {getattr(self, name)}", "")


@dataclass(frozen=True)
class Kustomize:
    """Where kustomize comes from: an absolute path on this machine, or a URL for the master; sha256 in small digits."""

    source: str
    sha256: str


@dataclass(frozen=True)
class Sources:
    """Where things come from, each to be tried in order: git URLs, and names of images without a tag, but
    maybe with the digest of the one that it has to be.

    What begins with / is on this machine: a repository or git bundle, or an image's archive.
    """

    dws: tuple[str, ...]
    plugin: tuple[str, ...]
    dws_image: tuple[str, ...]
    kube_rbac_proxy_image: tuple[str, ...]
    kustomize: Kustomize | None


@dataclass(frozen=True)
class Registry:
    """The registry that the cluster pulls from, and the Secret with `username` and `password` for it."""

    name: str
    secret_namespace: str
    secret_name: str


@dataclass(frozen=True)
class Proxies:
    """How the master reaches https:// sources: through this proxy ("": directly), and which hosts without it all the same."""

    https: str
    no_proxy: tuple[str, ...]
