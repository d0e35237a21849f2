"""The step `mount`: one volume as the pod's /etc/slurm, of the ConfigMap and of the Secret with the kubeconfig."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dws_on_csm.model.actions import Action
from dws_on_csm.model.step import NotYetKnown, Restart, Step, StepContext, Value
from dws_on_csm.stages import restart_notice
from dws_on_csm.stages.facts import KUBECONFIG
from dws_on_csm.stages.pod import discover, host_kubectl, rollout, service_account
from dws_on_csm.stages.pod.discover import FILE, FOLDER, PLUGIN, SUFFIX, Json, PodState, look, state, volume_sources


def mode(ctx: StepContext) -> int:
    """The kubeconfig's mode in the volume: the strictest with which SlurmUser can read it. Its owner is root, its group fsGroup."""
    seen = ctx.facts.all(KUBECONFIG).get(ctx.host)
    if seen is None:
        raise NotYetKnown("access")
    if seen["slurm_uid"] == "0":
        return 0o400
    return 0o440 if state(ctx)["group"] == seen["slurm_group"] else 0o444


def wanted_volume(ctx: StepContext) -> dict[str, Any]:
    """The pod's volume with the plugin's files and the Secret added; unchanged where it has them.

    A plugin that logs in with the pod's ServiceAccount has its kubeconfig in the ConfigMap, and needs no Secret.
    """
    have = state(ctx)
    volume = have["volume"]
    if volume is None:
        raise NotYetKnown("preflight")  # which says why
    name = discover.config_map(ctx)["name"]
    wanted = [_with_mode(ctx, source) for source in volume_sources(volume)]
    by_account = service_account.chosen(ctx)
    wanted += _plugin(volume, name, (*PLUGIN, FILE) if by_account and not have["secret"]["mounted"] else PLUGIN)
    if not by_account and not have["secret"]["mounted"]:
        item = {"key": have["secret"]["key"], "path": FILE, "mode": mode(ctx)}
        wanted.append({"secret": {"name": have["secret"]["name"], "items": [item], "optional": True}})
    if wanted == volume_sources(volume):
        return volume
    kind = volume.get("projected") or volume.get("configMap") or {}
    return {"name": volume["name"], "projected": {"defaultMode": kind.get("defaultMode", 0o644), "sources": wanted}}


def _with_mode(ctx: StepContext, source: dict[str, Any]) -> dict[str, Any]:
    """The source; if it is our Secret, with the present mode."""
    mine = source.get("secret", {})
    if mine.get("name") != f"{discover.workload(ctx)['name']}{SUFFIX}":
        return source
    return {"secret": {**mine, "items": [{**item, "mode": mode(ctx)} for item in mine.get("items") or ()]}}


def _plugin(volume: Json, name: str, files: Sequence[str]) -> list[dict[str, Any]]:
    """The source to add where the volume lists files of ConfigMap `name`, but not the plugin's.

    It is optional, and a source of its own: the kubelet starts no pod while a listed key is missing.
    """
    listed = discover.listed_files(volume, name)
    missing = [file for file in files if listed is not None and file not in listed]
    items = [{"key": file, "path": file} for file in missing]
    return [{"configMap": {"name": name, "items": items, "optional": True}}] if items else []


def read_mount(ctx: StepContext, have: PodState) -> Value:
    """How the pod's template mounts the kubeconfig now."""
    return {**_describe_volume(have["volume"]), **host_kubectl.describe(have.get("kubectl", ""))}


def _want(ctx: StepContext) -> Value:
    return {**_describe_volume(wanted_volume(ctx)), **host_kubectl.describe(host_kubectl.wanted(ctx))}


def _describe_volume(volume: Json | None) -> dict[str, Value]:
    """The folder's sources as sentences."""
    described = []
    for entry in volume_sources(volume):
        for kind, source in entry.items():
            items = source.get("items")
            files = ", ".join(f"{i['path']}{_octal(i)}" for i in items) if items else "all its keys"
            described.append(f"{kind} {source.get('name', '')}: {files}")
    return {FOLDER: described}


def _octal(item: Json) -> str:
    return f" (mode {item['mode']:04o})" if "mode" in item else ""


def change_mount(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    """The edit of the pod's template that mounts the Secret with the kubeconfig."""
    volume, wanted = state(ctx)["volume"], wanted_volume(ctx)
    assert volume is not None
    edits: list[Json] = []
    titles: list[str] = []
    if (path := host_kubectl.wanted(ctx)) != state(ctx).get("kubectl", ""):
        edits += host_kubectl.edits(ctx, state(ctx), path)
        titles.append(f"the worker's kubectl as {path}")
    if wanted != volume or not edits:
        at = ["spec", "template", "spec", "volumes", {"name": volume["name"]}]
        edits.append({"object": rollout.workload(ctx), "at": at, "seen": volume, "value": wanted})
        titles.append(_title(ctx))
    return [rollout.action(ctx, f"mount {', and '.join(titles)}", edits)]


def _title(ctx: StepContext) -> str:
    secret = f"Secret {state(ctx)['secret']['name']} together with " if not service_account.chosen(ctx) else ""
    return f"{secret}ConfigMap {discover.config_map(ctx)['name']}"


def _mount_side_effect(ctx: StepContext) -> str:
    effect = rollout.side_effect(ctx)
    if not service_account.chosen(ctx) and mode(ctx) == 0o444:
        effect += "; every user in the pod can read the kubeconfig, unless securityContext.fsGroup is SlurmUser's group"
    return effect


def _restart(ctx: StepContext) -> Restart:
    return restart_notice.of_slurmctld(ctx, rollout=rollout.workload_text(ctx))


STEP = Step(
    discover.MOUNT.step,
    "pod",
    look,
    _want,
    change_mount,
    read=read_mount,
    settle_seconds=lambda site: 30.0,
    side_effect=lambda ctx, have, want: _mount_side_effect(ctx),
    restarts=lambda ctx, have, want: _restart(ctx) if have != want else None,
    window=lambda ctx, have, want: True,
    hint="the pod's template was restored; `kubectl describe` of the pod shows what it waited for",
)
"""Mount the kubeconfig's Secret in the pod's template."""
