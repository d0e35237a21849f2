"""ServiceAccounts of DWS whose pods get no token: the API server rejects what DWS's programs ask, and they end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from dws_on_csm.commands.doctor.diagnosis import SBATCH_FAILS
from dws_on_csm.domain import names
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.step import Check, Fact, Finding, StepContext
from dws_on_csm.stages.dws import installed, readiness


class State(TypedDict):
    """The ServiceAccounts whose pods get no token, and the pods that have none."""

    accounts: list[str]
    pods: list[str]


FACT: Fact[State] = Fact("doctor", "pod-tokens")

_ACCOUNTS = f"/api/v1/namespaces/{names.NAMESPACE}/serviceaccounts"
_MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where a pod finds it."""


def _read(cluster: Cluster) -> State:
    deployments = (cluster.get(readiness.DEPLOYMENTS) or {"items": []})["items"]
    specs = [item["spec"]["template"]["spec"] for item in deployments if item["metadata"]["name"] in _DEPLOYMENTS]
    used = {_account(spec) for spec in specs if "automountServiceAccountToken" not in spec}
    listed = (cluster.get(_ACCOUNTS) or {"items": []})["items"]
    closed = {item["metadata"]["name"] for item in listed if item.get("automountServiceAccountToken") is False}
    accounts = sorted(used & closed)
    pods = (cluster.get(readiness.PODS) or {"items": []})["items"] if accounts else []
    return {"accounts": accounts, "pods": [pod["metadata"]["name"] for pod in pods if _lacks(pod, accounts)]}


_DEPLOYMENTS = (names.CONTROLLER, names.WEBHOOK)


def _account(spec: Mapping[str, Any]) -> str:
    return str(spec.get("serviceAccountName") or "default")


def _lacks(pod: Mapping[str, Any], accounts: Sequence[str]) -> bool:
    """Whether a pod of one of the ServiceAccounts has no token in any container."""
    mounts = [mount["mountPath"] for one in pod["spec"]["containers"] for mount in one.get("volumeMounts") or ()]
    present = "deletionTimestamp" not in pod["metadata"]
    return present and _account(pod["spec"]) in accounts and _MOUNT not in mounts


def judge(ctx: StepContext, have: State) -> Sequence[Finding]:
    """ServiceAccounts of DWS that give their pods no token."""
    if not have["accounts"] or not installed.there(ctx):
        return ()
    accounts = " ".join(have["accounts"])
    several = len(have["accounts"]) > 1
    text = f"ServiceAccount{'s' if several else ''} {', '.join(have['accounts'])} in {names.NAMESPACE} "
    text += f"{'have' if several else 'has'} automountServiceAccountToken: false, so pods of DWS get no token for the API server, "
    text += "and their programs end"
    if have["pods"]:
        text += f". These pods have none: {', '.join(have['pods'])}"
    else:
        text += f" as soon as they start anew; the present pods still have theirs. Without them, {SBATCH_FAILS}"
    patches = " and ".join(
        f"`kubectl -n {names.NAMESPACE} patch serviceaccount {account} --type=merge "
        """-p '{"automountServiceAccountToken":null}'`"""
        for account in accounts.split()
    )
    fix = f"run {patches} on the master"
    if have["pods"]:
        fix += (
            f", then `kubectl -n {names.NAMESPACE} delete pods {' '.join(have['pods'])}`: new pods start, with a token"
        )
    fix += ". If a policy or a script for hardening sets the field, exempt these ServiceAccounts there"
    return (Finding("dws-token-missing", text, fix),)


CHECK = Check(FACT.step, "master", lambda ctx: FACT.api(_read), judge)
