"""`invoke bundle.make`: everything that an install takes from outside, fetched here and written as one bundle."""

from __future__ import annotations

import os
import re
import tempfile
import time
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

from dws_on_csm.bundle import archive, fetch, git
from dws_on_csm.bundle.download import Progress
from dws_on_csm.bundle.fetch import Work
from dws_on_csm.config.bundle_contents import Manifest
from dws_on_csm.config.load import ROOT
from dws_on_csm.config.site import Site
from dws_on_csm.model.lines import lines
from dws_on_csm.model.step import Finding, Refused


def make(site: Site, target: Path, begin: Callable[[str], Progress]) -> Manifest:
    """Write the bundle for this site to `target`; in place of an older one only when it is whole.

    Raises Refused where a source can't be had, SourceError where git fails, and OSError where nothing can be written.
    """
    if target.is_dir():
        raise Refused(Finding("file-is-folder", f"{target} is a folder", "say the name of the file to be made"))
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.absolute().parent) as folder:
        work = Work(site, Path(folder), begin)
        manifest = _gathered(work)
        archive.write(target, manifest, work.folder)
    return manifest


def _gathered(work: Work) -> Manifest:
    """What doesn't fit together is refused before images are fetched: dws says which kustomize and proxy it wants."""
    versions = work.site.versions
    dws = fetch.repository(work, "dws", f"dws-{versions.dws}.bundle")
    asked = wanted_kustomize(work)
    check_proxy(work)
    parts = {
        "dws": dws,
        "plugin": fetch.repository(work, "plugin", f"dws-slurm-bb-plugin-{versions.plugin}.bundle"),
        "dws_image": fetch.image(work, "dws_image", f"dws-image-{versions.dws}.tar"),
        "kube_rbac_proxy_image": fetch.image(
            work, "kube_rbac_proxy_image", f"kube-rbac-proxy-{versions.kube_rbac_proxy}.tar"
        ),
        "kustomize": fetch.kustomize(work, asked),
    }
    names = {"dws": versions.dws, "plugin": versions.plugin, "kube_rbac_proxy": versions.kube_rbac_proxy}
    return Manifest({**names, "kustomize": asked}, made(), parts)


def made() -> Mapping[str, str]:
    """When a bundle is made and by what; SOURCE_DATE_EPOCH is taken for the time, for who wants the same bytes twice."""
    at = float(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)),
        "by": f"{project['name']} {project['version']}, {git.says(['--version'], 10.0).strip()}",
    }


def wanted_kustomize(work: Work) -> str:
    """The version of kustomize that the Makefile of dws asks for, with its v. Raises Refused."""
    tag = f"v{work.site.versions.dws}"
    text = git.says(["-C", str(work.folder / "dws.git"), "show", f"{tag}:Makefile"], 60.0)
    found = re.search(r"^KUSTOMIZE_VERSION *\??= *(\S+)", text, re.MULTILINE)
    if not found:
        fix = "see which KUSTOMIZE_VERSION it asks for; another repository in sources.dws may be meant"
        raise Refused(Finding("kustomize-unknown", f"the Makefile of dws {tag} asks for no kustomize", fix))
    return found[1]


def check_proxy(work: Work) -> None:
    """Raises Refused where the manifests of dws name another tag of kube-rbac-proxy than the site file."""
    tag, wanted = f"v{work.site.versions.dws}", work.site.versions.kube_rbac_proxy
    search = ["grep", "--no-color", "-h", "-o", "-E", "kube-rbac-proxy:[0-9A-Za-z._-]+", tag, "--", "config"]
    told = git.says(["-C", str(work.folder / "dws.git"), *search], 60.0, codes=(0, 1))  # 1: nowhere is one
    said = {line.partition(":")[2] for line in lines(told)}
    if said and wanted not in said:
        text = f"dws {tag} asks for kube-rbac-proxy {' or '.join(sorted(said))}, and versions.kube_rbac_proxy says {wanted}"
        raise Refused(Finding("kube-rbac-proxy-version", text, f"set versions.kube_rbac_proxy to {min(said)}"))
