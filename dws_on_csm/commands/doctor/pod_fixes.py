"""What to do about pods of DWS that are not ready, by what they wait for. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from dws_on_csm.domain import names
from dws_on_csm.model.step import StepContext
from dws_on_csm.stages.dws import images
from dws_on_csm.stages.dws.pod_waits import Lacking


def fix(ctx: StepContext, lacking: Sequence[Lacking]) -> str:
    """The fix up to the repair that ends it. `lacking`: the images that workers cannot get."""
    if sandbox := next((item for item in lacking if item["sandbox"]), None):
        return _sandbox(sandbox)
    if lacking:
        return _pulled(ctx, lacking)
    return f"`kubectl -n {names.NAMESPACE} describe pods` on the master shows more of what they wait for; when that is there, "


_ARCHIVE = "/root/sandbox-image.tar"


def _sandbox(item: Lacking) -> str:
    """The image that containerd starts each pod with: no manifest names it, so no registry of DWS has it."""
    image, workers = shlex.quote(item["image"]), ", ".join(item["workers"])
    load = f"`ctr -n k8s.io images import {_ARCHIVE}` on {workers}"
    save = f"`ctr -n k8s.io images export {_ARCHIVE} {image}`"
    if item["holders"]:
        bring = f"run {save} on {item['holders'][0]}, which has the image, copy that file to {workers}, and run {load}"
    else:
        bring = f"where a host has the image, run {save}, copy that file to {workers}, and run {load}"
    text = f"{item['image']}, with which containerd starts every pod, is missing on {workers}: {bring}. If its registry answers "
    text += f"again, `crictl pull {image}` there does the same. Or let sandbox_image in /etc/containerd/config.toml name an image "
    return f"{text}that they can pull, and run `systemctl restart containerd`. Then "


def _pulled(ctx: StepContext, lacking: Sequence[Lacking]) -> str:
    """Images of DWS, which the workers' containerd reads from the site's registry in a way of its own."""
    workers = ", ".join(sorted({worker for item in lacking for worker in item["workers"]}))
    hosts = list(dict.fromkeys(item["image"].partition("/")[0] for item in lacking))
    problem, remedy = next(
        ((problem, remedy) for words, problem, remedy in _PULL_ERRORS if _says(lacking, words)),
        ("could not pull", "must be one that answers them"),
    )
    files = " ".join(f"/etc/containerd/certs.d/{host}/hosts.toml" for host in hosts)
    text = f"{_in_registry(ctx, lacking)}containerd on {workers} {problem}. Run `cat {files}` there: it names the address at "
    text += f"which containerd reads {' and '.join(hosts)}, which {remedy}. If the file is missing, copy it from a worker that "
    return f"{text}pulls; config_path in /etc/containerd/config.toml names the folder certs.d. Then "


_PULL_ERRORS = (
    (
        ("401", "403", "authorization failed"),
        "is asked for a password, and has none that counts",
        "must be one that serves reads without a password",
    ),
    (
        ("x509",),
        "does not trust the certificate of the address that it asks",
        "needs a certificate of a CA that the file names (ca = ...), or that the worker trusts",
    ),
    (("not found",), "asks an address that does not have them", "must be one that serves the site's registry"),
)
"""Words of containerd's errors, what they mean, and what must be so instead."""


def _says(lacking: Sequence[Lacking], words: Sequence[str]) -> bool:
    return any(word in item["why"] for item in lacking for word in words)


def _in_registry(ctx: StepContext, lacking: Sequence[Lacking]) -> str:
    """That the registry has the images, where the check of the pushed images has seen them."""
    seen = ctx.facts.one_or_none(images.PUSHED) or {}
    wanted = [item["image"] for item in lacking]
    if all(name in seen and images.has_digest(seen[name]["registry"]) for name in wanted):
        return f"the registry has {' and '.join(wanted)}, but "
    return f"{' and '.join(wanted)} cannot be pulled: "
