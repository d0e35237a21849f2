"""The files of a slurmctld in a pod, changed at their source: keys of a ConfigMap, or of the templates that a Job renders, and of
a Secret."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence

from dws_on_csm.config.site import Pod
from dws_on_csm.kube import pods
from dws_on_csm.model import render
from dws_on_csm.model.actions import STATE, Action, CallApi, Delete, RunScript
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.secret import Secret
from dws_on_csm.model.step import StepContext
from dws_on_csm.stages.pod import discover, templates
from dws_on_csm.stages.pod.discover import pod_of, state


def config(ctx: StepContext, keys: Mapping[str, str | None]) -> Sequence[Action]:
    """Put files beside slurm.conf (None: remove the file), and refresh the pod: keys of the ConfigMap that is the pod's /etc/slurm,
    or of the templates from which a Job renders it. A file of this kind has no secret in it.

    It is a patch: an apply would remove the keys that another step applied.
    """
    pod, path = pod_of(ctx), discover.config_map(ctx)["path"]
    assert pod is not None
    if known := templates.source(ctx):
        return [record_read_files(ctx), templates.write(ctx, known, keys), refresh(ctx, pod)]

    def ask(cluster: Cluster) -> bytes:
        cluster.patch(path, {"data": dict(keys)})
        return b""

    changes = [f"{'write' if text is not None else 'remove'} {key}" for key, text in keys.items()]
    title = f"{', '.join(changes)} in ConfigMap {discover.config_map(ctx)['name']}"
    return [record_read_files(ctx), CallApi(title, ask, objects=(path,)), refresh(ctx, pod)]


def kubeconfig(ctx: StepContext, content: Secret) -> Sequence[Action]:
    """Write the kubeconfig into the Secret that the pod mounts, and refresh the pod."""
    pod = pod_of(ctx)
    assert pod is not None
    return [record_read_files(ctx), _write_secret(ctx, pod, content), refresh(ctx, pod)]


def _write_secret(ctx: StepContext, pod: Pod, content: Secret) -> CallApi:
    secret = state(ctx)["secret"]
    folder = f"/api/v1/namespaces/{pod.namespace}/secrets"

    def ask(cluster: Cluster) -> bytes:
        data = {secret["key"]: base64.b64encode(content.reveal()).decode()}
        meta = {"name": secret["name"], "namespace": pod.namespace}
        cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "Opaque", "data": data})
        return b""

    return CallApi(f"write Secret {pod.namespace}/{secret['name']}", ask, objects=(f"{folder}/{secret['name']}",))


def no_kubeconfig(ctx: StepContext) -> Sequence[Action]:
    """Remove that Secret, and refresh the pod."""
    pod = pod_of(ctx)
    assert pod is not None
    path = f"/api/v1/namespaces/{pod.namespace}/secrets/{state(ctx)['secret']['name']}"
    return [record_read_files(ctx), Delete(path), refresh(ctx, pod)]


def refresh(ctx: StepContext, pod: Pod) -> CallApi:
    """Annotate the pod: its kubelet then updates its volumes at once, instead of within a minute or two
    (Kubernetes' documentation, "Configure a Pod to Use a ConfigMap": mounted ConfigMaps are updated automatically)."""

    def ask(cluster: Cluster) -> bytes:
        for running_pod in pods.running(cluster, pod):
            path = f"/api/v1/namespaces/{pod.namespace}/pods/{running_pod['metadata']['name']}"
            cluster.patch(path, {"metadata": {"annotations": {"dws-on-csm/changed": f"{time.time():.3f}"}}})
        return b""

    return CallApi("make the kubelet update the pod's files", ask)


def record_read_files(ctx: StepContext) -> RunScript:
    """Record what slurmctld has read, before its files get a new time; nothing where a record exists."""
    slurm = ctx.site.slurm
    script = render.script(
        "lib/as.sh", "lib/slurmctld.sh", "pod/pod_start_files.sh", folder=slurm.folder, unit=slurm.service, state=STATE
    )
    return RunScript("record which files slurmctld has read", script + _UNREAD, 60.0)


_UNREAD = """
find_slurm
main=$(main_pid)
if [ -n "$main" ] && ! is_recorded "$main"; then
    began=$(start_time "$main")
    start_files | while IFS= read -r file; do
        stat -L -c '%.2Z' -- "$file"
    done | awk -v began="$began" '$1 > began { late = 1 } END { exit late }' && record_start_files
fi
:
"""
