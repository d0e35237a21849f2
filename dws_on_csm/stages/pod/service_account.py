"""How the plugin in a pod logs in to the cluster: with a certificate, or with the token of its pod's ServiceAccount.

With the token, its kubeconfig holds no secret and never expires: it is a key of the ConfigMap that is the pod's /etc/slurm, so the
pod's template needs no change. burst_buffer.lua passes the same token to kubectl itself, where it finds one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from dws_on_csm.domain import names
from dws_on_csm.model.step import NotYetKnown, StepContext
from dws_on_csm.stages.facts import KUBECONFIG, Kubeconfig
from dws_on_csm.stages.pod import discover
from dws_on_csm.stages.pod.discover import PodState


@dataclass(frozen=True)
class Way:
    """Whether a controller's plugin logs in with its pod's ServiceAccount, and why."""

    by_account: bool
    why: str


def way(ctx: StepContext, seen: PodState | None = None) -> Way:
    """How this controller's plugin logs in. Raises NotYetKnown where that depends on a look that was not made.

    seen   the pod, where a look has just found it; None: the last look's result
    """
    via = ctx.site.access.via
    if not discover.pod_of(ctx):
        return Way(False, "a host has no ServiceAccount")
    if via != "auto":
        return Way(via == "serviceaccount", f"access.via: {via}")
    have = seen or discover.state(ctx)
    keeper = _keeper(have)
    if not keeper:
        return Way(False, "access.via: auto, and nobody else manages the pod")
    secret = have["secret"]
    if secret["mounted"]:
        return Way(False, f"access.via: auto, and the pod mounts Secret {secret['name']} already")
    if problem := token_problem(ctx, have):
        return Way(False, f"access.via: auto, and {problem}")
    return Way(True, f"access.via: auto, and {keeper}")


def chosen(ctx: StepContext) -> bool:
    """Whether this controller's plugin logs in with its pod's ServiceAccount. Raises NotYetKnown as `way` does."""
    return way(ctx).by_account


def _keeper(have: PodState) -> str:
    """Who else writes the pod's files or its workload, in words; "" for nobody. Raises NotYetKnown where they are unknown."""
    workload, config_map = have.get("workload"), have.get("config_map")
    if workload is None or config_map is None:
        raise NotYetKnown(discover.FACT.stage)
    if source := config_map["generated"]:
        return f"Job {source['job']} renders the pod's files"
    for name, thing in ((f"{workload['kind']} {workload['name']}", workload), (config_map["name"], config_map)):
        if manager := thing["manager"]:
            return f"{name} is managed by {manager}"
    return ""


def token_problem(ctx: StepContext, have: PodState) -> str:
    """Why SlurmUser in the pod has no use of its token, in words; "" where it can be read. Raises NotYetKnown."""
    if not have.get("token"):
        return "the pod has no token of its ServiceAccount"
    if ctx.facts.on(KUBECONFIG, ctx.host).get("token") != "readable":
        return "SlurmUser cannot read the pod's token"
    return ""


def account(ctx: StepContext) -> str:
    """NAMESPACE/NAME of the ServiceAccount of this controller's pod. Raises NotYetKnown without a pod."""
    if not (name := discover.state(ctx).get("account", "")):
        raise NotYetKnown(discover.FACT.stage)
    return name


def subject(name: str) -> str:
    """The subject of a binding that the ServiceAccount NAMESPACE/NAME is."""
    return f"ServiceAccount {name}"


def on(ctx: StepContext, host: str) -> StepContext:
    """The context of another host of the same run."""
    return replace(ctx, host=host)


def known_subjects(ctx: StepContext) -> set[str]:
    """The subjects of the ServiceAccounts of all pods of this site that were seen, whatever their plugin logs in with."""
    seen = {**ctx.facts.known(discover.FACT), **ctx.facts.known(discover.MOUNT)}
    controllers = {host.name for host in ctx.site.controllers}
    return {subject(name) for host, pod in seen.items() if host in controllers and (name := pod.get("account"))}


def in_file(file: Kubeconfig) -> bool:
    """Whether a kubeconfig logs in with the token of its pod, and with nothing else."""
    return file.get("tokenFile") == names.ACCOUNT_TOKEN and not file.get("client-certificate-data")


def note(ctx: StepContext) -> str:
    """What a run says of the way of a pod's plugin, where a token is thinkable; "" otherwise."""
    if ctx.site.access.via in ("ca", "csr") or ctx.host not in ctx.facts.known(KUBECONFIG):
        return ""
    have = discover.state(ctx)
    if not have["pod"] or not have.get("workload") or not have.get("config_map"):
        return ""
    choice = way(ctx, have)
    if choice.by_account:
        text = f"the plugin in {ctx.host} logs in with the token of ServiceAccount {account(ctx)} ({choice.why})"
        return f"{text}: it gets no key and no certificate"
    return f"the plugin in {ctx.host} logs in with a certificate ({choice.why})" if _keeper(have) else ""
