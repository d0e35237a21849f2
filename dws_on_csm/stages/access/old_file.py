"""The step `old-file`: a pod has one kubeconfig of ours, and nothing of the way in which its plugin logged in before.

With its ServiceAccount the kubeconfig is a key of the ConfigMap, with a certificate one of a Secret that the template mounts. What
is left of the other one is removed when the wanted one is in place: a key that nobody uses, and a mount that hides the ConfigMap's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

from dws_on_csm.model.actions import Action
from dws_on_csm.model.cluster_api import Cluster, ClusterError
from dws_on_csm.model.step import ApiLook, Fact, Removal, Restart, Step, StepContext, Value
from dws_on_csm.stages import restart_notice
from dws_on_csm.stages.pod import discover, files, rollout, service_account


class Places(TypedDict):
    """Where a kubeconfig may be: the Secret, its mount in the template, the ConfigMap's key. `volume`: as in PodState."""

    secret: bool
    mounted: bool
    key: bool
    volume: dict[str, Any] | None


FACT: Fact[Places] = Fact("access", "old-file")


def _look(ctx: StepContext) -> ApiLook:
    pod, name = discover.pod_of(ctx), discover.state(ctx)["secret"]["name"]
    assert pod is not None

    def read(cluster: Cluster) -> Places:
        have, config_map = discover.read(cluster, pod), None
        if have["pod"]:
            config_map = have.get("config_map")
        there = _exists(cluster, pod.namespace, name)
        mounted = bool(have["pod"]) and have["secret"]["mounted"]
        key = bool(config_map and config_map.get("kubeconfig"))
        return {"secret": there, "mounted": mounted, "key": key, "volume": have.get("volume")}

    return FACT.api(read)


def _exists(cluster: Cluster, namespace: str, name: str) -> bool:
    """Whether the Secret exists; its content is not asked for."""
    try:
        every = cluster.metadata(f"/api/v1/namespaces/{namespace}/secrets")
    except ClusterError as error:
        if error.status == 404:
            return False
        raise
    return name in {meta["name"] for meta in every}


def _read(ctx: StepContext, have: Places) -> Value:
    """What is left of the way that is not chosen."""
    secret = discover.state(ctx)["secret"]["name"]
    left = {
        f"Secret {secret}": have["secret"] and service_account.chosen(ctx),
        f"the mount of Secret {secret}": have["mounted"] and service_account.chosen(ctx),
        f"{discover.FILE} in ConfigMap {discover.config_map(ctx)['name']}": have["key"]
        and not service_account.chosen(ctx),
    }
    return {"left": [thing for thing, there in left.items() if there]}


def _change(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    places = ctx.facts.on(FACT, ctx.host)
    if not service_account.chosen(ctx):
        return files.config(ctx, {discover.FILE: None})
    unmount = [_unmount(ctx, places)] if places["mounted"] else []
    return [*(files.no_kubeconfig(ctx) if places["secret"] else ()), *unmount]


def _unmount(ctx: StepContext, places: Places) -> Action:
    volume, name = places["volume"], discover.state(ctx)["secret"]["name"]
    assert volume is not None
    kept = [source for source in discover.volume_sources(volume) if source.get("secret", {}).get("name") != name]
    value = {**volume, "projected": {**volume["projected"], "sources": kept}}
    at = ["spec", "template", "spec", "volumes", {"name": volume["name"]}]
    edit = {"object": rollout.workload(ctx), "at": at, "seen": volume, "value": value}
    return rollout.action(ctx, f"no longer mount Secret {name}", [edit])


def _restart(ctx: StepContext, have: Value, want: Value) -> Restart | None:
    places = ctx.facts.known(FACT).get(ctx.host)
    if not places or not places["mounted"] or not service_account.chosen(ctx):
        return None
    return restart_notice.of_slurmctld(ctx, rollout=rollout.workload_text(ctx))


STEP = Step(
    FACT.step,
    "pod",
    _look,
    lambda ctx: {"left": []},
    _change,
    read=_read,
    settle_seconds=lambda site: 30.0,
    removes=lambda ctx, have, want: [Removal(f"{thing}: the plugin logs in without it") for thing in have["left"]],
    side_effect=lambda ctx, have, want: rollout.side_effect(ctx) if _restart(ctx, have, want) else "",
    restarts=_restart,
    window=lambda ctx, have, want: bool(_restart(ctx, have, want)),
    hint="the former kubeconfig is not used any more; run the same command again to remove it",
)
"""The pod has no kubeconfig of the other way."""
